//! Domains that map each other's frames: whatever ends first, mapping, mapper or owner, the counts are right and each
//! frame is given back once.

use super::machine::{DEVICE, SHOWN, SHOWN_OF_B, Toy};
use super::naive::Ledger;
use super::random::{FIRST_OF_B, FRAMES, Op, World};
use super::schedule::every_order;
use super::{A, B, pinned_tree, ro, rw};
use crate::table::Change;
use crate::{DomId, Entry, FrameType, Level, Mfn, Refused};
use proptest::prelude::*;

/// Entry 9 of A's L1 is to be this, by whoever owns what it names.
fn map(toy: &Toy, entry: Entry, owner: DomId) -> Result<Entry, Refused> {
    toy.tables(A)
        .update(Mfn(0), Level::L1, 9, Change::Set(entry), owner)
}

/// As [`pinned_tree`], with a writable mapping of B's frame 16.
fn with_foreign_leaf() -> Toy {
    let toy = pinned_tree();
    map(&toy, rw(16), B).unwrap();
    toy
}

#[test]
fn a_frame_whose_owner_is_gone_stays_until_the_mapping_goes() {
    let toy = with_foreign_leaf();
    assert!(toy.give_up(Mfn(16)));
    let snap = toy.at(16);
    assert!(snap.is_alive() && !snap.is_allocated());
    assert_eq!(snap.owner(), B);
    map(&toy, Entry(0), A).unwrap();
    assert_eq!(*toy.released.lock().unwrap(), [Mfn(16)]);
}

#[test]
fn the_end_of_the_mapper_gives_foreign_frames_back() {
    for owner_first in [true, false] {
        let toy = with_foreign_leaf();
        if owner_first {
            assert!(toy.give_up(Mfn(16)));
        }
        toy.tables(A).unpin(Mfn(3)).unwrap();
        if owner_first {
            assert_eq!(*toy.released.lock().unwrap(), [Mfn(16)]);
        } else {
            assert_eq!(toy.counts(16), (0, 1), "the owner's claim");
            assert!(toy.give_up(Mfn(16)));
        }
        assert_eq!(toy.at(16).owner(), DomId::NOBODY);
    }
}

#[test]
fn a_table_is_not_validated_again_with_a_foreign_leaf() {
    let toy = with_foreign_leaf();
    toy.tables(A).unpin(Mfn(3)).unwrap();
    assert_eq!(toy.peek(0, 9), rw(16), "memory now, and no reference");
    let before = toy.image();
    for level in 0..4 {
        let level_of = [Level::L1, Level::L2, Level::L3, Level::L4][level];
        assert_eq!(
            toy.tables(A).pin(Mfn(level as u64), level_of),
            Err(Refused::NotYours)
        );
        assert_eq!(toy.image(), before);
    }
    toy.poke(0, 9, Entry(0));
    toy.tables(A).pin(Mfn(3), Level::L4).unwrap();
}

#[test]
fn a_foreign_leaf_keeps_its_frame_from_becoming_a_table_of_its_owner() {
    let toy = with_foreign_leaf();
    assert_eq!(toy.tables(B).pin(Mfn(16), Level::L1), Err(Refused::Invalid));
    map(&toy, ro(16), B).unwrap();
    toy.tables(B).pin(Mfn(16), Level::L1).unwrap();
    assert_eq!(map(&toy, rw(16), B), Err(Refused::Invalid));
    assert_eq!(toy.at(16).frame_type(), FrameType::L1);
    assert_eq!(toy.peek(0, 9), ro(16));
}

#[test]
fn permission_changes_of_a_foreign_leaf_need_its_owner_only_to_grow() {
    let toy = with_foreign_leaf();
    // As a kernel that protects and ages its mappings, without knowing whose frame it is.
    let own = |change| toy.tables(A).update(Mfn(0), Level::L1, 9, change, A);
    own(Change::SetKeepAd(Entry(rw(16).0 | Entry::NO_EXECUTE))).unwrap();
    own(Change::And(!Entry::WRITABLE)).unwrap();
    assert_eq!(toy.counts(16), (0, 2));
    assert_eq!(own(Change::Set(rw(16))), Err(Refused::NotYours));
    own(Change::Set(Entry(0))).unwrap();
    assert_eq!(own(Change::Set(ro(16))), Err(Refused::NotYours));
    assert_eq!(toy.counts(16), (0, 1));
}

#[test]
fn a_device_is_mapped_in_its_mappers_name_or_as_a_device() {
    let toy = pinned_tree();
    for owner in [A, DomId::IO] {
        map(&toy, rw(DEVICE.0), owner).unwrap();
        map(&toy, Entry(0), A).unwrap();
    }
    for owner in [B, DomId::RING0, DomId::NOBODY] {
        assert_eq!(map(&toy, rw(DEVICE.0), owner), Err(Refused::NotYours));
    }
    for memory in [4, 16, 22] {
        assert_eq!(map(&toy, ro(memory), DomId::IO), Err(Refused::NotYours));
    }
    // Nobody else's device either way.
    for owner in [B, DomId::IO] {
        toy.tables(B).pin(Mfn(17), Level::L1).unwrap();
        let change = Change::Set(ro(DEVICE.0));
        let outcome = toy.tables(B).update(Mfn(17), Level::L1, 0, change, owner);
        assert_eq!(outcome, Err(Refused::NotYours));
        toy.tables(B).unpin(Mfn(17)).unwrap();
    }
}

#[test]
fn what_ring_0_shows_is_read_and_no_more() {
    let toy = pinned_tree();
    let hidden = Mfn(SHOWN.0 + 1);
    for mfn in [SHOWN, hidden] {
        assert!(toy.assign(mfn, DomId::RING0));
    }
    let before = toy.image();
    let keeping = |entry, owner| {
        let change = Change::SetKeepAd(entry);
        toy.tables(A).update(Mfn(0), Level::L1, 9, change, owner)
    };
    for bad in [rw(SHOWN.0), rw(hidden.0), ro(hidden.0), ro(4), ro(16)] {
        assert_eq!(map(&toy, bad, DomId::RING0), Err(Refused::NotYours));
        assert_eq!(keeping(bad, DomId::RING0), Err(Refused::NotYours));
    }
    for owner in [A, B, DomId::IO] {
        assert_eq!(map(&toy, ro(SHOWN.0), owner), Err(Refused::NotYours));
    }
    assert_eq!(toy.image(), before);
    map(&toy, ro(SHOWN.0), DomId::RING0).unwrap();
    assert_eq!(toy.counts(SHOWN.0), (0, 2));
    for owner in [A, DomId::RING0] {
        assert_eq!(map(&toy, rw(SHOWN.0), owner), Err(Refused::NotYours));
    }
    map(&toy, Entry(0), DomId::RING0).unwrap();
    assert_eq!(toy.counts(SHOWN.0), (0, 1));
}

#[test]
fn what_is_shown_as_a_domains_is_read_by_its_name_and_stays_until_the_last_mapping_goes() {
    let toy = pinned_tree();
    assert!(toy.assign(SHOWN_OF_B, DomId::RING0));
    let before = toy.image();
    for owner in [A, DomId::IO, DomId::RING0] {
        assert_eq!(map(&toy, ro(SHOWN_OF_B.0), owner), Err(Refused::NotYours));
    }
    for owner in [A, B, DomId::RING0] {
        assert_eq!(map(&toy, rw(SHOWN_OF_B.0), owner), Err(Refused::NotYours));
        let change = Change::SetKeepAd(rw(SHOWN_OF_B.0));
        let outcome = toy.tables(A).update(Mfn(0), Level::L1, 9, change, owner);
        assert_eq!(outcome, Err(Refused::NotYours));
    }
    assert_eq!(
        toy.tables(B).pin(SHOWN_OF_B, Level::L1),
        Err(Refused::NotYours)
    );
    assert_eq!(toy.image(), before);
    map(&toy, ro(SHOWN_OF_B.0), B).unwrap();
    assert_eq!(toy.counts(SHOWN_OF_B.0), (0, 2));
    assert_eq!(map(&toy, rw(SHOWN_OF_B.0), B), Err(Refused::NotYours));
    // Ring 0 gives it back, and it is mapped still.
    assert!(toy.give_up(SHOWN_OF_B));
    assert_eq!(
        (toy.counts(SHOWN_OF_B.0), toy.at(SHOWN_OF_B.0).owner()),
        ((0, 1), DomId::RING0)
    );
    map(&toy, Entry(0), A).unwrap();
    assert_eq!(*toy.released.lock().unwrap(), [SHOWN_OF_B]);
    // A frame of the domain's own with that number is its own.
    assert!(toy.assign(SHOWN_OF_B, B));
    map(&toy, rw(SHOWN_OF_B.0), B).unwrap();
}

#[test]
fn the_owner_may_end_while_the_mapper_does() {
    let unmap = |toy: &Toy| {
        map(toy, Entry(0), A).unwrap();
    };
    let protect = |toy: &Toy| {
        map(toy, ro(16), B).ok();
        map(toy, Entry(0), A).unwrap();
    };
    let end_of_mapper = |toy: &Toy| toy.tables(A).unpin(Mfn(3)).unwrap();
    let end_of_owner = |toy: &Toy| assert!(toy.give_up(Mfn(16)));
    for mapper in [
        &unmap as super::schedule::Act<'_, Toy>,
        &protect,
        &end_of_mapper,
    ] {
        every_order(with_foreign_leaf, &[mapper, &end_of_owner], |toy| {
            assert_eq!(*toy.released.lock().unwrap(), [Mfn(16)]);
            assert_eq!(toy.at(16).owner(), DomId::NOBODY);
        });
    }
}

#[test]
fn a_frame_is_mapped_by_one_domain_or_a_table_of_the_other() {
    let fresh = || {
        let toy = pinned_tree();
        toy.poke(16, 0, rw(17));
        toy
    };
    let pin = |toy: &Toy| {
        let _ = toy.tables(B).pin(Mfn(16), Level::L1);
    };
    let map = |toy: &Toy| {
        let _ = map(toy, rw(16), B);
    };
    every_order(fresh, &[&pin, &map], |toy| {
        let mut ledger = Ledger::of_pinned_tree();
        if toy.at(16).is_pinned() {
            assert_eq!(toy.peek(0, 9), Entry(0));
            ledger.pins.insert(16, Level::L1);
        }
        assert!(toy.at(16).is_pinned() || toy.peek(0, 9) == rw(16));
        ledger.check(toy);
    });
}

/// A's tables are likely among frames 0 to 7, B's among these.
const B_TABLES: std::ops::Range<u64> = FIRST_OF_B..FIRST_OF_B + 3;

/// One domain's L1 table maps a frame of the other's, or no more.
fn foreign_leaf() -> impl Strategy<Value = (Op, DomId)> {
    let of_a = (0..3u64, FIRST_OF_B..24u64).prop_map(|(table, mfn)| (A, table, mfn));
    let of_b = (B_TABLES, 0..8u64).prop_map(|(table, mfn)| (B, table, mfn));
    let entry = prop_oneof![2 => Just(rw as fn(u64) -> Entry), 2 => Just(ro as _), 1 => Just((|_| Entry(0)) as _)];
    (
        prop_oneof![of_a, of_b],
        0..3usize,
        entry,
        prop::bool::weighted(0.9),
    )
        .prop_map(|((dom, table, mfn), index, entry, foreign)| {
            (
                Op::Store(table, index, Change::Set(entry(mfn)), foreign),
                dom,
            )
        })
}

fn step() -> impl Strategy<Value = (Op, DomId)> {
    let mine = |mfn: u64| if mfn < FIRST_OF_B { A } else { B };
    let table = prop_oneof![0..3u64, B_TABLES];
    let pin = table
        .clone()
        .prop_map(move |mfn| (Op::Pin(mfn, Level::L1), mine(mfn)));
    let unpin = table.prop_map(move |mfn| (Op::Unpin(mfn), mine(mfn)));
    let root = prop_oneof![Just((4, Level::L2)), Just((6, Level::L3))]
        .prop_map(|(mfn, level)| (Op::Pin(mfn, level), A));
    let link = (0..2usize, 0..3u64)
        .prop_map(|(index, mfn)| (Op::Store(4, index, Change::Set(rw(mfn)), false), A));
    let give_up =
        prop_oneof![0..8u64, FIRST_OF_B..24].prop_map(move |mfn| (Op::GiveUp(mfn), mine(mfn)));
    let assign = (0..FRAMES).prop_map(|mfn| (Op::Assign(mfn), A));
    prop_oneof![
        10 => foreign_leaf(),
        3 => pin,
        2 => unpin,
        1 => root,
        2 => link,
        1 => give_up,
        1 => assign,
    ]
}

/// All that is `dom`'s goes: pins, then claims. What is left of its frames is what the other refers to.
fn end(world: &mut World, dom: DomId) {
    let owner = |world: &World, mfn: u64| world.ledger.owners.get(&mfn).copied();
    for mfn in 0..FRAMES {
        if owner(world, mfn) == Some(dom) {
            world.run(Op::Unpin(mfn), dom);
        }
    }
    for mfn in 0..FRAMES {
        if owner(world, mfn) == Some(dom) {
            world.run(Op::GiveUp(mfn), dom);
        }
    }
    for mfn in 0..FRAMES {
        let snap = world.toy.at(mfn);
        if snap.owner() == dom && snap.is_alive() {
            assert!(
                !snap.is_allocated() && !snap.is_validated(),
                "frame {mfn}: {snap:?}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn two_domains_map_each_other_and_end_in_either_order(
        steps in prop::collection::vec(step(), 1..60),
        a_first: bool,
    ) {
        let mut world = World::new();
        for mfn in B_TABLES {
            world.run(Op::Pin(mfn, Level::L1), B);
        }
        for (op, dom) in steps {
            world.run(op, dom);
        }
        let (first, second) = if a_first { (A, B) } else { (B, A) };
        end(&mut world, first);
        end(&mut world, second);
        for mfn in 0..FRAMES {
            let snap = world.toy.at(mfn);
            prop_assert!(!snap.is_alive(), "frame {} leaked: {:?}", mfn, snap);
        }
    }
}

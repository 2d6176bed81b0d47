//! No sequence of operations makes a page table writable, leaks or underflows a count, or leaves a stale
//! translation: random sequences, compared with the naive model after each step.

use super::machine::{ABSENT, BAD_DESCRIPTOR, DEVICE, Toy};
use super::naive::{Held, Ledger};
use super::{A, B};
use crate::frame::Taken;
use crate::table::Change;
use crate::{DomId, Entry, FrameType, Level, Machine, Mfn, Refused};
use proptest::prelude::*;
use std::sync::atomic::Ordering::SeqCst;
use std::vec::Vec;

pub(super) const FRAMES: u64 = 28;
pub(super) const FIRST_OF_B: u64 = 16;
const FIRST_FREE: u64 = 24;

#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    Pin(u64, Level),
    Unpin(u64),
    /// As a guest's update: of a table by the rules, of another page by a plain store.
    Store(u64, usize, Change, bool),
    Hold(Held),
    Drop(usize),
    GiveUp(u64),
    Assign(u64),
    Tick,
}

fn level() -> impl Strategy<Value = Level> {
    prop_oneof![
        Just(Level::L1),
        Just(Level::L2),
        Just(Level::L3),
        Just(Level::L4)
    ]
}

/// Frames 0 to 3 are meant as L1s, 4 and 5 as L2s, 6 as L3, 7 as L4; chance decides.
fn likely_level(mfn: u64) -> Level {
    match mfn {
        4 | 5 => Level::L2,
        6 => Level::L3,
        7 => Level::L4,
        _ => Level::L1,
    }
}

fn frame() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..8u64, 3 => 0..FRAMES]
}

fn index() -> impl Strategy<Value = usize> {
    prop::sample::select(&[0, 1, 2, 3, 255, 256, 271, 272, 511][..])
}

fn entry() -> impl Strategy<Value = Entry> {
    let mfn = prop_oneof![
        12 => 0..FRAMES,
        1 => Just(DEVICE.0),
        1 => Just(ABSENT.0),
        1 => Just(BAD_DESCRIPTOR >> 12),
    ];
    let flags = prop::bits::u64::masked(
        Entry::WRITABLE | Entry::USER | Entry::GLOBAL | Entry::ACCESSED | Entry::NO_EXECUTE,
    );
    let rare = prop_oneof![15 => Just(0), 1 => Just(Entry::LARGE)];
    (mfn, flags, rare, prop::bool::weighted(0.85)).prop_map(|(mfn, flags, rare, present)| {
        Entry(mfn << 12 | flags | rare | u64::from(present))
    })
}

/// An entry that leads from a likely table to one below, or maps something.
fn store() -> impl Strategy<Value = Op> {
    let change = prop_oneof![
        3 => entry().prop_map(Change::Set),
        1 => Just(Change::Set(Entry(0))),
        1 => entry().prop_map(Change::SetKeepAd),
        1 => (0..20u32).prop_map(|bit| Change::And(!(1 << bit))),
        1 => (0..8u64, entry()).prop_map(|(mfn, new)| {
            let expected = if mfn == 0 { Entry(0) } else { super::rw(mfn) };
            Change::Replace { expected, new }
        }),
    ];
    let free = (frame(), index(), change, prop::bool::weighted(0.1))
        .prop_map(|(mfn, index, change, foreign)| Op::Store(mfn, index, change, foreign));
    let link = (4..8u64, index(), 0..4u64).prop_map(|(table, index, pick)| {
        let below = match table {
            4 | 5 => pick,
            6 => 4 + pick % 2,
            _ => 6,
        };
        Op::Store(table, index, Change::Set(super::rw(below)), false)
    });
    // The way of a page that is to become a table: mapped writable, no more, and pinned.
    let remap =
        (0..2u64, 0..2usize, 0..8u64, any::<bool>()).prop_map(|(table, index, mfn, gone)| {
            let entry = if gone { Entry(0) } else { super::rw(mfn) };
            Op::Store(table, index, Change::Set(entry), false)
        });
    prop_oneof![3 => free, 2 => link, 2 => remap]
}

fn op() -> impl Strategy<Value = Op> {
    let held = prop_oneof![
        2 => frame().prop_map(|mfn| Held::Writable(Mfn(mfn))),
        2 => frame().prop_map(|mfn| Held::General(Mfn(mfn))),
        2 => frame().prop_map(|mfn| Held::Table(Mfn(mfn), likely_level(mfn))),
        1 => frame().prop_map(|mfn| Held::Descriptors(Mfn(mfn))),
    ];
    prop_oneof![
        20 => store(),
        4 => frame().prop_map(|mfn| Op::Pin(mfn, likely_level(mfn))),
        1 => (frame(), level()).prop_map(|(mfn, level)| Op::Pin(mfn, level)),
        2 => frame().prop_map(Op::Unpin),
        3 => held.prop_map(Op::Hold),
        3 => any::<prop::sample::Index>().prop_map(|at| Op::Drop(at.index(8))),
        2 => frame().prop_map(Op::GiveUp),
        2 => (0..FRAMES).prop_map(Op::Assign),
        1 => Just(Op::Tick),
    ]
}

/// The machine, what the test knows it did, and whose turn it is.
pub(super) struct World {
    pub toy: Toy,
    pub ledger: Ledger,
}

impl World {
    pub fn new() -> World {
        let mut world = World {
            toy: Toy::new(FRAMES as usize),
            ledger: Ledger::default(),
        };
        (0..FIRST_FREE).for_each(|mfn| world.assign(mfn));
        world.run(Op::Pin(0, Level::L1), A);
        world
    }

    fn assign(&mut self, mfn: u64) {
        let dom = if (FIRST_OF_B..FRAMES - 2).contains(&mfn) {
            B
        } else {
            A
        };
        if self.toy.assign(Mfn(mfn), dom) {
            self.ledger.owners.insert(mfn, dom);
            self.ledger.claims.insert(mfn, dom);
        }
    }

    pub fn run(&mut self, op: Op, dom: DomId) {
        let refusable = matches!(op, Op::Pin(..) | Op::Store(..) | Op::Hold(_));
        let before = refusable.then(|| self.toy.image());
        let done = match op {
            Op::Pin(mfn, level) => {
                let done = self.toy.tables(dom).pin(Mfn(mfn), level);
                if done.is_ok() {
                    assert_eq!(self.ledger.pins.insert(mfn, level), None);
                }
                done.is_ok()
            }
            Op::Unpin(mfn) => {
                let done = self.toy.tables(dom).unpin(Mfn(mfn));
                let expected = self.ledger.pins.contains_key(&mfn)
                    && self.ledger.owners.get(&mfn) == Some(&dom);
                assert_eq!(done.is_ok(), expected);
                if expected {
                    self.ledger.pins.remove(&mfn);
                }
                expected
            }
            Op::Store(mfn, index, change, foreign) => self.store(dom, mfn, index, change, foreign),
            Op::Hold(held) => {
                let done = self.hold(dom, held);
                if done {
                    self.ledger.held.push(held);
                }
                done
            }
            Op::Drop(at) => {
                if at < self.ledger.held.len() {
                    let held = self.ledger.held.swap_remove(at);
                    self.drop_held(held);
                }
                true
            }
            Op::GiveUp(mfn) => {
                let done = self.ledger.claims.remove(&mfn).is_some();
                assert_eq!(self.toy.give_up(Mfn(mfn)), done);
                done
            }
            Op::Assign(mfn) => {
                self.assign(mfn);
                true
            }
            Op::Tick => {
                self.toy.tick();
                true
            }
        };
        if !done && let Some(before) = before {
            self.same_but_for_stored_forms(&before);
        }
        self.ledger.check(&self.toy);
    }

    /// What a refusal may leave: frames as they were, and pages but for bits that storing normalises.
    fn same_but_for_stored_forms(&self, before: &super::machine::Image) {
        for ((was_frame, was_page), (frame, page)) in before.iter().zip(self.toy.image()) {
            assert_eq!(*was_frame, frame);
            for (was, is) in was_page.iter().zip(page) {
                assert_eq!((was ^ is) & !(Entry::USER | Entry::GLOBAL), 0);
            }
        }
    }

    fn store(&self, dom: DomId, mfn: u64, index: usize, change: Change, foreign: bool) -> bool {
        let frame = self.toy.frame(mfn);
        let snap = frame.snapshot();
        if let Some(level) = snap.frame_type().level()
            && frame.get_if_valid(Some(dom), level.frame_type()).is_ok()
        {
            let owner = if foreign { DomId(3 - dom.0) } else { dom };
            let tables = self.toy.tables(dom);
            let done = tables.update(Mfn(mfn), level, index, change, owner);
            tables.put_table(Mfn(mfn), level);
            let reserved = level == Level::L4 && crate::L4_RESERVED.contains(&index);
            assert!(!reserved || done == Err(Refused::Invalid));
            return done.is_ok();
        }
        if self.get_writable(dom, mfn) {
            assert!(!self.toy.at(mfn).is_validated());
            if let Change::Set(entry) | Change::SetKeepAd(entry) = change {
                self.toy.poke(mfn, index, entry);
            }
            self.drop_held(Held::Writable(Mfn(mfn)));
            return true;
        }
        false
    }

    fn get_writable(&self, dom: DomId, mfn: u64) -> bool {
        let taken = self.toy.frame(mfn).get_writable(Some(dom));
        if let Ok(Taken::Fresh { stamp, same: false }) = taken {
            self.toy.flush_since(stamp);
        }
        taken.is_ok()
    }

    fn hold(&self, dom: DomId, held: Held) -> bool {
        match held {
            Held::General(mfn) => self.toy.frame(mfn.0).get(Some(dom)).is_ok(),
            Held::Writable(mfn) => self.get_writable(dom, mfn.0),
            Held::Table(mfn, level) => self.toy.tables(dom).get_table(mfn, level).is_ok(),
            Held::Descriptors(mfn) => self.toy.tables(dom).get_descriptors(mfn).is_ok(),
        }
    }

    fn drop_held(&self, held: Held) {
        let tables = self.toy.tables(A);
        let now = self.toy.flush_clock();
        match held {
            Held::General(mfn) => tables.after(self.toy.frame(mfn.0).put(now), mfn),
            Held::Writable(mfn) => tables.after(self.toy.frame(mfn.0).put_type(now), mfn),
            Held::Table(mfn, level) => tables.put_table(mfn, level),
            Held::Descriptors(mfn) => tables.put_descriptors(mfn),
        }
    }

    /// Everything is let go in an order that depends on `seed`; then nothing may be left.
    fn tear_down(&mut self, seed: u64) {
        for held in std::mem::take(&mut self.ledger.held) {
            self.drop_held(held);
        }
        let rotated = (0..FRAMES).map(|mfn| (mfn.wrapping_mul(5).wrapping_add(seed)) % FRAMES);
        for mfn in rotated {
            let owner = self.ledger.owners.get(&mfn).copied().unwrap_or(A);
            if seed.is_multiple_of(2) {
                self.run(Op::GiveUp(mfn), owner);
                self.run(Op::Unpin(mfn), owner);
            } else {
                self.run(Op::Unpin(mfn), owner);
                self.run(Op::GiveUp(mfn), owner);
            }
        }
        for mfn in 0..FRAMES {
            let snap = self.toy.at(mfn);
            // A table may map itself, or two tables each other: their pages go with their types, which are gone.
            assert!(!snap.is_alive(), "frame {mfn} leaked: {snap:?}");
            assert_eq!(snap.owner(), DomId::NOBODY);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_frame_is_what_the_tables_say_after_every_step(
        ops in prop::collection::vec((op(), prop::bool::weighted(0.85)), 1..80),
        l1tf in prop::bool::weighted(0.2),
        seed in 0..FRAMES,
    ) {
        let mut world = World::new();
        world.toy.l1tf.store(l1tf, SeqCst);
        for (op, by_a) in ops {
            world.run(op, if by_a { A } else { B });
        }
        world.tear_down(seed);
    }

    #[test]
    fn leaves_change_references_with_every_bit(
        changes in prop::collection::vec((0..2usize, entry()), 1..24),
    ) {
        let mut world = World::new();
        let changes: Vec<_> = changes;
        for (index, entry) in changes {
            let was = world.toy.peek(0, index);
            world.run(Op::Store(0, index, Change::Set(entry), false), A);
            let is = world.toy.peek(0, index);
            prop_assert!(is == was || is == entry.stored_leaf());
            prop_assert!(world.toy.at(0).frame_type() == FrameType::L1);
        }
        world.tear_down(1);
    }
}

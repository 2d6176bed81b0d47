//! What is stored of what a guest asks for.

use super::machine::DEVICE;
use super::{A, pinned_tree, ro, rw, two_domains};
use crate::table::Change;
use crate::{Entry, L4_RESERVED, Level, Mfn, Refused};
use std::sync::atomic::Ordering::SeqCst;

const NX: u64 = Entry::NO_EXECUTE;
const SOFTWARE: u64 = 7 << 9 | 0x7ff << 52;

fn set(raw: u64) -> Change {
    Change::Set(Entry(raw))
}

#[test]
fn leaves_are_stored_for_user_and_never_global() {
    let toy = pinned_tree();
    let asked = 6 << 12 | Entry::PRESENT | Entry::GLOBAL | NX | SOFTWARE;
    let stored = Entry(6 << 12 | Entry::PRESENT | Entry::USER | NX | SOFTWARE);
    toy.tables(A)
        .update(Mfn(0), Level::L1, 2, set(asked), A)
        .unwrap();
    assert_eq!(toy.peek(0, 2), stored);
    // What is read back may be submitted again.
    toy.tables(A)
        .update(Mfn(0), Level::L1, 2, Change::Set(stored), A)
        .unwrap();
    assert_eq!(toy.peek(0, 2), stored);
}

#[test]
fn validation_stores_leaves_for_user_and_never_global() {
    let toy = two_domains();
    toy.poke(0, 3, Entry(4 << 12 | Entry::PRESENT | Entry::GLOBAL));
    toy.tables(A).pin(Mfn(0), Level::L1).unwrap();
    assert_eq!(toy.peek(0, 3), ro(4));
}

#[test]
fn entries_of_upper_tables_are_stored_for_user() {
    for (level, below) in [
        (Level::L2, Level::L1),
        (Level::L3, Level::L2),
        (Level::L4, Level::L3),
    ] {
        let toy = two_domains();
        let asked = Entry(4 << 12 | Entry::PRESENT | Entry::WRITABLE);
        toy.poke(5, 0, asked);
        toy.tables(A).pin(Mfn(5), level).unwrap();
        assert_eq!(toy.peek(5, 0), rw(4), "{level:?} validated");
        toy.tables(A)
            .update(Mfn(5), level, 1, Change::Set(asked), A)
            .unwrap();
        assert_eq!(toy.peek(5, 1), rw(4), "{level:?} updated");
        assert_eq!(toy.at(4).frame_type(), below.frame_type());
    }
}

#[test]
fn global_is_dropped_from_upper_entries_where_a_cpu_may_reserve_it() {
    for level in [Level::L3, Level::L4] {
        let asked = Entry(rw(4).0 | Entry::GLOBAL);
        assert_eq!(asked.stored_table(level), Some(rw(4)));
    }
}

#[test]
fn large_pages_are_refused_at_every_level() {
    for level in [Level::L2, Level::L3, Level::L4] {
        let toy = two_domains();
        let large = Entry(rw(4).0 | Entry::LARGE);
        toy.poke(5, 0, large);
        assert_eq!(toy.tables(A).pin(Mfn(5), level), Err(Refused::Invalid));
        toy.poke(5, 0, Entry(0));
        toy.tables(A).pin(Mfn(5), level).unwrap();
        let before = toy.image();
        let update = toy
            .tables(A)
            .update(Mfn(5), level, 0, Change::Set(large), A);
        assert_eq!(update, Err(Refused::Invalid));
        assert_eq!(toy.image(), before);
    }
}

#[test]
fn the_same_bit_is_a_memory_type_in_leaves() {
    let toy = pinned_tree();
    let pat = Entry(ro(6).0 | Entry::LARGE);
    toy.tables(A)
        .update(Mfn(0), Level::L1, 2, Change::Set(pat), A)
        .unwrap();
    assert_eq!(toy.peek(0, 2), pat);
}

#[test]
fn reserved_slots_are_ignored_and_overwritten_by_validation() {
    let toy = pinned_tree();
    // What another root shows there; a large page, a foreign frame, nonsense.
    for (slot, junk) in L4_RESERVED.zip(
        [rw(2).0, rw(4).0 | Entry::LARGE, rw(17).0, !0]
            .into_iter()
            .cycle(),
    ) {
        toy.poke(6, slot, Entry(junk));
    }
    let before = (toy.counts(2), toy.counts(4), toy.counts(17));
    toy.tables(A).pin(Mfn(6), Level::L4).unwrap();
    for slot in L4_RESERVED {
        assert_eq!(toy.peek(6, slot), super::machine::RING0_ENTRY);
    }
    assert_eq!((toy.counts(2), toy.counts(4), toy.counts(17)), before);
    toy.poke(6, 256, rw(9));
    toy.tables(A).unpin(Mfn(6)).unwrap();
    assert_eq!(
        toy.counts(9),
        (0, 1),
        "devalidation must not drop what was not taken"
    );
}

#[test]
fn reserved_slots_are_the_hypervisors_only_in_roots() {
    let toy = pinned_tree();
    for slot in L4_RESERVED {
        let root = toy.tables(A).update(Mfn(3), Level::L4, slot, set(0), A);
        assert_eq!(root, Err(Refused::Invalid));
        toy.tables(A)
            .update(Mfn(2), Level::L3, slot, set(0), A)
            .unwrap();
    }
    for slot in [255, 272, 511] {
        toy.tables(A)
            .update(Mfn(3), Level::L4, slot, set(0), A)
            .unwrap();
    }
}

#[test]
fn an_index_beyond_the_table_is_refused() {
    let toy = pinned_tree();
    for level in [Level::L1, Level::L2, Level::L3, Level::L4] {
        let table = Mfn(level as u64 - 1);
        assert_eq!(
            toy.tables(A).update(table, level, 512, set(0), A),
            Err(Refused::Invalid)
        );
    }
}

#[test]
fn non_present_values_are_stored_as_they_are() {
    let toy = pinned_tree();
    let swapped = Entry(0x7fff_ffff_ffff_f1f8 & !Entry::PRESENT);
    for level in [Level::L1, Level::L2, Level::L3, Level::L4] {
        let table = Mfn(level as u64 - 1);
        toy.tables(A)
            .update(table, level, 9, Change::Set(swapped), A)
            .unwrap();
        assert_eq!(toy.peek(table.0, 9), swapped);
    }
}

#[test]
fn non_present_values_name_no_memory_where_cpus_speculate_through_them() {
    let toy = pinned_tree();
    toy.l1tf.store(true, SeqCst);
    let before = toy.image();
    for level in [Level::L1, Level::L2, Level::L3, Level::L4] {
        let table = Mfn(level as u64 - 1);
        for mfn in [6, 17, 22] {
            let update = toy.tables(A).update(table, level, 9, set(mfn << 12 | 2), A);
            assert_eq!(update, Err(Refused::Invalid));
        }
    }
    assert_eq!(
        toy.tables(A)
            .update(Mfn(0), Level::L1, 0, Change::And(!1), A),
        Err(Refused::Invalid)
    );
    assert_eq!(toy.image(), before);
    for harmless in [0, 0x1fe, DEVICE.0 << 12, Entry::ADDRESS] {
        toy.tables(A)
            .update(Mfn(0), Level::L1, 9, set(harmless), A)
            .unwrap();
    }
    toy.poke(6, 511, Entry(4 << 12));
    let before = toy.image();
    for level in [Level::L1, Level::L2, Level::L3, Level::L4] {
        assert_eq!(toy.tables(A).pin(Mfn(6), level), Err(Refused::Invalid));
    }
    assert_eq!(toy.image(), before);
}

#[test]
fn accessed_and_dirty_survive_an_update_that_keeps_them() {
    let toy = pinned_tree();
    let used = Entry::ACCESSED | Entry::DIRTY;
    toy.poke(0, 0, Entry(rw(4).0 | used));
    let change = Change::SetKeepAd(Entry(rw(4).0 | NX));
    let old = toy
        .tables(A)
        .update(Mfn(0), Level::L1, 0, change, A)
        .unwrap();
    assert_eq!(old.0, rw(4).0 | used);
    assert_eq!(toy.peek(0, 0).0, rw(4).0 | used | NX);
    // Also where the frame changes.
    toy.tables(A)
        .update(Mfn(0), Level::L1, 0, Change::SetKeepAd(rw(6)), A)
        .unwrap();
    assert_eq!(toy.peek(0, 0).0, rw(6).0 | used);
    toy.tables(A)
        .update(Mfn(0), Level::L1, 0, Change::Set(rw(6)), A)
        .unwrap();
    assert_eq!(toy.peek(0, 0), rw(6));
    assert_eq!(toy.counts(6), (1, 1));
}

#[test]
fn clearing_bits_returns_the_old_entry_and_moves_no_reference() {
    let toy = pinned_tree();
    toy.poke(0, 0, Entry(rw(4).0 | Entry::ACCESSED));
    let old = toy
        .tables(A)
        .update(Mfn(0), Level::L1, 0, Change::And(!Entry::ACCESSED), A);
    assert_eq!(old, Ok(Entry(rw(4).0 | Entry::ACCESSED)));
    assert_eq!((toy.peek(0, 0), toy.counts(4)), (rw(4), (1, 1)));
}

/// The attack: a bit cleared in the address names another frame.
#[test]
fn clearing_address_bits_takes_a_reference_on_what_is_named_then() {
    let toy = pinned_tree();
    toy.tables(A)
        .update(Mfn(0), Level::L1, 0, Change::Set(rw(13)), A)
        .unwrap();
    let before = toy.image();
    // 13 & !12 = 1, a table.
    let change = Change::And(!(12 << 12));
    assert_eq!(
        toy.tables(A).update(Mfn(0), Level::L1, 0, change, A),
        Err(Refused::Invalid)
    );
    assert_eq!(toy.image(), before);
    // 13 & !4 = 9.
    toy.tables(A)
        .update(Mfn(0), Level::L1, 0, Change::And(!(4 << 12)), A)
        .unwrap();
    assert_eq!((toy.counts(9), toy.counts(13)), ((1, 1), (0, 1)));
}

#[test]
fn a_conditional_store_happens_only_over_the_entry_it_expects() {
    let toy = pinned_tree();
    let replace = |expected, new| {
        toy.tables(A)
            .update(Mfn(0), Level::L1, 0, Change::Replace { expected, new }, A)
    };
    let before = toy.image();
    for wrong in [rw(6), Entry(rw(4).0 | Entry::ACCESSED), Entry(0)] {
        assert_eq!(replace(wrong, rw(6)), Ok(rw(4)));
        // What would be refused is not looked at either.
        assert_eq!(replace(wrong, rw(1)), Ok(rw(4)));
    }
    assert_eq!(toy.image(), before);
    assert_eq!(replace(rw(4), rw(1)), Err(Refused::Invalid));
    assert_eq!(toy.image(), before);
    assert_eq!(replace(rw(4), ro(4)), Ok(rw(4)));
    assert_eq!((toy.peek(0, 0), toy.counts(4)), (ro(4), (0, 2)));
    assert_eq!(replace(ro(4), rw(6)), Ok(ro(4)));
    assert_eq!((toy.counts(4), toy.counts(6)), ((0, 1), (1, 1)));
}

//! References of tables: what entries, pins and links hold, and when they give it back.

use super::{A, B, pinned_tree, ro, rw, two_domains};
use crate::table::Change;
use crate::{Entry, FrameType, Level, Mfn};
use std::sync::atomic::Ordering::SeqCst;

fn map(toy: &super::Toy, index: usize, entry: Entry) -> Entry {
    toy.tables(A)
        .update(Mfn(0), Level::L1, index, Change::Set(entry), A)
        .unwrap()
}

#[test]
fn every_entry_holds_exactly_one_reference() {
    let toy = pinned_tree();
    assert_eq!(toy.counts(4), (1, 1), "writable leaf");
    assert_eq!(toy.counts(5), (0, 2), "read-only leaf");
    for table in 0..4 {
        assert_eq!(toy.counts(table), (1, 1));
    }
    map(&toy, 2, rw(4));
    map(&toy, 3, rw(4));
    map(&toy, 4, ro(4));
    assert_eq!(toy.counts(4), (3, 2));
    for index in [0, 2, 3, 4] {
        map(&toy, index, Entry(0));
    }
    assert_eq!(toy.counts(4), (0, 1));
}

#[test]
fn an_update_returns_the_old_entry_and_drops_what_it_held() {
    let toy = pinned_tree();
    toy.poke(0, 0, Entry(rw(4).0 | Entry::DIRTY));
    assert_eq!(map(&toy, 0, ro(6)), Entry(rw(4).0 | Entry::DIRTY));
    assert_eq!((toy.counts(4), toy.counts(6)), ((0, 1), (0, 2)));
}

#[test]
fn losing_write_permission_keeps_exactly_one_reference() {
    for change in [
        Change::Set(ro(4)),
        Change::SetKeepAd(ro(4)),
        Change::And(!Entry::WRITABLE),
    ] {
        let toy = pinned_tree();
        toy.tables(A)
            .update(Mfn(0), Level::L1, 0, change, A)
            .unwrap();
        assert_eq!((toy.peek(0, 0), toy.counts(4)), (ro(4), (0, 2)));
        // Now it can become a table, which stays mapped read-only.
        toy.tables(A).pin(Mfn(4), Level::L1).unwrap();
        map(&toy, 0, Entry(0));
        assert_eq!(toy.counts(4), (1, 1));
    }
}

#[test]
fn gaining_write_permission_keeps_exactly_one_reference() {
    let toy = pinned_tree();
    map(&toy, 1, rw(5));
    assert_eq!(toy.counts(5), (1, 1));
}

#[test]
fn a_mapping_of_a_disowned_frame_can_lose_write_permission() {
    let toy = pinned_tree();
    toy.give_up(Mfn(4));
    assert_eq!(toy.counts(4), (1, 0));
    map(&toy, 0, ro(4));
    assert_eq!(toy.counts(4), (0, 1));
    map(&toy, 0, Entry(0));
    assert_eq!(*toy.released.lock().unwrap(), [Mfn(4)]);
}

#[test]
fn the_last_reference_gives_a_frame_back_once() {
    let toy = pinned_tree();
    toy.give_up(Mfn(4));
    toy.give_up(Mfn(5));
    assert!(!toy.give_up(Mfn(5)));
    assert_eq!(*toy.released.lock().unwrap(), []);
    map(&toy, 0, Entry(0));
    toy.tables(A).unpin(Mfn(3)).unwrap();
    assert_eq!(*toy.released.lock().unwrap(), [Mfn(4), Mfn(5)]);
    assert!(toy.assign(Mfn(4), B));
}

#[test]
fn a_disowned_tree_goes_with_its_pin() {
    let toy = pinned_tree();
    (0..6).for_each(|mfn| assert!(toy.give_up(Mfn(mfn))));
    assert_eq!(*toy.released.lock().unwrap(), []);
    toy.tables(A).unpin(Mfn(3)).unwrap();
    // A table goes when its entries are dropped; tables that they named wait, those of the lowest level do not.
    assert_eq!(*toy.released.lock().unwrap(), [3, 2, 4, 5, 0, 1].map(Mfn));
}

#[test]
fn unpinning_a_linked_table_leaves_it_validated() {
    let toy = pinned_tree();
    toy.tables(A).pin(Mfn(0), Level::L1).unwrap();
    assert_eq!(toy.counts(0), (2, 1));
    toy.tables(A).unpin(Mfn(0)).unwrap();
    assert_eq!(toy.counts(0), (1, 1));
    assert!(toy.at(0).is_validated());
    assert_eq!(toy.counts(4), (1, 1));
}

#[test]
fn unlinking_a_pinned_table_leaves_it_validated() {
    let toy = pinned_tree();
    toy.tables(A).pin(Mfn(0), Level::L1).unwrap();
    toy.tables(A)
        .update(Mfn(1), Level::L2, 0, Change::Set(Entry(0)), A)
        .unwrap();
    assert!(toy.at(0).is_validated());
    assert_eq!((toy.counts(0), toy.counts(4)), ((1, 1), (1, 1)));
    assert_eq!(toy.upper_flushes.load(SeqCst), 1);
}

#[test]
fn unlinking_a_table_flushes_before_it_can_become_anything_else() {
    let toy = pinned_tree();
    let upper = |table, level, change| {
        toy.tables(A)
            .update(Mfn(table), level, 0, change, A)
            .unwrap()
    };
    upper(1, Level::L2, Change::Set(rw(8)));
    assert_eq!(toy.upper_flushes.load(SeqCst), 1);
    assert_eq!(
        (toy.counts(0), toy.counts(4), toy.counts(8)),
        ((0, 1), (0, 1), (1, 1))
    );
    // A change of permissions counts too; the frame keeps its one reference.
    upper(1, Level::L2, Change::SetKeepAd(ro(8)));
    upper(1, Level::L2, Change::And(!Entry::USER));
    assert_eq!(toy.upper_flushes.load(SeqCst), 3);
    assert_eq!((toy.peek(1, 0), toy.counts(8)), (ro(8), (1, 1)));
    // A new link where there was none needs no flush.
    upper(1, Level::L2, Change::Set(Entry(0)));
    upper(1, Level::L2, Change::Set(rw(8)));
    assert_eq!(toy.upper_flushes.load(SeqCst), 4);
    upper(3, Level::L4, Change::Set(Entry(0)));
    assert_eq!(toy.upper_flushes.load(SeqCst), 5);
    (0..3).for_each(|table| assert_eq!(toy.counts(table), (0, 1)));
}

#[test]
fn one_table_may_be_linked_many_times() {
    let toy = pinned_tree();
    for index in 1..512 {
        toy.tables(A)
            .update(Mfn(1), Level::L2, index, Change::Set(rw(0)), A)
            .unwrap();
    }
    assert_eq!((toy.counts(0), toy.counts(4)), ((512, 1), (1, 1)));
    toy.tables(A).unpin(Mfn(3)).unwrap();
    assert_eq!((toy.counts(0), toy.counts(4)), ((0, 1), (0, 1)));
}

#[test]
fn a_page_once_writable_is_flushed_everywhere_before_it_is_a_table() {
    let toy = pinned_tree();
    map(&toy, 0, ro(4));
    let (before, stamp) = (toy.flushes.load(SeqCst), toy.frame(4).stamp());
    toy.tables(A).pin(Mfn(4), Level::L1).unwrap();
    assert_eq!(toy.flushes.load(SeqCst), before + 1);
    assert!(toy.flushed_at() > stamp);
    // Once flushed, never again for the same end.
    map(&toy, 1, Entry(0));
    toy.tables(A).pin(Mfn(7), Level::L1).unwrap();
    assert_eq!(toy.flushes.load(SeqCst), before + 1);
}

#[test]
fn a_page_once_a_table_is_flushed_everywhere_before_it_is_writable() {
    let toy = two_domains();
    toy.tables(A).pin(Mfn(4), Level::L1).unwrap();
    toy.tables(A).unpin(Mfn(4)).unwrap();
    toy.tables(A).pin(Mfn(0), Level::L1).unwrap();
    let before = toy.flushes.load(SeqCst);
    map(&toy, 0, rw(4));
    assert_eq!(toy.flushes.load(SeqCst), before + 1);
    map(&toy, 1, rw(4));
    assert_eq!(toy.flushes.load(SeqCst), before + 1);
}

#[test]
fn a_table_taken_again_as_the_same_needs_no_flush() {
    let toy = pinned_tree();
    toy.tables(A).unpin(Mfn(3)).unwrap();
    let before = toy.flushes.load(SeqCst);
    toy.tables(A).pin(Mfn(0), Level::L1).unwrap();
    assert_eq!(toy.flushes.load(SeqCst), before);
}

#[test]
fn descriptor_pages_come_and_go() {
    let toy = two_domains();
    toy.tables(A).get_descriptors(Mfn(6)).unwrap();
    assert_eq!(toy.at(6).frame_type(), FrameType::Descriptors);
    assert!(toy.at(6).is_validated());
    toy.give_up(Mfn(6));
    toy.tables(A).put_descriptors(Mfn(6));
    assert_eq!(*toy.released.lock().unwrap(), [Mfn(6)]);
}

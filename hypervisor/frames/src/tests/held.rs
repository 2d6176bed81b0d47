//! References as values: whatever way an operation ends, the counts are what they were.

use super::{A, B, pinned_tree, two_domains};
use crate::held::{Descriptors, General, Held, Table, Use, Writable};
use crate::{Level, Machine, Mfn, Refused};

/// An operation that takes four references and then is refused.
fn takes_and_fails(toy: &super::machine::Toy) -> Result<(), Refused> {
    let tables = toy.tables(A);
    let _one = tables.hold(Mfn(8), General)?;
    let _two = tables.hold(Mfn(9), Writable)?;
    let _three = tables.hold(Mfn(10), Descriptors)?;
    let _four = tables.hold(Mfn(3), Table(Level::L4))?;
    assert_eq!(
        [8, 9, 10, 3].map(|mfn| toy.counts(mfn)),
        [(0, 2), (1, 1), (1, 1), (2, 1)]
    );
    Err(Refused::Invalid)
}

#[test]
fn an_early_return_leaks_no_reference() {
    let toy = pinned_tree();
    let before: std::vec::Vec<_> = (0..toy.nr_frames()).map(|mfn| toy.counts(mfn)).collect();
    for _ in 0..3 {
        assert_eq!(takes_and_fails(&toy), Err(Refused::Invalid));
    }
    let after: std::vec::Vec<_> = (0..toy.nr_frames()).map(|mfn| toy.counts(mfn)).collect();
    assert_eq!(before, after);
}

#[test]
fn a_refused_hold_changes_nothing() {
    fn refused(toy: &super::machine::Toy, mfn: u64, how: impl Use, why: Refused) {
        let before = toy.counts(mfn);
        assert_eq!(toy.tables(A).hold(Mfn(mfn), how).err(), Some(why));
        assert_eq!(toy.counts(mfn), before);
    }
    let toy = pinned_tree();
    refused(&toy, 16, General, Refused::NotYours);
    refused(&toy, 16, Writable, Refused::NotYours);
    refused(&toy, 0, Writable, Refused::Invalid);
    refused(&toy, 4, Descriptors, Refused::Invalid);
    refused(&toy, 0, Table(Level::L2), Refused::Invalid);
    assert!(toy.tables(B).hold(Mfn(0), Table(Level::L1)).is_err());
}

#[test]
fn what_is_kept_stays_until_it_is_taken_over() {
    let toy = two_domains();
    let kept = toy.tables(A).hold(Mfn(4), Writable).map(Held::keep);
    assert_eq!(kept, Ok(Mfn(4)));
    assert_eq!(toy.counts(4), (1, 1));
    drop(Held::kept(toy.tables(A), Mfn(4), Writable));
    assert_eq!(toy.counts(4), (0, 1));
}

#[test]
fn a_frame_given_up_while_held_goes_with_the_value() {
    let toy = two_domains();
    let held = toy.tables(A).hold(Mfn(4), General).ok().unwrap();
    assert!(held.disown());
    assert!(!held.disown(), "a claim is given up once");
    assert!(toy.released.lock().unwrap().is_empty());
    assert_eq!(held.mfn(), Mfn(4));
    drop(held);
    assert_eq!(*toy.released.lock().unwrap(), [Mfn(4)]);
}

#[test]
fn a_frame_that_anybody_refers_to_is_not_taken_from_its_owner() {
    let toy = pinned_tree();
    let refused = |dom, mfn: u64, why| {
        let before = toy.counts(mfn);
        assert_eq!(toy.tables(dom).take_sole(Mfn(mfn)).err(), Some(why));
        assert_eq!(toy.counts(mfn), before);
    };
    refused(A, 0, Refused::Invalid);
    refused(A, 4, Refused::Invalid);
    refused(A, 16, Refused::NotYours);
    refused(B, 8, Refused::NotYours);
    let _held = toy.tables(A).hold(Mfn(8), General).ok().unwrap();
    refused(A, 8, Refused::Invalid);
    let second = toy.tables(A).hold(Mfn(9), General).ok().unwrap();
    assert!(second.disown());
    refused(A, 9, Refused::Invalid);
}

#[test]
fn a_frame_taken_from_its_owner_is_nobodys_to_use_until_it_is_back() {
    let toy = pinned_tree();
    let sole = toy.tables(A).take_sole(Mfn(8)).ok().unwrap();
    assert_eq!(toy.counts(8), (0, 0));
    assert!(toy.tables(A).hold(Mfn(8), General).is_err());
    assert!(toy.tables(A).hold(Mfn(8), Writable).is_err());
    assert!(toy.tables(A).hold(Mfn(8), Table(Level::L1)).is_err());
    assert!(toy.tables(A).take_sole(Mfn(8)).is_err(), "it is taken once");
    drop(sole);
    assert_eq!(toy.counts(8), (0, 1));
    assert!(toy.tables(A).hold(Mfn(8), Writable).is_ok());
}

#[test]
fn a_frame_taken_for_good_is_the_allocators() {
    let toy = pinned_tree();
    toy.tick();
    let sole = toy.tables(A).take_sole(Mfn(8)).ok().unwrap();
    toy.tick();
    assert_eq!(sole.give_up(), Mfn(8));
    assert!(toy.released.lock().unwrap().is_empty(), "whoever took it");
    assert_eq!(toy.frame(8).stamp(), toy.flush_clock());
    toy.frame(8).retire();
    assert!(toy.assign(Mfn(8), B));
}

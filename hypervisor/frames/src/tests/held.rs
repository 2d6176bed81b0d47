//! References as values: whatever way an operation ends, the counts are what they were.

use super::{A, B, pinned_tree, two_domains};
use crate::held::{Descriptors, General, Held, Table, Use, Writable};
use crate::{Level, Mfn, Refused};

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
    assert!(held.is_sole_use());
    let second = toy.tables(A).hold(Mfn(4), General).ok().unwrap();
    assert!(!held.is_sole_use());
    drop(second);
    assert!(held.disown());
    assert!(!held.disown(), "a claim is given up once");
    assert!(toy.released.lock().unwrap().is_empty());
    assert_eq!(held.mfn(), Mfn(4));
    drop(held);
    assert_eq!(*toy.released.lock().unwrap(), [Mfn(4)]);
}

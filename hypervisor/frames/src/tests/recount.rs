//! The audit finds what is wrong, and nothing else.

use super::machine::{DEVICE, Toy};
use super::{A, pinned_tree, ro, rw};
use crate::audit::{Audit, Counts, Finding, Hold, Progress};
use crate::totals::Totals;
use crate::{FrameType, Level, Mfn};
use std::vec;
use std::vec::Vec;

fn audit_with(toy: &Toy, budget: usize, held: &[(Mfn, Hold)]) -> (Vec<Finding>, usize) {
    // Left over from somebody else.
    let mut counts = vec![
        Counts {
            general: 7,
            types: 7
        };
        toy.nr_frames() as usize
    ];
    let mut audit = Audit::new(toy, Mfn(0), &mut counts);
    let mut findings = Vec::new();
    let mut steps = 1;
    while audit.step(
        budget,
        |hold| held.iter().for_each(|&(mfn, how)| hold(mfn, how)),
        |finding| findings.push(finding),
    ) == Progress::More
    {
        steps += 1;
    }
    (findings, steps)
}

fn audit(toy: &Toy) -> Vec<Finding> {
    audit_with(toy, usize::MAX, &[]).0
}

fn miscounted(mfn: u64, expected: (u32, u32), found: (u32, u32)) -> Finding {
    let counts = |(types, general)| Counts { general, types };
    Finding::Miscounted {
        mfn: Mfn(mfn),
        expected: counts(expected),
        found: counts(found),
    }
}

#[test]
fn a_sound_machine_has_no_findings() {
    assert_eq!(audit(&pinned_tree()), []);
}

#[test]
fn the_answer_does_not_depend_on_the_pieces() {
    let toy = pinned_tree();
    toy.frame(4).get(None).unwrap();
    let whole = audit_with(&toy, usize::MAX, &[]);
    assert_eq!(whole.1, 1);
    for budget in [0, 1, 5, 512, 1000] {
        let pieces = audit_with(&toy, budget, &[]);
        assert_eq!(pieces.0, whole.0);
        assert!(pieces.1 > 1);
    }
    assert!(
        audit_with(&toy, 1, &[]).1 >= 3 * 24 - 2,
        "one frame a piece"
    );
}

#[test]
fn a_leaked_general_reference_is_found() {
    let toy = pinned_tree();
    toy.frame(9).get(None).unwrap();
    assert_eq!(audit(&toy), [miscounted(9, (0, 1), (0, 2))]);
}

#[test]
fn a_missing_writable_reference_is_found() {
    let toy = pinned_tree();
    toy.frame(4).put_writable(1);
    assert_eq!(audit(&toy), [miscounted(4, (1, 1), (0, 1))]);
}

#[test]
fn a_leaked_table_reference_is_found() {
    let toy = pinned_tree();
    toy.tables(A).get_table(Mfn(1), Level::L2).unwrap();
    assert_eq!(audit(&toy), [miscounted(1, (1, 1), (2, 1))]);
}

#[test]
fn what_ring_0_names_is_counted() {
    let toy = pinned_tree();
    toy.tables(A).get_table(Mfn(3), Level::L4).unwrap();
    toy.tables(A).get_descriptors(Mfn(8)).unwrap();
    toy.frame(9).get_writable(Some(A)).unwrap();
    toy.frame(10).get(Some(A)).unwrap();
    assert_eq!(audit(&toy).len(), 4);
    let held = [
        (Mfn(3), Hold::Type(FrameType::L4)),
        (Mfn(8), Hold::Type(FrameType::Descriptors)),
        (Mfn(9), Hold::Type(FrameType::Writable)),
        (Mfn(10), Hold::General),
        (DEVICE, Hold::General),
    ];
    assert_eq!(audit_with(&toy, 3, &held).0, []);
}

#[test]
fn a_writable_mapping_of_a_table_is_found() {
    let toy = pinned_tree();
    toy.poke(0, 7, rw(1));
    let mistyped = Finding::Mistyped {
        mfn: Mfn(1),
        by: Some((Mfn(0), 7)),
        expected: FrameType::Writable,
        found: FrameType::L2,
    };
    assert_eq!(audit(&toy), [mistyped, miscounted(1, (2, 1), (1, 1))]);
}

#[test]
fn a_free_frame_that_is_mapped_is_found() {
    let toy = pinned_tree();
    toy.poke(0, 7, ro(22));
    assert_eq!(audit(&toy), [miscounted(22, (0, 1), (0, 0))]);
}

#[test]
fn a_validation_never_ended_is_found() {
    let toy = pinned_tree();
    toy.frame(9).get_checked(Some(A), FrameType::L1).unwrap();
    let unfinished = Finding::Unfinished { mfn: Mfn(9) };
    assert_eq!(audit(&toy), [unfinished, miscounted(9, (0, 1), (1, 1))]);
}

#[test]
fn device_mappings_and_reserved_slots_hold_nothing() {
    let toy = pinned_tree();
    toy.poke(0, 8, rw(DEVICE.0));
    toy.poke(3, 260, rw(9));
    assert_eq!(audit(&toy), []);
}

#[test]
fn a_range_that_begins_later_ignores_the_rest() {
    let toy = pinned_tree();
    toy.frame(9).get(None).unwrap();
    let mut counts = [Counts::default(); 8];
    let mut findings = Vec::new();
    let mut audit = Audit::new(&toy, Mfn(8), &mut counts);
    let progress = audit.step(usize::MAX, |_| {}, |finding| findings.push(finding));
    assert_eq!(
        (progress, findings),
        (Progress::Done, vec![miscounted(9, (0, 1), (0, 2))])
    );
}

fn totals_of(toy: &Toy, subject: Option<crate::DomId>) -> Totals {
    let mut counts = vec![Counts::default(); toy.nr_frames() as usize];
    let mut audit = Audit::new(toy, Mfn(0), &mut counts);
    if let Some(subject) = subject {
        audit = audit.about(subject);
    }
    while audit.step(5, |_| {}, |_| {}) == Progress::More {}
    *audit.totals()
}

#[test]
fn totals_tell_owners_and_uses() {
    let toy = pinned_tree();
    let totals = totals_of(&toy, Some(A));
    assert_eq!(
        (
            totals.frames,
            totals.subject_frames,
            totals.others,
            totals.free
        ),
        (24, 16, 4, 4)
    );
    // Tables 0 to 3 of one level each, frame 4 writable, eleven frames in no use.
    assert_eq!(totals.by_type, [11, 1, 1, 1, 1, 1, 0, 0]);
    // One claim a frame; frame 5 is mapped read-only. Three entries name tables, one is writable, and the pin.
    assert_eq!((totals.general, totals.types), (20 + 1, 3 + 1 + 1));
}

#[test]
fn without_a_subject_every_domain_is_another() {
    let totals = totals_of(&pinned_tree(), None);
    assert_eq!((totals.others, totals.subject_frames), (20, 0));
    assert_eq!(totals.by_type, [0; 8]);
}

#[test]
fn what_was_taken_and_given_back_leaves_the_totals_as_they_were() {
    let toy = pinned_tree();
    let before = totals_of(&toy, Some(A));
    toy.tables(A).get_descriptors(Mfn(8)).unwrap();
    assert_ne!(totals_of(&toy, Some(A)), before);
    toy.tables(A).put_descriptors(Mfn(8));
    assert_eq!(totals_of(&toy, Some(A)), before);
}

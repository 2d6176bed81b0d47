//! Validating and undoing in parts comes to the same as doing it at once: stopped, given up, helped, destroyed at every
//! step, with all counts right at every stop.

use super::machine::{Image, Toy};
use super::schedule::every_order;
use super::{A, ro, rw, two_domains};
use crate::audit::{Audit, Counts, Finding, Hold, Progress};
use crate::table::Validation;
use crate::{Entry, FrameType, L4_RESERVED, Level, Machine, Mfn, Refused};
use proptest::prelude::*;
use std::sync::atomic::Ordering::SeqCst;
use std::vec;
use std::vec::Vec;

/// Units that are enough for everything here.
const PLENTY: u32 = 100_000;

/// A's tables, not pinned: 3 (L4) -> 2 (L3) -> 1 and 6 (L2) -> 0 and 7 (L1), shared in part, with pages 4, 5, 8, 9.
fn loose_tree() -> Toy {
    let toy = two_domains();
    for index in 0..12 {
        toy.poke(0, index, if index % 3 == 0 { ro(5) } else { rw(4) });
        toy.poke(7, 40 * index, if index % 2 == 0 { rw(8) } else { ro(9) });
    }
    toy.poke(1, 0, rw(0));
    toy.poke(1, 5, rw(7));
    toy.poke(6, 511, rw(7));
    toy.poke(2, 1, rw(1));
    toy.poke(2, 2, rw(6));
    toy.poke(3, 0, rw(2));
    toy.poke(3, 300, rw(2));
    toy.waits.store(true, SeqCst);
    toy.keeps.store(true, SeqCst);
    toy
}

/// Counts right, whatever is in progress? `others` are validations that other parties keep.
fn findings(toy: &Toy, others: &[Validation]) -> Vec<Finding> {
    let mut counts = vec![Counts::default(); toy.nr_frames() as usize];
    let mut audit = Audit::new(toy, Mfn(0), &mut counts);
    let mut findings = Vec::new();
    let holders = |hold: &mut dyn FnMut(Mfn, Hold)| {
        toy.undo_list().each(toy, |table| hold(table, Hold::Work));
        let kept = *toy.kept.lock().unwrap();
        for v in kept.iter().chain(others) {
            match (v.is_finished(), v.asked()) {
                (true, (table, level)) => hold(table, Hold::Type(level.frame_type())),
                (false, _) => v.each(|table| hold(table, Hold::Work)),
            }
        }
    };
    let done = audit.step(usize::MAX, holders, |finding| findings.push(finding));
    assert_eq!(done, Progress::Done);
    findings
}

/// Does something in sections of so many units, until it does not ask to be done again; the number of sections.
fn in_sections<T>(
    toy: &Toy,
    units: u32,
    mut act: impl FnMut() -> Result<T, Refused>,
) -> (Result<T, Refused>, usize) {
    for sections in 1.. {
        assert!(sections < 10_000, "it never ends");
        toy.units.store(units, SeqCst);
        let outcome = act();
        toy.units.store(u32::MAX, SeqCst);
        assert_eq!(findings(toy, &[]), []);
        match outcome {
            Err(Refused::Unfinished) => undo_all(toy, units),
            other => return (other, sections),
        };
    }
    unreachable!()
}

/// Works the undo list off in sections of so many units.
fn undo_all(toy: &Toy, units: u32) -> usize {
    for sections in 1.. {
        assert!(sections < 10_000, "it never ends");
        toy.units.store(units, SeqCst);
        let done = toy.tables(A).undo_some();
        toy.units.store(u32::MAX, SeqCst);
        assert_eq!(findings(toy, &[]), []);
        if done {
            return sections;
        }
    }
    unreachable!()
}

/// The words without the reserved slots of roots, which are ring 0's.
fn plain(mut image: Image) -> Image {
    for (_, words) in &mut image {
        L4_RESERVED.for_each(|slot| words[slot] = 0);
    }
    image
}

fn pinned_at_once() -> Image {
    let toy = loose_tree();
    assert_eq!(toy.tables(A).pin(Mfn(3), Level::L4), Ok(()));
    plain(toy.image())
}

#[test]
fn stopping_at_every_step_comes_to_the_same_as_never() {
    let whole = pinned_at_once();
    let before = plain(loose_tree().image());
    for units in (1..60).chain([100, 1000]) {
        let toy = loose_tree();
        let (pinned, sections) = in_sections(&toy, units, || toy.tables(A).pin(Mfn(3), Level::L4));
        assert_eq!(pinned, Ok(()));
        assert_eq!(
            plain(toy.image()),
            whole,
            "validated in sections of {units}"
        );
        assert!(units > 60 || sections > 1, "{units} units were enough");
        toy.tables(A).unpin(Mfn(3)).unwrap();
        let sections = undo_all(&toy, units);
        assert!(units > 60 || sections > 1, "{units} units were enough");
        assert_eq!(plain(toy.image()), before, "undone in sections of {units}");
    }
}

/// Pins the root in so many sections of one unit at most; whether that was enough.
fn pin_in_part(toy: &Toy, sections: usize) -> bool {
    (0..sections).any(|_| {
        toy.units.store(1, SeqCst);
        let outcome = toy.tables(A).pin(Mfn(3), Level::L4);
        toy.units.store(u32::MAX, SeqCst);
        outcome == Ok(())
    })
}

#[test]
fn giving_up_at_every_step_leaves_nothing() {
    let before = plain(loose_tree().image());
    for stops in 1..80 {
        let toy = loose_tree();
        let pinned = pin_in_part(&toy, stops);
        let kept = toy.kept.lock().unwrap().take();
        assert_ne!(kept.is_some(), pinned, "either it is kept or it is done");
        match kept {
            Some(v) => toy.tables(A).abandon(v),
            None => toy.tables(A).unpin(Mfn(3)).unwrap(),
        }
        undo_all(&toy, 2);
        assert_eq!(plain(toy.image()), before, "given up after {stops} stops");
    }
}

#[test]
fn a_refusal_found_late_leaves_nothing() {
    for units in 1..40 {
        let toy = loose_tree();
        // The very last entry names a frame of another domain.
        toy.poke(7, 511, rw(16));
        let before = plain(toy.image());
        let (refused, _) = in_sections(&toy, units, || toy.tables(A).pin(Mfn(3), Level::L4));
        assert_eq!(refused, Err(Refused::NotYours));
        undo_all(&toy, units);
        assert_eq!(plain(toy.image()), before, "refused in sections of {units}");
        assert_eq!(*toy.kept.lock().unwrap(), None);
    }
}

#[test]
fn whoever_meets_a_table_in_progress_gets_it_after_helping() {
    for stops in 1..80 {
        let toy = loose_tree();
        pin_in_part(&toy, stops);
        // The other party finds the first's record, as it would in its vCPU.
        let mut first = toy.kept.lock().unwrap().take();
        let mut rounds = 0;
        loop {
            toy.units.store(3, SeqCst);
            let pinned = toy.tables(A).pin(Mfn(6), Level::L2);
            toy.units.store(u32::MAX, SeqCst);
            assert_eq!(findings(&toy, first.as_slice()), []);
            match pinned {
                Ok(()) => break,
                Err(Refused::Busy | Refused::Unfinished) => {}
                Err(refused) => panic!("a wrong refusal: {refused:?}"),
            }
            toy.units.store(3, SeqCst);
            first = first.and_then(|v| toy.tables(A).advance(v));
            toy.units.store(u32::MAX, SeqCst);
            assert_eq!(findings(&toy, first.as_slice()), []);
            rounds += 1;
            assert!(rounds < 1000, "it never gets it");
        }
        // The first makes its call again; what was done for it, or is left, is its own.
        *toy.kept.lock().unwrap() = first;
        if !toy.at(3).is_pinned() {
            let (again, _) = in_sections(&toy, 5, || toy.tables(A).pin(Mfn(3), Level::L4));
            assert_eq!(again, Ok(()));
        }
        let left = toy.kept.lock().unwrap().take();
        if let Some(v) = left {
            toy.tables(A).abandon(v);
        }
        toy.tables(A).unpin(Mfn(3)).unwrap();
        toy.tables(A).unpin(Mfn(6)).unwrap();
        undo_all(&toy, PLENTY);
        assert_eq!(plain(toy.image()), plain(loose_tree().image()));
    }
}

#[test]
fn a_domain_destroyed_in_the_middle_gives_every_frame_back() {
    for stops in 1..80 {
        let toy = loose_tree();
        toy.tables(A).pin(Mfn(6), Level::L2).unwrap();
        let pinned = pin_in_part(&toy, stops);
        toy.tables(A).unpin(Mfn(6)).unwrap();
        (0..16).for_each(|mfn| assert!(toy.give_up(Mfn(mfn))));
        let kept = toy.kept.lock().unwrap().take();
        if let Some(v) = kept {
            toy.tables(A).abandon(v);
        }
        if pinned {
            toy.tables(A).unpin(Mfn(3)).unwrap();
        }
        undo_all(&toy, 1);
        let mut released = toy.released.lock().unwrap().clone();
        released.sort_unstable();
        assert_eq!(
            released,
            (0..16).map(Mfn).collect::<Vec<_>>(),
            "{stops} stops"
        );
    }
}

#[test]
fn what_is_in_progress_is_told_from_what_nobody_has_in_hand() {
    let toy = loose_tree();
    toy.units.store(1, SeqCst);
    let stopped = toy.tables(A).get_table(Mfn(3), Level::L4);
    assert_eq!(stopped, Err(Refused::Unfinished));
    assert_eq!(findings(&toy, &[]), []);
    let forgotten = toy.kept.lock().unwrap().take();
    assert!(forgotten.is_some());
    assert!(findings(&toy, &[]).contains(&Finding::Unfinished { mfn: Mfn(3) }));
}

/// One CPU lets a table go while another works the list off, and a third wants the table.
#[test]
fn a_table_let_go_is_undone_once_by_whoever_comes() {
    let fresh = || {
        let toy = two_domains();
        toy.poke(0, 0, rw(4));
        toy.poke(1, 0, rw(0));
        toy.tables(A).get_table(Mfn(1), Level::L2).unwrap();
        toy.waits.store(true, SeqCst);
        toy
    };
    let drop = |toy: &Toy| {
        toy.tables(A).put_table(Mfn(1), Level::L2);
        toy.tables(A).undo_some();
    };
    let work = |toy: &Toy| {
        toy.tables(A).undo_some();
    };
    let take = |toy: &Toy| {
        if toy.tables(A).get_table(Mfn(1), Level::L2).is_ok() {
            assert!(toy.at(1).is_validated());
            toy.tables(A).put_table(Mfn(1), Level::L2);
        }
    };
    every_order(fresh, &[&drop, &work, &take], |toy| {
        assert!(toy.tables(A).undo_some());
        assert_eq!([toy.counts(0), toy.counts(1)], [(0, 1); 2]);
        assert_eq!(toy.counts(4), (0, 1));
    });
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Pin(u64, Level),
    Unpin(u64),
    Undo,
    GiveUp,
    Link(u64, usize, u64),
    Clear(u64, usize),
}

fn level() -> impl Strategy<Value = Level> {
    prop::sample::select(&[Level::L1, Level::L2, Level::L3, Level::L4][..])
}

fn step() -> impl Strategy<Value = Step> {
    let table = prop::sample::select(&[0u64, 1, 2, 3, 6, 7][..]);
    let index = prop::sample::select(&[0usize, 1, 5, 300, 511][..]);
    prop_oneof![
        4 => (table.clone(), level()).prop_map(|(t, l)| Step::Pin(t, l)),
        2 => table.clone().prop_map(Step::Unpin),
        2 => Just(Step::Undo),
        1 => Just(Step::GiveUp),
        1 => (table.clone(), index.clone(), 0..10u64).prop_map(|(t, i, e)| Step::Link(t, i, e)),
        1 => (table, index).prop_map(|(t, i)| Step::Clear(t, i)),
    ]
}

/// Changes an entry of a table in use; of one that is not in use, memory.
fn change(toy: &Toy, table: u64, index: usize, entry: Entry) {
    let snap = toy.at(table);
    let Some(level) = snap.frame_type().level().filter(|_| snap.is_validated()) else {
        if snap.type_count() == 0 {
            toy.poke(table, index, entry);
        }
        return;
    };
    let frame = toy.frame(table);
    if frame.get_if_valid(Some(A), level.frame_type()).is_ok() {
        let set = crate::table::Change::Set(entry);
        let _ = toy.tables(A).update(Mfn(table), level, index, set, A);
        toy.tables(A).put_table(Mfn(table), level);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is asked for, in sections of whatever size, with whatever given up: every count is right at every stop,
    /// and at the end everything can be had back.
    #[test]
    fn counts_are_right_at_every_stop(steps in prop::collection::vec((step(), 1u32..40), 1..60)) {
        let toy = loose_tree();
        for (step, units) in steps {
            toy.units.store(units, SeqCst);
            match step {
                Step::Pin(table, level) => {
                    let _ = toy.tables(A).pin(Mfn(table), level);
                }
                Step::Unpin(table) => {
                    let _ = toy.tables(A).unpin(Mfn(table));
                }
                Step::Undo => {
                    let _ = toy.tables(A).undo_some();
                }
                Step::GiveUp => {
                    let kept = toy.kept.lock().unwrap().take();
                    if let Some(v) = kept {
                        toy.tables(A).abandon(v);
                    }
                }
                Step::Link(table, index, to) => change(&toy, table, index, rw(to)),
                Step::Clear(table, index) => change(&toy, table, index, Entry(0)),
            }
            toy.units.store(u32::MAX, SeqCst);
            prop_assert_eq!(findings(&toy, &[]), []);
        }
        let kept = toy.kept.lock().unwrap().take();
        if let Some(v) = kept {
            toy.tables(A).abandon(v);
        }
        for table in [0, 1, 2, 3, 6, 7] {
            let _ = toy.tables(A).unpin(Mfn(table));
        }
        undo_all(&toy, PLENTY);
        for mfn in 0..16 {
            prop_assert_eq!(toy.counts(mfn), (0, 1));
            prop_assert!(toy.frame(mfn).get_checked(Some(A), FrameType::L1).is_ok());
        }
    }
}

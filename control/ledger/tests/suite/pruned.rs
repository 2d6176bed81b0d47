//! Old files that are removed on purpose, which the record says.

use std::path::{Path, PathBuf};

use ledger::Ledger;
use ledger::files::{Known, Until, next_to_prune, segments};
use ledger::record::{Hash, Head, Pruned};
use ledger::verify::{Against, Fault, Report, Witness};
use tempfile::TempDir;

use crate::model::{domain, public};
use crate::on_disk::{look_at, open_limited, remembers};

/// Bytes after which a file is followed by another here: some entries.
pub const LIMIT: u64 = 4000;

/// A record of several files; the heads after each entry of a domain.
pub fn made() -> (TempDir, Ledger, Vec<Head>) {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = open_limited(dir.path(), &Known::default(), LIMIT);
    let heads = (1..40).map(|user| used(&mut ledger, user)).collect();
    assert!(names(dir.path()).len() >= 6);
    (dir, ledger, heads)
}

pub fn used(ledger: &mut Ledger, user: u64) -> Head {
    ledger.append(user, vec![domain(1, user, None)]).unwrap()
}

pub fn names(dir: &Path) -> Vec<u64> {
    let files = segments(dir).unwrap().into_iter();
    files.map(|(number, _)| number).collect()
}

pub fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:012}.ledger"))
}

fn plan(dir: &Path, ledger: &Ledger, until: Until) -> Option<Pruned> {
    next_to_prune(dir, public(), ledger.chain().pruned(), &until, true).unwrap()
}

/// Says that the oldest file goes, and removes nothing.
pub fn say(dir: &Path, ledger: &mut Ledger) -> Pruned {
    let until = Until {
        bytes: Some(1),
        before: None,
    };
    let pruned = plan(dir, ledger, until).unwrap();
    ledger.prune(99, pruned).unwrap().unwrap();
    pruned
}

pub fn against(ledger: &Ledger) -> Against {
    Against {
        ring0: Some(ledger.chain().last()),
        ..Against::default()
    }
}

pub fn whole(dir: &Path, ledger: &Ledger) -> Report {
    let report = look_at(dir, &against(ledger));
    assert!(report.is_whole(), "{:?}", report.faults);
    assert_eq!(report.anchored, Some(ledger.chain().last().n));
    report
}

#[test]
fn what_was_removed_on_purpose_is_said_and_the_rest_is_whole() {
    let (dir, mut ledger, _) = made();
    let before = names(dir.path());
    let pruned = say(dir.path(), &mut ledger);
    assert_eq!((pruned.last, pruned.faults), (before[1] - 1, 0));
    assert_eq!(ledger.remove_pruned().unwrap(), 1);
    assert_eq!(names(dir.path()), before[1..]);
    let report = whole(dir.path(), &ledger);
    let removed = report.removed.unwrap();
    assert_eq!(
        (removed.pruned, report.first),
        (pruned, removed.pruned.last + 1)
    );
    assert_eq!(removed.said, ledger.chain().last().n);
    // Again and again, also what said that the first went.
    while names(dir.path()).len() > 1 {
        say(dir.path(), &mut ledger);
        ledger.remove_pruned().unwrap();
        let report = whole(dir.path(), &ledger);
        assert_eq!(report.removed.unwrap().pruned.last + 1, report.first);
    }
    let until = Until {
        bytes: Some(1),
        before: Some(u64::MAX),
    };
    assert_eq!(
        plan(dir.path(), &ledger, until),
        None,
        "the last file stays"
    );
    // The daemon's successor goes on.
    let (ledger, found) = open_limited(dir.path(), &remembers(ledger.chain().last()), LIMIT);
    assert_eq!((found.torn, found.lost), (0, None));
    whole(dir.path(), &ledger);
}

#[test]
fn a_limit_of_bytes_holds_and_takes_no_more_than_it_must() {
    let (dir, mut ledger, _) = made();
    let most = 5 * LIMIT;
    let until = Until {
        bytes: Some(most),
        before: None,
    };
    let bytes = |dir: &Path| -> u64 {
        let files = segments(dir).unwrap().into_iter();
        files
            .map(|(_, path)| std::fs::metadata(path).unwrap().len())
            .sum()
    };
    for user in 100..160 {
        used(&mut ledger, user);
        while let Some(pruned) = plan(dir.path(), &ledger, until) {
            let before = bytes(dir.path());
            ledger.prune(user, pruned).unwrap().unwrap();
            ledger.remove_pruned().unwrap();
            assert!(before > most, "{before} bytes");
        }
        assert!(bytes(dir.path()) <= most);
        assert!(bytes(dir.path()) > most - 3 * LIMIT);
        whole(dir.path(), &ledger);
    }
}

#[test]
fn all_entries_before_a_number_can_be_asked_to_go_and_none_behind() {
    let (dir, mut ledger, _) = made();
    let begins = names(dir.path());
    // The third file begins in the middle of what is asked for.
    let until = Until {
        bytes: None,
        before: Some(begins[2] + 1),
    };
    while let Some(pruned) = plan(dir.path(), &ledger, until) {
        ledger.prune(99, pruned).unwrap().unwrap();
        ledger.remove_pruned().unwrap();
    }
    assert_eq!(names(dir.path())[0], begins[2]);
    whole(dir.path(), &ledger);
}

#[test]
fn whatever_the_power_left_of_it_is_whole_and_goes_the_next_time() {
    let (dir, mut ledger, _) = made();
    let begins = names(dir.path());
    let until = Until {
        bytes: None,
        before: Some(begins[3]),
    };
    // Three files are to go and are all there yet.
    let mut pruned = plan(dir.path(), &ledger, until).unwrap();
    for begin in [begins[2], begins[3]] {
        ledger.prune(99, pruned).unwrap().unwrap();
        assert_eq!(
            pruned.last + 1,
            if begin == begins[2] {
                begins[1]
            } else {
                begins[2]
            }
        );
        pruned = plan(dir.path(), &ledger, until).unwrap();
    }
    ledger.prune(99, pruned).unwrap().unwrap();
    assert_eq!(plan(dir.path(), &ledger, until), None);
    for gone in 0..=3 {
        // The machine started again: nobody remembers.
        let copy = tempfile::tempdir().unwrap();
        for number in &begins[gone..] {
            std::fs::copy(path(dir.path(), *number), path(copy.path(), *number)).unwrap();
        }
        let (ledger, found) = open_limited(copy.path(), &Known::default(), LIMIT);
        assert_eq!((found.torn, found.lost), (0, None));
        let report = whole(copy.path(), &ledger);
        assert_eq!(report.removed.unwrap().pruned, pruned);
        assert_eq!(ledger.remove_pruned().unwrap(), 3 - gone);
        assert_eq!(names(copy.path())[0], begins[3]);
        whole(copy.path(), &ledger);
    }
}

#[test]
fn what_was_wrong_with_it_is_not_forgotten_when_it_is_removed() {
    for altered in [true, false] {
        let (dir, mut ledger, _) = made();
        let begins = names(dir.path());
        if altered {
            let second = path(dir.path(), begins[1]);
            let text = std::fs::read_to_string(&second).unwrap();
            std::fs::write(&second, text.replacen("\"user\":", "\"user\":1", 1)).unwrap();
        } else {
            std::fs::remove_file(path(dir.path(), begins[1])).unwrap();
        }
        let mut last = 0;
        while names(dir.path()).len() > 1 {
            last = say(dir.path(), &mut ledger).last;
            ledger.remove_pruned().unwrap();
            let report = look_at(dir.path(), &against(&ledger));
            assert!(!report.is_whole(), "up to {last}");
        }
        let report = look_at(dir.path(), &against(&ledger));
        assert_eq!(report.faults, [Fault::Removed { last, faults: 1 }]);
        // Who knows of it asks for what came after.
        let first = last + 1;
        let after = Against {
            first,
            ..against(&ledger)
        };
        assert!(look_at(dir.path(), &after).is_whole());
    }
}

#[test]
fn a_file_without_a_beginning_goes_with_the_one_before_it() {
    let (dir, mut ledger, _) = made();
    let begins = names(dir.path());
    std::fs::write(path(dir.path(), begins[1]), b"nonsense\n").unwrap();
    let pruned = say(dir.path(), &mut ledger);
    assert_eq!(pruned.last, begins[2] - 1);
    assert!(pruned.faults > 0);
    assert_eq!(ledger.remove_pruned().unwrap(), 2);
    assert!(matches!(
        look_at(dir.path(), &against(&ledger)).faults.as_slice(),
        [Fault::Removed { .. }]
    ));
}

#[test]
fn a_loss_that_the_daemon_told_of_is_told_again_when_it_is_removed() {
    let (dir, ledger, _) = made();
    let there = ledger.chain().last();
    drop(ledger);
    // All but the first file is gone, and ring 0 remembers.
    for number in &names(dir.path())[1..] {
        std::fs::remove_file(path(dir.path(), *number)).unwrap();
    }
    let (mut ledger, found) = open_limited(dir.path(), &remembers(there), LIMIT);
    assert!(found.lost.is_some());
    let told = |fault: &Fault| matches!(fault, Fault::Missing { told: true, .. });
    let report = look_at(dir.path(), &against(&ledger));
    assert!(report.faults.iter().any(told), "{:?}", report.faults);
    assert_eq!(report.faults.len(), 1);
    let pruned = say(dir.path(), &mut ledger);
    ledger.remove_pruned().unwrap();
    assert_eq!((pruned.last, pruned.faults), (there.n, 1));
    let report = look_at(dir.path(), &against(&ledger));
    let last = there.n;
    assert_eq!(report.faults, [Fault::Removed { last, faults: 1 }]);
}

#[test]
fn who_noted_the_last_that_was_removed_can_hold_it_against_what_was_said() {
    let (dir, mut ledger, heads) = made();
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(path(dir.path(), 1), path(copy.path(), 1)).unwrap();
    let pruned = say(dir.path(), &mut ledger);
    ledger.remove_pruned().unwrap();
    let end = Head {
        n: pruned.last,
        hash: pruned.hash,
    };
    let noted = |noted: Head| Against {
        noted: vec![noted],
        ..against(&ledger)
    };
    assert!(look_at(dir.path(), &noted(end)).is_whole());
    // What was put away is what was removed.
    let away = Against {
        noted: vec![end],
        ..Against::default()
    };
    assert!(look_at(copy.path(), &away).is_whole());
    let other = Head {
        hash: Hash::NONE,
        ..end
    };
    let report = look_at(dir.path(), &noted(other));
    assert!(matches!(
        report.faults.as_slice(),
        [Fault::Another {
            witness: Witness::Noted,
            ..
        }]
    ));
    // Of one before that nothing is left.
    let report = look_at(dir.path(), &noted(heads[0]));
    assert!(report.is_whole(), "{:?}", report.faults);
    assert_eq!(report.unheld, [heads[0].n]);
    // Of what is left all is as before.
    let report = look_at(dir.path(), &noted(heads[20]));
    assert!(report.is_whole() && report.unheld.is_empty());
}

#[test]
fn a_domain_that_used_nothing_since_is_known_by_what_a_file_begins_with() {
    let (dir, mut ledger, _) = made();
    let link = |ledger: &Ledger| ledger.chain().of(2).unwrap();
    ledger.append(50, vec![domain(2, 7, None)]).unwrap();
    for user in 60..90 {
        used(&mut ledger, user);
    }
    let wanted = |ledger: &Ledger, head| Against {
        open: vec![ledger::record::Open {
            serial: 2,
            k: 1,
            head,
        }],
        ..against(ledger)
    };
    while names(dir.path()).len() > 1 {
        let known = wanted(&ledger, link(&ledger).head);
        let report = look_at(dir.path(), &known);
        assert!(report.is_whole(), "{:?}", report.faults);
        let report = look_at(dir.path(), &wanted(&ledger, Hash::NONE));
        assert_eq!(report.faults.len(), 1, "{:?}", report.faults);
        say(dir.path(), &mut ledger);
        ledger.remove_pruned().unwrap();
    }
}

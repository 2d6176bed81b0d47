//! The record on a disk: killed, cut off from power, full, and tampered with between two starts.

use std::path::{Path, PathBuf};

use ledger::files::{Known, segments};
use ledger::record::{Head, Open, What};
use ledger::verify::{Against, Fault, Report};
use ledger::{Ledger, files};

use crate::model::domain;
use crate::on_disk::{look_at, open_limited, remembers};

fn open(dir: &Path, known: &Known) -> (Ledger, files::Found) {
    open_limited(dir, known, files::SEGMENT_BYTES)
}

fn look(dir: &Path, ring0: Option<Head>) -> Report {
    let against = Against {
        ring0,
        ..Against::default()
    };
    look_at(dir, &against)
}

fn use_of(serial: u64, user: u64) -> Vec<What> {
    vec![domain(serial, user, None)]
}

/// The last file.
fn last(dir: &Path) -> PathBuf {
    segments(dir).unwrap().pop().unwrap().1
}

#[test]
fn starts_follow_one_another_and_files_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let mut heads = Vec::new();
    let mut remembered = Known::default();
    for round in 0..3 {
        let (mut ledger, found) = open_limited(dir.path(), &remembered, 4000);
        assert_eq!((found.torn, &found.lost), (0, &None));
        for entry in 0..8 {
            heads.push(
                ledger
                    .append(entry, use_of(1, round * 100 + entry))
                    .unwrap(),
            );
        }
        remembered = remembers(*heads.last().unwrap());
    }
    let report = look(dir.path(), remembered.head);
    assert!(report.is_whole(), "{:?}", report.faults);
    assert!(report.unvouched.is_empty(), "{:?}", report.unvouched);
    assert!(report.files >= 3, "{} files", report.files);
    for (_, path) in segments(dir.path()).unwrap() {
        assert!(std::fs::metadata(path).unwrap().len() < 4000 + 2000);
    }
    assert_eq!(report.last, remembered.head);
}

#[test]
fn every_cut_of_the_last_batch_is_torn_and_the_record_goes_on() {
    let made = tempfile::tempdir().unwrap();
    let (mut ledger, _) = open(made.path(), &Known::default());
    let kept = ledger.append(1, use_of(1, 1)).unwrap();
    let whole = std::fs::read(last(made.path())).unwrap();
    ledger.append(2, use_of(1, 2)).unwrap();
    let more = std::fs::read(last(made.path())).unwrap();
    let name = last(made.path());
    for len in (whole.len()..more.len()).step_by(13) {
        for zeros in [0, 700] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(name.file_name().unwrap());
            let torn = [&more[..len], &vec![0; zeros]].concat();
            std::fs::write(&path, torn).unwrap();
            // The machine lost its power: nobody remembers.
            let (mut ledger, found) = open(dir.path(), &Known::default());
            assert_eq!(found.torn, (len - whole.len() + zeros) as u64);
            assert_eq!((found.last, found.lost), (kept.n, None));
            let head = ledger.append(9, use_of(1, 3)).unwrap();
            let report = look(dir.path(), Some(head));
            assert!(report.is_whole(), "{:?}", report.faults);
            assert_eq!(report.unvouched[0].after, kept.n);
        }
    }
}

#[test]
fn a_daemon_killed_before_ring_0_was_told_goes_on_where_the_file_is() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = open(dir.path(), &Known::default());
    let told = ledger.append(1, use_of(1, 1)).unwrap();
    let not_told = ledger.append(2, use_of(1, 2)).unwrap();
    let (ledger, found) = open(dir.path(), &remembers(told));
    assert_eq!((found.last, found.lost), (not_told.n, None));
    assert_eq!(ledger.chain().last().n, not_told.n + 1);
    assert!(look(dir.path(), Some(ledger.chain().last())).is_whole());
}

#[test]
fn an_older_copy_is_told_as_lost_and_the_numbers_go_on_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = open(dir.path(), &Known::default());
    let old = ledger.append(1, use_of(1, 1)).unwrap();
    let copy = std::fs::read(last(dir.path())).unwrap();
    let mut head = old;
    for user in 2..6 {
        head = ledger.append(user, use_of(1, user)).unwrap();
    }
    let path = last(dir.path());
    std::fs::write(&path, &copy).unwrap();
    let link = ledger.chain().of(1).unwrap();
    let remembered = Known {
        head: Some(head),
        open: vec![Open {
            serial: 1,
            k: link.k,
            head: link.head,
        }],
    };
    let (mut ledger, found) = open(dir.path(), &remembered);
    let lost = found.lost.unwrap();
    assert_eq!((lost.first, lost.last), (old.n + 1, head.n));
    // What is left of before is left as it is.
    assert_eq!(std::fs::read(&path).unwrap(), copy);
    let now = ledger.append(9, use_of(1, 9)).unwrap();
    assert!(now.n > head.n);
    assert_eq!(ledger.chain().of(1).unwrap().k, link.k + 1);
    let report = look(dir.path(), Some(now));
    assert!(
        matches!(report.faults.as_slice(), [Fault::Missing { first, last, told: true }]
            if (*first, *last) == (old.n + 1, head.n)),
        "{:?}",
        report.faults
    );
    // All of it gone.
    for (_, path) in segments(dir.path()).unwrap() {
        std::fs::remove_file(path).unwrap();
    }
    let (ledger, found) = open(dir.path(), &remembers(now));
    assert_eq!(
        found.lost.map(|lost| (lost.first, lost.last)),
        Some((1, now.n))
    );
    let report = look(dir.path(), Some(ledger.chain().last()));
    assert!(matches!(
        report.faults.as_slice(),
        [Fault::Missing {
            first: 1,
            told: true,
            ..
        }]
    ));
}

#[test]
fn what_was_altered_is_left_as_it_is_and_found_after_a_start_too() {
    let made = tempfile::tempdir().unwrap();
    let (mut ledger, _) = open(made.path(), &Known::default());
    let mut head = ledger.append(1, use_of(1, 100_000_001)).unwrap();
    for user in 2..6 {
        head = ledger.append(user, use_of(1, 100_000_000 + user)).unwrap();
    }
    let bytes = std::fs::read(last(made.path())).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let name = last(made.path());
    // In the middle and at the end; with ring 0's memory and without.
    for user in [3, 5] {
        for remembered in [remembers(head), Known::default()] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(name.file_name().unwrap());
            let forged = text.replace(&format!("10000000{user}"), "77777777777");
            std::fs::write(&path, &forged).unwrap();
            let (ledger, found) = open(dir.path(), &remembered);
            assert!(found.lost.is_some(), "{user} {remembered:?}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), forged);
            let report = look(dir.path(), Some(ledger.chain().last()));
            assert!(
                report
                    .faults
                    .iter()
                    .any(|fault| matches!(fault, Fault::Altered { .. }))
            );
            assert!(
                report
                    .faults
                    .iter()
                    .any(|fault| matches!(fault, Fault::Missing { told: true, .. }))
            );
        }
    }
}

#[test]
fn a_last_file_without_any_entry_is_passed_over_and_nothing_is_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = open_limited(dir.path(), &Known::default(), 1);
    for user in 1..4 {
        ledger.append(user, use_of(1, user)).unwrap();
    }
    let before = segments(dir.path()).unwrap();
    let (n, path) = before.last().unwrap();
    std::fs::write(path, b"nonsense\n").unwrap();
    let first = std::fs::read(&before[0].1).unwrap();
    let (ledger, found) = open(dir.path(), &Known::default());
    assert_eq!(
        found.lost.map(|lost| (lost.first, lost.last)),
        Some((*n, *n))
    );
    assert_eq!(segments(dir.path()).unwrap().len(), before.len() + 1);
    assert_eq!(std::fs::read(path).unwrap(), b"nonsense\n");
    assert_eq!(std::fs::read(&before[0].1).unwrap(), first);
    let report = look(dir.path(), Some(ledger.chain().last()));
    assert!(!report.is_whole());
}

#[test]
fn a_full_disk_is_told_and_the_gap_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = open_limited(dir.path(), &Known::default(), 1);
    let before = ledger.append(1, use_of(1, 1)).unwrap();
    // Each batch begins a file here: none can be made where there is no directory.
    let away = dir.path().with_extension("away");
    std::fs::rename(dir.path(), &away).unwrap();
    for t in [20, 30] {
        assert!(ledger.append(t, use_of(1, t)).is_err());
        assert_eq!(ledger.failing().unwrap().since, 20);
        assert_eq!(ledger.chain().last(), before);
    }
    std::fs::rename(&away, dir.path()).unwrap();
    let head = ledger.append(40, use_of(1, 40)).unwrap();
    assert!(ledger.failing().is_none());
    let report = look(dir.path(), Some(head));
    assert!(report.is_whole(), "{:?}", report.faults);
    assert_eq!(report.pauses.len(), 1);
    assert_eq!((report.pauses[0].since, report.pauses[0].until), (20, 40));
}

#[test]
fn the_key_is_made_once_and_for_its_owner_alone() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let made = ledger::SecretKey::load_or_make(&path).unwrap().public();
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    let again = ledger::SecretKey::load_or_make(&path).unwrap().public();
    assert_eq!(made, again);
    assert_eq!(made.to_string().parse(), Ok(made));
    let other = ledger::SecretKey::load_or_make(&dir.path().join("other")).unwrap();
    assert_ne!(made, other.public());
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    let Err(error) = ledger::SecretKey::load_or_make(&path) else {
        panic!("others may read it");
    };
    assert!(error.to_string().contains("chmod 600"), "{error}");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::write(&path, "nonsense\n").unwrap();
    assert!(ledger::SecretKey::load_or_make(&path).is_err());
}

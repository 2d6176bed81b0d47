//! Beginnings of a record that somebody removed, besides what was removed on purpose.

use ledger::files::segments;
use ledger::record::{Hash, Pruned, What};
use ledger::verify::{Against, Fault, Witness};

use crate::model::{Made, look, public, start};
use crate::on_disk::look_at;
use crate::pruned::{against, made, names, path, say, used, whole};

#[test]
fn a_beginning_that_others_removed_is_missing() {
    let (dir, mut ledger, _) = made();
    let begins = names(dir.path());
    // Nothing was said.
    let first = std::fs::read(path(dir.path(), 1)).unwrap();
    std::fs::remove_file(path(dir.path(), 1)).unwrap();
    let missing = |first, last| Fault::Missing {
        first,
        last,
        told: false,
    };
    let report = look_at(dir.path(), &against(&ledger));
    assert_eq!(report.faults, [missing(1, begins[1] - 1)]);
    std::fs::write(path(dir.path(), 1), first).unwrap();
    // More went than was said; also if a later file repeats what was said.
    let pruned = say(dir.path(), &mut ledger);
    ledger.remove_pruned().unwrap();
    for user in 100..110 {
        used(&mut ledger, user);
    }
    let begins = names(dir.path());
    for gone in 1..begins.len() {
        std::fs::remove_file(path(dir.path(), begins[gone - 1])).unwrap();
        let report = look_at(dir.path(), &against(&ledger));
        let faults = [missing(pruned.last + 1, begins[gone] - 1)];
        assert_eq!(report.faults, faults, "{gone} files");
    }
}

#[test]
fn lines_taken_from_the_first_file_that_is_left_are_missing() {
    let (dir, mut ledger, _) = made();
    let pruned = say(dir.path(), &mut ledger);
    ledger.remove_pruned().unwrap();
    let first = path(dir.path(), pruned.last + 1);
    let text = std::fs::read_to_string(&first).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    std::fs::write(&first, lines[2..].concat()).unwrap();
    let report = look_at(dir.path(), &against(&ledger));
    let missing = Fault::Missing {
        first: pruned.last + 1,
        last: pruned.last + 2,
        told: false,
    };
    assert_eq!(report.faults[0], missing);
    // The first line is altered: what was removed is not in doubt for that.
    std::fs::write(&first, text.replacen("\"n\":", "\"n\":1", 1)).unwrap();
    let report = look_at(dir.path(), &against(&ledger));
    assert!(
        matches!(report.faults.as_slice(), [Fault::Altered { n, line: 1, .. }] if *n == pruned.last + 1),
        "{:?}",
        report.faults
    );
}

#[test]
fn a_tail_that_is_cut_takes_with_it_what_it_said_of_the_beginning() {
    let (dir, mut ledger, _) = made();
    let pruned = say(dir.path(), &mut ledger);
    let said = ledger.chain().last();
    ledger.remove_pruned().unwrap();
    let last = segments(dir.path()).unwrap().pop().unwrap().1;
    let text = std::fs::read_to_string(&last).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    std::fs::write(&last, lines[..lines.len() - 1].concat()).unwrap();
    let missing = Fault::Missing {
        first: 1,
        last: pruned.last,
        told: false,
    };
    let cut = Fault::Cut {
        first: said.n,
        last: said.n,
        witness: Witness::Ring0,
    };
    let report = look_at(dir.path(), &against(&ledger));
    assert_eq!(report.faults, [missing.clone(), cut]);
    // Nobody remembers: the beginning is missing all the same.
    let report = look_at(dir.path(), &Against::default());
    assert_eq!(report.faults, [missing]);
}

#[test]
fn an_older_copy_with_what_was_removed_since_is_a_rollback() {
    let (dir, mut ledger, _) = made();
    let copy = tempfile::tempdir().unwrap();
    for number in names(dir.path()) {
        std::fs::copy(path(dir.path(), number), path(copy.path(), number)).unwrap();
    }
    let there = ledger.chain().last();
    say(dir.path(), &mut ledger);
    ledger.remove_pruned().unwrap();
    let report = look_at(copy.path(), &against(&ledger));
    assert!(
        matches!(report.faults.as_slice(), [Fault::Cut { first, .. }] if *first == there.n + 1),
        "{:?}",
        report.faults
    );
    // What was removed is put back beside what there is: it was written so, and nothing is missing.
    let first = path(copy.path(), 1);
    std::fs::copy(&first, path(dir.path(), 1)).unwrap();
    assert_eq!(whole(dir.path(), &ledger).first, 1);
}

#[test]
fn ring_0_is_not_left_behind_what_was_removed() {
    let (dir, mut ledger, heads) = made();
    say(dir.path(), &mut ledger);
    ledger.remove_pruned().unwrap();
    // Who removed it did not tell ring 0 of more than this before.
    let report = look_at(
        dir.path(),
        &Against {
            ring0: Some(heads[0]),
            ..Against::default()
        },
    );
    assert!(matches!(
        report.faults.as_slice(),
        [Fault::Another {
            witness: Witness::Ring0,
            ..
        }]
    ));
}

#[test]
fn with_the_key_too_nothing_can_be_said_to_go_that_is_not_there() {
    let made = || Made::of(&[(0, 10, false), (1, 20, false)]);
    let said = |last, faults| {
        What::Pruned(Pruned {
            last,
            hash: Hash::NONE,
            asked: false,
            faults,
        })
    };
    // What is to come; what went before; nothing; fewer faults than there were.
    let wrongs: [&[What]; 4] = [
        &[said(u64::MAX, 0)],
        &[said(2, 0), said(2, 0)],
        &[said(0, 0)],
        &[said(2, 3), said(3, 2)],
    ];
    for wrong in wrongs {
        let mut made = made();
        for what in wrong {
            made.push(what.clone());
        }
        made.push(start(false));
        let report = look(&made.bytes(), &made.anchored());
        let unlinked = |fault: &Fault| matches!(fault, Fault::Unlinked { .. });
        assert!(report.faults.iter().any(unlinked), "{:?}", report.faults);
    }
    // Where the file ended the record was another.
    let made = made();
    let mut second = Made {
        chain: made.chain.clone(),
        ..Made::default()
    };
    let n = made.chain.last().n;
    second.push(What::Segment(made.chain.summary()));
    second.push(said(n, 0));
    let (first, bytes) = (made.bytes(), second.bytes());
    let both = [
        (1, "1.ledger", first.as_slice()),
        (n + 1, "2.ledger", bytes.as_slice()),
    ];
    let another = [Fault::Another {
        n,
        serial: None,
        witness: Witness::Record,
    }];
    for files in [&both[..], &both[1..]] {
        let files = files.iter().copied();
        let report = ledger::verify::verify(public(), &second.anchored(), files);
        assert_eq!(report.faults, another);
    }
}

//! What somebody with the files, or the key as well, may try; and what a machine's end leaves.

use ledger::record::{Head, Lost, Open, Segment, What};
use ledger::verify::{Against, Fault, Witness, verify};
use ledger::{Chain, SecretKey};

use crate::model::{Made, domain, key, look, public, start};

const USERS: [(u8, u64, bool); 6] = [
    (0, 10, false),
    (1, 20, false),
    (0, 30, false),
    (1, 40, true),
    (2, 50, false),
    (0, 60, false),
];

/// Two files, as they are when the first was full.
fn two_files() -> (Made, Made) {
    let first = Made::of(&USERS);
    let mut second = Made {
        chain: first.chain.clone(),
        ..Made::default()
    };
    second.push(What::Segment(first.chain.summary()));
    second.push(domain(1, 70, None));
    second.push(domain(3, 80, None));
    (first, second)
}

fn both(first: &[u8], second: &Made, against: &Against) -> ledger::verify::Report {
    let begins = second.heads[0].n;
    let bytes = second.bytes();
    verify(
        public(),
        against,
        [
            (1, "1.ledger", first),
            (begins, "2.ledger", bytes.as_slice()),
        ],
    )
}

#[test]
fn two_files_are_one_record() {
    let (first, second) = two_files();
    let report = both(&first.bytes(), &second, &second.anchored());
    assert!(report.is_whole(), "{:?}", report.faults);
    assert_eq!(report.files, 2);
}

#[test]
fn a_file_that_is_gone_is_missing_by_number() {
    let (first, second) = two_files();
    let n = first.lines.len() as u64;
    // The first of two.
    let bytes = second.bytes();
    let files = || [(n + 1, "2.ledger", bytes.as_slice())];
    let report = verify(public(), &second.anchored(), files());
    let missing = Fault::Missing {
        first: 1,
        last: n,
        told: false,
    };
    assert_eq!(report.faults, [missing]);
    // Unless it was put away, and that is said.
    let against = Against {
        first: n + 1,
        ..second.anchored()
    };
    assert!(verify(public(), &against, files()).is_whole());
    let report = verify(
        public(),
        &Against {
            first: n,
            ..against
        },
        files(),
    );
    assert_eq!(report.faults.len(), 1, "{:?}", report.faults);
    // The last of two.
    let report = verify(
        public(),
        &second.anchored(),
        [(1, "1.ledger", first.bytes().as_slice())],
    );
    let cut = Fault::Cut {
        first: n + 1,
        last: n + 3,
        witness: Witness::Ring0,
    };
    assert_eq!(report.faults, [cut]);
    // All.
    let report = verify(public(), &second.anchored(), []);
    assert!(matches!(
        report.faults.as_slice(),
        [Fault::Cut { first: 1, .. }]
    ));
}

#[test]
fn a_middle_file_that_ends_early_is_missing_what_it_held() {
    let (first, second) = two_files();
    let n = first.lines.len();
    let short = first.lines[..n - 2].concat();
    let report = both(&short, &second, &second.anchored());
    assert!(
        matches!(
            report.faults.as_slice(),
            [Fault::Missing { first, last, told: false }] if (*first, *last) == (n as u64 - 1, n as u64)
        ),
        "{:?}",
        report.faults
    );
    // Half a line is no torn tail where another file follows.
    let half = first.bytes();
    let report = both(&half[..half.len() - 7], &second, &second.anchored());
    assert!(
        matches!(report.faults.as_slice(), [Fault::Altered { .. }]),
        "{:?}",
        report.faults
    );
}

#[test]
fn who_has_the_key_can_write_another_history_and_ring_0_tells() {
    let made = Made::of(&USERS);
    let mut other = USERS;
    other[2].1 = 1;
    let forged = Made::of(&other);
    // Signed and chained well: by itself it is whole.
    assert!(look(&forged.bytes(), &Against::default()).is_whole());
    let report = look(&forged.bytes(), &made.anchored());
    let n = made.lines.len() as u64;
    let another = Fault::Another {
        n,
        serial: None,
        witness: Witness::Ring0,
    };
    assert_eq!(report.faults, [another]);
    // A head that somebody noted tells as well, also of what came long before.
    let against = Against {
        noted: vec![made.heads[5]],
        ..Against::default()
    };
    let report = look(&forged.bytes(), &against);
    assert!(matches!(
        report.faults.as_slice(),
        [Fault::Another {
            n: 6,
            witness: Witness::Noted,
            ..
        }]
    ));
    assert!(look(&made.bytes(), &against).is_whole());
    // Before the change the two histories are one.
    let against = Against {
        noted: vec![made.heads[3]],
        ..Against::default()
    };
    assert!(look(&forged.bytes(), &against).is_whole());
}

#[test]
fn an_entry_written_anew_with_the_key_does_not_fit_between_its_neighbours() {
    let mut made = Made::of(&USERS);
    let mut chain = Chain::default();
    for line in &made.lines[..4] {
        let (entry, _) = ledger::record::split(line.strip_suffix(b"\n").unwrap()).unwrap();
        chain.follow(&entry);
    }
    let (line, _) = chain
        .next(5_000, domain(1, 1, None))
        .to_line(&key())
        .unwrap();
    made.lines[4] = line;
    let report = look(&made.bytes(), &made.anchored());
    let unlinked = |fault: &Fault| match fault {
        Fault::Unlinked { n, .. } => Some(*n),
        _ => None,
    };
    let found: Vec<_> = report.faults.iter().map(unlinked).collect();
    assert_eq!(found, [Some(6)], "{:?}", report.faults);
}

#[test]
fn another_key_signs_nothing_of_ours() {
    let made = Made::of(&USERS);
    let stranger = SecretKey::from_bytes(&[9; 32]).public();
    let bytes = made.bytes();
    let report = verify(
        stranger,
        &made.anchored(),
        [(1, "1.ledger", bytes.as_slice())],
    );
    let altered = |fault: &&Fault| matches!(fault, Fault::Altered { .. });
    assert_eq!(
        report.faults.iter().filter(altered).count(),
        made.lines.len()
    );
    assert_eq!((report.entries, report.anchored), (0, None));
}

#[test]
fn a_domains_own_chain_is_held_against_ring_0_too() {
    let made = Made::of(&USERS);
    let link = made.chain.of(1).unwrap();
    let open = |k, head| Against {
        open: vec![Open { serial: 1, k, head }],
        ..made.anchored()
    };
    assert_eq!(link.k, 3);
    assert!(look(&made.bytes(), &open(3, link.head)).is_whole());
    for wrong in [open(3, made.heads[2].hash), open(4, link.head)] {
        let report = look(&made.bytes(), &wrong);
        assert!(matches!(
            report.faults.as_slice(),
            [Fault::Another {
                serial: Some(1),
                ..
            }]
        ));
    }
}

#[test]
fn after_the_machine_started_again_it_is_said_for_which_tail_nobody_vouches() {
    let mut made = Made::of(&USERS);
    let before = made.lines.len() as u64;
    made.push(start(true));
    made.push(domain(1, 5, None));
    let report = look(&made.bytes(), &made.anchored());
    assert!(report.is_whole(), "{:?}", report.faults);
    assert_eq!(report.unvouched.len(), 1);
    assert_eq!(report.unvouched[0].after, before);
    assert_eq!(report.unvouched[0].t, 1_000 * before);
    assert_eq!(report.unvouched[0].until, Some(1_000 * (before + 1)));
    // The daemon started again and the machine did not: ring 0 remembered.
    let mut made = Made::of(&USERS);
    made.push(start(false));
    assert!(look(&made.bytes(), &made.anchored()).unvouched.is_empty());
    // It ended in order: nothing was to come.
    let mut made = Made::of(&USERS);
    made.push(What::Stop {});
    made.push(start(true));
    assert!(look(&made.bytes(), &made.anchored()).unvouched.is_empty());
    assert!(look(&made.bytes(), &Against::default()).unvouched.len() == 1);
    // Of the end itself.
    made.lines.pop();
    assert!(
        look(&made.bytes(), &Against::default())
            .unvouched
            .is_empty()
    );
    let stop = made.lines.len() as u64;
    made.chain = Chain::default();
    for line in &made.lines {
        let (entry, _) = ledger::record::split(line.strip_suffix(b"\n").unwrap()).unwrap();
        made.chain.follow(&entry);
    }
    made.push(What::Segment(made.chain.summary()));
    // Somebody began to go on.
    let unvouched = look(&made.bytes(), &Against::default()).unvouched;
    let after: Vec<_> = unvouched.iter().map(|tail| tail.after).collect();
    assert_eq!(after, [stop + 1]);
    // With the beginning of a file between the two.
    let mut made = Made::of(&USERS);
    made.push(What::Stop {});
    made.push(What::Segment(made.chain.summary()));
    made.push(start(true));
    assert!(look(&made.bytes(), &made.anchored()).unvouched.is_empty());
}

#[test]
fn what_the_daemon_said_was_lost_is_found_lost() {
    let mut made = Made::of(&USERS);
    let known = Head {
        n: 40,
        hash: made.heads[0].hash,
    };
    let lost = Lost {
        first: made.lines.len() as u64 + 1,
        last: 40,
        why: "ring 0 remembers more".to_owned(),
    };
    let record = made
        .chain
        .after_loss(known, 99_000, Vec::new(), lost.clone());
    let (line, hash) = record.to_line(&key()).unwrap();
    made.chain.follow(&ledger::record::Entry { record, hash });
    made.lines.push(line);
    made.push(start(false));
    let report = look(&made.bytes(), &made.anchored());
    let missing = Fault::Missing {
        first: lost.first,
        last: 40,
        told: true,
    };
    assert_eq!(report.faults, [missing]);
    // It cannot be said of what is there.
    let mut made = Made::of(&USERS);
    let what = What::Segment(Segment {
        lost: Some(lost),
        ..made.chain.summary()
    });
    made.push(what);
    assert!(!look(&made.bytes(), &made.anchored()).is_whole());
}

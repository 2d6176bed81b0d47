//! A record in memory, made without the crate's files, and property tests on it.

use ledger::chain::Chain;
use ledger::record::{
    Account, Domain, Entry, Gap, Hash, Head, Machine, Start, What, Wide, read_line,
};
use ledger::verify::{Against, Fault, Report, verify};
use ledger::{PublicKey, SecretKey};
use proptest::prelude::*;

pub fn key() -> SecretKey {
    SecretKey::from_bytes(&[7; 32])
}

pub fn public() -> PublicKey {
    key().public()
}

pub fn start(fresh: bool) -> What {
    What::Start(Start {
        fresh,
        boot: "a boot".to_owned(),
        torn: 0,
        interval: 10_000,
    })
}

pub fn domain(serial: u64, user: u64, ended: Option<u64>) -> What {
    What::Domain(Box::new(Domain {
        machine: 0,
        id: serial as u16,
        serial,
        uuid: "3c56ee20-0000-4000-8000-000000000001".to_owned(),
        name: Some("web \"1\" \u{e9}".to_owned()),
        k: 0,
        prior: Hash::NONE,
        ended,
        used: Account {
            at: u64::MAX,
            user,
            frame_cycles: Wide(u128::MAX),
            ..Account::default()
        },
    }))
}

/// A file's contents, line by line, and the head after each.
#[derive(Clone, Debug, Default)]
pub struct Made {
    pub chain: Chain,
    pub lines: Vec<Vec<u8>>,
    pub heads: Vec<Head>,
}

impl Made {
    pub fn push(&mut self, what: What) -> Entry {
        let record = self.chain.next(1_000 * (self.lines.len() as u64 + 1), what);
        let (line, hash) = record.to_line(&key()).unwrap();
        let entry = Entry { record, hash };
        self.chain.follow(&entry);
        self.lines.push(line);
        self.heads.push(self.chain.last());
        entry
    }

    /// A record with so many entries of domains, of which some end.
    pub fn of(users: &[(u8, u64, bool)]) -> Self {
        let mut made = Self::default();
        made.push(What::Segment(Chain::default().summary()));
        made.push(start(true));
        let mut ended = 0;
        for (serial, user, ends) in users {
            let serial = u64::from(*serial % 4) + 1;
            made.push(domain(serial, *user, ends.then_some(ended)));
            ended += u64::from(*ends);
        }
        made.push(What::Machine(Machine::default()));
        made.push(What::Gap(Gap {
            since: 3,
            why: "no space".to_owned(),
        }));
        made
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.lines.concat()
    }

    pub fn anchored(&self) -> Against {
        Against {
            ring0: self.heads.last().copied(),
            ..Against::default()
        }
    }
}

pub fn look(bytes: &[u8], against: &Against) -> Report {
    verify(public(), against, [(1, "1.ledger", bytes)])
}

fn entries() -> impl Strategy<Value = Vec<(u8, u64, bool)>> {
    prop::collection::vec(
        (any::<u8>(), any::<u64>(), prop::bool::weighted(0.2)),
        1..12,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_was_written_is_whole(users in entries()) {
        let made = Made::of(&users);
        let report = look(&made.bytes(), &made.anchored());
        prop_assert!(report.is_whole(), "{:?}", report.faults);
        prop_assert_eq!(report.entries, made.lines.len() as u64);
        prop_assert_eq!(report.last, made.heads.last().copied());
        prop_assert_eq!(report.anchored, Some(report.entries));
        prop_assert!(report.unvouched.is_empty());
        // Nobody remembers: nobody can vouch for the end.
        let alone = look(&made.bytes(), &Against::default());
        prop_assert!(alone.is_whole());
        prop_assert_eq!(alone.unvouched[0].after, report.entries);
    }

    #[test]
    fn a_changed_bit_is_found_and_named(users in entries(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let made = Made::of(&users);
        let mut bytes = made.bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let report = look(&bytes, &made.anchored());
        let line = bytes_line(&made, at);
        let named = report.faults.iter().any(|fault| match fault {
            Fault::Altered { n, .. } | Fault::Unlinked { n, .. } => n.abs_diff(line) <= 1,
            Fault::Cut { first, last, .. } | Fault::Missing { first, last, .. } => (*first..=*last).contains(&line),
            _ => false,
        });
        prop_assert!(named, "line {line}: {:?}", report.faults);
    }

    #[test]
    fn entries_taken_out_are_found_and_numbered(users in entries(), from in any::<prop::sample::Index>(), count in 1usize..4) {
        let made = Made::of(&users);
        let from = from.index(made.lines.len());
        let to = (from + count).min(made.lines.len());
        let left = [&made.lines[..from], &made.lines[to..]].concat().concat();
        let report = look(&left, &made.anchored());
        let (first, last) = (from as u64 + 1, to as u64);
        prop_assert!(report.faults.iter().any(|fault| match fault {
            Fault::Missing { first: f, last: l, told: false } => (*f, *l) == (first, last),
            Fault::Cut { first: f, last: l, .. } => (*f, *l) == (first, last),
            _ => false,
        }), "{first}-{last}: {:?}", report.faults);
    }

    #[test]
    fn entries_that_change_places_are_found(users in entries(), at in any::<prop::sample::Index>()) {
        let mut made = Made::of(&users);
        let at = at.index(made.lines.len() - 1);
        made.lines.swap(at, at + 1);
        prop_assert!(!look(&made.bytes(), &made.anchored()).is_whole());
    }

    #[test]
    fn an_older_copy_is_found_by_what_ring_0_remembers(users in entries(), keep in any::<prop::sample::Index>()) {
        let made = Made::of(&users);
        let keep = keep.index(made.lines.len());
        let report = look(&made.lines[..keep].concat(), &made.anchored());
        let (first, last) = (keep as u64 + 1, made.lines.len() as u64);
        prop_assert!(matches!(
            report.faults.as_slice(),
            [Fault::Cut { first: f, last: l, .. }] if (*f, *l) == (first, last)
        ), "{:?}", report.faults);
    }

    #[test]
    fn any_bytes_at_all_are_looked_at_and_nothing_is_whole_that_is_not(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let report = look(&bytes, &Made::of(&[(1, 1, false)]).anchored());
        prop_assert!(!report.is_whole());
    }

    #[test]
    fn a_tail_torn_anywhere_is_torn_and_nothing_else(users in entries(), cut in any::<prop::sample::Index>(), zeros in 0usize..40) {
        let made = Made::of(&users);
        let (last, before) = made.lines.split_last().unwrap();
        // A batch that was not answered for, in part, and zeros where the disk lost the rest.
        let cut = cut.index(last.len());
        let bytes = [before.concat(), last[..cut].to_vec(), vec![0; zeros]].concat();
        let against = Against { ring0: made.heads.iter().rev().nth(1).copied(), ..Against::default() };
        let report = look(&bytes, &against);
        prop_assert!(report.is_whole(), "{:?}", report.faults);
        prop_assert_eq!(report.torn, (cut + zeros) as u64);
        prop_assert_eq!(report.entries, before.len() as u64);
    }
}

/// The number of the entry that a byte belongs to.
fn bytes_line(made: &Made, at: usize) -> u64 {
    let mut end = 0;
    for (index, line) in made.lines.iter().enumerate() {
        end += line.len();
        if at < end {
            return index as u64 + 1;
        }
    }
    made.lines.len() as u64
}

#[test]
fn an_entry_reads_as_it_was_written_and_in_no_other_form() {
    let mut made = Made::default();
    let entry = made.push(domain(3, u64::MAX, Some(9)));
    let line = made.lines[0].strip_suffix(b"\n").unwrap();
    assert_eq!(read_line(line, &public()).unwrap(), entry);
    let text = String::from_utf8(line.to_vec()).unwrap();
    for (from, to) in [
        ("{\"v\":1", "{ \"v\":1"),
        ("{\"v\":1", "{\"v\":2"),
        ("\"n\":1", "\"n\":1.0"),
        ("\"n\":1", "\"n\":-1"),
        ("\"id\":3", "\"id\":3,\"more\":0"),
        ("\"name\":\"web", "\"name\":\"\\u0077eb"),
        (" {", "{"),
        ("\"ended\":9", "\"ended\":null"),
    ] {
        assert!(text.contains(from), "{from}");
        let wrong = text.replacen(from, to, 1);
        assert!(read_line(wrong.as_bytes(), &public()).is_err(), "{to}");
    }
    assert!(read_line(line, &SecretKey::from_bytes(&[8; 32]).public()).is_err());
}

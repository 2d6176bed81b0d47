//! What is wrong with a record, and which tail of it nobody can vouch for.
//!
//! Within the files, signatures and hashes tell: an entry that was altered, one that is missing from the middle, a file
//! that is. That the end was cut off, or that all of it is an older copy, they cannot tell: for that there is ring 0,
//! which remembers the heads while the machine runs, or a head that somebody noted.
//!
//! # Invariants
//! - V1: no files, whatever they hold, make this fail or take more than one look at each byte.
//! - V2: nothing found is explained away: what the daemon itself told of is found all the same.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::chain::{Broken, Chain};
use crate::key::PublicKey;
use crate::record::{self, Entry, Hash, Head, Open, Record, What};

/// Faults told at most: whoever finds so many has seen enough.
const MOST_FAULTS: usize = 100;

/// What the files are held against.
#[derive(Clone, Debug, Default)]
pub struct Against {
    /// The first entry there has to be; those before were put away. 0 and 1: all of them.
    pub first: u64,
    /// What ring 0 remembers of the machine's chain, read before the files were; none if it was not asked, or remembers
    /// nothing.
    pub ring0: Option<Head>,
    /// What it remembers of the chains of domains that are there.
    pub open: Vec<Open>,
    /// Heads that somebody noted.
    pub noted: Vec<Head>,
}

/// Something is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "fault", rename_all = "kebab-case")]
pub enum Fault {
    /// A line is no entry that was signed with the key.
    Altered {
        /// The file.
        file: String,
        /// The line in it, from 1 on.
        line: u64,
        /// The number the entry there should have.
        n: u64,
        /// Why it is none.
        why: String,
    },
    /// An entry is signed, and does not follow the one before it.
    Unlinked {
        /// The file.
        file: String,
        /// Its number.
        n: u64,
        /// Why it does not.
        why: String,
    },
    /// Entries are missing, with others before or behind them.
    Missing {
        /// The first.
        first: u64,
        /// The last.
        last: u64,
        /// The daemon noticed and said so, when it went on behind them.
        told: bool,
    },
    /// Entries are missing at the end: it was cut off, or all of it is an older copy.
    Cut {
        /// The first.
        first: u64,
        /// The last.
        last: u64,
        /// Who remembers them.
        witness: Witness,
    },
    /// An entry is another than is remembered.
    Another {
        /// Its number, of the domain's chain where it is one's.
        n: u64,
        /// The domain's serial, of a domain's chain.
        serial: Option<u64>,
        /// Who remembers.
        witness: Witness,
    },
    /// A file's name and its first entry are not one another's.
    Misnamed {
        /// The file.
        file: String,
    },
}

/// Who remembers a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Witness {
    /// Ring 0.
    Ring0,
    /// Whoever noted it.
    Noted,
}

/// The end of a run of the machine, or of the record: what came behind, if anything did, nobody can tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tail {
    /// The last entry that is there.
    pub after: u64,
    /// When it was made.
    pub t: u64,
    /// When the machine ran again; none for the end of the record.
    pub until: Option<u64>,
}

/// For some time nothing was recorded, and it says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pause {
    /// Since when.
    pub since: u64,
    /// Until when.
    pub until: u64,
    /// Why.
    pub why: String,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The first entry's number.
    pub first: u64,
    /// The last entry; none without any.
    pub last: Option<Head>,
    /// Entries that were read, and are what was written.
    pub entries: u64,
    /// Files.
    pub files: u64,
    /// Whether ring 0 remembers the last entry, or one so short before that nothing could be taken out.
    pub anchored: Option<u64>,
    /// What is wrong; the record is whole if nothing is.
    pub faults: Vec<Fault>,
    /// There were more.
    pub more_faults: bool,
    /// Which tails nobody can vouch for.
    pub unvouched: Vec<Tail>,
    /// Bytes at the end that are no whole entry: one was being written.
    pub torn: u64,
    /// For how long nothing was recorded, where that is said.
    pub pauses: Vec<Pause>,
    /// Domains that went unrecorded, where that is said.
    pub missed: u64,
}

impl Report {
    /// Nothing is wrong.
    pub fn is_whole(&self) -> bool {
        self.faults.is_empty()
    }

    fn fault(&mut self, fault: Fault) {
        if self.faults.len() < MOST_FAULTS {
            self.faults.push(fault);
        } else {
            self.more_faults = true;
        }
    }
}

/// Reads files, one after the other in order.
pub struct Verifier<'a> {
    key: PublicKey,
    against: &'a Against,
    chain: Chain,
    /// Whether the last entry is one that was written: else the next is not held against it.
    linked: bool,
    last: Option<Record>,
    report: Report,
    /// The hashes of entries whose numbers are remembered.
    seen: BTreeMap<u64, Hash>,
    /// Of this run of the machine, hashes by serial and place.
    domains: BTreeMap<(u64, u64), Hash>,
}

impl<'a> Verifier<'a> {
    /// For files that are signed with this key.
    pub fn new(key: PublicKey, against: &'a Against) -> Self {
        Self {
            key,
            against,
            chain: Chain::default(),
            linked: against.first <= 1,
            last: None,
            report: Report::default(),
            seen: BTreeMap::new(),
            domains: BTreeMap::new(),
        }
    }

    /// Looks at the next file. `is_last`: none follows.
    pub fn file(&mut self, number: u64, name: &str, bytes: &[u8], is_last: bool) {
        self.report.files += 1;
        let whole = whole_lines(bytes, is_last);
        let (lines, rest) = bytes.split_at(whole);
        for (index, line) in lines.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            match record::read_line(line, &self.key) {
                Ok(entry) => {
                    if index == 0 {
                        self.first_of(number, name, &entry);
                    }
                    self.entry(name, entry);
                }
                Err(why) => {
                    let n = match (index, self.last.is_some() || !self.linked) {
                        (0, _) => number,
                        _ => self.chain.last().n + 1,
                    };
                    self.altered(name, index as u64 + 1, n, line, &why.to_string());
                }
            }
        }
        self.report.torn += rest.len() as u64;
    }

    fn first_of(&mut self, number: u64, name: &str, entry: &Entry) {
        let is_first = matches!(entry.record.what, What::Segment(_));
        if entry.record.n != number || !is_first {
            let file = name.to_owned();
            self.report.fault(Fault::Misnamed { file });
        }
        if self.last.is_none() && self.against.first > 1 {
            // What was put away is not asked for; what is to be here is.
            let (from, first) = (self.against.first, entry.record.n);
            if first > from {
                let last = first - 1;
                self.report.fault(Fault::Missing {
                    first: from,
                    last,
                    told: false,
                });
            }
        }
    }

    /// A line that is no entry. It stands for one, whose number is known if its neighbours are.
    fn altered(&mut self, name: &str, line: u64, n: u64, text: &[u8], why: &str) {
        let file = name.to_owned();
        let why = why.to_owned();
        self.report.fault(Fault::Altered { file, line, n, why });
        // What it says, signed or not, has its number; the next entry names the hash that it had.
        let said = record::split(text).ok().map(|(entry, _)| entry);
        match said.filter(|entry| entry.record.n == n) {
            Some(entry) => self.chain.follow(&entry),
            None => self.chain.skip(),
        }
        self.chain.doubt();
        self.linked = false;
    }

    fn entry(&mut self, name: &str, entry: Entry) {
        let record = &entry.record;
        let verdict = match self.linked {
            true => self.chain.check(record),
            false => self.chain.check_number(record, self.last.is_none()),
        };
        match verdict {
            Ok(()) => {}
            Err(Broken::Missing { first, last, told }) => {
                self.report.fault(Fault::Missing { first, last, told });
                self.chain.doubt();
            }
            Err(broken) => {
                self.report.fault(Fault::Unlinked {
                    file: name.to_owned(),
                    n: record.n,
                    why: broken.to_string(),
                });
                self.chain.doubt();
            }
        }
        self.tell(record);
        self.remember(&entry);
        if self.report.entries == 0 {
            self.report.first = record.n;
        }
        self.report.entries += 1;
        self.chain.follow(&entry);
        self.linked = true;
        self.last = Some(entry.record);
    }

    /// What entries say that whoever verifies wants to know.
    fn tell(&mut self, record: &Record) {
        match &record.what {
            What::Start(start) if start.fresh => {
                self.domains.clear();
                // A file's first entry may stand between.
                if let Some(last) = self.last.as_ref().filter(|_| record.n > 2) {
                    self.end_of_run(last.clone(), Some(record.t));
                }
            }
            What::Gap(gap) => self.report.pauses.push(Pause {
                since: gap.since,
                until: record.t,
                why: gap.why.clone(),
            }),
            What::Missed(missed) => {
                self.report.missed = self.report.missed.saturating_add(missed.count);
            }
            _ => {}
        }
    }

    fn end_of_run(&mut self, last: Record, until: Option<u64>) {
        if !matches!(last.what, What::Stop {}) {
            self.report.unvouched.push(Tail {
                after: last.n,
                t: last.t,
                until,
            });
        }
    }

    fn remember(&mut self, entry: &Entry) {
        let n = entry.record.n;
        let mut heads = self.against.ring0.iter().chain(&self.against.noted);
        if heads.any(|head| head.n == n) {
            self.seen.insert(n, entry.hash);
        }
        if let What::Domain(domain) = &entry.record.what {
            let wanted = |open: &Open| open.serial == domain.serial && open.k == domain.k;
            if self.against.open.iter().any(wanted) {
                self.domains.insert((domain.serial, domain.k), entry.hash);
            }
        }
    }

    /// All files were looked at.
    pub fn end(mut self) -> Report {
        let last = self.chain.last();
        self.report.last = (last.n > 0).then_some(last);
        let noted = self
            .against
            .noted
            .iter()
            .map(|head| (*head, Witness::Noted));
        let ring0 = self
            .against
            .ring0
            .iter()
            .map(|head| (*head, Witness::Ring0));
        for (head, witness) in ring0.chain(noted) {
            if head.n > last.n {
                let first = last.n + 1;
                self.report.fault(Fault::Cut {
                    first,
                    last: head.n,
                    witness,
                });
            } else if head.n < self.against.first.max(self.report.first) {
                // It was put away, with what it vouches for.
            } else if self.seen.get(&head.n) != Some(&head.hash) {
                let (n, serial) = (head.n, None);
                self.report.fault(Fault::Another { n, serial, witness });
            } else if witness == Witness::Ring0 {
                self.report.anchored = Some(head.n);
            }
        }
        let is_cut = |fault: &Fault| matches!(fault, Fault::Cut { .. });
        let cut = self.report.faults.iter().any(is_cut);
        for open in &self.against.open {
            match self.domains.get(&(open.serial, open.k)) {
                Some(hash) if *hash == open.head => {}
                // It was cut off with the rest.
                None if cut => {}
                _ => self.report.fault(Fault::Another {
                    n: open.k,
                    serial: Some(open.serial),
                    witness: Witness::Ring0,
                }),
            }
        }
        if let Some(last) = self.last.take().filter(|_| self.against.ring0.is_none()) {
            self.end_of_run(last, None);
        }
        self.report
    }
}

/// Bytes of a file's whole lines. Of the last file, what follows its last line that could be an entry is torn if it has no
/// end, or holds what no text does: a disk that lost its power leaves zeros.
fn whole_lines(bytes: &[u8], is_last: bool) -> usize {
    let end = |bytes: &[u8]| {
        bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1)
    };
    if !is_last {
        return bytes.len();
    }
    let text = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    let last = end(bytes);
    if text < last {
        // Zeros with lines behind them are no torn tail.
        return bytes.len();
    }
    last.min(end(bytes.get(..text).unwrap_or_default()))
}

/// Looks at files by number, name and contents.
pub fn verify<'b>(
    key: PublicKey,
    against: &Against,
    files: impl IntoIterator<Item = (u64, &'b str, &'b [u8])>,
) -> Report {
    let mut verifier = Verifier::new(key, against);
    let mut files = files.into_iter().peekable();
    while let Some((number, name, bytes)) = files.next() {
        verifier.file(number, name, bytes, files.peek().is_none());
    }
    verifier.end()
}

//! What is wrong with a record, and which tail of it nobody can vouch for.
//!
//! Within the files, signatures and hashes tell: an entry that was altered, one that is missing from the middle, a file
//! that is. That the end was cut off, or that all of it is an older copy, they cannot tell: for that there is ring 0,
//! which remembers the heads while the machine runs, or a head that somebody noted. The beginning may be missing as far
//! as the record itself says that it was removed on purpose.
//!
//! # Invariants
//! - V1: no files, whatever they hold, make this fail or take more than one look at each byte.
//! - V2: nothing found is explained away: what the daemon itself told of is found all the same, and so is what was
//!   wrong with entries that were removed.

mod report;

use std::collections::BTreeMap;

use crate::chain::{Broken, Chain};
use crate::key::PublicKey;
use crate::record::{self, Entry, Hash, Head, Open, Pruned, Record, Segment, What};
pub use report::{Fault, Pause, Removed, Report, Tail, Witness};

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

/// Entries before the first that is there.
#[derive(Clone, Copy, Debug, Default)]
struct Prefix {
    /// The last of them; 0 for none.
    last: u64,
    /// Its hash, if the first entry that is there can be read.
    hash: Option<Hash>,
    /// The daemon said that they are lost.
    told: bool,
}

/// Reads files, one after the other in order.
pub struct Verifier<'a> {
    key: PublicKey,
    against: &'a Against,
    chain: Chain,
    /// What is not there at the beginning; none before anything was read.
    prefix: Option<Prefix>,
    /// Whether the last entry is one that was written: else the next is not held against it.
    linked: bool,
    /// The last entry but those that begin a file.
    last: Option<Record>,
    /// When the last of all was made.
    t: u64,
    report: Report,
    /// The hashes of entries whose numbers are remembered.
    seen: BTreeMap<u64, Hash>,
    /// The hashes of entries with which files end.
    ends: BTreeMap<u64, Hash>,
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
            prefix: None,
            linked: true,
            last: None,
            t: 0,
            report: Report::default(),
            seen: BTreeMap::new(),
            ends: BTreeMap::new(),
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
                    let is_first = matches!(entry.record.what, What::Segment(_));
                    if index == 0 && (entry.record.n != number || !is_first) {
                        let file = name.to_owned();
                        self.report.fault(Fault::Misnamed { file });
                    }
                    self.entry(name, entry);
                }
                Err(why) => {
                    let n = match index {
                        0 => number,
                        _ => self.chain.last().n.saturating_add(1),
                    };
                    self.altered(name, index as u64 + 1, n, line, &why.to_string());
                }
            }
        }
        self.report.torn += rest.len() as u64;
    }

    /// The first line of all is entry `n`, which names this hash as that of the one before it if it can be read. Those
    /// before it are missing, or were removed: which of the two the rest says.
    fn begin(&mut self, n: u64, prev: Option<Hash>, told: bool) {
        let last = n.saturating_sub(1);
        let (hash, told) = (prev.filter(|_| last > 0), told && last > 0);
        self.prefix = Some(Prefix { last, hash, told });
        if last == 0 {
            return;
        }
        if let Some(hash) = hash {
            self.remember(Head { n: last, hash });
        }
        let hash = hash.unwrap_or(Hash::NONE);
        self.chain = Chain::behind(Head { n: last, hash });
    }

    /// A line that is no entry. It stands for one, whose number is known if its neighbours are.
    fn altered(&mut self, name: &str, line: u64, n: u64, text: &[u8], why: &str) {
        if self.prefix.is_none() {
            self.begin(n, None, false);
        }
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

    /// Whether an entry follows what came before it.
    fn judge(&mut self, record: &Record) -> Result<(), Broken> {
        if self.prefix.is_some() {
            return match self.linked {
                true => self.chain.check(record),
                false => self.chain.check_number(record),
            };
        }
        let lost = matches!(&record.what, What::Segment(segment) if segment.lost.is_some());
        self.begin(record.n, Some(record.prev), lost);
        match self.chain.check(record) {
            // What is missing at the beginning is judged when all is known.
            Err(Broken::Missing { .. }) if lost && record.n > 1 => Ok(()),
            verdict => verdict,
        }
    }

    fn entry(&mut self, name: &str, entry: Entry) {
        let record = &entry.record;
        let verdict = self.judge(record);
        let follows = verdict.is_ok();
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
        self.tell(record, follows);
        self.note(&entry);
        if self.report.entries == 0 {
            self.report.first = record.n;
        }
        self.report.entries += 1;
        self.chain.follow(&entry);
        self.linked = true;
        self.t = record.t;
        if !matches!(record.what, What::Segment(_)) {
            self.last = Some(entry.record);
        }
    }

    /// What entries say that whoever verifies wants to know.
    fn tell(&mut self, record: &Record, follows: bool) {
        match &record.what {
            What::Start(start) if start.fresh => {
                self.domains.clear();
                if let Some(last) = self.last.take() {
                    self.end_of_run(&last, Some(record.t));
                }
            }
            What::Segment(segment) => self.segment(record, segment, follows),
            What::Pruned(pruned) if follows => self.removed(record, *pruned),
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

    /// A file begins. It repeats of what came before what may be removed with that.
    fn segment(&mut self, record: &Record, segment: &Segment, follows: bool) {
        self.ends.insert(record.n.saturating_sub(1), record.prev);
        if !follows {
            return;
        }
        if let Some(pruned) = segment.pruned {
            self.removed(record, pruned);
        }
        for open in &segment.open {
            if self.is_wanted(open.serial, open.k) {
                self.domains.insert((open.serial, open.k), open.head);
            }
        }
    }

    fn removed(&mut self, record: &Record, pruned: Pruned) {
        let before = self.report.removed.map_or(0, |before| before.pruned.last);
        if pruned.last > before {
            let (said, t) = (record.n, record.t);
            self.report.removed = Some(Removed { pruned, said, t });
        }
    }

    fn end_of_run(&mut self, last: &Record, until: Option<u64>) {
        if !matches!(last.what, What::Stop {}) {
            self.report.unvouched.push(Tail {
                after: last.n,
                t: last.t,
                until,
            });
        }
    }

    /// As [`Verifier::end_of_run`], of the last entry of all: one that begins a file does not come alone.
    fn end_of_record(&mut self, after: u64) {
        let (t, until) = (self.t, None);
        let last = self.last.take().filter(|last| last.n == after);
        if last.is_none_or(|last| !matches!(last.what, What::Stop {})) {
            self.report.unvouched.push(Tail { after, t, until });
        }
    }

    /// Whether ring 0 remembers this entry of a domain's chain as the last.
    fn is_wanted(&self, serial: u64, k: u64) -> bool {
        let mut open = self.against.open.iter();
        open.any(|open| open.serial == serial && open.k == k)
    }

    /// Keeps the hash of an entry that somebody remembers.
    fn remember(&mut self, entry: Head) {
        let mut heads = self.against.ring0.iter().chain(&self.against.noted);
        if heads.any(|head| head.n == entry.n) {
            self.seen.insert(entry.n, entry.hash);
        }
    }

    fn note(&mut self, entry: &Entry) {
        let (n, hash) = (entry.record.n, entry.hash);
        self.remember(Head { n, hash });
        if let What::Domain(domain) = &entry.record.what
            && self.is_wanted(domain.serial, domain.k)
        {
            self.domains.insert((domain.serial, domain.k), hash);
        }
    }

    /// All files were looked at.
    pub fn end(mut self) -> Report {
        let last = self.chain.last();
        self.report.last = (last.n > 0).then_some(last);
        self.judge_beginning();
        self.judge_heads(last.n);
        self.judge_domains();
        if self.against.ring0.is_none() && self.report.entries > 0 {
            self.end_of_record(last.n);
        }
        self.report
    }

    /// What is not there at the beginning was removed on purpose, or is missing.
    fn judge_beginning(&mut self) {
        let prefix = self.prefix.unwrap_or_default();
        let removed = self.report.removed.map(|removed| removed.pruned);
        let pruned = removed.unwrap_or_default();
        let first = self.against.first.max(pruned.last.saturating_add(1));
        if first <= prefix.last {
            let (last, told) = (prefix.last, prefix.told);
            let missing = Fault::Missing { first, last, told };
            self.report.fault_before(missing);
        }
        let Some(pruned) = removed.filter(|pruned| pruned.last >= self.against.first) else {
            return;
        };
        if pruned.faults > 0 {
            let Pruned { last, faults, .. } = pruned;
            self.report.fault_before(Fault::Removed { last, faults });
        }
        let here = match pruned.last == prefix.last {
            true => prefix.hash,
            false => self.ends.get(&pruned.last).copied(),
        };
        if here.is_some_and(|here| here != pruned.hash) {
            self.report.fault(Fault::Another {
                n: pruned.last,
                serial: None,
                witness: Witness::Record,
            });
        }
    }

    /// What is remembered of the machine's chain, of which `last` is the last entry here.
    fn judge_heads(&mut self, last: u64) {
        let prefix = self.prefix.unwrap_or_default();
        let ring0 = self.against.ring0.iter().map(|head| (head, Witness::Ring0));
        let noted = self.against.noted.iter().map(|head| (head, Witness::Noted));
        for (head, witness) in ring0.chain(noted) {
            let n = head.n;
            match self.seen.get(&n) {
                _ if n > last => self.report.fault(Fault::Cut {
                    first: last + 1,
                    last: n,
                    witness,
                }),
                Some(hash) if *hash == head.hash => {
                    if witness == Witness::Ring0 {
                        self.report.anchored = Some(n);
                    }
                }
                // It was put away, with what it vouches for.
                None if n <= prefix.last && n < self.against.first => {}
                None if n <= prefix.last && witness == Witness::Noted => {
                    self.report.unheld.push(n);
                }
                // Of what is removed ring 0 was told before.
                _ => self.report.fault(Fault::Another {
                    n,
                    serial: None,
                    witness,
                }),
            }
        }
    }

    fn judge_domains(&mut self) {
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

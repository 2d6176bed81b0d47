//! Which entry may follow: numbers, hashes, the chains of domains.

use std::collections::{BTreeMap, BTreeSet};

use crate::record::{Entry, Hash, Head, Lost, Open, Pruned, Record, Segment, VERSION, What};

/// A domain's chain so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its entries.
    pub k: u64,
    /// The hash of the last.
    pub head: Hash,
}

/// The record so far: all that one has to know to make the next entry, or to judge it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    last: Head,
    machine: u64,
    ended: u64,
    open: BTreeMap<u64, Link>,
    pruned: Option<Pruned>,
    /// Something was not what was written: of which domains there have been entries since, whose next can be judged.
    doubt: Option<BTreeSet<u64>>,
}

/// Why an entry does not follow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Its number is too large: some are missing.
    #[error("entries {first} to {last} are missing")]
    Missing {
        /// The first.
        first: u64,
        /// The last.
        last: u64,
        /// The daemon that went on after them said so itself.
        told: bool,
    },
    /// Its number is that of one before.
    #[error("entry {0} comes again")]
    Again(u64),
    /// It names another hash as that of the one before.
    #[error("it does not follow the entry before it: that one, or this, is not what was written")]
    Prev,
    /// It is not the next of its domain.
    #[error("it does not follow the entry before it of the domain with serial {0}")]
    Prior(u64),
    /// What it says of what came before is not so.
    #[error("it does not say what came before it")]
    Summary,
}

impl Default for Chain {
    fn default() -> Self {
        Self {
            last: Head {
                n: 0,
                hash: Hash::NONE,
            },
            machine: 0,
            ended: 0,
            open: BTreeMap::new(),
            pruned: None,
            doubt: None,
        }
    }
}

impl Chain {
    /// Behind this entry, of which nothing else is known: the next can be judged by its number and its `prev` alone.
    pub fn behind(last: Head) -> Self {
        Self {
            last,
            doubt: Some(BTreeSet::new()),
            ..Self::default()
        }
    }

    /// The last entry.
    pub fn last(&self) -> Head {
        self.last
    }

    /// How many domains that are gone have been recorded as such.
    pub fn ended(&self) -> u64 {
        self.ended
    }

    /// The number of the entry with which the machine's run began; 0 for none.
    pub fn machine(&self) -> u64 {
        self.machine
    }

    /// What was said last of entries that were removed on purpose.
    pub fn pruned(&self) -> Option<&Pruned> {
        self.pruned.as_ref()
    }

    /// A domain's chain, if it has entries and goes on.
    pub fn of(&self, serial: u64) -> Option<Link> {
        self.open.get(&serial).copied()
    }

    /// The next entry: numbers, hashes and places in chains are filled in.
    pub fn next(&self, t: u64, what: What) -> Record {
        let what = match what {
            What::Domain(mut domain) => {
                let link = self.of(domain.serial);
                domain.machine = self.machine;
                domain.k = link.map_or(0, |link| link.k).saturating_add(1);
                domain.prior = link.map_or(Hash::NONE, |link| link.head);
                What::Domain(domain)
            }
            what => what,
        };
        Record {
            v: VERSION,
            n: self.last.n.saturating_add(1),
            prev: self.last.hash,
            t,
            what,
        }
    }

    /// The first entry of a file, that goes on from here.
    pub fn summary(&self) -> Segment {
        let open = |(serial, link): (&u64, &Link)| Open {
            serial: *serial,
            k: link.k,
            head: link.head,
        };
        Segment {
            machine: self.machine,
            ended: self.ended,
            open: self.open.iter().map(open).collect(),
            lost: None,
            pruned: self.pruned,
        }
    }

    /// The first entry of a file, after some that are lost: `after` is the last that there was, `open` the domains'
    /// chains as they are known from elsewhere.
    pub fn after_loss(&self, after: Head, t: u64, open: Vec<Open>, lost: Lost) -> Record {
        Record {
            v: VERSION,
            n: after.n.saturating_add(1),
            prev: after.hash,
            t,
            what: What::Segment(Segment {
                machine: after.n.saturating_add(1),
                ended: 0,
                open,
                lost: Some(lost),
                pruned: self.pruned,
            }),
        }
    }

    /// Whether an entry follows.
    ///
    /// # Errors
    /// Why it does not.
    pub fn check(&self, record: &Record) -> Result<(), Broken> {
        self.check_number(record)?;
        if record.prev != self.last.hash {
            return Err(Broken::Prev);
        }
        match &record.what {
            What::Domain(domain) if self.judges(domain.serial) => {
                let link = self.of(domain.serial);
                let (k, head) = link.map_or((0, Hash::NONE), |link| (link.k, link.head));
                let follows = domain.k == k.saturating_add(1) && domain.prior == head;
                if !follows {
                    return Err(Broken::Prior(domain.serial));
                }
                let late = domain.ended.is_some_and(|index| index < self.ended);
                if late || domain.machine != self.machine {
                    return Err(Broken::Summary);
                }
            }
            What::Segment(segment) if self.doubt.is_none() && *segment != self.summary() => {
                return Err(Broken::Summary);
            }
            What::Pruned(pruned) if self.doubt.is_none() && !self.may_prune(pruned) => {
                return Err(Broken::Summary);
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether it makes sense that this is removed: entries that are there, more of them and no fewer faults than were
    /// removed before.
    fn may_prune(&self, pruned: &Pruned) -> bool {
        let before = self.pruned.unwrap_or_default();
        pruned.last > before.last && pruned.last <= self.last.n && pruned.faults >= before.faults
    }

    /// As [`Chain::check`], behind what is no entry: its number alone.
    ///
    /// # Errors
    /// As [`Chain::check`].
    pub fn check_number(&self, record: &Record) -> Result<(), Broken> {
        let next = self.last.n.saturating_add(1);
        let lost = match &record.what {
            What::Segment(segment) => segment.lost.as_ref(),
            _ => None,
        };
        let told = lost.is_some();
        match record.n {
            n if n < next => Err(Broken::Again(n)),
            n if n > next || told => Err(Broken::Missing {
                first: lost.map_or(next, |lost| lost.first.min(next)),
                last: n - 1,
                told,
            }),
            _ => Ok(()),
        }
    }

    /// Whether the entries of a domain are known so far.
    fn judges(&self, serial: u64) -> bool {
        let since = self.doubt.as_ref();
        since.is_none_or(|since| since.contains(&serial))
    }

    /// Entries are missing or are not what was written: what they were of is not known.
    pub fn doubt(&mut self) {
        self.doubt = Some(BTreeSet::new());
    }

    /// Counts an entry that cannot be read.
    pub fn skip(&mut self) {
        self.last.n = self.last.n.saturating_add(1);
    }

    /// Takes an entry for the last, whether it follows or not.
    pub fn follow(&mut self, entry: &Entry) {
        let Entry { record, hash } = entry;
        match (&record.what, &mut self.doubt) {
            (What::Domain(domain), Some(since)) => {
                since.insert(domain.serial);
                if self.machine == 0 {
                    // What began the run could not be read.
                    self.machine = domain.machine;
                }
            }
            (What::Start(start), doubt) if start.fresh => *doubt = None,
            (What::Segment(_), doubt) => *doubt = None,
            _ => {}
        }
        match &record.what {
            What::Segment(segment) => {
                self.machine = segment.machine;
                self.ended = segment.ended;
                self.pruned = segment.pruned;
                let open = segment.open.iter();
                self.open = open
                    .map(|open| {
                        (
                            open.serial,
                            Link {
                                k: open.k,
                                head: open.head,
                            },
                        )
                    })
                    .collect();
            }
            What::Start(start) if start.fresh => {
                self.machine = record.n;
                self.ended = 0;
                self.open.clear();
            }
            What::Domain(domain) => match domain.ended {
                Some(index) => {
                    self.ended = index.saturating_add(1);
                    self.open.remove(&domain.serial);
                }
                None => {
                    let link = Link {
                        k: domain.k,
                        head: *hash,
                    };
                    self.open.insert(domain.serial, link);
                }
            },
            What::Missed(missed) => self.ended = missed.first.saturating_add(missed.count),
            What::Pruned(pruned) => self.pruned = Some(*pruned),
            What::Start(_) | What::Machine(_) | What::Gap(_) | What::Stop {} => {}
        }
        self.last = Head {
            n: record.n,
            hash: *hash,
        };
    }
}

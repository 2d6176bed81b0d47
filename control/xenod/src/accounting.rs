//! The usage record, kept: what every domain used is read from the hypervisor, put on the disk, and then ring 0 is told
//! how long the record is (`docs/ledger.md`).
//!
//! # Invariants
//! - A1: the disk comes first: ring 0 is told of what is there.
//! - A2: a domain's last entry is made of what ring 0 remembers of it when it is gone, in order of going; where that was
//!   forgotten before it was recorded, the record says so.
//! - A3: nothing that fails here keeps a guest from anything: it is said, and tried again.

mod entries;
mod keeping;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use guest_abi::Errno;
use ledger::files::{Found, Known, SEGMENT_BYTES};
use ledger::record::{Gap, Hash, Head, Missed, Open, What};
use ledger::{Ledger, SecretKey};
use tokio::sync::Notify;
use xen::{DomId, Hypervisor, Part};

use crate::log;
pub use entries::{account, machine};
use entries::{entry, last_account};
pub use keeping::serve;

/// Files that are kept at least, about.
const FILES_KEPT: u64 = 8;

/// Where the record is and how often an entry is made.
#[derive(Clone, Debug)]
pub struct Place {
    /// The files.
    pub dir: PathBuf,
    /// The key; its public half is beside it.
    pub key: PathBuf,
    /// From one entry of a domain to the next.
    pub interval: Duration,
    /// Bytes of it that are kept: then the oldest files go, and the record says so. None: all of it.
    pub keep: Option<u64>,
    /// The control domain's boot.
    pub boot: String,
}

impl Place {
    /// Bytes after which a file is followed by another: some go and most stay.
    fn file_bytes(&self) -> u64 {
        let part = self.keep.map(|keep| keep / FILES_KEPT);
        part.map_or(SEGMENT_BYTES, |part| part.min(SEGMENT_BYTES))
    }
}

/// What is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Every domain and the machine.
    All,
    /// One domain that is there.
    One(DomId),
    /// Those that are gone and not recorded yet.
    Ended,
    /// That the daemon ends in order; after all of those.
    Stop,
}

/// Names of domains by their handles.
pub type Names = BTreeMap<[u8; 16], String>;

/// Whoever keeps the record.
pub struct Keeper {
    hypervisor: Arc<dyn Hypervisor>,
    place: Place,
    /// None: the hypervisor keeps no accounts.
    state: Option<Mutex<State>>,
    /// A domain may be gone.
    nudged: Notify,
    /// Held by whoever removes old files: what was said last of why none can be.
    pruning: Mutex<String>,
}

struct State {
    ledger: Option<Ledger>,
    /// Since when there is none, and why.
    failing: Option<Gap>,
    /// Entries that ring 0 was told of.
    told: u64,
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

/// What ring 0 is to be told of a domain's chain, and how many entries it knows of.
struct Growth {
    domain: DomId,
    serial: u64,
    from: u64,
}

impl Keeper {
    /// Begins to keep the record, if the hypervisor keeps accounts.
    pub fn start(hypervisor: Arc<dyn Hypervisor>, place: Place) -> Arc<Self> {
        let keeps = match hypervisor.ledger_head(None) {
            Ok(_) => true,
            Err(error) if error.errno() == Some(Errno::NoSys) => {
                log::line("the hypervisor keeps no accounts: there is no usage record");
                false
            }
            Err(error) => {
                log::line(error);
                false
            }
        };
        let mut keeper = Self {
            hypervisor,
            place,
            state: None,
            nudged: Notify::new(),
            pruning: Mutex::default(),
        };
        if keeps {
            let mut state = State {
                ledger: None,
                failing: None,
                told: 0,
            };
            keeper.open(&mut state);
            keeper.state = Some(Mutex::new(state));
        }
        Arc::new(keeper)
    }

    /// Opens the record, or says why not.
    fn open(&self, state: &mut State) {
        match self.opened() {
            Ok((ledger, found, told)) => {
                if let Some(lost) = &found.lost {
                    log::line(format!(
                        "the usage record has lost entries {} to {}: {}; it goes on behind them",
                        lost.first, lost.last, lost.why
                    ));
                }
                if found.torn > 0 {
                    log::line(format!(
                        "the usage record goes on behind entry {}: {} bytes of one that was not whole are cut off",
                        found.last, found.torn
                    ));
                }
                (state.ledger, state.told) = (Some(ledger), told);
            }
            Err(why) => {
                if state.failing.is_none() {
                    log::line(format!("{why}: no usage is recorded until it can be"));
                }
                let since = now_ms();
                state.failing.get_or_insert(Gap { since, why });
            }
        }
    }

    fn opened(&self) -> Result<(Ledger, Found, u64), String> {
        let told = self.hypervisor.ledger_head(None).map_err(words)?;
        let mut known = Known {
            head: (told.count > 0).then_some(Head {
                n: told.count,
                hash: Hash(told.head),
            }),
            open: Vec::new(),
        };
        for info in self.hypervisor.domains().map_err(words)? {
            match self.hypervisor.ledger_head(Some(info.domain)) {
                Ok(head) if head.count > 0 => known.open.push(Open {
                    serial: head.serial,
                    k: head.count,
                    head: Hash(head.head),
                }),
                Ok(_) => {}
                Err(error) if error.is_no_domain() => {}
                Err(error) => return Err(words(error)),
            }
        }
        known.open.sort_unstable_by_key(|open| open.serial);
        let key = SecretKey::load_or_make(&self.place.key).map_err(words)?;
        publish(&self.place.key, &key)?;
        let interval = u64::try_from(self.place.interval.as_millis()).unwrap_or(u64::MAX);
        let begun = (now_ms(), self.place.boot.as_str(), interval);
        let (ledger, found) =
            Ledger::start(&self.place.dir, key, self.place.file_bytes(), &known, begun)
                .map_err(words)?;
        Ok((ledger, found, told.count))
    }

    /// Whether there is a record.
    pub fn keeps(&self) -> bool {
        self.state.is_some()
    }

    /// A domain may be gone: it is recorded soon.
    pub fn nudge(&self) {
        self.nudged.notify_one();
    }

    fn state(&self) -> Option<MutexGuard<'_, State>> {
        let state = self.state.as_ref()?;
        Some(state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes entries. Waits for the disk.
    pub fn record(&self, which: Which, names: &Names) {
        let Some(mut state) = self.state() else {
            return;
        };
        let state = &mut *state;
        if state.ledger.is_none() {
            self.open(state);
        }
        let Some(ledger) = &mut state.ledger else {
            return;
        };
        let (news, growth) = match self.news(which, names, ledger.chain().ended()) {
            Ok(news) => news,
            Err(error) => return log::line(format!("usage is not recorded: {error}")),
        };
        if news.is_empty() && state.failing.is_none() {
            // Ring 0 may not have been told of what is there.
            return self.tell(ledger, &mut state.told, &growth);
        }
        let failed_before = ledger.failing().is_some();
        let gap = state.failing.clone().map(What::Gap);
        let all: Vec<What> = gap.into_iter().chain(news).collect();
        match ledger.append(now_ms(), all) {
            Ok(_) => {
                state.failing = None;
                if failed_before {
                    log::line("usage is recorded again");
                }
                self.tell(ledger, &mut state.told, &growth);
            }
            Err(error) if !failed_before => {
                log::line(format!("{error}: no usage is recorded until it can be"));
            }
            Err(_) => {}
        }
    }

    /// What there is to record.
    fn news(
        &self,
        which: Which,
        names: &Names,
        ended: u64,
    ) -> xen::Result<(Vec<What>, Vec<Growth>)> {
        let (mut news, mut growth) = (Vec::new(), Vec::new());
        if let Which::All | Which::One(_) = which {
            for info in self.hypervisor.domains()? {
                let asked = which == Which::All || which == Which::One(info.domain);
                if !asked || info.dying {
                    continue;
                }
                let id = info.domain;
                let read = self.hypervisor.ledger_head(Some(id)).and_then(|head| {
                    let usage = self.hypervisor.usage(id, Part::All)?;
                    Ok((head, usage))
                });
                let (head, usage) = match read {
                    Ok(read) => read,
                    // It went just now.
                    Err(error) if error.is_no_domain() => continue,
                    Err(error) => return Err(error),
                };
                let about = (id, head.serial, info.handle);
                news.push(entry(about, names, None, account(&usage)));
                growth.push(Growth {
                    domain: id,
                    serial: head.serial,
                    from: head.count,
                });
            }
        }
        self.gone(ended, names, &mut news)?;
        match which {
            Which::All => match self.hypervisor.books() {
                Ok(books) => news.push(What::Machine(machine(&books))),
                // A CPU was busy: the next time.
                Err(error) if error.errno() == Some(Errno::Busy) => {}
                Err(error) => return Err(error),
            },
            Which::Stop => news.push(What::Stop {}),
            Which::One(_) | Which::Ended => {}
        }
        Ok((news, growth))
    }

    /// Domains that are gone, from this one of them on (A2).
    fn gone(&self, mut next: u64, names: &Names, news: &mut Vec<What>) -> xen::Result<()> {
        loop {
            let (total, found) = self.hypervisor.ended(next)?;
            let first = found.as_ref().map_or(total, |ended| ended.index);
            if first > next {
                let count = first - next;
                news.push(What::Missed(Missed { first: next, count }));
            }
            let Some(ended) = found else {
                return Ok(());
            };
            let about = (ended.domid, ended.serial, ended.handle);
            news.push(entry(about, names, Some(ended.index), last_account(&ended)));
            next = ended.index.saturating_add(1);
        }
    }

    /// Tells ring 0 how long the chains are (A1).
    fn tell(&self, ledger: &Ledger, told: &mut u64, growth: &[Growth]) {
        for one in growth {
            let Some(link) = ledger.chain().of(one.serial) else {
                continue;
            };
            let outcome =
                self.hypervisor
                    .ledger_append(Some(one.domain), one.from, link.k, link.head.0);
            match outcome {
                Err(error) if !error.is_no_domain() => log::line(error),
                _ => {}
            }
        }
        let last = ledger.chain().last();
        if last.n == *told {
            return;
        }
        match self
            .hypervisor
            .ledger_append(None, *told, last.n, last.hash.0)
        {
            Ok(()) => *told = last.n,
            Err(error) => log::line(error),
        }
    }
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Puts the public key beside the other, for whoever verifies.
fn publish(path: &Path, key: &SecretKey) -> Result<(), String> {
    let public = path.with_extension("pub");
    let text = format!("{}\n", key.public());
    if std::fs::read(&public).ok().as_deref() == Some(text.as_bytes()) {
        return Ok(());
    }
    let written = std::fs::write(&public, text);
    written.map_err(|error| {
        format!(
            "the public key {} cannot be written: {error}",
            public.display()
        )
    })
}

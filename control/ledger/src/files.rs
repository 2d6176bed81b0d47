//! The record in a directory: files of bounded size, one after the other, that survive power cuts.
//!
//! A file is named by the number of its first entry, which says what one has to know to go on from there; so only the last
//! file is read at a start. A batch of entries is one write and one `fdatasync`; a new file is written under another
//! name, synchronised, renamed, and the directory synchronised.
//!
//! # Invariants
//! - F1: the last file holds whole entries up to [`Ledger`]'s length, and maybe bytes of a batch that was not answered for.
//! - F2: nothing that was answered for is ever cut off or written over. Where what is there is not what it should be, it is
//!   left as it is, and the record goes on in a new file that says what is lost.
//! - F3: whole files are removed, the oldest first, and only behind an entry on the disk that says so.

mod prune;
mod tail;

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::chain::Chain;
use crate::key::{PublicKey, SecretKey};
use crate::record::{self, Entry, Gap, Head, Lost, Open, Record, Start, What};
pub use prune::{Until, next_to_prune};
use tail::{Tail, lost};

/// How the files end.
pub const EXTENSION: &str = "ledger";
/// Bytes after which a file is followed by another.
pub const SEGMENT_BYTES: u64 = 4 << 20;

/// What can go wrong with the files.
#[derive(Debug, thiserror::Error)]
#[error("the usage record {path} cannot be {what}: {source}")]
pub struct LedgerError {
    /// The file or directory.
    pub path: PathBuf,
    /// What was tried.
    pub what: &'static str,
    /// Why not.
    pub source: io::Error,
}

fn failed<'a>(path: &'a Path, what: &'static str) -> impl FnOnce(io::Error) -> LedgerError + 'a {
    move |source| LedgerError {
        path: path.to_owned(),
        what,
        source,
    }
}

/// Has a rename in the directory of this path survive a power cut.
///
/// # Errors
/// The system's.
pub fn sync_dir_of(path: &Path) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()
}

/// The files of a directory, in order of their first entries' numbers.
///
/// # Errors
/// When it cannot be read.
pub fn segments(dir: &Path) -> Result<Vec<(u64, PathBuf)>, LedgerError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed(dir, "read"))? {
        let path = entry.map_err(failed(dir, "read"))?.path();
        if path
            .extension()
            .is_none_or(|extension| extension != EXTENSION)
        {
            continue;
        }
        let number = path
            .file_stem()
            .and_then(|stem| stem.to_str()?.parse().ok());
        if let Some(number) = number {
            found.push((number, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// What is known of the chains from elsewhere: ring 0 remembers it while the machine runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The machine's chain; none if nothing is remembered.
    pub head: Option<Head>,
    /// The domains' chains, of those that have one.
    pub open: Vec<Open>,
}

/// What a start found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The last entry.
    pub last: u64,
    /// Bytes of a batch that was not whole, cut off.
    pub torn: u64,
    /// Entries that were there and are not.
    pub lost: Option<Lost>,
}

/// The record, to be appended to.
pub struct Ledger {
    dir: PathBuf,
    key: SecretKey,
    chain: Chain,
    limit: u64,
    /// The last file; none if the next batch begins a new one.
    file: Option<(PathBuf, File)>,
    /// Bytes of whole entries in it (F1).
    bytes: u64,
    /// Since when, and why, nothing could be appended.
    failing: Option<Gap>,
}

impl Ledger {
    /// Opens the directory, or makes it, and appends a first entry of this start: `t` is now, `boot` the control domain's
    /// boot, `interval` milliseconds from one entry to the next.
    ///
    /// # Errors
    /// When the files cannot be read or written.
    pub fn start(
        dir: &Path,
        key: SecretKey,
        limit: u64,
        known: &Known,
        (t, boot, interval): (u64, &str, u64),
    ) -> Result<(Self, Found), LedgerError> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(failed(dir, "made"))?;
        let mut ledger = Self {
            dir: dir.to_owned(),
            key,
            chain: Chain::default(),
            limit,
            file: None,
            bytes: 0,
            failing: None,
        };
        let (tail, further) = ledger.read_last()?;
        let last = ledger.chain.last();
        let mut found = Found {
            last: last.n,
            lost: lost(last, tail.as_ref(), further, known.head),
            torn: 0,
        };
        let mut first = Vec::new();
        if let Some(lost) = &found.lost {
            let at = known.head.filter(|head| head.n >= lost.last);
            let after = Head {
                n: lost.last,
                hash: at.map_or(last.hash, |head| head.hash),
            };
            let open = known.open.clone();
            first.push(ledger.chain.after_loss(after, t, open, lost.clone()));
        } else if let Some(tail) = tail {
            found.torn = tail.behind;
            ledger.go_on_in(tail)?;
        }
        let start = What::Start(Start {
            fresh: known.head.is_none(),
            boot: boot.to_owned(),
            torn: found.torn,
            interval,
        });
        ledger.write(t, first, vec![start])?;
        Ok((ledger, found))
    }

    /// Appends to the last file, without what is behind its whole entries.
    fn go_on_in(&mut self, tail: Tail) -> Result<(), LedgerError> {
        let mut file = OpenOptions::new()
            .write(true)
            .open(&tail.path)
            .map_err(failed(&tail.path, "opened"))?;
        if tail.behind > 0 {
            file.set_len(tail.whole)
                .and_then(|()| file.sync_all())
                .map_err(failed(&tail.path, "cut"))?;
        }
        file.seek(SeekFrom::End(0))
            .map_err(failed(&tail.path, "read"))?;
        self.bytes = tail.whole;
        self.file = Some((tail.path, file));
        Ok(())
    }

    /// The record so far.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Who signs.
    pub fn public_key(&self) -> PublicKey {
        self.key.public()
    }

    /// Whether nothing can be appended, since when and why.
    pub fn failing(&self) -> Option<&Gap> {
        self.failing.as_ref()
    }

    /// Appends entries: all of them or none. What could not be appended before is told by an entry of its own. Answers
    /// the last entry.
    ///
    /// # Errors
    /// When they cannot be written; the next call tries again, and says since when there was nothing.
    pub fn append(&mut self, t: u64, news: Vec<What>) -> Result<Head, LedgerError> {
        let gap = self.failing.clone().map(What::Gap);
        let all = gap.into_iter().chain(news).collect();
        match self.write(t, Vec::new(), all) {
            Ok(()) => {
                self.failing = None;
                Ok(self.chain.last())
            }
            Err(error) => {
                let why = error.source.to_string();
                self.failing.get_or_insert(Gap { since: t, why });
                Err(error)
            }
        }
    }

    fn write(&mut self, t: u64, first: Vec<Record>, news: Vec<What>) -> Result<(), LedgerError> {
        let mut chain = self.chain.clone();
        let mut bytes = Vec::new();
        let mut take = |chain: &mut Chain, record: Record| -> Result<(), LedgerError> {
            let line = record.to_line(&self.key);
            let (line, hash) = line.map_err(|error| failed(&self.dir, "written")(error.into()))?;
            bytes.extend(line);
            chain.follow(&Entry { record, hash });
            Ok(())
        };
        let fresh = self.file.is_none() || self.bytes >= self.limit || !first.is_empty();
        if fresh && first.is_empty() {
            let summary = What::Segment(chain.summary());
            let record = chain.next(t, summary);
            take(&mut chain, record)?;
        }
        for record in first {
            take(&mut chain, record)?;
        }
        for what in news {
            let record = chain.next(t, what);
            take(&mut chain, record)?;
        }
        if fresh {
            let name = format!("{:012}.{EXTENSION}", self.first_of_new(&bytes)?);
            self.begin(&self.dir.join(name), &bytes)?;
        } else {
            self.extend(&bytes)?;
        }
        self.chain = chain;
        Ok(())
    }

    /// The number of the first entry of a new file.
    fn first_of_new(&self, bytes: &[u8]) -> Result<u64, LedgerError> {
        let line = bytes.split(|byte| *byte == b'\n').next();
        let entry = line.and_then(|line| record::split(line).ok());
        entry.map(|(entry, _)| entry.record.n).ok_or_else(|| {
            failed(&self.dir, "written")(io::Error::other("an entry does not read back"))
        })
    }

    /// Begins a new file.
    fn begin(&mut self, path: &Path, bytes: &[u8]) -> Result<(), LedgerError> {
        if path.exists() {
            // F2. No number is given twice, so it is no file of ours.
            return Err(failed(path, "made")(io::ErrorKind::AlreadyExists.into()));
        }
        let fresh = path.with_extension("new");
        let made = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)
            .and_then(|mut file| {
                file.write_all(bytes)?;
                file.sync_all()?;
                std::fs::rename(&fresh, path)?;
                sync_dir_of(path)?;
                Ok(file)
            });
        match made {
            Ok(file) => {
                self.file = Some((path.to_owned(), file));
                self.bytes = bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                // It may have its name already, though nobody answered for it.
                let _was_not_there = std::fs::remove_file(&fresh);
                let _was_not_there = std::fs::remove_file(path);
                Err(failed(path, "made")(error))
            }
        }
    }

    /// Puts bytes at the end of the last file.
    fn extend(&mut self, bytes: &[u8]) -> Result<(), LedgerError> {
        let Some((path, file)) = &mut self.file else {
            return Ok(());
        };
        // What an earlier failure left behind goes first.
        let clean = |file: &mut File, len: u64| {
            file.set_len(len)?;
            file.seek(SeekFrom::Start(len)).map(drop)
        };
        let len = self.bytes;
        let before = match &self.failing {
            Some(_) => clean(file, len),
            None => Ok(()),
        };
        let written = before
            .and_then(|()| file.write_all(bytes))
            .and_then(|()| file.sync_data());
        if let Err(error) = written {
            // If this fails too it is done before the next.
            let _tried_again = clean(file, len);
            return Err(failed(path, "written")(error));
        }
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

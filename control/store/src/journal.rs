//! The journal: records in a file, so that a process killed at any moment finds again what it acknowledged.
//!
//! # Invariants
//! - J1: a batch is in the file whole or, for whoever reads it, not at all.
//! - J2: the file under the journal's name is at every moment a complete journal: a shorter one takes its place
//!   by a rename.
//!
//! The file is eight bytes that name its form, and then batches: the length of the payload (u32), its CRC-32
//! (u32), and the payload, which is records one after the other.
//!
//! A batch is one `write`, and nothing is synchronised to a disk: what must be survived is the death of the
//! process, and the kernel keeps what was written to it. The death of the machine takes the domains along that
//! the store is about, so the place for the file is a file system in memory that a reboot empties.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::record::{Reader, Record, Writer};

const FORM: &[u8; 8] = b"xenostr1";
const HEAD_BYTES: usize = 8;
/// Bytes after which a snapshot starts a further batch.
const SNAPSHOT_BATCH_BYTES: usize = 64 << 10;
/// A journal this long is not yet worth compacting.
const SMALL_BYTES: u64 = 1 << 20;
/// How many times the length of its snapshot a journal may be.
const COMPACT_AT: u64 = 4;

/// What can go wrong with the journal. Each is final: the store may no longer acknowledge anything.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file cannot be read or written.
    #[error("the store's journal {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another process has it.
    #[error("the store's journal {0} is in use: another daemon runs; stop it first")]
    InUse(PathBuf),
    /// It is not a journal, or not of this version.
    #[error(
        "{0} is no journal of this version of the store; move it away to begin with an empty store"
    )]
    Foreign(PathBuf),
    /// What is in it makes no sense from here on.
    #[error(
        "the store's journal {path} is damaged at byte {offset}; move it away to begin with an empty store"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the batch begins.
        offset: u64,
    },
}

/// What was found in a journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Batches taken in.
    pub batches: u64,
    /// Bytes of a last batch that was not whole, cut off.
    pub torn_bytes: u64,
}

/// An open journal. The file is locked while it lives.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// Bytes in the file.
    bytes: u64,
    /// Bytes its snapshot took.
    snapshot_bytes: u64,
}

impl Journal {
    /// Opens the journal at `path` and hands its records to `take`, which says whether one fits. `None` if there is
    /// no such file.
    pub(crate) fn open(
        path: &Path,
        take: impl FnMut(Record) -> bool,
    ) -> Result<Option<(Self, Recovery)>, JournalError> {
        let failed = |source| JournalError::File {
            path: path.to_owned(),
            source,
        };
        let Some(mut file) = open_locked(path)? else {
            return Ok(None);
        };
        let mut contents = Vec::new();
        file.read_to_end(&mut contents).map_err(failed)?;
        let (recovery, end) = replay(path, &contents, take)?;
        if recovery.torn_bytes > 0 {
            file.set_len(end).map_err(failed)?;
        }
        file.seek(SeekFrom::Start(end)).map_err(failed)?;
        // The next append past this bound compacts: what of the file was its snapshot is not known any more.
        Ok(Some((
            Self {
                path: path.to_owned(),
                file,
                bytes: end,
                snapshot_bytes: 0,
            },
            recovery,
        )))
    }

    /// A journal at `path` that begins with what `snapshot` puts; it takes the place of one that is there.
    pub(crate) fn create(
        path: &Path,
        snapshot: impl FnOnce(&mut dyn FnMut(Record)),
    ) -> Result<Self, JournalError> {
        let failed = |source| JournalError::File {
            path: path.to_owned(),
            source,
        };
        let mut fresh = path.as_os_str().to_owned();
        fresh.push(".new");
        let fresh = PathBuf::from(fresh);
        let options = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .clone();
        let mut file = options.open(&fresh).map_err(failed)?;
        lock(&file, path)?;
        let mut bytes = FORM.len() as u64;
        file.write_all(FORM).map_err(failed)?;
        let (mut writer, mut outcome) = (Writer::default(), Ok(()));
        snapshot(&mut |record| {
            writer.record(&record);
            if outcome.is_ok() && writer.0.len() >= SNAPSHOT_BATCH_BYTES {
                outcome = write_batch(&mut file, &writer.0).map(|written| bytes += written);
                writer.0.clear();
            }
        });
        outcome
            .and_then(|()| write_batch(&mut file, &writer.0))
            .map(|written| bytes += written)
            .map_err(failed)?;
        std::fs::rename(&fresh, path).map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            bytes,
            snapshot_bytes: bytes,
        })
    }

    /// Makes `records` safe: all of them or none.
    pub(crate) fn append(&mut self, records: &[Record]) -> Result<(), JournalError> {
        let mut writer = Writer::default();
        records.iter().for_each(|record| writer.record(record));
        let written = write_batch(&mut self.file, &writer.0);
        self.bytes += written.map_err(|source| JournalError::File {
            path: self.path.clone(),
            source,
        })?;
        Ok(())
    }

    /// Whether the journal is so much longer than what it says that it should be written anew.
    pub(crate) fn wants_compaction(&self) -> bool {
        self.bytes > SMALL_BYTES.max(COMPACT_AT * self.snapshot_bytes)
    }

    /// Writes the journal anew from a snapshot.
    pub(crate) fn compact(
        &mut self,
        snapshot: impl FnOnce(&mut dyn FnMut(Record)),
    ) -> Result<(), JournalError> {
        *self = Self::create(&self.path, snapshot)?;
        Ok(())
    }
}

fn write_batch(file: &mut File, payload: &[u8]) -> io::Result<u64> {
    let length =
        u32::try_from(payload.len()).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    let mut batch = Vec::with_capacity(HEAD_BYTES + payload.len());
    batch.extend_from_slice(&length.to_le_bytes());
    batch.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
    batch.extend_from_slice(payload);
    file.write_all(&batch)?;
    Ok(batch.len() as u64)
}

/// The file under this name, locked.
fn open_locked(path: &Path) -> Result<Option<File>, JournalError> {
    let failed = |source| JournalError::File {
        path: path.to_owned(),
        source,
    };
    loop {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        lock(&file, path)?;
        // Its last holder may have put another in its place between the opening and the lock.
        let named = std::fs::metadata(path).map_err(failed)?;
        if named.ino() == file.metadata().map_err(failed)?.ino() {
            return Ok(Some(file));
        }
    }
}

fn lock(file: &File, path: &Path) -> Result<(), JournalError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(JournalError::InUse(path.to_owned())),
        Err(TryLockError::Error(source)) => Err(JournalError::File {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Hands out the records of all whole batches; answers where the last of them ends.
fn replay(
    path: &Path,
    contents: &[u8],
    mut take: impl FnMut(Record) -> bool,
) -> Result<(Recovery, u64), JournalError> {
    let mut rest = contents
        .strip_prefix(FORM)
        .ok_or_else(|| JournalError::Foreign(path.to_owned()))?;
    let mut recovery = Recovery::default();
    loop {
        let offset = (contents.len() - rest.len()) as u64;
        let Some((payload, crc, behind)) = batch(rest) else {
            recovery.torn_bytes = rest.len() as u64;
            return Ok((recovery, offset));
        };
        let damaged = || JournalError::Damaged {
            path: path.to_owned(),
            offset,
        };
        if crc32fast::hash(payload) != crc {
            return Err(damaged());
        }
        let mut reader = Reader(payload);
        while !reader.0.is_empty() {
            if !reader.record().is_some_and(&mut take) {
                return Err(damaged());
            }
        }
        recovery.batches += 1;
        rest = behind;
    }
}

/// The first batch: its payload, the sum it should have, and what is behind it.
fn batch(bytes: &[u8]) -> Option<(&[u8], u32, &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (crc, rest) = rest.split_first_chunk()?;
    let (payload, behind) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some((payload, u32::from_le_bytes(*crc), behind))
}

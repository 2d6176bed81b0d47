//! The oldest files go when the record becomes longer than is kept, or when somebody asks for it.
//!
//! ```text
//!   look at the files ── an entry says what goes (on the disk, and told to ring 0) ── they go, the oldest first
//! ```
//! The power may fail between any two of these: whatever is there then begins with an entry that was to go, or with the
//! first that was to stay. What was to go and is there still goes the next time.

use std::path::{Path, PathBuf};

use super::{Ledger, LedgerError, failed, segments, sync_dir_of};
use crate::key::PublicKey;
use crate::record::{self, Entry, Head, Pruned, What};
use crate::verify::{Against, Verifier};

/// How much of the record is kept. The last file always is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Until {
    /// Bytes: the oldest file goes as long as all together have more.
    pub bytes: Option<u64>,
    /// An entry's number: files go that hold only entries before it.
    pub before: Option<u64>,
}

impl Until {
    /// Whether the first of these files goes, of which the next begins with entry `next`.
    fn removes(&self, files: &[(u64, PathBuf)], next: u64) -> Result<bool, LedgerError> {
        if self.before.is_some_and(|before| next <= before) {
            return Ok(true);
        }
        let Some(most) = self.bytes else {
            return Ok(false);
        };
        let mut all: u64 = 0;
        for (_, path) in files {
            let about = std::fs::metadata(path).map_err(failed(path, "looked at"))?;
            all = all.saturating_add(about.len());
        }
        Ok(all > most)
    }
}

/// What is to go next, if anything: the oldest file, with those behind it whose end nobody could tell otherwise. `before`
/// is what was said last of what went. Reads what is to go, and says how much was wrong with it.
///
/// # Errors
/// When the files cannot be read.
pub fn next_to_prune(
    dir: &Path,
    key: PublicKey,
    before: Option<&Pruned>,
    until: &Until,
    asked: bool,
) -> Result<Option<Pruned>, LedgerError> {
    let before = before.copied().unwrap_or_default();
    let mut files = segments(dir)?;
    files.drain(..gone(&files, before.last));
    // Names and sizes first: usually there is nothing to do.
    match files.get(1) {
        Some((next, _)) if until.removes(&files, *next)? => {}
        _ => return Ok(None),
    }
    let Some((next, count)) = next_good(&files, &key)? else {
        return Ok(None);
    };
    if !until.removes(&files, next.record.n)? {
        return Ok(None);
    }
    let against = Against {
        first: before.last.saturating_add(1),
        noted: (before.last > 0)
            .then_some(Head {
                n: before.last,
                hash: before.hash,
            })
            .into_iter()
            .collect(),
        ..Against::default()
    };
    let mut verifier = Verifier::new(key, &against);
    for (index, (number, path)) in files.iter().take(count + 1).enumerate() {
        let bytes = std::fs::read(path).map_err(failed(path, "read"))?;
        let is_last = index == count;
        let part = if is_last { first_line(&bytes) } else { &bytes };
        verifier.file(*number, &path.to_string_lossy(), part, false);
    }
    let report = verifier.end();
    let found = report.faults.len() as u64 + u64::from(report.more_faults);
    Ok(Some(Pruned {
        last: next.record.n.saturating_sub(1),
        hash: next.record.prev,
        asked,
        faults: before.faults.saturating_add(found),
    }))
}

/// How many of these files hold nothing behind entry `last`.
fn gone(files: &[(u64, PathBuf)], last: u64) -> usize {
    let nexts = files.iter().skip(1);
    nexts
        .take_while(|(next, _)| *next <= last.saturating_add(1))
        .count()
}

/// A line with its newline, if it has one.
fn first_line(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    bytes
        .get(..end.map_or(bytes.len(), |at| at + 1))
        .unwrap_or_default()
}

/// The first entry of the first file behind the oldest that has one, and how many files there are before that.
fn next_good(
    files: &[(u64, PathBuf)],
    key: &PublicKey,
) -> Result<Option<(Entry, usize)>, LedgerError> {
    for (index, (number, path)) in files.iter().enumerate().skip(1) {
        let bytes = std::fs::read(path).map_err(failed(path, "read"))?;
        let line = first_line(&bytes);
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        if let Ok(entry) = record::read_line(line, key)
            && entry.record.n == *number
            && matches!(entry.record.what, What::Segment(_))
        {
            return Ok(Some((entry, index)));
        }
    }
    Ok(None)
}

impl Ledger {
    /// Says that entries go, which [`next_to_prune`] found; nothing goes yet. Answers the last entry, or none if the
    /// record is another than was looked at.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn prune(&mut self, t: u64, pruned: Pruned) -> Result<Option<Head>, LedgerError> {
        let before = self.chain.pruned().copied().unwrap_or_default();
        let news = pruned.last > before.last && pruned.last < self.chain.last().n;
        match news && pruned.faults >= before.faults {
            true => self.append(t, vec![What::Pruned(pruned)]).map(Some),
            false => Ok(None),
        }
    }

    /// Removes the files of which it was said that they go. Answers how many there were. To be called when ring 0 was
    /// told of the record as long as it is: it must not remember less than was there.
    ///
    /// # Errors
    /// When one cannot be removed; it is tried again the next time.
    pub fn remove_pruned(&self) -> Result<usize, LedgerError> {
        let Some(pruned) = self.chain.pruned() else {
            return Ok(0);
        };
        let files = segments(&self.dir)?;
        let count = gone(&files, pruned.last);
        for (_, path) in files.iter().take(count) {
            // One after the other also after a power cut, so that there is no hole between two that are left.
            std::fs::remove_file(path)
                .and_then(|()| sync_dir_of(path))
                .map_err(failed(path, "removed"))?;
        }
        Ok(count)
    }
}

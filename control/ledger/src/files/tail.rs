//! What a start finds in the last file, and what it finds missing.

use std::path::PathBuf;

use super::{Ledger, LedgerError, failed, segments};
use crate::chain::Chain;
use crate::key::PublicKey;
use crate::record::{self, Head, Lost, What};

/// What is known of the last file.
pub(super) struct Tail {
    /// Where it is.
    pub(super) path: PathBuf,
    /// Bytes of whole entries.
    pub(super) whole: u64,
    /// Bytes behind them.
    pub(super) behind: u64,
    /// The largest number among signed entries behind them: it is no torn tail then.
    further: Option<u64>,
    /// Heads of all its entries, and of the one before.
    heads: Vec<Head>,
}

impl Ledger {
    /// Reads the last file into the chain; of one that holds no entry at all only the number it is named by is known.
    pub(super) fn read_last(&mut self) -> Result<(Option<Tail>, Option<u64>), LedgerError> {
        let mut further = None;
        for (first, path) in segments(&self.dir)?.into_iter().rev() {
            let bytes = std::fs::read(&path).map_err(failed(&path, "read"))?;
            let tail = self.read_file(first, path, &bytes);
            further = further.max(tail.further);
            if tail.whole > 0 {
                return Ok((Some(tail), further));
            }
            further = further.max(Some(first));
        }
        Ok((None, further))
    }

    fn read_file(&mut self, first: u64, path: PathBuf, bytes: &[u8]) -> Tail {
        let mut tail = Tail {
            path,
            whole: 0,
            behind: 0,
            further: None,
            heads: Vec::new(),
        };
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let entry = line
                .strip_suffix(b"\n")
                .and_then(|line| record::split(line).ok());
            let begins = tail.heads.is_empty();
            let follows = entry.as_ref().is_some_and(|(entry, _)| match begins {
                true => entry.record.n == first && matches!(entry.record.what, What::Segment(_)),
                false => self.chain.check(&entry.record).is_ok(),
            });
            let Some((entry, _)) = entry.filter(|_| follows) else {
                break;
            };
            if begins {
                tail.heads.push(Head {
                    n: entry.record.n.saturating_sub(1),
                    hash: entry.record.prev,
                });
            }
            self.chain.follow(&entry);
            tail.heads.push(self.chain.last());
            tail.whole += line.len() as u64;
        }
        let public = self.key.public();
        tail.behind = bytes.len() as u64 - tail.whole;
        tail.further = further(bytes, tail.whole, &public);
        self.keep_signed(bytes, &mut tail, &public);
        tail
    }

    /// The last of the entries that follow one another has to be signed: it vouches for those before it. If it is not, all
    /// that were written since the last signed one are no entries.
    fn keep_signed(&mut self, bytes: &[u8], tail: &mut Tail, public: &PublicKey) {
        let whole = bytes.get(..tail.whole as usize).unwrap_or_default();
        let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
        let signed = |line: &&[u8]| {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            record::read_line(line, public).is_ok()
        };
        let good = lines.iter().rposition(signed).map_or(0, |at| at + 1);
        if good == lines.len() {
            return;
        }
        self.chain = Chain::default();
        let kept = lines.get(..good).unwrap_or_default();
        tail.whole = 0;
        tail.heads.truncate(good + usize::from(good > 0));
        for line in kept {
            tail.whole += line.len() as u64;
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            if let Ok((entry, _)) = record::split(line) {
                self.chain.follow(&entry);
            }
        }
        tail.behind = bytes.len() as u64 - tail.whole;
        // Whole entries that somebody else made, not torn ones.
        tail.further = Some(tail.further.unwrap_or(0).max(self.chain.last().n + 1));
    }
}

/// The largest number of a signed entry behind those that follow one another.
fn further(bytes: &[u8], from: u64, key: &PublicKey) -> Option<u64> {
    let rest = bytes.get(from as usize..).unwrap_or_default();
    let lines = rest.split(|byte| *byte == b'\n');
    let entries = lines.filter_map(|line| record::read_line(line, key).ok());
    entries.map(|entry| entry.record.n).max()
}

/// What there was and is not, from what is here and what is known from elsewhere.
pub(super) fn lost(
    last: Head,
    tail: Option<&Tail>,
    further: Option<u64>,
    known: Option<Head>,
) -> Option<Lost> {
    let most = last.n.max(further.unwrap_or(0));
    let why = |first: u64, last: u64, why: &str| {
        Some(Lost {
            first,
            last,
            why: why.to_owned(),
        })
    };
    if let Some(known) = known {
        if known.n > last.n {
            let what = "ring 0 remembers more entries than are here";
            return why(last.n + 1, known.n.max(most), what);
        }
        let here = tail.and_then(|tail| tail.heads.iter().find(|head| head.n == known.n));
        if here.is_some_and(|here| here.hash != known.hash) {
            let what = "the last entry that ring 0 remembers is another than is here";
            return why(known.n, most, what);
        }
    }
    if further.is_some() {
        return why(last.n + 1, most, "entries follow one that is damaged");
    }
    None
}

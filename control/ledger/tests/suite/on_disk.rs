//! A record in a directory, opened and looked at.

use std::path::{Path, PathBuf};

use ledger::Ledger;
use ledger::files::{Found, Known, segments};
use ledger::record::Head;
use ledger::verify::{Against, Report, verify};

use crate::model::{key, public};

pub fn open_limited(dir: &Path, known: &Known, limit: u64) -> (Ledger, Found) {
    Ledger::start(dir, key(), limit, known, (5, "a boot", 10_000)).unwrap()
}

/// Ring 0 remembers this of the machine's chain.
pub fn remembers(head: Head) -> Known {
    Known {
        head: Some(head),
        open: Vec::new(),
    }
}

pub fn look_at(dir: &Path, against: &Against) -> Report {
    let files: Vec<(u64, PathBuf, Vec<u8>)> = segments(dir)
        .unwrap()
        .into_iter()
        .map(|(n, path)| (n, path.clone(), std::fs::read(path).unwrap()))
        .collect();
    let files = files
        .iter()
        .map(|(n, path, bytes)| (*n, path.to_str().unwrap(), bytes.as_slice()));
    verify(public(), against, files)
}

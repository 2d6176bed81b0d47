//! The control domain's usage record on a disk that loses its power: what there is of it is whole but for a torn tail, and
//! what it was said to be is there.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use ledger::PublicKey;
use ledger::files::segments;
use ledger::record::Head;
use ledger::verify::{Against, verify};

use super::All;
use super::disks::Disks;
use crate::testing::guided::Guided;

/// Where the record of a round is in the control domain's file system.
pub fn dir(round: usize) -> String {
    format!("record{round}")
}

/// What the record was said to be while the machine ran.
pub struct Noted {
    round: usize,
    key: PublicKey,
    head: Head,
}

impl Noted {
    /// Asks for it.
    ///
    /// # Errors
    /// When it is not told.
    pub fn ask(guided: &mut Guided<'_>, round: usize) -> Result<Self> {
        let record = format!("--dir /disk/{}", dir(round));
        guided.until(&format!(
            "[ $(xeno ledger show {record} --json | wc -l) -ge 12 ]"
        ))?;
        let said = guided.done(&format!("xeno ledger head {record}"))?;
        let (n, hash) = said
            .split_once(':')
            .with_context(|| format!("the head of the record is told as {said:?}"))?;
        let head = Head {
            n: n.parse()?,
            hash: hash.parse()?,
        };
        let key = guided.done("xeno ledger key")?.parse()?;
        Ok(Self { round, key, head })
    }

    /// Looks at what there is of it, in the control domain's file system that was looked at last.
    ///
    /// # Errors
    /// When it is not what it should be.
    pub fn is_kept(&self, disks: &Disks, all: All) -> Result<()> {
        let dir = disks.taken_out(&dir(self.round))?;
        let found = match dir.exists() {
            true => segments(&dir)?,
            false => Vec::new(),
        };
        let read = |(n, path): (u64, PathBuf)| Ok((n, std::fs::read(path)?));
        let files: Vec<(u64, Vec<u8>)> = found.into_iter().map(read).collect::<Result<_>>()?;
        let noted = match all {
            All::Synced => vec![self.head],
            All::Any => Vec::new(),
        };
        // Before it was here it was copied here, which nobody synced.
        let copied = files.iter().all(|(_, bytes)| bytes.is_empty());
        if all == All::Any && copied {
            return Ok(());
        }
        let against = Against {
            noted,
            ..Against::default()
        };
        let files = files
            .iter()
            .map(|(n, bytes)| (*n, "the record", bytes.as_slice()));
        let report = verify(self.key, &against, files);
        ensure!(
            report.is_whole(),
            "the usage record is not whole: {:?}",
            report.faults
        );
        // Nobody remembers how long it was: it is said up to where it is known.
        let doubt = report.unvouched.last().map(|tail| (tail.after, tail.until));
        let known = report.last.map(|last| (last.n, None));
        ensure!(
            doubt == known,
            "of a usage record that ends with {known:?} the tail in doubt is told as {doubt:?}"
        );
        Ok(())
    }
}

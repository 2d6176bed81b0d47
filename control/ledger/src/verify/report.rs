//! What was found in a record.

use serde::Serialize;

use crate::record::{Head, Pruned};

/// Faults told at most: whoever finds so many has seen enough.
const MOST_FAULTS: usize = 100;

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
    /// Entries were removed on purpose, and not all was well with them.
    Removed {
        /// The last of them.
        last: u64,
        /// How many things were wrong.
        faults: u64,
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
    /// The record itself, where it says what was removed on purpose.
    Record,
}

/// The oldest entries were removed on purpose: the record says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// What it says.
    #[serde(flatten)]
    pub pruned: Pruned,
    /// The entry that says it, or the first file's that repeats it.
    pub said: u64,
    /// When that was made.
    pub t: u64,
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
    /// What was removed on purpose: all before the first entry, but for what is about to go.
    pub removed: Option<Removed>,
    /// Noted heads of entries that were removed: nothing is left that they could be held against.
    pub unheld: Vec<u64>,
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

    pub(super) fn fault(&mut self, fault: Fault) {
        if self.faults.len() < MOST_FAULTS {
            self.faults.push(fault);
        } else {
            self.more_faults = true;
        }
    }

    /// As [`Report::fault`], of what comes before all others.
    pub(super) fn fault_before(&mut self, fault: Fault) {
        self.fault(fault);
        if !self.more_faults {
            self.faults.rotate_right(1);
        }
    }
}

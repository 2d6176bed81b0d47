//! Transactions: requests that see one moment of the tree and take effect together, or not at all.
//!
//! # Invariants
//! - X1: a transaction commits only if nothing its answers rested on has changed since it began; so the store is
//!   always as if the transactions had run one after the other.
//! - X2: until it commits, nothing of it is seen elsewhere.
//! - X3: no transaction keeps what the tree was more than [`WINDOW_BYTES`] of changes ago. So all transactions
//!   together, of any number of clients, keep a bounded amount of what is no longer there.

use std::collections::BTreeSet;

use crate::plan::Noted;
use crate::quota::{Accounts, Usage};
use crate::tree::{Aspect, Change, Tree};
use crate::{DomId, Errno, Path};

/// Bytes an entry of a transaction's memory is charged for beyond its path.
const ENTRY_BYTES: usize = 64;
/// Bytes that copying one level of a path takes, with the links of its map of children.
const PATH_LEVEL_BYTES: usize = 1_024;

/// Bytes of changes after which a transaction is too old: its snapshot is let go, and it can only end with `EAGAIN`.
pub(crate) const WINDOW_BYTES: u64 = 8 << 20;

/// One request's effect.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// What is changed, in order.
    pub changes: Vec<Change>,
    /// Whose watches fire.
    pub event: Path,
}

/// An open transaction.
#[derive(Debug)]
pub(crate) struct Transaction {
    /// The tree when it began.
    base: Tree,
    /// The tree as the transaction sees it.
    tree: Tree,
    /// What it rested on.
    noted: BTreeSet<(Path, Aspect)>,
    /// How many paths that is.
    paths: usize,
    steps: Vec<Step>,
    /// What it would add to accounts.
    accounts: Accounts,
    /// Bytes it takes.
    bytes: usize,
    /// Whether what it had done is lost, by a restart or by age: it can only end with `EAGAIN`.
    doomed: bool,
    /// How much had changed in the store when its snapshot was taken; no two have the same.
    pub born: u64,
}

impl Transaction {
    /// `born` is the amount of changes so far.
    pub fn begin(tree: &Tree, born: u64) -> Self {
        Self {
            base: tree.clone(),
            tree: tree.clone(),
            noted: BTreeSet::new(),
            paths: 0,
            steps: Vec::new(),
            accounts: Accounts::default(),
            bytes: ENTRY_BYTES,
            doomed: false,
            born,
        }
    }

    /// The stand-in for one whose snapshot is lost or too old. What it asks is answered, from the tree of now: its
    /// client, which does not know, begins again when it hears `EAGAIN` at the end.
    pub fn doomed(tree: &Tree, born: u64) -> Self {
        Self {
            doomed: true,
            ..Self::begin(tree, born)
        }
    }

    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// What `domid` would have more.
    pub fn more_of(&self, domid: DomId) -> Usage {
        self.accounts.of(domid)
    }

    /// Bytes its memory of itself takes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Remembers what an answer rested on; `ENOSPC`, and nothing remembered, if that is more than `limit` paths.
    pub fn note(&mut self, noted: Noted, limit: Option<u32>) -> Result<(), Errno> {
        let fresh: BTreeSet<_> = noted
            .into_iter()
            .filter(|note| !self.noted.contains(note))
            .collect();
        let new_paths: BTreeSet<_> = fresh
            .iter()
            .map(|(path, _)| path)
            .filter(|path| !self.knows(path))
            .collect();
        let paths = self.paths + new_paths.len();
        if limit.is_some_and(|limit| paths > limit as usize) {
            return Err(Errno::Enospc);
        }
        self.paths = paths;
        self.bytes += fresh
            .iter()
            .map(|(path, _)| ENTRY_BYTES + path.as_str().len())
            .sum::<usize>();
        self.noted.extend(fresh);
        Ok(())
    }

    fn knows(&self, path: &Path) -> bool {
        let all = (path.clone(), Aspect::Value)..=(path.clone(), Aspect::Subtree);
        self.noted.range(all).next().is_some()
    }

    /// Makes the change in the transaction's own tree, at the moment `now`.
    pub fn step(&mut self, step: Step, now: &mut u64) {
        for change in &step.changes {
            *now += 1;
            let made = self.tree.apply(change, *now, &mut self.accounts);
            debug_assert!(made, "a plan fits the tree it was made of");
            self.bytes += ENTRY_BYTES + change_bytes(change);
        }
        self.steps.push(step);
    }

    /// The steps to carry out on `live`, or `EAGAIN` if anything they rest on has changed there (X1).
    pub fn commit(self, live: &Tree) -> Result<(Vec<Step>, Accounts), Errno> {
        let unchanged = |(path, aspect): &(Path, Aspect)| {
            self.base.stamp(path, *aspect) == live.stamp(path, *aspect)
        };
        if self.doomed || !self.noted.iter().all(unchanged) {
            return Err(Errno::Eagain);
        }
        Ok((self.steps, self.accounts))
    }
}

fn change_bytes(change: &Change) -> usize {
    match change {
        Change::Create { path, value, .. } | Change::Write { path, value } => {
            path.as_str().len() + value.len()
        }
        Change::SetPerms { path, .. } | Change::Remove { path } => path.as_str().len(),
    }
}

/// What `change` adds to the amount of changes: the bytes it may keep alive in a snapshot, with the copied path.
pub(crate) fn weight(change: &Change) -> u64 {
    let path = match change {
        Change::Create { path, .. }
        | Change::Write { path, .. }
        | Change::SetPerms { path, .. }
        | Change::Remove { path } => path,
    };
    (change_bytes(change) + PATH_LEVEL_BYTES * (1 + path.components().count())) as u64
}

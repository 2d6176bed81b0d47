//! What a domain may use, and what it uses.

use std::collections::BTreeMap;

use crate::tree::Ledger;
use crate::{DomId, Errno};

/// The value of a limit that is none; on the wire it is 0.
const NO_LIMIT: u32 = u32::MAX;

/// What each domain but the control domain may use at most. The defaults are those of Xen 4.17.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Nodes it owns.
    pub nodes: u32,
    /// Watches.
    pub watches: u32,
    /// Transactions open at one time.
    pub transactions: u32,
    /// Requests whose answers it has not read. Further ones wait in its own ring.
    pub outstanding: u32,
    /// Paths one transaction looks at or changes.
    pub transaction_nodes: u32,
    /// Bytes of all it has: nodes, watches, transactions, and messages it has not read.
    pub memory: u32,
    /// Bytes of one node: value, names of children, entries.
    pub node_size: u32,
    /// Bytes of a path, counted from the node of the domain it leads into.
    pub path_max: u32,
    /// Permission entries of a node.
    pub permissions: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            nodes: 1_000,
            watches: 128,
            transactions: 10,
            outstanding: 20,
            transaction_nodes: 1_024,
            memory: 2_621_440,
            node_size: 2_048,
            path_max: 2_048,
            permissions: 5,
        }
    }
}

impl Limits {
    /// Every limit: its name on the wire, what it is, and its value, 0 if it is none.
    pub fn rows(&self) -> [(&'static str, &'static str, u32); 9] {
        let rows = [
            ("nodes", "Nodes per domain", self.nodes),
            ("watches", "Watches per domain", self.watches),
            ("transactions", "Transactions per domain", self.transactions),
            (
                "outstanding",
                "Outstanding requests per domain",
                self.outstanding,
            ),
            (
                "transaction-nodes",
                "Nodes a transaction looks at or changes",
                self.transaction_nodes,
            ),
            (
                "memory",
                "Bytes of the store a domain takes up",
                self.memory,
            ),
            ("node-size", "Bytes of a node", self.node_size),
            ("path-max", "Bytes of a path", self.path_max),
            (
                "permissions",
                "Permission entries of a node",
                self.permissions,
            ),
        ];
        rows.map(|(name, meaning, value)| {
            (name, meaning, if value == NO_LIMIT { 0 } else { value })
        })
    }

    /// Sets the limit of this name, 0 for none; `EINVAL` if there is no such name.
    pub fn set(&mut self, name: &str, value: u32) -> Result<(), Errno> {
        let place = match name {
            "nodes" => &mut self.nodes,
            "watches" => &mut self.watches,
            "transactions" => &mut self.transactions,
            "outstanding" => &mut self.outstanding,
            "transaction-nodes" => &mut self.transaction_nodes,
            "memory" => &mut self.memory,
            "node-size" => &mut self.node_size,
            "path-max" => &mut self.path_max,
            "permissions" => &mut self.permissions,
            _ => return Err(Errno::Einval),
        };
        *place = if value == 0 { NO_LIMIT } else { value };
        Ok(())
    }
}

/// Nodes and bytes; as a difference, also fewer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Nodes owned.
    pub nodes: i64,
    /// Bytes they take.
    pub bytes: i64,
}

/// Who uses how much; also the differences a transaction would make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accounts(BTreeMap<DomId, Usage>);

impl Accounts {
    pub fn of(&self, domid: DomId) -> Usage {
        self.0.get(&domid).copied().unwrap_or_default()
    }

    pub fn iter(&self) -> impl Iterator<Item = (DomId, Usage)> {
        self.0.iter().map(|(domid, usage)| (*domid, *usage))
    }
}

impl Ledger for Accounts {
    fn charge(&mut self, owner: DomId, nodes: i64, bytes: i64) {
        let usage = self.0.entry(owner).or_default();
        usage.nodes += nodes;
        usage.bytes += bytes;
        if *usage == Usage::default() {
            self.0.remove(&owner);
        }
    }
}

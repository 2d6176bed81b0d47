//! `CONTROL`: what the control domain may ask of the store as a program.

use crate::quota::Accounts;
use crate::record::Record;
use crate::store::{Host, Store};
use crate::tree::{Ledger, charge_of};
use crate::wire::{decimal, strings};
use crate::{ClientId, DomId, Errno};

const HELP: &str =
    "check\t\nhelp\t\nlog\ton|off\nprint\t<string>\nquota\t[set <name> <val>|<domid>]\n";

impl Store {
    pub(crate) fn control(
        &mut self,
        payload: &[u8],
        host: &mut dyn Host,
    ) -> Result<Vec<u8>, Errno> {
        let parts = strings(payload);
        let words = parts
            .iter()
            .map(|part| std::str::from_utf8(part).map_err(|_| Errno::Einval));
        let words = words.collect::<Result<Vec<_>, _>>()?;
        let answer = match words[..] {
            ["help"] => HELP.to_owned(),
            ["check"] => self.check(),
            ["print", text] => {
                host.log(&printable(text));
                "OK".to_owned()
            }
            // What the store does is told by its host's log, which has its own switch.
            ["log", "on" | "off"] => "OK".to_owned(),
            ["quota"] => self.quota_table(),
            ["quota", "set", name, value] => self.set_quota(name, value)?,
            ["quota", domid] => self.quota_of(domid)?,
            _ => return Err(Errno::Einval),
        };
        Ok([answer.as_bytes(), b"\0"].concat())
    }

    fn quota_table(&self) -> String {
        let row =
            |(name, meaning, value): (&str, &str, u32)| format!("{name:17}: {value:8} {meaning}\n");
        let rows: String = self.limits.rows().into_iter().map(row).collect();
        format!("Quota settings:\n{rows}")
    }

    fn set_quota(&mut self, name: &str, value: &str) -> Result<String, Errno> {
        let value = decimal(value.as_bytes())
            .and_then(|value| u32::try_from(value).ok())
            .ok_or(Errno::Einval)?;
        self.limits.set(name, value)?;
        self.records.push(Record::Limit {
            name: name.to_owned(),
            value,
        });
        Ok("OK".to_owned())
    }

    fn quota_of(&self, domid: &str) -> Result<String, Errno> {
        let domid = decimal(domid.as_bytes())
            .and_then(|id| DomId::try_from(id).ok())
            .ok_or(Errno::Einval)?;
        let nodes = self.accounts.of(domid);
        let client = self.clients.get(&ClientId::Domain(domid));
        if client.is_none() && domid != 0 {
            return Err(Errno::Enoent);
        }
        let (watches, transactions, outstanding, bytes) = client.map_or((0, 0, 0, 0), |client| {
            (
                client.watches,
                client.transactions.len(),
                client.queue.answers(),
                client.bytes(),
            )
        });
        let bytes = nodes
            .bytes
            .saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX));
        Ok(format!(
            "Domain {domid}:\nnodes           : {:8}\nwatches         : {watches:8}\ntransactions    : \
             {transactions:8}\noutstanding     : {outstanding:8}\nmemory          : {bytes:8}\n",
            nodes.nodes
        ))
    }

    /// Counts again what is kept as a sum, and says what does not agree.
    pub(crate) fn check(&self) -> String {
        let mut wrong = Vec::new();
        let mut accounts = Accounts::default();
        for (path, node) in self.tree.walk() {
            if !path.is_root() {
                let bytes = charge_of(path.name(), node.value(), node.perms());
                accounts.charge(
                    node.perms().owner(),
                    1,
                    i64::try_from(bytes).unwrap_or(i64::MAX),
                );
            }
            let names: usize = node.child_names().map(|name| name.len() + 1).sum();
            if names != node.child_bytes() {
                wrong.push(format!(
                    "{path}: {names} bytes of names, {} counted",
                    node.child_bytes()
                ));
            }
        }
        if !accounts.iter().eq(self.accounts.iter()) {
            wrong.push("the domains' accounts are not what a count finds".to_owned());
        }
        for (id, client) in &self.clients {
            let watches = self.watches.of(*id).count();
            if watches != client.watches as usize {
                wrong.push(format!(
                    "{id:?} has {watches} watches, {} counted",
                    client.watches
                ));
            }
        }
        wrong.truncate(20);
        if wrong.is_empty() {
            "OK".to_owned()
        } else {
            wrong.join("\n")
        }
    }
}

/// Text with no control characters, for a log's line.
fn printable(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}

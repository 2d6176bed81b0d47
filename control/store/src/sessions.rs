//! The operations that a client's session is made of: its watches and its transactions.

use std::sync::Arc;

use guest_abi::xenstore::XENSTORE_REL_PATH_MAX;

use crate::ops::{Answer, OK, nul};
use crate::path::is_path_byte;
use crate::perms::Caller;
use crate::quota::Usage;
use crate::record::Record;
use crate::store::Store;
use crate::transaction::Transaction;
use crate::watch::{Watch, Watches};
use crate::wire::{decimal, strings};
use crate::{ClientId, Errno};

impl Store {
    /// The name a watch is kept under, and whether the client named it relative to its own node.
    fn watched(&self, caller: &Caller, raw: &[u8]) -> Result<(String, bool), Errno> {
        if raw.first() != Some(&b'@') {
            return Ok((
                self.path(caller, raw)?.as_str().to_owned(),
                raw.first() != Some(&b'/'),
            ));
        }
        let good = raw.iter().all(|byte| is_path_byte(*byte) || *byte == b'/');
        if !good || raw.len() > XENSTORE_REL_PATH_MAX as usize {
            return Err(Errno::Einval);
        }
        Ok((String::from_utf8_lossy(raw).into_owned(), false))
    }

    pub(crate) fn watch(&mut self, client: ClientId, caller: &Caller, payload: &[u8]) -> Answer {
        let parts = strings(payload);
        let (raw, token, depth) = match parts[..] {
            [path, token] | [path, token, b""] => (path, token, None),
            [path, token, depth] => (path, token, Some(decimal(depth).ok_or(Errno::Einval)?)),
            _ => return Err(Errno::Einval),
        };
        let depth = depth
            .map(u32::try_from)
            .transpose()
            .map_err(|_| Errno::Einval)?;
        let (path, relative) = self.watched(caller, raw)?;
        if raw.first() == Some(&b'@') && depth.is_some_and(|depth| depth != 1) {
            return Err(Errno::Einval);
        }
        let (limits, bytes) = (self.limits, Watches::charge(&path, token));
        let asking = self.clients.get(&client).ok_or(Errno::Enoent)?;
        if !caller.privileged {
            if asking.watches >= limits.watches {
                return Err(Errno::E2big);
            }
            if self.used(asking).bytes.saturating_add(bytes as i64) > i64::from(limits.memory) {
                return Err(Errno::Enomem);
            }
        }
        let watch = Watch {
            token: Arc::from(token),
            relative,
            depth,
        };
        self.watches.add(client, &path, watch.clone())?;
        if let Some(asking) = self.clients.get_mut(&client) {
            asking.watches += 1;
            asking.watch_bytes += bytes;
        }
        let first = self.event(client, &path, &path, &watch);
        self.events.extend(first);
        if let ClientId::Domain(domid) = client {
            let Watch {
                token,
                relative,
                depth,
            } = watch;
            self.records.push(Record::Watch {
                domid,
                path: Arc::from(path),
                token,
                relative,
                depth,
            });
        }
        Ok(OK.to_vec())
    }

    pub(crate) fn unwatch(&mut self, client: ClientId, caller: &Caller, payload: &[u8]) -> Answer {
        let parts = strings(payload);
        let [path, token, ..] = parts[..] else {
            return Err(Errno::Einval);
        };
        let (path, _) = self.watched(caller, path)?;
        self.forget_watch(client, &path, token)?;
        if let ClientId::Domain(domid) = client {
            self.records.push(Record::Unwatch {
                domid,
                path: Arc::from(path),
                token: Arc::from(token),
            });
        }
        Ok(OK.to_vec())
    }

    pub(crate) fn forget_watch(
        &mut self,
        client: ClientId,
        path: &str,
        token: &[u8],
    ) -> Result<(), Errno> {
        self.watches.remove(client, path, token)?;
        if let Some(asking) = self.clients.get_mut(&client) {
            asking.watches -= 1;
            asking.watch_bytes -= Watches::charge(path, token);
        }
        Ok(())
    }

    pub(crate) fn transaction_start(
        &mut self,
        client: ClientId,
        caller: &Caller,
        tx: u32,
    ) -> Answer {
        if tx != 0 {
            return Err(Errno::Ebusy);
        }
        let (limits, tree, born) = (self.limits, self.tree.clone(), self.snapshot_born());
        let asking = self.clients.get_mut(&client).ok_or(Errno::Enoent)?;
        if !caller.privileged && asking.transactions.len() >= limits.transactions as usize {
            return Err(Errno::Enospc);
        }
        let transaction = asking.fresh_transaction();
        asking
            .transactions
            .insert(transaction, Transaction::begin(&tree, born));
        self.snapshots.insert(born, (client, transaction));
        if let ClientId::Domain(domid) = client {
            self.records.push(Record::Begin { domid, transaction });
        }
        Ok(nul(&transaction.to_string()))
    }

    pub(crate) fn transaction_end(
        &mut self,
        client: ClientId,
        caller: &Caller,
        tx: u32,
        payload: &[u8],
    ) -> Answer {
        let commits = match payload {
            b"T\0" => true,
            b"F\0" => false,
            _ => return Err(Errno::Einval),
        };
        let asking = self.clients.get_mut(&client).ok_or(Errno::Enoent)?;
        let transaction = asking.transactions.remove(&tx).ok_or(Errno::Enoent)?;
        if let ClientId::Domain(domid) = client {
            self.records.push(Record::End {
                domid,
                transaction: tx,
            });
        }
        if commits {
            let (steps, accounts) = transaction.commit(&self.tree)?;
            if !caller.privileged {
                self.check_more(client, accounts.of(caller.domid))?;
            }
            self.carry_out(steps);
        }
        Ok(OK.to_vec())
    }

    /// Whether a transaction's `more` still is within what the client may use.
    fn check_more(&self, client: ClientId, more: Usage) -> Result<(), Errno> {
        let used = self.used(self.clients.get(&client).ok_or(Errno::Enoent)?);
        if more.nodes > 0 && used.nodes + more.nodes > i64::from(self.limits.nodes) {
            return Err(Errno::Enospc);
        }
        if more.bytes > 0 && used.bytes.saturating_add(more.bytes) > i64::from(self.limits.memory) {
            return Err(Errno::Enomem);
        }
        Ok(())
    }
}

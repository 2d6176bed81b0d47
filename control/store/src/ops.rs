//! Operations: what each request's payload means, and what its answer says.

use std::sync::Arc;

use guest_abi::xenstore::{XENSTORE_REL_PATH_MAX, XsdMessage};

use crate::events::Special;
use crate::path::is_path_byte;
use crate::perms::Caller;
use crate::quota::Usage;
use crate::record::Record;
use crate::store::{Host, Store};
use crate::transaction::Transaction;
use crate::tree::Node;
use crate::watch::{Watch, Watches};
use crate::wire::{PAYLOAD_MAX, Request, decimal, one_string, string_and_rest, strings};
use crate::{ClientId, DomId, Errno, Path, Perms};

/// An answer's payload.
type Answer = Result<Vec<u8>, Errno>;

const OK: &[u8] = b"OK\0";

impl Store {
    /// Carries `request` out for `client` and answers with the reply's payload. The events it causes are queued
    /// with the next [`Store::request`]; so this is for requests the process makes itself.
    pub(crate) fn execute(
        &mut self,
        client: ClientId,
        request: &Request,
        host: &mut dyn Host,
    ) -> Answer {
        use XsdMessage as Op;
        let (payload, tx) = (request.payload.as_slice(), request.tx_id);
        let op = Op::from_number(request.kind).ok_or(Errno::Enosys)?;
        let caller = self.clients.get(&client).ok_or(Errno::Enoent)?.caller;
        let controls = matches!(
            op,
            Op::Control
                | Op::Introduce
                | Op::Release
                | Op::IsDomainIntroduced
                | Op::Resume
                | Op::SetTarget
        );
        if controls && !caller.privileged {
            return Err(Errno::Eacces);
        }
        if !matches!(op, Op::Watch | Op::Unwatch) {
            self.check_transaction(client, tx)?;
        }
        match op {
            Op::Directory => self.directory(client, &caller, tx, payload),
            Op::DirectoryPart => self.directory_part(client, &caller, tx, payload),
            Op::Read => self.read(client, &caller, tx, payload),
            Op::Write => self.write(client, &caller, tx, payload),
            Op::Mkdir => self.mkdir(client, &caller, tx, payload),
            Op::Rm => self.rm(client, &caller, tx, payload),
            Op::GetPerms => self.get_perms(client, &caller, tx, payload),
            Op::SetPerms => self.set_perms(client, &caller, tx, payload),
            Op::Watch => self.watch(client, &caller, payload),
            Op::Unwatch => self.unwatch(client, &caller, payload),
            Op::ResetWatches => {
                self.reset(client);
                Ok(OK.to_vec())
            }
            Op::TransactionStart => self.transaction_start(client, &caller, tx),
            Op::TransactionEnd => self.transaction_end(client, &caller, tx, payload),
            Op::Introduce => self.op_introduce(payload, host),
            Op::Release => self.op_release(payload, host),
            Op::GetDomainPath => Ok(nul(Path::of_domain(one_domid(payload)?).as_str())),
            Op::IsDomainIntroduced => {
                let domid = one_domid(payload)?;
                Ok(nul(if domid == 0 || self.domains.contains_key(&domid) {
                    "T"
                } else {
                    "F"
                }))
            }
            Op::Resume => self
                .resume(guest(one_domid(payload)?)?)
                .map(|()| OK.to_vec()),
            Op::SetTarget => self.op_set_target(payload),
            Op::Control => self.control(payload, host),
            Op::WatchEvent | Op::Error => Err(Errno::Enosys),
        }
    }

    fn check_transaction(&self, client: ClientId, tx: u32) -> Result<(), Errno> {
        let open = self
            .clients
            .get(&client)
            .is_some_and(|client| client.transactions.contains_key(&tx));
        if tx == 0 || open {
            Ok(())
        } else {
            Err(Errno::Enoent)
        }
    }

    /// The path a caller names, within its limit.
    fn path(&self, caller: &Caller, raw: &[u8]) -> Result<Path, Errno> {
        let path = Path::of_client(raw, caller.domid)?;
        if !caller.privileged && path.charged_length() > self.limits.path_max as usize {
            return Err(Errno::Einval);
        }
        Ok(path)
    }

    fn directory(&mut self, client: ClientId, caller: &Caller, tx: u32, payload: &[u8]) -> Answer {
        let path = self.path(caller, one_string(payload)?)?;
        self.ask(client, tx, |view| {
            let node = view.list(&path)?;
            if node.child_bytes() > PAYLOAD_MAX {
                return Err(Errno::E2big);
            }
            Ok(child_list(node))
        })
    }

    fn directory_part(
        &mut self,
        client: ClientId,
        caller: &Caller,
        tx: u32,
        payload: &[u8],
    ) -> Answer {
        let [path, offset] = strings(payload)[..] else {
            return Err(Errno::Einval);
        };
        let path = self.path(caller, path)?;
        let offset = decimal(offset).ok_or(Errno::Einval)?;
        self.ask(client, tx, |view| {
            let node = view.list(&path)?;
            let mut answer = nul(&node.stamp(crate::tree::Aspect::Children).to_string());
            let list = child_list(node);
            let rest = usize::try_from(offset)
                .ok()
                .and_then(|offset| list.get(offset..))
                .unwrap_or(&[]);
            // One byte stays free for the empty name that says that the list is complete.
            let room = PAYLOAD_MAX - answer.len() - 1;
            let whole_names = |part: &[u8]| {
                part.iter()
                    .rposition(|byte| *byte == 0)
                    .map_or(0, |nul| nul + 1)
            };
            let part = match rest.get(..room) {
                None => rest,
                Some(part) => part.get(..whole_names(part)).unwrap_or(&[]),
            };
            answer.extend_from_slice(part);
            if part.len() == rest.len() {
                answer.push(0);
            }
            Ok(answer)
        })
    }

    fn read(&mut self, client: ClientId, caller: &Caller, tx: u32, payload: &[u8]) -> Answer {
        let path = self.path(caller, one_string(payload)?)?;
        self.ask(client, tx, |view| {
            view.read(&path).map(|node| node.value().to_vec())
        })
    }

    fn write(&mut self, client: ClientId, caller: &Caller, tx: u32, payload: &[u8]) -> Answer {
        let (path, value) = string_and_rest(payload)?;
        let path = self.path(caller, path)?;
        self.change(client, tx, path.clone(), |view| view.write(&path, value))?;
        Ok(OK.to_vec())
    }

    fn mkdir(&mut self, client: ClientId, caller: &Caller, tx: u32, payload: &[u8]) -> Answer {
        let path = self.path(caller, one_string(payload)?)?;
        self.change(client, tx, path.clone(), |view| view.mkdir(&path))?;
        Ok(OK.to_vec())
    }

    fn rm(&mut self, client: ClientId, caller: &Caller, tx: u32, payload: &[u8]) -> Answer {
        let path = self.path(caller, one_string(payload)?)?;
        self.change(client, tx, path.clone(), |view| view.remove(&path))?;
        Ok(OK.to_vec())
    }

    fn get_perms(&mut self, client: ClientId, caller: &Caller, tx: u32, payload: &[u8]) -> Answer {
        let path = self.path(caller, one_string(payload)?)?;
        self.ask(client, tx, |view| view.perms(&path).map(Perms::to_wire))
    }

    fn set_perms(&mut self, client: ClientId, caller: &Caller, tx: u32, payload: &[u8]) -> Answer {
        let parts = strings(payload);
        let (path, entries) = parts.split_first().ok_or(Errno::Einval)?;
        let perms = Perms::parse(entries)?;
        if path.first() == Some(&b'@') {
            let special = std::str::from_utf8(path)
                .ok()
                .and_then(Special::of_name)
                .ok_or(Errno::Einval)?;
            if !caller.privileged {
                return Err(Errno::Eacces);
            }
            self.set_special(special == Special::Release, perms);
            return Ok(OK.to_vec());
        }
        let path = self.path(caller, path)?;
        self.change(client, tx, path.clone(), |view| {
            view.set_perms(&path, perms)
        })?;
        Ok(OK.to_vec())
    }

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

    fn watch(&mut self, client: ClientId, caller: &Caller, payload: &[u8]) -> Answer {
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

    fn unwatch(&mut self, client: ClientId, caller: &Caller, payload: &[u8]) -> Answer {
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

    fn transaction_start(&mut self, client: ClientId, caller: &Caller, tx: u32) -> Answer {
        if tx != 0 {
            return Err(Errno::Ebusy);
        }
        let (limits, tree) = (self.limits, self.tree.clone());
        let asking = self.clients.get_mut(&client).ok_or(Errno::Enoent)?;
        if !caller.privileged && asking.transactions.len() >= limits.transactions as usize {
            return Err(Errno::Enospc);
        }
        let transaction = asking.fresh_transaction();
        asking
            .transactions
            .insert(transaction, Transaction::begin(&tree));
        if let ClientId::Domain(domid) = client {
            self.records.push(Record::Begin { domid, transaction });
        }
        Ok(nul(&transaction.to_string()))
    }

    fn transaction_end(
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

    fn op_introduce(&mut self, payload: &[u8], host: &mut dyn Host) -> Answer {
        let parts = strings(payload);
        let [id, gfn, port, ..] = parts[..] else {
            return Err(Errno::Einval);
        };
        let domid = guest(domid(id)?)?;
        // A frame number may come as a negative number: tools print it signed.
        let gfn = std::str::from_utf8(gfn)
            .ok()
            .and_then(|text| text.parse::<i64>().ok())
            .ok_or(Errno::Einval)?;
        let port = decimal(port)
            .and_then(|port| u32::try_from(port).ok())
            .ok_or(Errno::Einval)?;
        self.introduce(domid, gfn.cast_unsigned(), port, host)?;
        Ok(OK.to_vec())
    }

    fn op_release(&mut self, payload: &[u8], host: &mut dyn Host) -> Answer {
        self.release(guest(one_domid(payload)?)?, host)?;
        Ok(OK.to_vec())
    }

    fn op_set_target(&mut self, payload: &[u8]) -> Answer {
        let parts = strings(payload);
        let [from, target, ..] = parts[..] else {
            return Err(Errno::Einval);
        };
        self.set_target(guest(domid(from)?)?, guest(domid(target)?)?)?;
        Ok(OK.to_vec())
    }
}

fn nul(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

fn child_list(node: &Node) -> Vec<u8> {
    let mut list = Vec::with_capacity(node.child_bytes());
    for name in node.child_names() {
        list.extend_from_slice(name.as_bytes());
        list.push(0);
    }
    list
}

fn domid(text: &[u8]) -> Result<DomId, Errno> {
    decimal(text)
        .and_then(|number| DomId::try_from(number).ok())
        .ok_or(Errno::Einval)
}

fn one_domid(payload: &[u8]) -> Result<DomId, Errno> {
    domid(one_string(payload)?)
}

/// Any domain but the control domain.
fn guest(domid: DomId) -> Result<DomId, Errno> {
    if domid == 0 {
        Err(Errno::Einval)
    } else {
        Ok(domid)
    }
}

//! Operations: what each request's payload means, and what its answer says.

use guest_abi::xenstore::XsdMessage;

use crate::events::Special;
use crate::perms::Caller;
use crate::store::{Host, Store};
use crate::tree::Node;
use crate::wire::{PAYLOAD_MAX, Request, decimal, one_string, string_and_rest, strings};
use crate::{ClientId, DomId, Errno, Path, Perms};

/// An answer's payload.
pub(crate) type Answer = Result<Vec<u8>, Errno>;

pub(crate) const OK: &[u8] = b"OK\0";

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
    pub(crate) fn path(&self, caller: &Caller, raw: &[u8]) -> Result<Path, Errno> {
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

pub(crate) fn nul(text: &str) -> Vec<u8> {
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

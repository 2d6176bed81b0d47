//! The store, as this daemon runs it: pages and ports for its rings, and its clients on this side.
//!
//! # Invariants
//! - H1: after each thing done to the store, those of its clients for whom something waits are woken.
//! - H2: after an error of its journal the store does nothing any more, and the daemon ends ([`StoreHost::failure`]).

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use guest_abi::xenstore::XsdMessage;
use store::wire::Request;
use store::{ClientId, DomId, Errno, JournalError, Limits, Machine, Pumped, Recovery, Service};
use tokio::sync::Notify;
use xen::{Access, Hypervisor, OwnStore, Port};

use crate::log;
use crate::nodes::Node;
use crate::page::MappedPage;
use crate::ports::{Ports, Purpose};

/// The grant by which each guest lets the store have its ring: the interface's reserved entry.
const STORE_GRANT: u32 = 1;
/// Messages taken from one ring or socket before the others have their turn.
pub const BUDGET: usize = 8;

/// Pages and ports for the store's rings.
pub struct StoreMachine {
    hypervisor: Arc<dyn Hypervisor>,
    ports: Rc<Ports>,
    own: MappedPage,
    bound: BTreeMap<DomId, Port>,
}

impl Machine for StoreMachine {
    type Page = MappedPage;

    fn map(&mut self, domid: DomId, _gfn: u64, port: u32) -> Result<MappedPage, Errno> {
        self.unmap(domid);
        let refused = |error: xen::Error| {
            log::line(format!("the store ring of domain {domid}: {error}"));
            Errno::Einval
        };
        let page = if domid == 0 {
            self.own.clone()
        } else {
            let mapping = self
                .hypervisor
                .map_grants(domid, &[STORE_GRANT], Access::Write);
            MappedPage::new(mapping.map_err(refused)?)
        };
        let local = self
            .ports
            .bind(domid, port, Purpose::Store(domid))
            .map_err(refused)?;
        self.bound.insert(domid, local);
        Ok(page)
    }

    fn unmap(&mut self, domid: DomId) {
        if let Some(port) = self.bound.remove(&domid) {
            self.ports.unbind(port);
        }
    }

    fn notify(&mut self, domid: DomId) {
        if let Some(port) = self.bound.get(&domid) {
            self.ports.notify(*port);
        }
    }

    fn log(&mut self, line: &str) {
        log::line(format!("store: {line}"));
    }
}

/// The store refused something, or is at its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// The store in service, and its clients on this side.
pub struct StoreHost {
    service: Service<StoreMachine>,
    /// The daemon itself, which watches nothing.
    own: ClientId,
    readers: BTreeMap<ClientId, Rc<Notify>>,
    failure: Option<JournalError>,
    failed: Rc<Notify>,
}

impl StoreHost {
    /// Starts the store from its journal and connects the control domain's own kernel.
    ///
    /// # Errors
    /// When the journal cannot be used.
    pub fn start(
        journal: &Path,
        hypervisor: Arc<dyn Hypervisor>,
        ports: Rc<Ports>,
        own: OwnStore,
    ) -> Result<(Self, Recovery), JournalError> {
        let machine = StoreMachine {
            hypervisor,
            ports,
            own: MappedPage::new(own.ring),
            bound: BTreeMap::new(),
        };
        let (mut service, recovery) = Service::start(Limits::default(), Some(journal), machine)?;
        if let Err(error) = service.introduce_control(0, own.port)? {
            log::line(format!(
                "the control domain's own kernel has no store: {error}"
            ));
        }
        // Its kernel waits with all that needs the store until it hears of it for the first time.
        service.machine().notify(0);
        let own = service.connect();
        let host = Self {
            service,
            own,
            readers: BTreeMap::new(),
            failure: None,
            failed: Rc::new(Notify::new()),
        };
        Ok((host, recovery))
    }

    /// Notified when the journal failed.
    pub fn failed(&self) -> Rc<Notify> {
        Rc::clone(&self.failed)
    }

    /// Why the journal failed (H2).
    pub fn failure(&mut self) -> Option<JournalError> {
        self.failure.take()
    }

    /// Does something to the store, and wakes whom it concerns (H1).
    pub(crate) fn act<T>(
        &mut self,
        act: impl FnOnce(&mut Service<StoreMachine>) -> Result<T, JournalError>,
    ) -> Result<T, Refused> {
        let outcome = act(&mut self.service);
        for client in self.service.take_woken() {
            if let Some(reader) = self.readers.get(&client) {
                reader.notify_one();
            }
        }
        outcome.map_err(|error| {
            let refused = Refused(error.to_string());
            self.failure.get_or_insert(error);
            self.failed.notify_one();
            refused
        })
    }

    /// One request of the daemon itself.
    fn ask(&mut self, kind: XsdMessage, payload: Vec<u8>) -> Result<Vec<u8>, Errno> {
        let own = self.own;
        let request = Request {
            kind: kind.number(),
            req_id: 0,
            tx_id: 0,
            payload,
        };
        let asked = self.act(|service| {
            service.request(own, &request)?;
            Ok(service.take_output(own, usize::MAX))
        });
        let answer = asked.map_err(|_| Errno::Eio)?;
        match Request::take_from(&answer) {
            Ok(Some((answer, _))) if answer.kind == XsdMessage::Error.number() => {
                let name = answer.payload.strip_suffix(&[0]).unwrap_or(&answer.payload);
                Err(Errno::of_name(name).unwrap_or(Errno::Eio))
            }
            Ok(Some((answer, _))) => Ok(answer.payload),
            _ => Err(Errno::Eio),
        }
    }

    /// A node's value.
    ///
    /// # Errors
    /// `ENOENT` if there is no such node.
    pub fn read(&mut self, path: &str) -> Result<Vec<u8>, Errno> {
        self.ask(XsdMessage::Read, string(path))
    }

    /// A node's value as text.
    pub fn text(&mut self, path: &str) -> Option<String> {
        let value = self.read(path).ok()?;
        Some(String::from_utf8_lossy(&value).into_owned())
    }

    /// Sets a node's value; its parents are made.
    ///
    /// # Errors
    /// What the store says.
    pub fn write(&mut self, path: &str, value: &[u8]) -> Result<(), Errno> {
        let payload = [&string(path), value].concat();
        self.ask(XsdMessage::Write, payload).map(drop)
    }

    /// Removes a node and all below it.
    ///
    /// # Errors
    /// `ENOENT` if there is none.
    pub fn remove(&mut self, path: &str) -> Result<(), Errno> {
        self.ask(XsdMessage::Rm, string(path)).map(drop)
    }

    /// The names below a node, however many: they come in parts, between which nothing changes.
    ///
    /// # Errors
    /// `ENOENT` if there is none.
    pub fn list(&mut self, path: &str) -> Result<Vec<String>, Errno> {
        let mut list = Vec::new();
        loop {
            let offset = string(&list.len().to_string());
            let part = self.ask(XsdMessage::DirectoryPart, [string(path), offset].concat())?;
            // The stamp of the list, then whole names; an empty one says that there are no more.
            let stamp = part.iter().position(|byte| *byte == 0);
            let names = stamp.and_then(|end| part.get(end + 1..)).unwrap_or(&[]);
            let complete = matches!(names, [] | [0] | [.., 0, 0]);
            list.extend(
                names
                    .strip_suffix(&[0])
                    .filter(|_| complete)
                    .unwrap_or(names),
            );
            if complete {
                break;
            }
        }
        let names = list
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty());
        Ok(names
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect())
    }

    /// Makes nodes with their values and entries.
    ///
    /// # Errors
    /// What the store says.
    pub fn put(&mut self, nodes: &[Node]) -> Result<(), Errno> {
        for node in nodes {
            self.write(&node.path, node.value.as_bytes())?;
            let payload = [string(&node.path), node.perms.to_wire()].concat();
            self.ask(XsdMessage::SetPerms, payload)?;
        }
        Ok(())
    }

    /// Connects a guest's ring.
    ///
    /// # Errors
    /// What the store says; why is in the log.
    pub fn introduce(&mut self, domain: DomId, frame: u64, port: Port) -> Result<(), Errno> {
        let payload = [
            string(&domain.to_string()),
            string(&frame.to_string()),
            string(&port.to_string()),
        ];
        self.ask(XsdMessage::Introduce, payload.concat()).map(drop)
    }

    /// The domains whose rings are connected.
    pub fn introduced(&self) -> Vec<DomId> {
        let all = self.service.store().introduced();
        all.into_iter().map(|(domain, _, _)| domain).collect()
    }

    /// Tells those who watch that a domain shut down.
    ///
    /// # Errors
    /// The journal's.
    pub fn domain_shutdown(&mut self, domain: DomId) -> Result<(), Refused> {
        self.act(|service| service.domain_shutdown(domain))
    }

    /// A domain is gone: its ring, its nodes, and what names it.
    ///
    /// # Errors
    /// The journal's.
    pub fn domain_gone(&mut self, domain: DomId) -> Result<(), Refused> {
        self.act(|service| service.domain_gone(domain))
    }

    /// Looks at a ring once. Whether there is more.
    ///
    /// # Errors
    /// The journal's.
    pub fn pump(&mut self, domain: DomId) -> Result<bool, Refused> {
        self.act(|service| service.pump(domain, BUDGET))
            .map(|pumped| pumped == Pumped::More)
    }

    /// A new client of this side. `reader` is notified when something waits for it.
    pub(crate) fn connect(&mut self, reader: Rc<Notify>) -> ClientId {
        let client = self.service.connect();
        self.readers.insert(client, reader);
        client
    }

    /// Takes bytes that wait for a client; they count as read.
    pub(crate) fn take_output(&mut self, client: ClientId, most: usize) -> Vec<u8> {
        self.service.take_output(client, most)
    }

    pub(crate) fn disconnect(&mut self, client: ClientId) {
        self.service.disconnect(client);
        self.readers.remove(&client);
    }
}

pub(crate) fn string(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

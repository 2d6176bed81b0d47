//! The driver of the store: the journal before every acknowledgement, and the domains' rings.
//!
//! # Invariants
//! - D1: what a request changed is in the journal before any byte of its answer or its events is shown, and before
//!   the ring's read index moves past it. So a process killed at any moment carries out each request once.
//! - D2: after an error of the journal nothing is acknowledged any more: every method fails. Whoever drives the
//!   service ends, and its successor begins from the journal.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use guest_abi::xenstore::XENSTORE_ERROR_NONE;

use crate::journal::{Journal, JournalError, Recovery};
use crate::record::Record;
use crate::ring::{self, Fault, Page, at};
use crate::store::{Host, Place, Store};
use crate::wire::{Request, TooLong};
use crate::{ClientId, DomId, Errno, Limits};

/// What the service needs of the machine.
pub trait Machine {
    /// A ring's page, mapped.
    type Page: Page;

    /// Maps the page `gfn` of a domain and binds its event channel `port`. Called again for a domain that is mapped,
    /// it replaces both.
    fn map(&mut self, domid: DomId, gfn: u64, port: u32) -> Result<Self::Page, Errno>;

    /// Undoes `map`.
    fn unmap(&mut self, domid: DomId);

    /// Signals the domain's event channel.
    fn notify(&mut self, domid: DomId);

    /// A line for the log.
    fn log(&mut self, _line: &str) {}
}

/// The machine as the store sees it.
struct Hosting<'a, M: Machine> {
    machine: &'a mut M,
    pages: &'a mut BTreeMap<DomId, M::Page>,
}

impl<M: Machine> Host for Hosting<'_, M> {
    fn introduce(&mut self, domid: DomId, gfn: u64, port: u32) -> Result<Place, Errno> {
        let mut page = self.machine.map(domid, gfn, port)?;
        let place = Place {
            req_cons: page.load(at::REQ_CONS),
            rsp_prod: page.load(at::RSP_PROD),
        };
        page.store(at::ERROR, XENSTORE_ERROR_NONE);
        page.store(at::SERVER_FEATURES, ring::SERVER_FEATURES);
        self.pages.insert(domid, page);
        Ok(place)
    }

    fn release(&mut self, domid: DomId) {
        self.pages.remove(&domid);
        self.machine.unmap(domid);
    }

    fn log(&mut self, line: &str) {
        self.machine.log(line);
    }
}

/// What became of a socket's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fed {
    /// All whole messages are carried out.
    All,
    /// The budget ran out: call again after the others had their turn.
    More,
    /// The client leaves too many answers unread: call again when it has taken some.
    Unread,
}

/// The store in service.
#[derive(Debug)]
pub struct Service<M: Machine> {
    pub(crate) store: Store,
    pub(crate) machine: M,
    pub(crate) pages: BTreeMap<DomId, M::Page>,
    pub(crate) faulty: BTreeMap<DomId, Fault>,
    pub(crate) journal: Option<Journal>,
    /// Domains for which something waits that may fit into their ring.
    pub(crate) ready: BTreeSet<DomId>,
    /// Sockets' clients for whom something waits, until somebody asks.
    pub(crate) woken_sockets: BTreeSet<ClientId>,
    /// The journal failed (D2).
    pub(crate) failed: bool,
}

impl<M: Machine> Service<M> {
    /// Starts from the journal at `path`, or empty if there is none; with no path, nothing outlives the process.
    pub fn start(
        limits: Limits,
        path: Option<&Path>,
        machine: M,
    ) -> Result<(Self, Recovery), JournalError> {
        let mut recovered = Store::bare(limits);
        let found = match path {
            Some(path) => Journal::open(path, |record| recovered.restore(record))?,
            None => None,
        };
        let (store, journal, recovery) = match (found, path) {
            (Some((journal, recovery)), _) => {
                recovered.restored();
                (recovered, Some(journal), recovery)
            }
            (None, Some(path)) => {
                let store = Store::new(limits);
                let journal = Journal::create(path, |put| store.snapshot(put))?;
                (store, Some(journal), Recovery::default())
            }
            (None, None) => (Store::new(limits), None, Recovery::default()),
        };
        let mut service = Self {
            store,
            machine,
            pages: BTreeMap::new(),
            faulty: BTreeMap::new(),
            journal,
            ready: BTreeSet::new(),
            woken_sockets: BTreeSet::new(),
            failed: false,
        };
        service.attach_again()?;
        Ok((service, recovery))
    }

    /// Connects the control domain's own kernel.
    pub fn introduce_control(
        &mut self,
        gfn: u64,
        port: u32,
    ) -> Result<Result<(), Errno>, JournalError> {
        let outcome = self.with_host(|store, host| {
            let outcome = store.introduce(0, gfn, port, host);
            store.deliver_events();
            outcome
        });
        self.settle()?;
        Ok(outcome)
    }

    /// A new socket's client.
    pub fn connect(&mut self) -> ClientId {
        self.store.connect_socket()
    }

    /// A socket is closed.
    pub fn disconnect(&mut self, client: ClientId) {
        self.store.disconnect_socket(client);
    }

    /// Carries out the whole messages in `input`, at most `budget` of them, and takes them out of it. An inner error
    /// means that the stream cannot be followed: close the socket.
    pub fn feed(
        &mut self,
        client: ClientId,
        input: &mut Vec<u8>,
        budget: usize,
    ) -> Result<Result<Fed, TooLong>, JournalError> {
        let mut used = 0;
        let mut outcome = Ok(Fed::More);
        for _ in 0..budget {
            if !self.store.accepts(client) {
                outcome = Ok(Fed::Unread);
                break;
            }
            match Request::take_from(input.get(used..).unwrap_or(&[])) {
                Ok(Some((request, bytes))) => {
                    used += bytes;
                    self.request(client, &request)?;
                }
                Ok(None) => {
                    outcome = Ok(Fed::All);
                    break;
                }
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        input.drain(..used);
        Ok(outcome)
    }

    /// Carries out one request of a socket's client.
    pub fn request(&mut self, client: ClientId, request: &Request) -> Result<(), JournalError> {
        self.with_host(|store, host| store.request(client, request, host));
        self.settle()
    }

    /// Takes the next bytes for a socket's client, at most `most`. They count as sent: whoever takes them writes them
    /// all, and takes no more before, so that a client that does not read holds up its own requests.
    pub fn take_output(&mut self, client: ClientId, most: usize) -> Vec<u8> {
        if self.failed {
            return Vec::new();
        }
        let bytes = self.store.waiting(client, most);
        self.store.sent(client, bytes.len());
        bytes
    }

    /// The sockets' clients for whom something was queued since the last call. What they cannot take at once waits:
    /// ask again when their sockets take more.
    pub fn take_woken(&mut self) -> BTreeSet<ClientId> {
        std::mem::take(&mut self.woken_sockets)
    }

    /// The hypervisor says that a domain shut down or crashed.
    pub fn domain_shutdown(&mut self, domid: DomId) -> Result<(), JournalError> {
        self.store.domain_shutdown(domid);
        self.settle()
    }

    /// A domain is no more.
    pub fn domain_gone(&mut self, domid: DomId) -> Result<(), JournalError> {
        self.with_host(|store, host| store.domain_gone(domid, host));
        self.settle()
    }

    /// The store, to look at.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The machine.
    pub fn machine(&mut self) -> &mut M {
        &mut self.machine
    }

    pub(crate) fn with_host<T>(&mut self, act: impl FnOnce(&mut Store, &mut dyn Host) -> T) -> T {
        let mut host = Hosting {
            machine: &mut self.machine,
            pages: &mut self.pages,
        };
        act(&mut self.store, &mut host)
    }

    /// Writes what became so to the journal.
    pub(crate) fn commit(&mut self) -> Result<(), JournalError> {
        if self.failed {
            return Err(self.failure());
        }
        for client in self.store.take_woken() {
            match client {
                ClientId::Domain(domid) => self.ready.insert(domid),
                ClientId::Socket(_) => self.woken_sockets.insert(client),
            };
        }
        let records = self.store.take_records();
        if records.is_empty() {
            return Ok(());
        }
        for record in &records {
            if let Record::Introduce { domid, .. } | Record::Release { domid } = record {
                self.faulty.remove(domid);
            }
        }
        let Some(journal) = &mut self.journal else {
            return Ok(());
        };
        let mut outcome = journal.append(&records);
        if outcome.is_ok() && journal.wants_compaction() {
            outcome = journal.compact(|put| self.store.snapshot(put));
        }
        self.failed = outcome.is_err();
        outcome
    }

    fn failure(&self) -> JournalError {
        JournalError::File {
            path: PathBuf::from("(failed before)"),
            source: std::io::Error::other("the journal failed before; start anew from it"),
        }
    }
}

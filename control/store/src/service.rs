//! The driver of the store: the journal before every acknowledgement, and the domains' rings.
//!
//! # Invariants
//! - D1: what a request changed is in the journal before any byte of its answer or its events is shown, and before
//!   the ring's read index moves past it. So a process killed at any moment carries out each request once.
//! - D2: after an error of the journal nothing is acknowledged any more: every method fails. Whoever drives the
//!   service ends, and its successor begins from the journal.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use guest_abi::xenstore::{
    XENSTORE_CONNECTED, XENSTORE_ERROR_NONE, XENSTORE_RECONNECT, XENSTORE_RING_SIZE,
};

use crate::journal::{Journal, JournalError, Recovery};
use crate::record::Record;
use crate::ring::{self, Fault, Page, at};
use crate::store::{Host, Place, Store};
use crate::wire::{Request, TooLong};
use crate::{ClientId, DomId, Errno, Limits};

/// Bytes that must lie in a ring before the beginning of a message longer than a ring is taken off it.
const PART_BYTES: usize = XENSTORE_RING_SIZE as usize / 2;

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

/// What a look at a ring came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pumped {
    /// Nothing is left to do until the domain signals.
    Idle,
    /// The budget ran out: call again after the others had their turn.
    More,
    /// The domain broke the rules of the ring; its connection rests until it asks for a new one.
    Faulty(Fault),
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
    store: Store,
    machine: M,
    pages: BTreeMap<DomId, M::Page>,
    faulty: BTreeMap<DomId, Fault>,
    journal: Option<Journal>,
    /// Domains for which something waits that may fit into their ring.
    ready: BTreeSet<DomId>,
    /// Sockets' clients for whom something waits, until somebody asks.
    woken_sockets: BTreeSet<ClientId>,
    /// The journal failed (D2).
    failed: bool,
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

    /// Maps the rings of all domains that were introduced, and takes up each where it was.
    fn attach_again(&mut self) -> Result<(), JournalError> {
        for (domid, gfn, port) in self.store.introduced() {
            match self.machine.map(domid, gfn, port) {
                Ok(page) => self.attach_one(domid, page),
                Err(error) => {
                    self.machine.log(&format!(
                        "domain {domid}: its ring cannot be mapped ({error}): released"
                    ));
                    self.with_host(|store, host| {
                        let _known = store.release(domid, host);
                        store.deliver_events();
                    });
                }
            }
        }
        self.settle()
    }

    fn attach_one(&mut self, domid: DomId, mut page: M::Page) {
        let Some(domain) = self.store.domains.get(&domid) else {
            return;
        };
        let (req_cons, partial) = (domain.place.req_cons, domain.partial.clone());
        // Only the page knows how much of what waited was shown before the process ended.
        let place = Place {
            req_cons,
            rsp_prod: page.load(at::RSP_PROD),
        };
        let shown = place.rsp_prod.wrapping_sub(domain.place.rsp_prod) as usize;
        let waiting = self
            .store
            .clients
            .get(&ClientId::Domain(domid))
            .map_or(0, |client| client.queue.len());
        page.store(at::SERVER_FEATURES, ring::SERVER_FEATURES);
        // The read index may have been recorded and not yet published.
        page.store(at::REQ_CONS, req_cons);
        self.pages.insert(domid, page);
        if shown > waiting || !self.store.restore_place(domid, place, &partial) {
            self.fault(domid, Fault::Index);
        } else {
            self.ready.insert(domid);
        }
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

    /// Looks at a domain's ring, after its event channel was signalled: takes up to `budget` messages.
    pub fn pump(&mut self, domid: DomId, budget: usize) -> Result<Pumped, JournalError> {
        let Some(page) = self.pages.get(&domid) else {
            return Ok(Pumped::Idle);
        };
        if page.load(at::CONNECTION) == XENSTORE_RECONNECT {
            self.reconnect(domid)?;
        }
        self.ready.insert(domid);
        self.settle()?;
        for _ in 0..budget {
            if let Some(fault) = self.faulty.get(&domid) {
                return Ok(Pumped::Faulty(*fault));
            }
            match self.take(domid) {
                Ok(true) => self.settle_and_publish(domid)?,
                Ok(false) => return Ok(Pumped::Idle),
                Err(fault) => {
                    self.fault(domid, fault);
                    self.settle()?;
                    return Ok(Pumped::Faulty(fault));
                }
            }
        }
        Ok(Pumped::More)
    }

    /// Takes a message, or the beginning of one that is longer than the ring. `false` if there is none to take.
    fn take(&mut self, domid: DomId) -> Result<bool, Fault> {
        let client = ClientId::Domain(domid);
        let (Some(page), Some(domain)) = (self.pages.get(&domid), self.store.domains.get(&domid))
        else {
            return Ok(false);
        };
        if !self.store.accepts(client) {
            return Ok(false);
        }
        let (place, earlier) = (domain.place, domain.partial.len());
        let ring = ring::requests(page, place)?;
        let bytes = [domain.partial.as_slice(), &ring].concat();
        let moved = |count: usize| Place {
            req_cons: place.req_cons.wrapping_add(count as u32),
            ..place
        };
        match Request::take_from(&bytes).map_err(|_| Fault::Protocol)? {
            Some((request, used)) => {
                self.with_host(|store, host| store.request(client, &request, host));
                self.store.set_place(domid, moved(used - earlier), &[]);
                Ok(true)
            }
            None => {
                let needed = Request::bytes_needed(&bytes)
                    .map_err(|_| Fault::Protocol)?
                    .unwrap_or(0);
                let longer_than_the_ring = needed > XENSTORE_RING_SIZE as usize;
                if longer_than_the_ring && ring.len() >= PART_BYTES {
                    self.store.set_place(domid, moved(ring.len()), &bytes);
                    return Ok(true);
                }
                Ok(false)
            }
        }
    }

    /// Makes what happened safe, and only then lets the domain reuse the room of what was read (D1).
    fn settle_and_publish(&mut self, domid: DomId) -> Result<(), JournalError> {
        self.commit()?;
        if let (Some(page), Some(domain)) =
            (self.pages.get_mut(&domid), self.store.domains.get(&domid))
        {
            page.store(at::REQ_CONS, domain.place.req_cons);
            self.machine.notify(domid);
        }
        self.settle()
    }

    /// Makes what happened safe and shows it.
    fn settle(&mut self) -> Result<(), JournalError> {
        self.commit()?;
        while let Some(domid) = self.ready.pop_first() {
            self.show(domid)?;
        }
        Ok(())
    }

    /// Moves what waits for a domain into its ring, as far as there is room.
    fn show(&mut self, domid: DomId) -> Result<(), JournalError> {
        let client = ClientId::Domain(domid);
        while let (Some(page), Some(domain), false) = (
            self.pages.get_mut(&domid),
            self.store.domains.get_mut(&domid),
            self.faulty.contains_key(&domid),
        ) {
            let room = match ring::room(page, domain.place) {
                Ok(room) => room,
                Err(fault) => {
                    self.fault(domid, fault);
                    return self.commit();
                }
            };
            let Some(reader) = self.store.clients.get(&client) else {
                return Ok(());
            };
            let bytes = reader.queue.peek(room);
            if bytes.is_empty() {
                return Ok(());
            }
            ring::answer(page, &mut domain.place, &bytes);
            self.machine.notify(domid);
            self.store.sent(client, bytes.len());
            // Events that had no room before wait now: they too are made safe first.
            self.commit()?;
        }
        Ok(())
    }

    fn with_host<T>(&mut self, act: impl FnOnce(&mut Store, &mut dyn Host) -> T) -> T {
        let mut host = Hosting {
            machine: &mut self.machine,
            pages: &mut self.pages,
        };
        act(&mut self.store, &mut host)
    }

    /// Ends what goes on on a ring; it rests until the domain asks for a new connection.
    fn fault(&mut self, domid: DomId, fault: Fault) {
        self.machine.log(&format!(
            "domain {domid}: {fault}: its connection to the store ends"
        ));
        self.faulty.insert(domid, fault);
        self.store.reset_wholly(domid);
        if let Some(page) = self.pages.get_mut(&domid) {
            page.store(at::ERROR, fault.number());
            self.machine.notify(domid);
        }
    }

    /// The domain asked for a new connection on its ring.
    fn reconnect(&mut self, domid: DomId) -> Result<(), JournalError> {
        self.store.reset_wholly(domid);
        self.store.set_place(domid, Place::default(), &[]);
        self.commit()?;
        self.faulty.remove(&domid);
        if let Some(page) = self.pages.get_mut(&domid) {
            for index in [at::REQ_CONS, at::REQ_PROD, at::RSP_CONS, at::RSP_PROD] {
                page.store(index, 0);
            }
            page.store(at::ERROR, XENSTORE_ERROR_NONE);
            page.store(at::CONNECTION, XENSTORE_CONNECTED);
            self.machine.notify(domid);
        }
        Ok(())
    }

    /// Writes what became so to the journal.
    fn commit(&mut self) -> Result<(), JournalError> {
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

//! The driver of the rings: requests out of the pages, answers and events into them.

use guest_abi::xenstore::{XENSTORE_CONNECTED, XENSTORE_ERROR_NONE, XENSTORE_RECONNECT};

use crate::journal::JournalError;
use crate::ring::{self, Fault, Page, at};
use crate::service::{Machine, Service};
use crate::store::Place;
use crate::wire::Request;
use crate::{ClientId, DomId};

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

impl<M: Machine> Service<M> {
    /// Maps the rings of all domains that were introduced, and takes up each where it was.
    pub(crate) fn attach_again(&mut self) -> Result<(), JournalError> {
        for (domid, gfn, port) in self.store.introduced() {
            match self.machine.map(domid, gfn, port) {
                Ok(page) => self.attach_one(domid, page)?,
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

    fn attach_one(&mut self, domid: DomId, mut page: M::Page) -> Result<(), JournalError> {
        page.store(at::SERVER_FEATURES, ring::SERVER_FEATURES);
        let (connection, error) = (page.load(at::CONNECTION), page.load(at::ERROR));
        // Only the page knows how much of what waited was shown before the process ended.
        let rsp_prod = page.load(at::RSP_PROD);
        self.pages.insert(domid, page);
        if connection == XENSTORE_RECONNECT {
            return self.reconnect(domid);
        }
        if error != XENSTORE_ERROR_NONE {
            // It was at rest, and stays so; why is not kept.
            self.faulty.insert(domid, Fault::Index);
            return Ok(());
        }
        if !self.store.shown_up_to(domid, rsp_prod) {
            self.fault(domid, Fault::Index);
            return Ok(());
        }
        // The read index may have been recorded and not yet published.
        if let (Some(page), Some(domain)) =
            (self.pages.get_mut(&domid), self.store.domains.get(&domid))
        {
            page.store(at::REQ_CONS, domain.place.req_cons);
        }
        self.ready.insert(domid);
        Ok(())
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

    /// Takes a message, or what there is of one. `false` if there is nothing to take.
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
            // A guest signals only what it writes while nothing else waits to be read. So what is there of a message
            // is taken off the ring at once: left there, the rest of it would come without a signal.
            None if !ring.is_empty() => {
                self.store.set_place(domid, moved(ring.len()), &bytes);
                Ok(true)
            }
            None => Ok(false),
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
    pub(crate) fn settle(&mut self) -> Result<(), JournalError> {
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

    /// Ends what goes on on a ring; it rests until the domain asks for a new connection.
    pub(crate) fn fault(&mut self, domid: DomId, fault: Fault) {
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
}

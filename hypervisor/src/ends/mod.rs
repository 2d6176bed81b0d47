//! Ends in ring 0: services that domains talk to by grants and an event channel, as they talk to each other.
//!
//! An end has a domain number that no domain gets. A domain makes a port unbound for that number and lends frames to it;
//! the control domain's word then makes a link of these ([`attach`]). What an end is, [`End`] says; to add one: its file,
//! a variant of [`Behind`] and a row in [`Behind::attach`].
//!
//! # Invariants
//! - N1: a link's record and its port name each other, and change together under the record's lock. That lock is taken
//!   before those of the domain's event channels and grants, and at most one record's at a time.
//! - N2: a link's frames are held for as long as it stands (`grant::Lent`), and given back when it has been told that it
//!   ends. Whoever ends it waits for whoever uses it: when closing the port returns, the end touches nothing any more.
//! - N3: an end works in the time of the domain that sent the event, a bounded piece at a time, and believes nothing
//!   that lies in a domain's memory.
//! - N4: records lie in frames charged to the domain, and are taken back when its last port is closed. Their lock is
//!   found without a lock: a place, once filled, stays until then (W1 in `domain::teardown`).

mod echo;
mod links;

pub use links::DomainEnds;

use crate::domain::Domain;
use crate::event as bus;
use crate::hypercall::grant::Lent;
use crate::sync;
use arrayvec::ArrayVec;
use events::{DomId, EventError, Peer, Port, Released};
use grants::{Access, Status};
use guest_abi::domid::is_end;
use guest_abi::ends::DOMID_ECHO;
use guest_abi::xeno::MAX_END_PAGES;
use links::{Attached, Link};

/// The frames of a link.
pub type Pages = ArrayVec<Lent, MAX_END_PAGES>;

/// What an event, or a piece of the work that follows from it, came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The domain is to be told.
    pub raise: bool,
    /// There is more to do: the end wants to be told again.
    pub more: bool,
    /// Units of work done (`hypercall::BUDGET`).
    pub units: u32,
}

/// What a service in ring 0 does with a link of a domain's. Each call is made under the link's lock (N1).
trait End: Sized {
    /// What it does with each frame of a link, in their order.
    const PAGES: &'static [Access];

    /// A domain is attached, whose frames these are. [`End::event`] follows at once, for what was sent before.
    fn attach(pages: &Pages) -> Self;

    /// The domain sent an event. No more is done than about [`WORK`] units (N3).
    fn event(&mut self, pages: &Pages) -> Told;

    /// The link ends: the port is closed, the end detached, or the domain dies. The frames are given back after this.
    fn detach(&mut self, pages: &Pages);
}

/// Units of work an end does at a time.
const WORK: u32 = 16;

/// What stands behind a link.
enum Behind {
    Echo(echo::Echo),
}

impl Behind {
    /// What the end of this number does with frames, if there is one.
    fn pages(end: DomId) -> Option<&'static [Access]> {
        match end.0 {
            DOMID_ECHO => Some(echo::Echo::PAGES),
            _ => None,
        }
    }

    fn attach(end: DomId, pages: &Pages) -> Option<Behind> {
        match end.0 {
            DOMID_ECHO => Some(Behind::Echo(echo::Echo::attach(pages))),
            _ => None,
        }
    }

    fn event(&mut self, pages: &Pages) -> Told {
        match self {
            Behind::Echo(echo) => echo.event(pages),
        }
    }

    fn detach(&mut self, pages: &Pages) {
        match self {
            Behind::Echo(echo) => echo.detach(pages),
        }
    }
}

/// Why an end was not attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No end has this number.
    NoEnd,
    /// It takes another number of frames.
    WrongPages,
    /// The domain has as many links as it may have, or no memory for the record.
    NoRoom,
    /// This grant cannot be used: its place in the list and why.
    Grant(u16, Status),
    /// The port does not wait for this end.
    Port,
}

/// Attaches an end to a domain's port, and tells it of what the domain may have sent before: if there is more than it
/// does at a time, the caller tells it again ([`event_on`]).
///
/// # Errors
/// Why not; nothing has changed then.
pub fn attach(dom: &Domain, end: u16, port: u32, grefs: &[u32]) -> Result<Told, Refused> {
    let end = DomId(end);
    if !is_end(end.0) {
        return Err(Refused::NoEnd);
    }
    let wants = Behind::pages(end).ok_or(Refused::NoEnd)?;
    if wants.len() != grefs.len() {
        return Err(Refused::WrongPages);
    }
    // Before any lock: what is taken to be written may have to be flushed.
    let mut pages = Pages::new();
    for (at, (gref, access)) in grefs.iter().zip(wants).enumerate() {
        let lent = Lent::new(dom, *gref, end.0, *access);
        let lent = lent.map_err(|status| Refused::Grant(at as u16, status))?;
        if pages.try_push(lent).is_err() {
            return Err(Refused::WrongPages);
        }
    }
    let (number, link) = links::free(dom).ok_or(Refused::NoRoom)?;
    let mut record = link.lock();
    if record.is_some() {
        // Another attached one there meanwhile: rare enough to be told so.
        return Err(Refused::NoRoom);
    }
    let mut table = dom.events.lock();
    let plan = table
        .plan_bind_end(port, end, number)
        .map_err(|_| Refused::Port)?;
    let behind = Behind::attach(end, &pages).ok_or(Refused::NoEnd)?;
    let port = plan.port();
    plan.commit();
    drop(table);
    let attached = record.insert(Attached {
        end,
        port,
        pages,
        behind,
    });
    Ok(serve(dom, number, attached))
}

/// Detaches the end from a domain's port, which waits for it again. False if none is attached there.
pub fn detach(dom: &Domain, port: u32) -> bool {
    let Some((end, number)) = linked(dom, port) else {
        return false;
    };
    let Some(link) = links::get(dom, number) else {
        return false;
    };
    let mut record = link.lock();
    let is_its = |attached: &mut Attached| attached.port.get() == port && attached.end == end;
    let Some(attached) = record.take_if(is_its) else {
        return false;
    };
    let unbound = dom
        .events
        .lock()
        .unbind_end(attached.port, attached.end, number);
    debug_assert!(unbound, "N1");
    attached.end();
    true
}

/// The end that a port leads to, and its record.
fn linked(dom: &Domain, port: u32) -> Option<(DomId, u16)> {
    match dom.events.lock().status(port).ok()?.binding {
        events::Binding::End { end, link } => Some((end, link)),
        _ => None,
    }
}

/// As [`event`], by the number of a port, which may lead elsewhere.
pub fn event_on(dom: &Domain, port: u32) -> Told {
    match (linked(dom, port), Port::from_claim(port)) {
        (Some((_, number)), Some(port)) => event(dom, number, port),
        _ => Told::default(),
    }
}

/// A domain sent an event on a port that leads to an end.
pub fn event(dom: &Domain, number: u16, port: Port) -> Told {
    let Some(link) = links::get(dom, number) else {
        return Told::default();
    };
    match link.lock().as_mut() {
        Some(attached) if attached.port == port => serve(dom, number, attached),
        // Closed since the port was looked at.
        _ => Told::default(),
    }
}

fn serve(dom: &Domain, number: u16, attached: &mut Attached) -> Told {
    let told = attached.behind.event(&attached.pages);
    if told.raise {
        let (port, end) = (attached.port, attached.end);
        bus::raise(dom, |table| table.receive_from_end(port, end, number));
    }
    told
}

/// Closes a port that leads to an end by this record (N2).
///
/// # Errors
/// As `Ports::plan_close`.
pub fn close(dom: &Domain, claim: u32, number: u16) -> Result<(Port, Released), EventError> {
    let link = links::get(dom, number).ok_or(EventError::Again)?;
    let mut record = link.lock();
    let closed = dom
        .events
        .lock()
        .plan_close(claim, Peer::End { link: number })?
        .commit(dom);
    if let Some(attached) = record.take_if(|attached| attached.port == closed.0) {
        attached.end();
    }
    Ok(closed)
}

/// Gives a dying domain's records back, a frame at a time. False when there is none left. Its ports are all closed.
pub fn release_frame(dom: &Domain) -> bool {
    links::release_frame(dom)
}

impl Attached {
    /// Tells the end and gives the frames back.
    fn end(mut self) {
        self.behind.detach(&self.pages);
    }
}

/// A link, if it is in use.
type Record = Option<Attached>;
/// What guards it.
type Guard<'a> = sync::Guard<'a, Record, sync::rank::EndLink>;

impl Link {
    fn lock(&self) -> Guard<'_> {
        self.record.lock()
    }
}

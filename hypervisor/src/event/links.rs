//! Operations on event channels that concern two domains' tables.
//!
//! # Invariants
//! - L1: two tables are locked here and nowhere else, that of the lower domain number first. Everything else, sending
//!   above all, holds one at a time.
//! - L2: a domain stays in the list while a port anywhere leads to it: its number is given up only after
//!   [`close_some`] has closed its own end of every link, and with it the other one (E1 of the crate `events`).

use crate::device;
use crate::domain::{self, Domain};
use crate::ends;
use crate::event::DomainEvents;
use crate::sync::lock_pair;
use events::{EventError, Needs, Peer, Port, Released};
use frames::DomId;

/// How often a port whose link changes under us is looked at again.
const TRIES: u32 = 16;

/// Does something with a domain's table and another's (L1); with its own alone if `peer` is the domain itself.
pub fn with_tables<T>(
    dom: &Domain,
    peer: &Domain,
    act: impl FnOnce(&mut DomainEvents, Peer<'_, 'static>) -> T,
) -> T {
    if peer.id == dom.id {
        return act(&mut dom.events.lock(), Peer::Itself);
    }
    let (mut own, mut other);
    if dom.id < peer.id {
        (own, other) = lock_pair(&dom.events, &peer.events);
    } else {
        (other, own) = lock_pair(&peer.events, &dom.events);
    }
    act(&mut own, Peer::Other(&mut other))
}

/// Closes a port, and gives up what it was bound to.
///
/// # Errors
/// *Invalid* for a port that is not in use; *again* if it was bound anew each time it was looked at.
pub fn close(dom: &Domain, claim: u32) -> Result<(), EventError> {
    for _ in 0..TRIES {
        let needs = dom.events.lock().close_needs(claim)?;
        let closed = match needs {
            Needs::Nothing => close_with(dom, dom, claim),
            // L2: if it is not there, then the link is not either, by now.
            Needs::Table(id) => match domain::get(DomId(id.0)) {
                Some(peer) => close_with(dom, peer, claim),
                None => continue,
            },
            Needs::End { link, .. } => ends::close(dom, claim, link),
        };
        match closed {
            Ok(_) => return Ok(()),
            Err(EventError::Again) => {}
            Err(refused) => return Err(refused),
        }
    }
    Err(EventError::Again)
}

fn close_with(dom: &Domain, peer: &Domain, claim: u32) -> Result<(Port, Released), EventError> {
    with_tables(dom, peer, |own, other| {
        let closed = own.plan_close(claim, other)?.commit(dom);
        // Before another vCPU can bind it anew, which would find it closed in the end.
        if let Released::Pirq { pirq } = closed.1 {
            device::pirq::unbound(u32::from(pirq));
        }
        Ok(closed)
    })
}

/// A step of giving a dying domain's event channels back: closes its ports, the other ends of its links with them, and
/// returns the storage. Each port and each frame takes one from `budget`. True when nothing is left; no port can be
/// had from the first step on.
pub fn close_some(dom: &Domain, budget: &mut u32) -> bool {
    dom.events.lock().retire();
    loop {
        let next = dom.events.lock().next_in_use(0);
        let Some(port) = next else { break };
        let Some(left) = budget.checked_sub(1) else {
            return false;
        };
        *budget = left;
        // Refused only while others change the link: the next turn looks again.
        let _ = close(dom, port.get());
    }
    loop {
        let Some(left) = budget.checked_sub(1) else {
            return false;
        };
        *budget = left;
        if !ends::release_frame(dom) {
            break;
        }
    }
    while let Some(left) = budget.checked_sub(1) {
        *budget = left;
        let Some(bucket) = dom.events.lock().take_bucket() else {
            return true;
        };
        dom.take_back(bucket);
    }
    false
}

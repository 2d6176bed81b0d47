//! What ring 0 remembers for the usage record that the control domain keeps: how long each of its chains is and the hash
//! of its last entry, and the accounts of the last domains that are gone.
//!
//! # Invariants
//! - N1: see `sched::Anchor`: what was said to be there cannot be unsaid while the machine runs. The machine's chain
//!   outlives every domain, the control domain too.
//! - N2: a domain's anchor lies in a piece of its own that is charged to it. Its place, once filled, stays until all of
//!   the domain's frames are given back: nobody who found the domain alive looks any more then (W1 in
//!   `domain::teardown`).
//! - N3: the account of a domain that is gone is told as it was added to those that are gone, once.

use crate::device::timer;
use crate::domain::Domain;
use crate::memory::pieces::Charge;
use crate::sync::{Lock, rank};
use ::sched::{Held, LastOf, Usage};
use core::sync::atomic::{AtomicPtr, Ordering};
use guest_abi::ledger::LEDGER_ENDED_KEPT;

pub use ::sched::{Anchor, NotAppended};

type Locked = Lock<Anchor, rank::Settings>;

/// The machine's chain.
static MACHINE: Locked = Lock::new(Anchor::NONE);
/// Domains that are gone.
static ENDED: Lock<LastOf<Ended, LEDGER_ENDED_KEPT>, rank::Settings> = Lock::new(LastOf::new());

/// Where a domain's anchor is, if it has one.
pub struct Place(AtomicPtr<Locked>);

impl Place {
    /// Nowhere.
    pub const fn new() -> Place {
        Place(AtomicPtr::new(core::ptr::null_mut()))
    }

    fn get(&self) -> Option<&'static Locked> {
        // SAFETY: null, or a record that `make` put there; `end` takes it out when nobody looks any more (N2).
        unsafe { self.0.load(Ordering::Acquire).as_ref() }
    }
}

/// No memory for an anchor, or the domain has had its share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

/// The chain of a domain, or of the machine: how long it is, and its head.
pub fn told(dom: Option<&Domain>) -> (u64, [u8; 32]) {
    let locked = match dom {
        Some(dom) => dom.anchor.get(),
        None => Some(&MACHINE),
    };
    locked.map_or(Anchor::NONE, |locked| *locked.lock()).told()
}

/// The anchor of a chain, made if there is none yet.
///
/// # Errors
/// Without room for it.
pub fn of(dom: Option<&Domain>) -> Result<&'static Locked, NoRoom> {
    let Some(dom) = dom else {
        return Ok(&MACHINE);
    };
    if let Some(there) = dom.anchor.get() {
        return Ok(there);
    }
    let made = dom.place(Locked::new(Anchor::NONE), Charge::Fixed);
    let made = made.map_err(|_| NoRoom)?;
    let (none, place) = (core::ptr::null_mut(), &dom.anchor.0);
    match place.compare_exchange(none, made, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => Ok(made),
        Err(_) => {
            // Another was faster.
            dom.take_back(made);
            dom.anchor.get().ok_or(NoRoom)
        }
    }
}

/// Gives a domain's anchor back: nobody looks any more (N2).
pub fn end(dom: &Domain) {
    let anchor = dom.anchor.get();
    dom.anchor.0.store(core::ptr::null_mut(), Ordering::Release);
    if let Some(anchor) = anchor {
        // SAFETY: made by `of`, for this domain; found no more, and who found it before has done with it (N2).
        unsafe { dom.take_out(anchor) };
    }
}

/// The account of a domain that is gone.
#[derive(Clone, Copy)]
pub struct Ended {
    /// Its number.
    pub domid: u16,
    /// Which of all domains it was.
    pub serial: u64,
    /// What the tool stack knew it by.
    pub handle: [u8; 16],
    /// When its record ended, in cycles of CPU 0's counter.
    pub at: u64,
    /// What it used.
    pub usage: Usage,
    /// Its frames, over time.
    pub frames: Held,
    /// Frames of ring 0's that existed because of it, over time.
    pub overhead: Held,
}

/// A domain's record ends: what it used is told to whoever asks (N3).
pub fn remember(dom: &Domain) {
    let (frames, overhead) = dom.frames.lock().held();
    let handle = *dom.handle.lock();
    let ended = Ended {
        domid: dom.id.0,
        serial: dom.serial,
        handle,
        at: timer::counter(),
        usage: dom.account.usage(),
        frames,
        overhead,
    };
    ENDED.lock().push(ended);
}

/// How many domains are gone, and the first of them from a number on that is remembered.
pub fn ended_from(number: u64) -> (u64, Option<(u64, Ended)>) {
    let ended = ENDED.lock();
    let found = ended.from(number).map(|(number, ended)| (number, *ended));
    (ended.total(), found)
}

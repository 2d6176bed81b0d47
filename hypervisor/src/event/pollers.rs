//! Who is woken for an event because it polls, masked or not. One event may end the polls of all of a domain's vCPUs, which
//! would be a long section: one is woken at once, the others a few at a time, from timers that are due now.
//!
//! # Invariants
//! - O1: a poll is ended once: whoever takes its vCPU's bit out of `polling` sees to it that it is woken. A vCPU that is about
//!   to sleep, and finds its bit gone, does not.
//! - O2: an event is pending before the bits are looked at, and a vCPU has its bit before it looks at its ports: so one of the
//!   two finds the other. Whose poll ended for an event that was for its last poll sleeps too little, which no guest minds.
//! - O3: while there are bits in `told`, a timer ([`schedule::wake_soon`]) of one of those vCPUs is set, due, and just one: set by who
//!   put in the first, and by each turn that leaves some for the next.

use crate::domain::{Domain, Vcpu};
use crate::schedule;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::SeqCst;
use events::Port;

/// vCPUs that are woken in one turn: about a thousand instructions each.
const AT_ONCE: usize = 4;

/// A vCPU that polls several ports, or none but for a time: any event ends that.
pub const SEVERAL: u32 = u32::MAX;

/// A domain's vCPUs that poll: a bit each.
#[derive(Default)]
pub struct Pollers {
    /// Those whose polls no event has ended.
    polling: AtomicU64,
    /// Those that an event has ended, and that are still to be woken.
    told: AtomicU64,
}

impl Pollers {
    /// None polls.
    pub const fn new() -> Pollers {
        Pollers {
            polling: AtomicU64::new(0),
            told: AtomicU64::new(0),
        }
    }
}

fn bit(id: u32) -> u64 {
    1_u64.checked_shl(id).unwrap_or(0)
}

/// Those whose bits are set.
fn each(dom: &Domain, mut bits: u64) -> impl Iterator<Item = &'static Vcpu> {
    core::iter::from_fn(move || {
        let id = (bits != 0).then(|| bits.trailing_zeros())?;
        bits &= bits - 1;
        Some(id)
    })
    .filter_map(|id| dom.vcpu(id))
}

/// A vCPU begins to poll, for a port or several ([`SEVERAL`]). Before it looks whether one is pending (O2).
pub fn begin(vcpu: &Vcpu, port: Option<Port>) {
    let polled = port.map_or(SEVERAL, |port| port.get() + 1);
    vcpu.polling.store(polled, SeqCst);
    vcpu.domain.pollers.polling.fetch_or(bit(vcpu.id), SeqCst);
}

/// Whether an event ended the poll that a vCPU began (O1).
pub fn has_ended(vcpu: &Vcpu) -> bool {
    vcpu.domain.pollers.polling.load(SeqCst) & bit(vcpu.id) == 0
}

/// A vCPU polls no more, for whatever reason; says whether it did.
#[inline]
pub fn end(vcpu: &Vcpu) -> bool {
    // By its own CPU, but for the end of its time: mostly it did not.
    if vcpu.polling.load(SeqCst) == 0 || vcpu.polling.swap(0, SeqCst) == 0 {
        return false;
    }
    vcpu.domain.pollers.polling.fetch_and(!bit(vcpu.id), SeqCst);
    true
}

/// A port became pending: whoever polls it is woken.
#[inline]
pub(super) fn wake(dom: &Domain, port: Port) {
    let polling = dom.pollers.polling.load(SeqCst);
    if polling != 0 {
        wake_some(dom, port, polling);
    }
}

#[cold]
fn wake_some(dom: &Domain, port: Port, polling: u64) {
    let is_for_it = |vcpu: &&Vcpu| {
        let polled = vcpu.polling.load(SeqCst);
        polled == SEVERAL || polled == port.get() + 1
    };
    let ends = each(dom, polling).filter(is_for_it);
    let ends = ends.fold(0, |ends, vcpu| ends | bit(vcpu.id));
    // Another event may have ended some of them.
    let ends = dom.pollers.polling.fetch_and(!ends, SeqCst) & ends;
    if let Some(first) = each(dom, ends).next() {
        schedule::wake(first);
    }
    let others = ends & ends.wrapping_sub(1);
    if others != 0 && dom.pollers.told.fetch_or(others, SeqCst) == 0 {
        have_woken(dom, others);
    }
}

/// A timer of [`schedule::wake_soon`] is due: some are woken, and there is another for the next.
pub fn wake_more(dom: &Domain) {
    let told = dom.pollers.told.load(SeqCst);
    let now = each(dom, told).take(AT_ONCE);
    let woken = now.fold(0, |woken, vcpu| {
        schedule::wake(vcpu);
        woken | bit(vcpu.id)
    });
    // Nobody else takes bits out (O3): those that are left were there, or came meanwhile and found some.
    let left = dom.pollers.told.fetch_and(!woken, SeqCst) & !woken;
    if left != 0 {
        have_woken(dom, left);
    }
}

/// Sets the timer for those that are left (O3).
fn have_woken(dom: &Domain, mut left: u64) {
    while left != 0 {
        // A vCPU that was removed is woken by nobody, and the others by the next.
        if each(dom, left).next().is_some_and(schedule::wake_soon) {
            return;
        }
        let gone = left & left.wrapping_neg();
        left = dom.pollers.told.fetch_and(!gone, SeqCst) & !gone;
    }
}

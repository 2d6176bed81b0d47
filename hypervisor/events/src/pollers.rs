//! Who is woken for an event because it polls, masked or not. One event may end the polls of all of a domain's vCPUs, which
//! would be a long section: one is woken at once, the others a few at a time, from timers that are due now.
//!
//! ```text
//!  the vCPU polls                         an event                              a turn, from its timer
//!  its bit into `polling`                 pending, if it was not                some bits out of `told`: those are woken
//!  said to sleep                          is there a bit? out of `polling`      are bits left? the timer of the next turn
//!  is the bit gone, or a port pending?    wakes the first, the others: `told`
//!    it does not sleep                    was `told` empty? the timer of a turn
//! ```
//!
//! # Invariants
//! - O1: a poll is ended once: whoever takes its vCPU's bit out of `polling` sees to it that it is woken after that. A vCPU that
//!   is about to sleep, and finds its bit gone, does not.
//! - O2: an event is pending before the bits are looked at, and a vCPU has its bit before it looks at its ports: so one of the
//!   two finds the other. Whose poll ended for an event that was for its last poll sleeps too little, which no guest minds.
//! - O3: while there are bits in `told`, a timer ([`Vcpus::wake_soon`]) of one of those vCPUs is set, due, and just one, or who is
//!   to set it is about to: set by who put in the first, and by each turn that leaves some for the next.
//! - O4: who takes a bit out of `told` wakes its vCPU after that, not before: a vCPU that was woken may poll again, and have that
//!   ended by another event, which leaves it at a bit that it finds there.
//!
//! # Ordering
//! Bits change by locked operations only, which all CPUs see in one order.

use crate::atomic::{AtomicU32, AtomicU64};
use crate::{MAX_VCPUS, Port, VcpuId};
use core::sync::atomic::Ordering::SeqCst;

const _: () = assert!(MAX_VCPUS <= u64::BITS as usize, "a bit each");

/// vCPUs that are woken in one turn: about a thousand instructions each.
const AT_ONCE: u32 = 4;

/// Of a vCPU that polls several ports, or none but for a time: any event ends that.
const SEVERAL: u32 = u32::MAX;

/// What a vCPU polls: a port plus one, [`SEVERAL`], or 0 for nothing.
#[derive(Debug)]
pub struct Polled(AtomicU32);

impl Default for Polled {
    fn default() -> Self {
        Self::new()
    }
}

impl Polled {
    /// Nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Whether it is nothing.
    #[must_use]
    #[inline]
    pub fn is_nothing(&self) -> bool {
        self.0.load(SeqCst) == 0
    }

    /// Whether an event on a port ends that.
    fn is_ended_by(&self, port: Port) -> bool {
        let polled = self.0.load(SeqCst);
        polled == SEVERAL || polled == word_of(Some(port))
    }
}

fn word_of(port: Option<Port>) -> u32 {
    port.map_or(SEVERAL, |port| port.get() + 1)
}

/// A domain's vCPUs, as who wakes them knows them.
pub trait Vcpus {
    /// What a vCPU polls; `None` if there is none of that number.
    fn polled(&self, vcpu: VcpuId) -> Option<&Polled>;
    /// Wakes a vCPU, if it is there and sleeps.
    fn wake(&self, vcpu: VcpuId);
    /// Has [`Pollers::take_turn`] called soon, from a timer of that vCPU's. False if it has none, for it was removed.
    fn wake_soon(&self, vcpu: VcpuId) -> bool;
}

/// What became of a poll.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The vCPU sleeps until it is woken.
    Sleeps,
    /// It is over: the vCPU is to be woken.
    Ended,
}

/// A domain's vCPUs that poll: a bit each.
#[derive(Debug)]
pub struct Pollers {
    /// Those whose polls no event has ended.
    polling: AtomicU64,
    /// Those that an event has ended, and that are still to be woken.
    told: AtomicU64,
}

impl Default for Pollers {
    fn default() -> Self {
        Self::new()
    }
}

impl Pollers {
    /// None polls.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            polling: AtomicU64::new(0),
            told: AtomicU64::new(0),
        }
    }

    /// A vCPU polls for a port, or for several: it is said to sleep (`sleep`), and its ports are looked at after that
    /// (`is_ready`).
    #[inline]
    pub fn poll(
        &self,
        vcpu: VcpuId,
        polled: &Polled,
        port: Option<Port>,
        sleep: impl FnOnce(),
        is_ready: impl FnOnce() -> bool,
    ) -> Fate {
        polled.0.store(word_of(port), SeqCst);
        self.polling.fetch_or(bit(vcpu), SeqCst);
        sleep();
        // What ended it may have been taken by a sibling since, and wakes nobody a second time.
        let has_ended = self.polling.load(SeqCst) & bit(vcpu) == 0;
        if has_ended || is_ready() {
            self.end(vcpu, polled);
            return Fate::Ended;
        }
        Fate::Sleeps
    }

    /// A vCPU polls no more, for whatever reason; says whether it did. It runs, or is woken after that (O1).
    #[inline]
    pub fn end(&self, vcpu: VcpuId, polled: &Polled) -> bool {
        // By its own CPU, but for the end of its time: mostly it did not.
        if polled.is_nothing() || polled.0.swap(0, SeqCst) == 0 {
            return false;
        }
        self.polling.fetch_and(!bit(vcpu), SeqCst);
        true
    }

    /// A port became pending: whoever polls it is woken.
    #[inline]
    pub fn wake(&self, vcpus: &impl Vcpus, port: Port) {
        let polling = self.polling.load(SeqCst);
        if polling != 0 {
            self.wake_some(vcpus, port, polling);
        }
    }

    #[cold]
    fn wake_some(&self, vcpus: &impl Vcpus, port: Port, polling: u64) {
        let is_for_it = |vcpu: &VcpuId| vcpus.polled(*vcpu).is_some_and(|p| p.is_ended_by(port));
        let ends = each(polling).filter(is_for_it);
        let ends = ends.fold(0, |ends, vcpu| ends | bit(vcpu));
        // Another event may have ended some of them.
        let ends = self.polling.fetch_and(!ends, SeqCst) & ends;
        if let Some(first) = each(ends).next() {
            vcpus.wake(first);
        }
        let others = ends & ends.wrapping_sub(1);
        if others != 0 && self.told.fetch_or(others, SeqCst) == 0 {
            self.set_timer(vcpus, others);
        }
    }

    /// The timer of [`Vcpus::wake_soon`] is due: some are woken, and there is another for the next.
    pub fn take_turn(&self, vcpus: &impl Vcpus) {
        let now = lowest(self.told.load(SeqCst), AT_ONCE);
        // Nobody else takes bits out (O3): those that are left were there, or came meanwhile and found some.
        let left = self.told.fetch_and(!now, SeqCst) & !now;
        for vcpu in each(now) {
            vcpus.wake(vcpu);
        }
        self.set_timer(vcpus, left);
    }

    /// Sets the timer for those that are left (O3).
    fn set_timer(&self, vcpus: &impl Vcpus, mut left: u64) {
        while let Some(next) = each(left).next() {
            if vcpus.wake_soon(next) {
                return;
            }
            // One that was removed needs nobody, and the others have timers.
            left = self.told.fetch_and(!bit(next), SeqCst) & !bit(next);
        }
    }
}

fn bit(vcpu: VcpuId) -> u64 {
    1_u64.checked_shl(u32::from(vcpu.0)).unwrap_or(0)
}

/// The lowest of some bits.
fn lowest(bits: u64, count: u32) -> u64 {
    let others = (0..count).fold(bits, |rest, _| rest & rest.wrapping_sub(1));
    bits & !others
}

/// Those whose bits are set.
fn each(mut bits: u64) -> impl Iterator<Item = VcpuId> {
    core::iter::from_fn(move || {
        let id = (bits != 0).then(|| bits.trailing_zeros() as u16)?;
        bits &= bits - 1;
        Some(VcpuId(id))
    })
}

#[cfg(test)]
#[path = "tests/pollers.rs"]
mod tests;

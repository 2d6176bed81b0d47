//! Graces: how whoever made a record unknown learns that no CPU is still at work with it that found it before.
//!
//! A CPU finds a record by its number or its place, without a lock, and uses it until it is *between* two pieces of work:
//! there it has nothing in hand that it found. A grace is over when every CPU has been between since it began.
//!
//! ```text
//!  the CPU that ends a record                       a CPU that may have found it
//!  takes it from where it is found
//!  begins a grace: newest += 1
//!  asked := 1 ── interrupt, if it was 0 ─────────▶  between two pieces of work:
//!  goes on with other things                        asked := 0, passed := newest
//!  is it over? all have passed it ◀───────────────  (seen by that)
//!  ends the record
//! ```
//! Nobody waits in here: who has to, does so between two pieces of work of its own, so that it passes what others begin.
//! The handshake of the flush clock is no grace: a CPU that waits for a flush serves others in the middle of its work.
//!
//! # Ordering
//! Graces begin and are passed by locked operations. A CPU that read the newest number looks up what it looks up next after
//! that, so after the record became unknown; what it did with one it had found, it did before it said that it passed.

use crate::MAX_CPUS;
use crate::atomic::{AtomicU32, AtomicU64};
use crate::set::CpuSet;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Release};

/// What is needed of the CPU.
pub trait Hardware {
    /// Interrupts another CPU, which then calls [`Graces::pass`] as soon as it is between two pieces of work.
    fn interrupt(&self, cpu: u32);
}

/// One grace. The later it began, the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grace(u64);

impl Grace {
    /// One that is never over: for who has not begun any.
    pub const NEVER: Grace = Grace(u64::MAX);

    /// As a word that an atomic holds.
    #[must_use]
    pub const fn word(self) -> u64 {
        self.0
    }

    /// From [`Self::word`].
    #[must_use]
    pub const fn from_word(word: u64) -> Grace {
        Grace(word)
    }
}

struct OneCpu {
    /// Somebody began a grace that it has not passed.
    asked: AtomicU32,
    /// The newest that it passed.
    passed: AtomicU64,
}

/// The graces of all CPUs.
pub struct Graces {
    newest: AtomicU64,
    cpus: [OneCpu; MAX_CPUS],
}

impl Default for Graces {
    fn default() -> Self {
        Self::new()
    }
}

impl Graces {
    /// None has begun.
    #[must_use]
    pub const fn new() -> Self {
        Graces {
            newest: AtomicU64::new(0),
            cpus: [const {
                OneCpu {
                    asked: AtomicU32::new(0),
                    passed: AtomicU64::new(0),
                }
            }; MAX_CPUS],
        }
    }

    #[inline]
    fn of(&self, cpu: u32) -> &OneCpu {
        &self.cpus[cpu as usize % MAX_CPUS]
    }

    /// Begins a grace, after what it is for was made unknown. This CPU, `me`, has to pass it like all others that are
    /// `online`; it is not interrupted for that.
    pub fn begin(&self, me: u32, online: CpuSet, hardware: &impl Hardware) -> Grace {
        let grace = Grace(self.newest.fetch_add(1, AcqRel) + 1);
        for cpu in online.iter() {
            // Who finds it set knows that the CPU has yet to look what is newest.
            let was_asked = self.of(cpu).asked.swap(1, AcqRel) != 0;
            if !was_asked && cpu != me {
                hardware.interrupt(cpu);
            }
        }
        grace
    }

    /// This CPU is between two pieces of work: nothing that it found is in hand. False if nobody asked.
    #[inline]
    pub fn pass(&self, me: u32) -> bool {
        let its = self.of(me);
        if its.asked.load(Acquire) == 0 {
            return false;
        }
        // Off first: who begins one from here on finds it off and interrupts.
        its.asked.swap(0, AcqRel);
        its.passed.store(self.newest.load(Acquire), Release);
        true
    }

    /// Whether all CPUs that are `online` have passed a grace: whoever found what it is for has done with it.
    #[must_use]
    pub fn is_over(&self, grace: Grace, online: CpuSet) -> bool {
        let has_passed = |cpu| self.of(cpu).passed.load(Acquire) >= grace.0;
        online.iter().all(has_passed)
    }
}

#[cfg(test)]
#[path = "tests/grace.rs"]
mod tests;

//! How a CPU that is stuck in ring 0 is found: its neighbour asks it now and then, and it answers wherever it takes
//! interrupts.
//!
//! ```text
//!  the neighbour                               the CPU
//!                                              comes to work: was it watched? if not, has the neighbour look
//!  looks each second:
//!   works   ── asked, and interrupts it ────▶  takes the interrupt: works
//!   asked   ── asked once more, so many times
//!   asked too often ── accused, and an NMI ─▶  takes the NMI in ring 0, still accused: it is stuck there
//!   accused still   ── it takes no NMI either
//!   rests   ── not watched: looks no more      rests
//! ```
//! A CPU that rests answers nobody and is asked nothing, so that a machine in which all rest has no timer set for this.
//!
//! # Invariants
//! - W1: a CPU that works is looked at, or its neighbour was just told to look.
//! - W2: a CPU is accused only if it worked and took no interrupt between as many looks as are allowed.
//! - W3: what an accused CPU does clears it as long as it does anything: it answers, or rests.
//!
//! Looks are counted rather than time: a machine that was stopped as a whole (by a debugger, or as a guest of another
//! hypervisor) finds one look late when it goes on, and nobody accused.

use crate::atomic::AtomicU32;
use core::sync::atomic::Ordering::{AcqRel, Acquire, SeqCst};

/// What a CPU does, as its neighbour sees it.
mod state {
    /// It rests, and nobody looks at it.
    pub const UNWATCHED: u32 = 0;
    /// It rests.
    pub const RESTS: u32 = 1;
    pub const WORKS: u32 = 2;
    /// It was found in ring 0 for too long.
    pub const ACCUSED: u32 = 3;
    /// It was asked, and did not answer for so many looks, less this.
    pub const ASKED: u32 = 4;
}

/// Looks that a CPU may leave unanswered.
pub const PATIENCE: u32 = 10;

/// One CPU that is watched.
pub struct Watched(AtomicU32);

/// What the neighbour does after a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing, until it is told to look.
    NoMore,
    /// Looks again.
    Again,
    /// Interrupts the CPU, and looks again.
    Ask,
    /// Sends it an NMI, and looks again.
    Accuse,
    /// Reports it: it takes no NMI.
    Deaf,
}

impl Default for Watched {
    fn default() -> Self {
        Self::new()
    }
}

impl Watched {
    /// One that rests.
    #[must_use]
    pub const fn new() -> Self {
        Watched(AtomicU32::new(state::UNWATCHED))
    }

    /// The CPU begins to work. True if its neighbour has to be told to look at it.
    #[must_use]
    #[inline]
    pub fn works(&self) -> bool {
        self.0.swap(state::WORKS, SeqCst) == state::UNWATCHED
    }

    /// The CPU has nothing to do.
    #[inline]
    pub fn rests(&self) {
        // One that never worked is looked at by nobody, and stays so. Only what rests becomes unwatched: this does not
        // change between the look and the exchange.
        if self.0.load(Acquire) != state::UNWATCHED {
            self.0.swap(state::RESTS, SeqCst);
        }
    }

    /// The CPU, which works, takes interrupts, or does something long that is known to end.
    #[inline]
    pub fn answer(&self) {
        let seen = self.0.load(Acquire);
        if seen >= state::ACCUSED {
            // Only it leaves these states, but for one look more.
            self.0.swap(state::WORKS, AcqRel);
        }
    }

    /// Whether the CPU, which took an NMI in ring 0, is stuck there.
    #[must_use]
    pub fn is_accused(&self) -> bool {
        self.0.load(Acquire) == state::ACCUSED
    }

    /// The neighbour looks.
    #[must_use]
    pub fn look(&self) -> Look {
        let seen = self.0.load(Acquire);
        let (next, outcome) = match seen {
            state::UNWATCHED => return Look::NoMore,
            state::RESTS => (state::UNWATCHED, Look::NoMore),
            state::WORKS => (state::ASKED, Look::Ask),
            state::ACCUSED => return Look::Deaf,
            asked if asked - state::ASKED >= PATIENCE => (state::ACCUSED, Look::Accuse),
            asked => (asked + 1, Look::Again),
        };
        match self.0.compare_exchange(seen, next, SeqCst, Acquire) {
            Ok(_) => outcome,
            // It moved: it is at work, in its own way.
            Err(_) => Look::Again,
        }
    }
}

#[cfg(test)]
#[path = "tests/watch.rs"]
mod tests;

//! How a vCPU is told that something waits for it, so that nothing is missed and nobody is told twice.
//!
//! ```text
//!  who has something for it                    the vCPU's CPU
//!  set what is to be seen (locked)             about to go on in the guest, or said to sleep:
//!  was it told? := yes ── if not, wake it      told := no
//!                         or interrupt its CPU look at what is to be seen
//! ```
//! A sender that finds the vCPU told already leaves it at that: the vCPU has not looked since, and looks before it sleeps
//! or goes on.
//!
//! # Invariants
//! - T1: what was set before [`Notice::give`] is seen by the look after the next [`Notice::take`], or that `give` was the
//!   first since a `take` and its caller wakes or interrupts.
//!
//! # Ordering
//! Both are exchanges where they matter. A plain store in `take` would not do: the CPU may read what is to be seen before
//! others see the store, and a sender in between finds the vCPU told, and tells nobody.

use crate::atomic::AtomicU32;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};

/// Whether a vCPU was told since it looked last.
#[derive(Debug)]
pub struct Notice(AtomicU32);

impl Default for Notice {
    fn default() -> Self {
        Self::new()
    }
}

impl Notice {
    /// Of a vCPU that nobody told anything.
    #[must_use]
    pub const fn new() -> Self {
        Notice(AtomicU32::new(0))
    }

    /// Says that something waits, after it was set. True if the vCPU does not know yet: the caller wakes it, or interrupts
    /// the CPU it is on.
    #[must_use]
    #[inline]
    pub fn give(&self) -> bool {
        self.0.swap(1, SeqCst) == 0
    }

    /// The vCPU is about to look.
    #[inline]
    pub fn take(&self) {
        // Whoever tells it from here on finds it untold either way, and interrupts.
        if self.0.load(Relaxed) != 0 {
            self.0.swap(0, SeqCst);
        }
    }
}

#[cfg(test)]
#[path = "tests/notice.rs"]
mod tests;

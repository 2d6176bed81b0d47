//! What a vCPU is charged, kept beside it: who decides about many of them need not look into their queues, nor divide.
//!
//! # Invariants
//! - K1: what it was granted last is what its queue says it was.
//! - K2: what it had before is what its queue has in force as long as that says that other terms are still to come, and the
//!   time from which they count has not come. Its period can end before, and does when it wakes with too much left (T4); it
//!   cannot end later, for what is to come counts on that very end.
//!
//! So the queue is asked only about those of which a change is under way, and only where it matters, and whether at all.

use crate::rules::Charge;

/// What a vCPU is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dues {
    /// For what was in force when it was granted the last.
    had: Charge,
    /// From when on that is not in force any more.
    until: u64,
    /// For what it was granted last.
    granted: Charge,
}

impl Dues {
    /// For terms that are in force and stay.
    #[must_use]
    pub const fn new(charge: Charge) -> Self {
        Self {
            had: charge,
            until: 0,
            granted: charge,
        }
    }

    /// For what it was granted last.
    #[must_use]
    pub const fn granted(&self) -> Charge {
        self.granted
    }

    /// For what is in force. `comes` says whether the queue has other terms to come; it is asked where it matters.
    #[must_use]
    pub fn in_force(&self, now: u64, comes: impl FnOnce() -> bool) -> Charge {
        if now < self.until && self.had != self.granted && comes() {
            self.had
        } else {
            self.granted
        }
    }

    /// The most of what is in force and what will be.
    #[must_use]
    pub fn most(&self, now: u64, comes: impl FnOnce() -> bool) -> Charge {
        if self.had <= self.granted {
            self.granted
        } else {
            self.in_force(now, comes)
        }
    }

    /// When it was granted other terms: what is in force right after that, as the queue has it, and until when, as
    /// [`crate::Queue::change_one`] says.
    #[must_use]
    pub const fn changing(in_force: Charge, granted: Charge, until: u64) -> Self {
        Self {
            had: in_force,
            until,
            granted,
        }
    }

    /// As three words, to be kept.
    #[must_use]
    pub const fn words(&self) -> [u64; 3] {
        [self.had.0, self.until, self.granted.0]
    }

    /// Those that [`Self::words`] told.
    #[must_use]
    pub const fn from_words([had, until, granted]: [u64; 3]) -> Self {
        Self {
            had: Charge(had),
            until,
            granted: Charge(granted),
        }
    }
}

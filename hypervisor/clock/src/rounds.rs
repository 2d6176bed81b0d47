//! Many alarms, each kept by its owner, and one timer that finds those that are due: by rounds over all owners, in steps
//! of a few, so that no step is longer for there being many.
//!
//! # Invariants
//! - R1: [`Rounds::next_ns`] is never later than an alarm that was told of by [`Rounds::sets`] and is not moved or found
//!   since: whoever has the timer set for it misses none.
//! - R2: a round that begins at a time finds all that were due by then and are still set when it comes to them.

use core::sync::atomic::Ordering::SeqCst;
use core::sync::atomic::{AtomicU64, Ordering};

/// No alarm is set.
pub const NEVER: u64 = u64::MAX;

/// Where the rounds are.
#[derive(Debug)]
pub struct Rounds {
    /// Alarms that were not seen by the round under way, or not by the last, are not earlier than this.
    earliest: AtomicU64,
    /// The owner with which the round under way goes on; none is under way while this is [`NEVER`].
    from: AtomicU64,
}

impl Rounds {
    /// No alarm is set.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            earliest: AtomicU64::new(NEVER),
            from: AtomicU64::new(NEVER),
        }
    }

    /// Somebody has set an alarm for this time: to be called after it can be seen.
    pub fn sets(&self, at_ns: u64) {
        self.earliest.fetch_min(at_ns, SeqCst);
    }

    /// The owner with which the step begins that is to be made now, if one is. By one looker at a time.
    #[must_use]
    pub fn begin_step(&self, now_ns: u64) -> Option<u64> {
        let from = self.from.load(Ordering::Relaxed);
        if from != NEVER {
            return Some(from);
        }
        if self.earliest.load(SeqCst) > now_ns {
            return None;
        }
        // Before the first alarm is looked at: one that is set meanwhile is seen there, or here.
        self.earliest.swap(NEVER, SeqCst);
        Some(0)
    }

    /// A step saw all before this owner and none behind; the round is over if there is no next.
    pub fn end_step(&self, next: Option<u64>) {
        self.from.store(next.unwrap_or(NEVER), Ordering::Relaxed);
    }

    /// When the next step is to be made, `None` for never: after a pause if a round is under way.
    #[must_use]
    pub fn next_ns(&self, now_ns: u64, pause_ns: u64) -> Option<u64> {
        let goes_on = self.from.load(Ordering::Relaxed) != NEVER;
        let next = match goes_on {
            true => now_ns.saturating_add(pause_ns),
            false => self.earliest.load(SeqCst),
        };
        Some(next).filter(|next| *next != NEVER)
    }
}

impl Default for Rounds {
    fn default() -> Self {
        Self::new()
    }
}

//! What the calls that take a list of things to do share: the list, the count, and where the number done goes.
//!
//! # Invariants
//! - Whatever the outcome, the number told is that of those done, and the first that was refused is the one behind them.
//! - A call that is continued starts at the first that was not done, and its count says that it is: so the number told
//!   at the end is that of all parts together.

use crate::domain::Guest;
use crate::hypercall::{Args, Outcome, Stop};
use guest_abi::Wire;

/// Set in a count when a batch is continued: the number done so far is in the caller's `done`.
const CONTINUED: u64 = 1 << 31;

/// The part of a batch that all batch calls share: list, count, where the number done goes.
pub(super) struct Batch {
    list: u64,
    /// Bytes of an entry.
    size: u64,
    count: u64,
    pub(super) done: u64,
    done_before: u64,
    done_at: u64,
}

impl Batch {
    pub(super) fn new<T: Wire>(g: &Guest<'_>, args: &Args) -> Result<Batch, Stop> {
        let done_at = args[2];
        let mut done_before = 0;
        if done_at != 0 {
            let before = g.memory().counter(done_at)?;
            if args[1] & CONTINUED != 0 {
                done_before = u64::from(before);
            }
        }
        Ok(Batch {
            list: args[0],
            size: T::SIZE as u64,
            count: args[1] & 0xffff_ffff & !CONTINUED,
            done: 0,
            done_before,
            done_at,
        })
    }

    pub(super) fn next(&self) -> Option<u64> {
        (self.done < self.count).then(|| self.at(self.done))
    }

    /// Where an entry lies.
    fn at(&self, index: u64) -> u64 {
        self.list.wrapping_add(index.wrapping_mul(self.size))
    }

    /// Tells the number done, whatever the outcome; a continuation starts behind it.
    #[inline(always)]
    pub(super) fn finish(self, g: &Guest<'_>, outcome: Outcome) -> Outcome {
        if self.done_at != 0 {
            let total = self.done_before.wrapping_add(self.done) as u32;
            g.memory().put_u32(self.done_at, total)?;
        }
        match outcome {
            Err(Stop::Again(mut args)) => {
                args[0] = self.at(self.done);
                args[1] = (self.count - self.done) | CONTINUED;
                Err(Stop::Again(args))
            }
            other => other,
        }
    }
}

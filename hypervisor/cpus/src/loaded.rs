//! Which CPU a vCPU is loaded on, and when it stands still: what was in that CPU's registers is in its record, and no CPU
//! touches that.
//!
//! ```text
//!  the CPU that runs vCPUs                          who wants one to stand still
//!  ┌ lock of its queue                              ┌ lock of the queue
//!  │ the queue chooses the vCPU                     │ paused: it is chosen no more
//!  │ [`take`]: loaded here                          └
//!  └                                                until [`is_still`]: others go on meanwhile
//!  its state is this CPU's                          the state is theirs, as long as it stays paused
//!  ... another is chosen, its state is saved
//!  [`leave`], last of all
//! ```
//! That it is taken under the lock under which it was chosen is what makes this safe: between the two nobody can pause it
//! and find it on no CPU.

use crate::atomic::AtomicU32;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Release};

/// The word of a vCPU that is on no CPU.
pub const NOWHERE: u32 = u32::MAX;

/// This CPU, `me`, has chosen a vCPU that was nowhere, or is here already, and takes it. Under the lock under which it was
/// chosen. False if it is on another CPU: nothing is changed then.
pub fn take(loaded_on: &AtomicU32, me: u32) -> bool {
    match loaded_on.compare_exchange(NOWHERE, me, AcqRel, Acquire) {
        Ok(_) => true,
        Err(where_it_is) => where_it_is == me,
    }
}

/// The CPU that has a vCPU loaded has nothing of it any more.
pub fn leave(loaded_on: &AtomicU32) {
    loaded_on.store(NOWHERE, Release);
}

/// Whether a vCPU stands still. That it may not be chosen any more was said before, under the lock of its queue: it stays so
/// for as long as that holds.
pub fn is_still(loaded_on: &AtomicU32) -> bool {
    loaded_on.load(Acquire) == NOWHERE
}

#[cfg(test)]
#[path = "tests/loaded.rs"]
mod tests;

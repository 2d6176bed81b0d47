//! Who runs next, until when, and what it cost: the decisions, without the switching.
//!
//! - [`RunQueue`]: the vCPUs of one CPU, and which of them runs. Today it goes round in turn; it is
//!   called as deadlines and budgets will need it (each vCPU comes with its [`Reservation`], every call
//!   with the time), so that earliest deadline first can take its place behind the same calls.
//! - [`Runstate`]: how long a vCPU ran, waited and slept, as its guest sees it.
//! - [`CpuLedger`], [`VcpuAccount`]: which cycles went where, exactly.
//! - [`TimerQueue`]: one-shot timers by deadline.
//! - [`Slots`]: the numbers that a CPU's queue and timers know its vCPUs by.
//!
//! Handles are the slots of the hypervisor's slab of vCPUs; storage is slices of the caller's, as long as
//! that slab, and grows with it by rows ([`Rows`]). Nothing allocates. A `RunQueue` belongs to one CPU
//! and its lock, a `CpuLedger` to one CPU alone.
//!
//! # Invariants
//! - S1: no vCPU is lost: one that is runnable either runs or is in the queue, exactly once.
//! - S2: a vCPU that is blocked, paused or down is neither run nor queued.
//! - S3: turns are fair: a vCPU that stays runnable runs after at most one turn of each other.
//! - S4: a CPU is preempted by time only if somebody waits for it: a lone vCPU is left alone.
//! - S5: the four times of a runstate add up to the time since it began, and never run backwards.
//! - S6: all accounts add up to the last boundaries of the CPUs less their first, to the cycle.
//! - S7: a timer fires once, at or after its deadline, in order of deadlines, unless it is cancelled.

#![no_std]
#![forbid(unsafe_code)]

mod ledger;
mod queue;
mod runstate;
mod slots;
mod timers;

pub(crate) use ::rows;
pub use ::rows::Rows;
pub use ledger::{
    CAUSES, Cause, CpuBooks, CpuLedger, Due, Guest, Held, Kind, Payer, Paying, SharedAccount,
    SharedHeld, Shown, Usage, VcpuAccount,
};
pub use queue::{AddError, Decision, Entry, EntryRows, Extra, Next, Reservation, RunQueue};
pub use runstate::{Runstate, State};
pub use slots::{SlotRows, Slots};
pub use timers::{NoSuchTimer, TimerQueue, TimerRows, TimerSlot};

/// vCPUs there can be, whatever storage there is.
pub const MAX_VCPUS: usize = 8192;
/// Timers there can be: each vCPU's three, and one more.
pub const MAX_TIMERS: usize = 3 * MAX_VCPUS + 1;

/// A vCPU: its number with the queue that it is in ([`Slots`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct VcpuHandle(pub u32);

impl VcpuHandle {
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

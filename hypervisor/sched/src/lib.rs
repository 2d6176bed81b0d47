//! What running costs, and when somebody is to be told: accounts, run states and timers, without the hardware.
//!
//! Who runs, and until when, is decided in the crate `reservations`.
//!
//! - [`Runstate`]: how long a vCPU ran, waited and slept, as its guest sees it.
//! - [`CpuLedger`], [`VcpuAccount`]: which cycles went where, exactly.
//! - [`TimerQueue`]: one-shot timers by deadline.
//! - [`Slots`]: the numbers that a CPU's queue and timers know its vCPUs by.
//!
//! Storage is the caller's, and grows by rows ([`Rows`]). Nothing allocates. A `CpuLedger` belongs to one CPU alone, the rest
//! to a CPU and its lock.
//!
//! # Invariants
//! - S1: the four times of a runstate add up to the time since it began, and never run backwards.
//! - S2: all accounts add up to the last boundaries of the CPUs less their first, to the cycle.
//! - S3: a timer fires once, at or after its deadline, in order of deadlines, unless it is cancelled.

#![no_std]
#![forbid(unsafe_code)]

mod ledger;
mod runstate;
mod slots;
mod timers;

pub(crate) use ::rows;
pub use ::rows::Rows;
pub use ledger::{
    Anchor, CAUSES, Cause, CpuBooks, CpuLedger, Due, Guest, Held, Kind, LastOf, Makers,
    NotAppended, Overtaken, Payer, Paying, SharedAccount, SharedHeld, Shown, Sold, Usage,
    VcpuAccount,
};
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

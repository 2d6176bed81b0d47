//! Many CPUs: which are started and how, which are left out and why, how they make one another forget translations, and
//! in which order they take locks, and what they decide together by one operation.
//!
//! Pure logic: no hardware, no `unsafe`. Ring 0 binds it to APICs, tables and stacks.
//!
//! - [`set`] - sets of CPUs, plain and shared.
//! - [`flush`] - the flush clock, and the handshake by which one CPU has others flush.
//! - [`order`] - the order in which a CPU takes locks.
//! - [`grace`] - when no CPU is at work any more with what it found before it was made unknown.
//! - [`loaded`] - which CPU a vCPU is loaded on, and when it stands still.
//! - [`start`] - from the firmware's list to the CPUs to start; where their first code may lie.
//! - [`notice`] - how a vCPU is told that something waits for it.
//! - [`numbers`] - numbers that several CPUs give out.
//! - [`features`] - whether a CPU can do all that the first one can.
//! - [`watch`] - how a CPU that is stuck is found by its neighbour.
//! - [`skew`] - how far two CPUs' time-stamp counters are apart.
//!
//! # Invariants
//! - H1: when [`flush::Flushes::since`] returns, every CPU that may hold a translation made before the stamp has flushed,
//!   or holds none any more.
//! - H2: CPUs that ask one another at the same time all get what they asked for: who waits also serves.
//! - H3: a CPU that is asked flushes after it took the request off, so that a request is never taken for one that was
//!   served before.
//! - H4: no holder's last flush lies so far back that the clock's wrap hides it.
//! - G1: a grace is over only when every CPU was between two pieces of work since it began; then none is at work with what
//!   was made unknown before.
//! - G2: graces that CPUs wait for at the same time all end: who waits passes.
//! - S1: a vCPU that may not be chosen any more and is on no CPU is touched by none.
//! - N1: no CPU is started twice, nor the one that starts the others, nor more than were asked for.
//! - N2: the first code of CPUs lies in a page that is memory, free, below 640 KiB, and not the first.
//! - W1 to W3: of watching a CPU, see [`watch`].
//! - N3, N4: of numbers that are given out, see [`numbers`]; T1: of telling a vCPU, see [`notice`].
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod features;
pub mod flush;
pub mod grace;
pub mod loaded;
pub mod notice;
pub mod numbers;
pub mod order;
pub mod set;
pub mod skew;
pub mod start;
#[cfg(test)]
mod tests;
pub mod watch;

mod atomic {
    //! The atomics of `core`, and in tests ones that let a test choose who moves next.
    #[cfg(not(test))]
    pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64};
    #[cfg(test)]
    pub(crate) use interleave::{AtomicU32, AtomicU64};
}

/// Most CPUs a machine may have.
pub const MAX_CPUS: usize = 256;

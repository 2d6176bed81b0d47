//! Time arithmetic: from TSC ticks to nanoseconds and back, frequency from a calibration, the calendar,
//! and the page a guest reads its time from.
//!
//! Nothing here reads a clock. The mechanism reads the counters and hands the numbers in, so that every
//! rule below is tested on the host.
//!
//! # Invariants
//! - C1: time never runs backwards: for one [`Clock`], a later tick count never gives an earlier time.
//! - C2: a deadline is never early: [`Clock::tsc_at`] gives the first tick count at which
//!   [`Clock::now_ns`] has reached the deadline.
//! - C3: no input overflows: any tick count, time and non-zero frequency is accepted, and what does not
//!   fit in 64 bits saturates.
//! - C4: converting errs by less than 2 ns plus 1 ns in every 2^32 ns, against the frequency given.
//! - C5: what a guest computes from a [`PvClock`] is what [`Clock::now_ns`] answers, bit for bit, from the
//!   base on and for as long as a guest's 64-bit shift does not overflow (years, at any TSC of our time).
//!   On a CPU whose counter is off by an [`Offset`] the same holds for the page made with it, bit for bit.
//! - C6: a published version is even when the page is at rest and odd while it is written.
//! - C7: what a CPU's counter shows and what the machine's shows are turned into each other without loss.
//! - C8: a deadline on a CPU whose counter is off is never early, as C2, and never lost.
//! - C9: a [`NearClock`] reads what its [`Clock`] reads, bit for bit, within half of all counts from the base.

#![no_std]
#![forbid(unsafe_code)]

mod calibrate;
mod civil;
mod limit;
mod near;
mod offset;
mod pvclock;
mod rounds;
mod scale;

pub use calibrate::{Calibration, CounterReading, Frequency, best, hz_from_period_fs};
pub use civil::{BadDate, CivilTime, RtcRegisters, WallClock};
pub use limit::AtMost;
pub use near::{Countdown, NearClock};
pub use offset::Offset;
pub use pvclock::{PvClock, VersionStep};
pub use rounds::{NEVER, Rounds};
pub use scale::{Clock, TscScale};

/// Nanoseconds in a second.
pub const NS_PER_SECOND: u64 = 1_000_000_000;

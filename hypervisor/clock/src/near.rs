//! The same arithmetic where it is done often, for the least work: a CPU's own reading of the clock, and its timer.

use crate::offset::Offset;
use crate::scale::{Clock, saturate};
use crate::{NS_PER_SECOND, TscScale};

/// A [`Clock`] as one CPU reads it by its own counter (C9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NearClock {
    /// This CPU's counter where the clock starts from.
    base: u64,
    ns_base: u64,
    /// A nanosecond's parts, 2^32 of them, that a tick lasts when it has been shifted right.
    mul: u64,
    right: u32,
}

impl NearClock {
    /// What there is before a calibration: a tick is a nanosecond.
    pub const NANOSECONDS: Self = Self::on(&Clock::new(0, 0, TscScale::NANOSECONDS), Offset::NONE);

    /// The clock, on a CPU whose counter is ahead by so much.
    #[must_use]
    pub const fn on(clock: &Clock, offset: Offset) -> Self {
        let (mul, shift) = (clock.scale.mul() as u64, clock.scale.shift());
        let (mul, right) = match shift {
            0.. => (mul << shift, 0),
            _ => (mul, -shift as u32),
        };
        Self {
            base: offset.here(clock.tsc_base),
            ns_base: clock.ns_base,
            mul,
            right,
        }
    }

    /// As [`Clock::now_ns`], by this CPU's counter.
    #[must_use]
    #[inline]
    pub const fn ns_at(&self, counter: u64) -> u64 {
        let passed = counter.wrapping_sub(self.base);
        // Before the base it stands (C1).
        let passed = if (passed as i64) < 0 { 0 } else { passed };
        self.ns_base.saturating_add(self.ns_from_ticks(passed))
    }

    /// As [`TscScale::ns_from_ticks`].
    #[must_use]
    #[inline]
    pub const fn ns_from_ticks(&self, ticks: u64) -> u64 {
        // A shift is less than 64.
        let product = (ticks >> (self.right & 63)) as u128 * self.mul as u128;
        saturate(product >> 32)
    }
}

/// How fast a counter goes that counts down to an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Countdown {
    /// Ticks in 2^32 nanoseconds, rounded up.
    rate: u64,
}

impl Countdown {
    /// A counter that stands.
    pub const NONE: Self = Self { rate: 0 };

    /// A counter of so many ticks a second; `None` for zero.
    #[must_use]
    pub const fn from_hz(hz: u64) -> Option<Self> {
        if hz == 0 {
            return None;
        }
        let rate = ((hz as u128) << 32).div_ceil(NS_PER_SECOND as u128);
        Some(Self {
            rate: saturate(rate),
        })
    }

    /// What it has to count down from to take at least `ns` (C2), as far as 32 bits reach. Later than that by a tick, and by a
    /// tick in each second.
    #[must_use]
    #[inline]
    pub const fn ticks(&self, ns: u64) -> u32 {
        // Below 2^128: both factors are below 2^64.
        let ticks = (ns as u128 * self.rate as u128 + u32::MAX as u128) >> 32;
        if ticks > u32::MAX as u128 {
            u32::MAX
        } else {
            ticks as u32
        }
    }
}

//! Ticks to nanoseconds by one multiplication, the way guests do it (invariants C1 to C4).

use crate::NS_PER_SECOND;

/// The factor between TSC ticks and nanoseconds, in the form the guest interface uses:
/// `ns = ((ticks << shift) * mul) >> 32`, a negative shift shifting right.
///
/// `mul` always has its top bit set, so the factor is exact to one part in 2^32 (C4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TscScale {
    /// Fraction of a nanosecond a (shifted) tick lasts, in units of 2^-32 ns.
    mul: u32,
    /// Binary places the tick count is shifted left, or right where negative, before multiplying.
    shift: i8,
}

impl TscScale {
    /// One tick is one nanosecond. What a clock starts with before a calibration.
    pub const NANOSECONDS: Self = Self {
        mul: 1 << 31,
        shift: 1,
    };

    /// The smallest shift any 64-bit frequency needs: 10^9 * 2^32 / 2^64 lies between 2^-3 and 2^-2,
    /// so 34 doublings bring it into `mul`'s range and one more goes past it.
    const SMALLEST_SHIFT: i8 = -35;
    /// The shift for 1 Hz, the slowest there is.
    const LARGEST_SHIFT: i8 = 30;

    /// The scale of a counter that runs at `hz` ticks a second; `None` for zero.
    #[must_use]
    pub const fn from_hz(hz: u64) -> Option<Self> {
        if hz == 0 {
            return None;
        }
        let hz = hz as u128;
        let mut shift = Self::SMALLEST_SHIFT;
        // The first shift whose rounded multiplier fits is the one that leaves it its top bit: at the
        // shift before, it was 2^32 or more.
        while shift <= Self::LARGEST_SHIFT {
            let numerator = (NS_PER_SECOND as u128) << (32 - shift as i32);
            let mul = (numerator + hz / 2) / hz;
            if mul <= u32::MAX as u128 {
                return Some(Self {
                    mul: mul as u32,
                    shift,
                });
            }
            shift += 1;
        }
        None
    }

    /// The multiplier, in units of 2^-32 ns.
    #[must_use]
    pub const fn mul(&self) -> u32 {
        self.mul
    }

    /// The shift applied to the tick count before multiplying; right where negative.
    #[must_use]
    pub const fn shift(&self) -> i8 {
        self.shift
    }

    /// Nanoseconds that `ticks` last, rounded down; saturates at `u64::MAX`.
    #[must_use]
    #[inline]
    pub const fn ns_from_ticks(&self, ticks: u64) -> u64 {
        // A shift to the left can as well be the multiplier's, which has 62 bits at most then: the product fits.
        let (shifted, mul) = if self.shift >= 0 {
            (ticks, (self.mul as u64) << self.shift)
        } else {
            (ticks >> -self.shift, self.mul as u64)
        };
        let product = shifted as u128 * mul as u128;
        saturate(product >> 32)
    }

    /// The least number of ticks that last at least `ns` by [`Self::ns_from_ticks`], so that a deadline
    /// set with it is never early (C2); saturates at `u64::MAX`.
    #[must_use]
    #[inline]
    pub const fn ticks_from_ns(&self, ns: u64) -> u64 {
        // What is near needs no wide numbers: the multiplier has 32 bits, so the quotient 33.
        if ns >> 32 == 0 {
            let shifted = (ns << 32).div_ceil(self.mul as u64);
            return match self.shift {
                0.. => (shifted + (1 << self.shift) - 1) >> self.shift,
                _ => saturate((shifted as u128) << -self.shift),
            };
        }
        let shifted = ((ns as u128) << 32).div_ceil(self.mul as u128);
        if self.shift >= 0 {
            saturate(shifted.div_ceil(1 << self.shift))
        } else {
            // At most 64 + 32 - 31 bits before, and 35 more after: it fits.
            saturate(shifted << -self.shift)
        }
    }
}

/// The value, or the largest there is.
pub(crate) const fn saturate(value: u128) -> u64 {
    if value > u64::MAX as u128 {
        u64::MAX
    } else {
        value as u64
    }
}

/// A clock: a TSC value, the time it stood for, and how fast time goes from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// The tick count the clock starts from.
    pub tsc_base: u64,
    /// The time at `tsc_base`, in nanoseconds.
    pub ns_base: u64,
    /// How long a tick lasts.
    pub scale: TscScale,
}

impl Clock {
    /// A clock that reads `ns_base` when the counter reads `tsc_base`.
    #[must_use]
    pub const fn new(tsc_base: u64, ns_base: u64, scale: TscScale) -> Self {
        Self {
            tsc_base,
            ns_base,
            scale,
        }
    }

    /// The time when the counter reads `tsc`. Before the base, which another CPU's slightly late counter
    /// can be, the clock stands at its base rather than wrapping around (C1).
    #[must_use]
    #[inline]
    pub const fn now_ns(&self, tsc: u64) -> u64 {
        self.ns_base
            .saturating_add(self.scale.ns_from_ticks(tsc.saturating_sub(self.tsc_base)))
    }

    /// The first tick count at which the clock reads `ns` or later (C2); the base for times before it,
    /// `u64::MAX` for times the counter cannot reach.
    #[must_use]
    #[inline]
    pub const fn tsc_at(&self, ns: u64) -> u64 {
        self.tsc_base
            .saturating_add(self.scale.ticks_from_ns(ns.saturating_sub(self.ns_base)))
    }

    /// The clock that goes on from here at `tsc` with another scale, without a jump. Not to be used on a
    /// clock that guests were told is stable: they hold copies of its parameters.
    #[must_use]
    pub const fn rescaled(&self, tsc: u64, scale: TscScale) -> Self {
        let tsc = if tsc > self.tsc_base {
            tsc
        } else {
            self.tsc_base
        };
        Self {
            tsc_base: tsc,
            ns_base: self.now_ns(tsc),
            scale,
        }
    }
}

//! The TSC's frequency from a counter whose frequency is known.
//!
//! Neither counter can be read at the same instant as the other, and an emulator or a management
//! interrupt may stretch the gap. So the reference is read *between* two TSC reads: the width of that
//! bracket is the uncertainty, and of several calibrations the one with the least of it wins.

use crate::NS_PER_SECOND;
use crate::scale::saturate;

/// One reading of the reference counter, bracketed by two of the TSC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterReading {
    /// The TSC just before the reference was read.
    pub tsc_before: u64,
    /// The reference counter, counting up.
    pub reference: u64,
    /// The TSC just after the reference was read.
    pub tsc_after: u64,
}

impl CounterReading {
    /// The TSC at the middle of the bracket, and how far off that may be.
    const fn tsc(&self) -> (u64, u64) {
        let width = self.tsc_after.saturating_sub(self.tsc_before);
        (self.tsc_before.saturating_add(width / 2), width.div_ceil(2))
    }
}

/// How far two counters went in the same stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calibration {
    /// Ticks of the reference.
    pub ref_ticks: u64,
    /// Ticks the reference makes in a second.
    pub ref_hz: u64,
    /// Ticks of the TSC.
    pub tsc_ticks: u64,
    /// How many ticks `tsc_ticks` may be off, because the two were not read at one instant.
    pub tsc_uncertainty: u64,
}

/// A measured frequency and how far off it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frequency {
    /// Ticks a second.
    pub hz: u64,
    /// Bound of the relative error, in parts per 10^9.
    pub error_ppb: u64,
}

impl Frequency {
    /// Bound of the relative error in parts per million, rounded up.
    #[must_use]
    pub const fn error_ppm(&self) -> u64 {
        self.error_ppb.div_ceil(1000)
    }
}

impl Calibration {
    /// What lies between two readings of a reference counter that is `bits` wide and may have wrapped
    /// once. `None` for a width outside 1 to 64.
    #[must_use]
    pub const fn between(
        start: &CounterReading,
        end: &CounterReading,
        ref_hz: u64,
        bits: u32,
    ) -> Option<Self> {
        if bits == 0 || bits > 64 {
            return None;
        }
        let mask = u64::MAX >> (64 - bits);
        let (tsc_start, off_start) = start.tsc();
        let (tsc_end, off_end) = end.tsc();
        Some(Self {
            ref_ticks: end.reference.wrapping_sub(start.reference) & mask,
            ref_hz,
            tsc_ticks: tsc_end.saturating_sub(tsc_start),
            tsc_uncertainty: off_start.saturating_add(off_end),
        })
    }

    /// The frequency and a bound of its error. `None` where a count or the reference's frequency is zero,
    /// or the result is.
    ///
    /// The TSC may have gone `tsc_uncertainty` further or less far, and the reference one tick, since it
    /// ticks at some unknown point of each reading. With `b` the first and `1/R` the second, both
    /// relative, the true frequency over the measured one is at most `(1 + b) / (1 - 1/R)`, which is off
    /// by `(1 + b*R) / (R - 1)`; the other end is nearer.
    #[must_use]
    pub const fn frequency(&self) -> Option<Frequency> {
        if self.ref_ticks == 0 || self.tsc_ticks == 0 || self.ref_hz == 0 {
            return None;
        }
        let ref_ticks = self.ref_ticks as u128;
        let hz = (self.tsc_ticks as u128 * self.ref_hz as u128 + ref_ticks / 2) / ref_ticks;
        if hz == 0 || hz > u64::MAX as u128 {
            return None;
        }
        let one = NS_PER_SECOND as u128;
        let bracket = (self.tsc_uncertainty as u128 * one).div_ceil(self.tsc_ticks as u128);
        let bracket = saturate(bracket) as u128;
        let counting = match ref_ticks - 1 {
            0 => u64::MAX,
            divisor => saturate((one + bracket * ref_ticks).div_ceil(divisor)),
        };
        // `hz` itself was rounded.
        let rounding = saturate(one.div_ceil(2 * hz));
        Some(Frequency {
            hz: hz as u64,
            error_ppb: counting.saturating_add(rounding),
        })
    }
}

/// The best of several calibrations: the frequency with the least error. `None` if none of them is usable.
#[must_use]
pub fn best(samples: impl IntoIterator<Item = Calibration>) -> Option<Frequency> {
    samples
        .into_iter()
        .filter_map(|sample| sample.frequency())
        .min_by_key(|frequency| frequency.error_ppb)
}

/// The frequency of a counter that states its period in femtoseconds, as the HPET does. `None` for zero
/// and for periods above the 100 ns that the HPET's specification allows.
#[must_use]
pub const fn hz_from_period_fs(period_fs: u64) -> Option<u64> {
    const FS_PER_SECOND: u64 = 1_000_000_000_000_000;
    const LONGEST_FS: u64 = 100_000_000;
    if period_fs == 0 || period_fs > LONGEST_FS {
        return None;
    }
    Some((FS_PER_SECOND + period_fs / 2) / period_fs)
}

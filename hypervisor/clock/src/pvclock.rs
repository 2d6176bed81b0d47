//! The values of the time page a guest reads (invariants C5 and C6).

use crate::{Clock, Offset, TscScale};

/// What stands in a guest's time page, in the words of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PvClock {
    /// Even at rest, odd while the page is being written.
    pub version: u32,
    /// The counter when `system_time` was right.
    pub tsc_timestamp: u64,
    /// Nanoseconds since the host started, at `tsc_timestamp`.
    pub system_time: u64,
    /// Multiplier of [`TscScale`].
    pub mul: u32,
    /// Shift of [`TscScale`].
    pub shift: i8,
    /// [`Self::TSC_STABLE`], [`Self::GUEST_STOPPED`].
    pub flags: u8,
}

/// The two versions of one update: the one to store first, and the one to store when all is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionStep {
    /// Odd: readers that see it try again.
    pub writing: u32,
    /// Even, and another than before.
    pub at_rest: u32,
}

impl VersionStep {
    /// The step that follows `previous`. A guest can scribble on its page, so keep the version in the
    /// hypervisor's own memory; an odd `previous` is taken for an update that was cut short.
    #[must_use]
    pub const fn after(previous: u32) -> Self {
        // Versions wrap: readers compare for equality only.
        let even = previous.wrapping_add(previous & 1);
        Self {
            writing: even.wrapping_add(1),
            at_rest: even.wrapping_add(2),
        }
    }
}

impl PvClock {
    /// All CPUs' counters run as one and every page shows the same parameters for ever: a guest may read
    /// any vCPU's page and needs no guard against time running backwards.
    pub const TSC_STABLE: u8 = 1 << 0;
    /// The guest was stopped by its host since it last looked.
    pub const GUEST_STOPPED: u8 = 1 << 1;

    /// The page that makes a guest compute the time of `clock`, with the version given (C5).
    #[must_use]
    pub const fn new(clock: &Clock, flags: u8, version: u32) -> Self {
        Self {
            version,
            tsc_timestamp: clock.tsc_base,
            system_time: clock.ns_base,
            mul: clock.scale.mul(),
            shift: clock.scale.shift(),
            flags,
        }
    }

    /// The same for a CPU whose counter is off: the guest reads that one (C5). Its arithmetic wraps around, and so may
    /// the count here.
    #[must_use]
    pub const fn on(clock: &Clock, offset: Offset, flags: u8, version: u32) -> Self {
        Self {
            tsc_timestamp: offset.here(clock.tsc_base),
            ..Self::new(clock, flags, version)
        }
    }

    /// The page as its four little-endian words. Store word 0 of the value with the `writing` version,
    /// words 1 to 3, then word 0 with the `at_rest` version, each with release ordering (C6).
    #[must_use]
    pub const fn words(&self) -> [u64; 4] {
        [
            self.version as u64,
            self.tsc_timestamp,
            self.system_time,
            self.mul as u64 | (self.shift as u8 as u64) << 32 | (self.flags as u64) << 40,
        ]
    }

    /// The time a guest computes from this page: 64-bit shift, then the upper bits of the product.
    /// `None` while the version is odd. Unlike [`Clock::now_ns`] this wraps, as guests do: before the
    /// base, and where the shift overflows.
    #[must_use]
    pub const fn guest_ns(&self, tsc: u64) -> Option<u64> {
        if self.version & 1 != 0 {
            return None;
        }
        let delta = tsc.wrapping_sub(self.tsc_timestamp);
        let shifted = if self.shift >= 0 {
            delta.wrapping_shl(self.shift as u32)
        } else {
            delta.wrapping_shr(self.shift.unsigned_abs() as u32)
        };
        let ns = (shifted as u128 * self.mul as u128) >> 32;
        Some(self.system_time.wrapping_add(ns as u64))
    }

    /// The frequency in kHz a guest derives from this page; `None` where it would divide by zero, which
    /// no page made from a [`TscScale`] does.
    #[must_use]
    pub const fn guest_khz(&self) -> Option<u64> {
        let Some(khz) = (1_000_000_u64 << 32).checked_div(self.mul as u64) else {
            return None;
        };
        Some(if self.shift < 0 {
            khz.wrapping_shl(self.shift.unsigned_abs() as u32)
        } else {
            khz.wrapping_shr(self.shift as u32)
        })
    }
}

/// Everything before a calibration: time stands at zero and a guest that divides by `mul` survives.
impl Default for PvClock {
    fn default() -> Self {
        Self::new(&Clock::new(0, 0, TscScale::NANOSECONDS), 0, 0)
    }
}

//! How much of something was had, and for how long.

use super::account::same_layout;
use core::mem::offset_of;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicU32, AtomicU64, fence};
use guest_abi::usage_area::UsageHeld;

/// A number that goes up and down, with the most it has been and its sum over time, exact in integers. For one writer at
/// a time: whoever has the lock around it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    now: u64,
    peak: u64,
    /// Number times ticks, up to `until`.
    over_time: u128,
    until: u64,
}

impl Held {
    /// Nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            now: 0,
            peak: 0,
            over_time: 0,
            until: 0,
        }
    }

    /// What was had until `at` is counted up to there. Readings of CPUs may differ by a little: one that lies before the
    /// last counts as that.
    fn pass(&mut self, at: u64) {
        if let Some(ticks) = at.checked_sub(self.until) {
            let more = u128::from(self.now) * u128::from(ticks);
            self.over_time = self.over_time.wrapping_add(more);
            self.until = at;
        }
    }

    /// So many more from `at` on.
    pub fn take(&mut self, number: u64, at: u64) {
        self.pass(at);
        self.now = self.now.wrapping_add(number);
        self.peak = self.peak.max(self.now);
    }

    /// So many fewer from `at` on.
    pub fn give(&mut self, number: u64, at: u64) {
        self.pass(at);
        self.now = self.now.wrapping_sub(number);
    }

    /// How many there are.
    #[must_use]
    pub const fn now(&self) -> u64 {
        self.now
    }

    /// The most there have been.
    #[must_use]
    pub const fn peak(&self) -> u64 {
        self.peak
    }

    /// The sum of numbers times ticks until `at`.
    #[must_use]
    pub fn over_time_until(&self, at: u64) -> u128 {
        let mut later = *self;
        later.pass(at);
        later.over_time
    }
}

/// A [`Held`] that others may read while it is written, and that is shown to guests as it lies here.
#[derive(Debug, Default)]
#[repr(C)]
pub struct SharedHeld {
    /// Odd while it is written.
    version: AtomicU32,
    _pad: u32,
    now: AtomicU64,
    peak: AtomicU64,
    over_time: [AtomicU64; 2],
    until: AtomicU64,
}

same_layout!(SharedHeld, UsageHeld: version = seq, now = now, peak = peak, over_time = over_time, until = until);

impl SharedHeld {
    /// Nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            version: AtomicU32::new(0),
            _pad: 0,
            now: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            over_time: [const { AtomicU64::new(0) }; 2],
            until: AtomicU64::new(0),
        }
    }

    /// As [`Held::take`], for one writer at a time.
    pub fn take(&self, number: u64, at: u64) {
        self.write(|held| held.take(number, at));
    }

    /// As [`Held::give`], for one writer at a time.
    pub fn give(&self, number: u64, at: u64) {
        self.write(|held| held.give(number, at));
    }

    fn write(&self, change: impl FnOnce(&mut Held)) {
        let mut held = self.look();
        change(&mut held);
        let version = self.version.load(Relaxed);
        self.version.store(version.wrapping_add(1), Relaxed);
        fence(Release);
        self.now.store(held.now, Relaxed);
        self.peak.store(held.peak, Relaxed);
        let halves = [held.over_time as u64, (held.over_time >> 64) as u64];
        for (to, half) in self.over_time.iter().zip(halves) {
            to.store(half, Relaxed);
        }
        self.until.store(held.until, Relaxed);
        self.version.store(version.wrapping_add(2), Release);
    }

    fn look(&self) -> Held {
        let [low, high] = self.over_time.each_ref().map(|half| half.load(Relaxed));
        Held {
            now: self.now.load(Relaxed),
            peak: self.peak.load(Relaxed),
            over_time: u128::from(high) << 64 | u128::from(low),
            until: self.until.load(Relaxed),
        }
    }

    /// What there is.
    #[must_use]
    pub fn held(&self) -> Held {
        loop {
            let version = self.version.load(Acquire);
            let seen = self.look();
            fence(Acquire);
            if version & 1 == 0 && self.version.load(Relaxed) == version {
                return seen;
            }
            core::hint::spin_loop();
        }
    }
}

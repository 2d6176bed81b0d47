//! How much of something was had, and for how long.

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

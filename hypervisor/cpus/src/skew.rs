//! How far two CPUs' time-stamp counters are apart.
//!
//! One CPU reads its counter, has the other read its own, and reads again: the other's reading lies between, so the
//! offset is known to half the width of the bracket. The narrowest of many brackets counts.

/// One exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Our counter before we asked.
    pub before: u64,
    /// The other's.
    pub theirs: u64,
    /// Ours when the answer was there.
    pub after: u64,
}

/// The other counter less ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skew {
    /// Ticks by which the other is ahead.
    pub ticks: i64,
    /// Ticks by which that may be wrong, either way.
    pub error: u64,
}

impl Exchange {
    /// What it shows.
    #[must_use]
    pub fn skew(&self) -> Skew {
        let width = self.after.wrapping_sub(self.before);
        let middle = self.before.wrapping_add(width / 2);
        Skew {
            ticks: self.theirs.wrapping_sub(middle) as i64,
            error: width.div_ceil(2),
        }
    }
}

impl Skew {
    /// Whether the counters may well be the same.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.ticks.unsigned_abs() <= self.error
    }

    /// The better known of two.
    #[must_use]
    pub fn better(self, other: Skew) -> Skew {
        if other.error < self.error {
            other
        } else {
            self
        }
    }
}

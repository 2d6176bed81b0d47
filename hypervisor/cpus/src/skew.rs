//! How far two CPUs' time-stamp counters are apart.
//!
//! One CPU reads its counter, has the other read its own, and reads again: the other's reading lies between, so the
//! offset is known to half the width of the bracket. Every exchange leaves its bracket, and the offset lies in all of them.
//! That zero does is all that can be asked: no program could ever see a count of one CPU, go to the other and find a lower one,
//! if no exchange of ours did, and an exchange is as quick as two CPUs can tell each other anything.
//!
//! Measured once, when a CPU is started: what moves a counter later (firmware, a CPU that stops it while it sleeps) is not seen.

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

/// What the exchanges so far allow the other counter less ours to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    lowest: i64,
    highest: i64,
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
    /// What it shows: the answer was read between the two readings of ours.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        Bounds {
            lowest: self.theirs.wrapping_sub(self.after) as i64,
            highest: self.theirs.wrapping_sub(self.before) as i64,
        }
    }
}

impl Bounds {
    /// What both allow. Exchanges that contradict each other leave nothing, for ever.
    #[must_use]
    pub fn and(self, other: Bounds) -> Bounds {
        Bounds {
            lowest: self.lowest.max(other.lowest),
            highest: self.highest.min(other.highest),
        }
    }

    /// The offset; `None` where no offset explains the exchanges: the counters do not run at one rate, or one jumped.
    #[must_use]
    pub fn skew(self) -> Option<Skew> {
        let width = self.highest.checked_sub(self.lowest)?;
        let half = u64::try_from(width).ok()?.div_ceil(2);
        Some(Skew {
            // Not above the highest: half of the width, rounded up, is above it only where there is no width.
            ticks: self.highest - half as i64,
            error: half,
        })
    }
}

impl Skew {
    /// Whether the counters may well be the same: then nobody has seen that they are not.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.ticks.unsigned_abs() <= self.error
    }
}

/// What was found out about one CPU's counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It may well be the first CPU's.
    Same(Skew),
    /// It is ahead or behind.
    Apart(Skew),
    /// No offset explains what was read.
    Adrift,
    /// It did not answer.
    Nothing,
}

impl Found {
    /// What exchanges show, if there were any.
    #[must_use]
    pub fn from(bounds: Option<Bounds>) -> Found {
        match bounds.map(Bounds::skew) {
            None => Found::Nothing,
            Some(None) => Found::Adrift,
            Some(Some(skew)) if skew.is_none() => Found::Same(skew),
            Some(Some(skew)) => Found::Apart(skew),
        }
    }

    /// Whether nothing speaks against its being the first CPU's counter.
    #[must_use]
    pub fn is_same(self) -> bool {
        matches!(self, Found::Same(_))
    }

    /// Ticks by which the CPU's clock is to be corrected. None where whoever runs the machine vouches for the counters: then
    /// guests have copies of one clock, and ring 0 is not to tell them another time.
    #[must_use]
    pub fn correction(self, trust: Trust) -> i64 {
        match (self, trust) {
            (Found::Apart(skew), Trust::Measured | Trust::Never) => skew.ticks,
            _ => 0,
        }
    }
}

/// What whoever runs the machine says of the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Nothing: what the CPU says and what was found decides.
    Measured,
    /// They are one clock.
    Always,
    /// They are not.
    Never,
}

impl Trust {
    /// Whether guests are told that all CPUs' counters run as one: `invariant` is what the CPU says of its rate, `same`
    /// whether each CPU's was found to be the first one's.
    #[must_use]
    pub fn is_stable(self, invariant: bool, same: bool) -> bool {
        match self {
            Trust::Always => true,
            Trust::Never => false,
            Trust::Measured => invariant && same,
        }
    }
}

#[cfg(test)]
#[path = "tests/skew.rs"]
mod tests;

//! Counters of several CPUs that run at one rate but do not show the same (invariants C7 and C8).

/// Ticks by which a CPU's counter is ahead of the one that the machine's [`Clock`](crate::Clock) counts by.
///
/// Counters are numbers modulo 2^64 here: one that was set to zero late is behind by more than it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset(i64);

impl Offset {
    /// The counter is the machine's.
    pub const NONE: Self = Self(0);

    /// A counter that is so many ticks ahead, behind where negative.
    #[must_use]
    pub const fn ahead(ticks: i64) -> Self {
        Self(ticks)
    }

    /// A word that tells this one from others, never 0.
    #[must_use]
    #[inline]
    pub const fn word(self) -> u64 {
        // The top bit goes: counters that are half of all counts apart are nobody's.
        (self.0 as u64) << 1 | 1
    }

    /// What the machine's counter shows when this CPU's shows `here`.
    #[must_use]
    #[inline]
    pub const fn machine(self, here: u64) -> u64 {
        here.wrapping_sub(self.0 as u64)
    }

    /// What this CPU's counter shows when the machine's shows `machine`.
    #[must_use]
    #[inline]
    pub const fn here(self, machine: u64) -> u64 {
        machine.wrapping_add(self.0 as u64)
    }

    /// The count at which this CPU is to be interrupted for a moment of the machine's, now that its own counter shows `now`:
    /// `u64::MAX` for what lies beyond the counter's reach, never a count that has passed for a moment that has not (C8).
    #[must_use]
    #[inline]
    pub const fn deadline(self, machine: u64, now: u64) -> u64 {
        now.saturating_add(machine.saturating_sub(self.machine(now)))
    }
}

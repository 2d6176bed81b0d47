//! What the books say.

use super::{CpuLedger, Place};

/// What became of a CPU's time, up to its last boundary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuBooks {
    /// The first boundary.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// Nobody had anything to do.
    pub idle: u64,
    /// The hypervisor's own work, for nobody in particular.
    pub machine: u64,
    /// All that was put into accounts of vCPUs and domains here.
    pub sold: u64,
}

impl CpuBooks {
    /// S2: true unless a cycle was lost or counted twice.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        let sum = self.idle.wrapping_add(self.machine).wrapping_add(self.sold);
        self.last.wrapping_sub(self.first) == sum
    }
}

impl CpuLedger {
    /// What of this CPU's time up to `now` was not of the vCPU that was in hand, if one was: it was worked for another, or for
    /// nobody, or slept. Between two boundaries it grows by what is claimed from its beginning, too.
    #[must_use]
    pub fn aside(&self, now: u64) -> u64 {
        let is_open = !self.open.get().is_in_hand();
        let sums = [&self.machine, &self.idle, &self.sold_aside];
        let places = [
            Place::Elsewhere,
            Place::Unassigned,
            Place::Machine,
            Place::Idle,
        ];
        places
            .into_iter()
            .map(|place| self.place(place))
            .chain(sums)
            .fold(if is_open { now } else { 0 }, |sum, cycles| {
                sum.wrapping_add(cycles.get())
            })
    }

    /// All that was put into accounts so far.
    #[must_use]
    pub fn sold(&self) -> u64 {
        self.sold.get()
    }

    /// What [`Self::works_for`] put into the account of the one that comes.
    #[must_use]
    pub fn given(&self) -> u64 {
        self.given.get()
    }

    /// The last boundary.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last.get()
    }

    /// How many readings lay before the one that they followed.
    #[must_use]
    pub fn backwards(&self) -> u64 {
        self.backwards.get()
    }

    /// The books as they stand after [`Self::settle`], [`Self::works_for`], [`Self::sleeps`] or [`Self::works`], when all
    /// that was gathered is entered. What waits to be assigned counts as the machine's until it is.
    #[must_use]
    pub fn books(&self) -> CpuBooks {
        let waits = self.place(Place::Unassigned).get();
        let waits = match self.open.get() {
            Place::Unassigned => waits.wrapping_add(self.last.get()),
            _ => waits,
        };
        CpuBooks {
            first: self.first.get(),
            last: self.last.get(),
            idle: self.idle.get(),
            machine: self.machine.get().wrapping_add(waits),
            sold: self.sold.get(),
        }
    }
}

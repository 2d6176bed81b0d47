//! What each vCPU got, and what became of a CPU's time (invariant T8).
//!
//! Each interval between two calls is added to one account, or cut in two at the tick where a budget or a period ends.
//! No account is what was left when others were taken away.

/// What one vCPU got. In ticks; they wrap after centuries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Run in time that was reserved for it.
    pub guaranteed: u64,
    /// Run in time that nobody had reserved.
    pub extra: u64,
    /// Worked for it by the hypervisor while another ran, or nobody: its interrupts, its timers, its coming and going. Taken off
    /// its budget.
    pub elsewhere: u64,
    /// It could run and did not: it waited for others, or for its next period.
    pub stolen: u64,
    /// Periods that ended although it could run and had budget left: promises not kept. Stays zero among admitted
    /// reservations on a CPU that keeps to B.
    pub missed: u64,
}

impl Account {
    /// CPU time taken, by itself and for it.
    #[must_use]
    pub const fn used(&self) -> u64 {
        self.guaranteed
            .wrapping_add(self.extra)
            .wrapping_add(self.elsewhere)
    }

    pub(crate) const fn plus(&self, other: &Self) -> Self {
        Self {
            guaranteed: self.guaranteed.wrapping_add(other.guaranteed),
            extra: self.extra.wrapping_add(other.extra),
            elsewhere: self.elsewhere.wrapping_add(other.elsewhere),
            stolen: self.stolen.wrapping_add(other.stolen),
            missed: self.missed.wrapping_add(other.missed),
        }
    }
}

/// What became of one CPU's time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// The first boundary.
    pub first: u64,
    /// The last boundary.
    pub last: u64,
    /// Nobody ran.
    pub idle: u64,
    /// Of this CPU's time while somebody ran, what was not for the one that did ([`crate::Queue::excused`],
    /// [`crate::Queue::begins`]).
    pub for_others: u64,
    /// What was worked for vCPUs of this queue while they did not run, here or on another CPU ([`crate::Queue::owes`]): in their
    /// accounts, and if it was here in `for_others` or `idle` too.
    pub by_others: u64,
    /// What vCPUs got that have left this CPU.
    pub departed: Account,
}

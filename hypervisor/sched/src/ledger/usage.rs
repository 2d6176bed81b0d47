//! What was used, as plain numbers.

/// What the hypervisor did for a vCPU or a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Cause {
    /// It called.
    Call = 0,
    /// It took a fault: emulation, a trapped write to a table, a fault passed on to it.
    Fault = 1,
    /// An interrupt that is none of those below: mostly of other CPUs, on its behalf.
    Interrupt = 2,
    /// A timer: its own, or the end of its turn.
    Timer = 3,
    /// A device's interrupt.
    Device = 4,
    /// From one vCPU to another, and from sleep to the first that runs.
    Switch = 5,
}

/// How many causes there are.
pub const CAUSES: usize = 6;

impl Cause {
    /// All of them, by number.
    pub const ALL: [Cause; CAUSES] = [
        Cause::Call,
        Cause::Fault,
        Cause::Interrupt,
        Cause::Timer,
        Cause::Device,
        Cause::Switch,
    ];
}

/// Whose time a vCPU runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its own, which was reserved.
    Guaranteed,
    /// What nobody had reserved, or used.
    Extra,
}

/// What a vCPU or a domain used: cycles, and how often it did what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// In its applications.
    pub user: u64,
    /// In its kernel.
    pub kernel: u64,
    /// In the hypervisor, for it, by [`Cause`].
    pub hypervisor: [u64; CAUSES],
    /// Of all those: in time that was reserved for it.
    pub guaranteed: u64,
    /// Of all those: in time that nobody had reserved.
    pub extra: u64,
    /// Of all those: while another's vCPU, or none, was in hand.
    pub elsewhere: u64,
    /// Outside the sum: it could run, and did not.
    pub stolen: u64,
    /// How often a CPU was given to it.
    pub switches: u64,
    /// How often it sent an event.
    pub events_sent: u64,
    /// How often one of its ports became pending.
    pub events_received: u64,
    /// How often it began to use a grant.
    pub grants_used: u64,
    /// How often anybody began to use a grant of the domain's.
    pub grants_lent: u64,
}

impl Usage {
    /// Nothing.
    pub const ZERO: Self = Self {
        user: 0,
        kernel: 0,
        hypervisor: [0; CAUSES],
        guaranteed: 0,
        extra: 0,
        elsewhere: 0,
        stolen: 0,
        switches: 0,
        events_sent: 0,
        events_received: 0,
        grants_used: 0,
        grants_lent: 0,
    };

    /// Cycles of the hypervisor's for it, of all causes.
    #[must_use]
    pub fn hypervisor_sum(&self) -> u64 {
        let causes = self.hypervisor.iter();
        causes.fold(0, |sum, cycles| sum.wrapping_add(*cycles))
    }

    /// All that it used.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.user
            .wrapping_add(self.kernel)
            .wrapping_add(self.hypervisor_sum())
    }

    /// Whether the two ways to cut it up agree: by what was done, and by whose time it was.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let by_time = self.guaranteed.wrapping_add(self.extra);
        self.used() == by_time.wrapping_add(self.elsewhere)
    }

    /// Adds another's.
    pub fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.user, other.user),
            (&mut self.kernel, other.kernel),
            (&mut self.guaranteed, other.guaranteed),
            (&mut self.extra, other.extra),
            (&mut self.elsewhere, other.elsewhere),
            (&mut self.stolen, other.stolen),
            (&mut self.switches, other.switches),
            (&mut self.events_sent, other.events_sent),
            (&mut self.events_received, other.events_received),
            (&mut self.grants_used, other.grants_used),
            (&mut self.grants_lent, other.grants_lent),
        ];
        let causes = self.hypervisor.iter_mut().zip(other.hypervisor);
        for (to, more) in pairs.into_iter().chain(causes) {
            *to = to.wrapping_add(more);
        }
    }
}

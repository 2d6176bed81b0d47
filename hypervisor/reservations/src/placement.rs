//! Which CPU a reservation goes to, and whether any has room: admission (invariant T1).
//!
//! A CPU is charged (slice + B) / period for each reservation on it, in integers rounded up, and the sum is kept at or
//! below the CPU less the reserve. A charge that is given up stays until what was taken under it is paid for at its rate
//! (the queue says when): a vCPU that has used its slice at the beginning of its period and ends would otherwise leave
//! room that is not there. So a change charges the larger of old and new terms until the new ones are in force.
//!
//! Everything is decided before anything is changed; what is refused leaves no trace.

use crate::rules::{Charge, Rules, Terms};
use crate::wheel::Wheel;
use cpus::set::CpuSet;

/// The caller's storage for what is reserved of one CPU.
#[derive(Clone, Copy, Debug)]
pub struct CpuBooks {
    online: bool,
    charged: Charge,
    vcpus: u32,
    departing: Wheel,
}

impl CpuBooks {
    /// What the storage is filled with: a CPU that takes nobody.
    pub const OFFLINE: Self = Self {
        online: false,
        charged: Charge::NOTHING,
        vcpus: 0,
        departing: Wheel::EMPTY,
    };
}

/// Why nothing was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// None of the CPUs that it may run on takes vCPUs.
    NoCpu,
    /// None of them has room.
    NoRoom {
        /// The largest slice that would be granted now, with the same period. May be less than B; then it is 0.
        largest_slice: u64,
        /// The largest when what is given up has been paid for: in a little more than the longest period.
        largest_slice_soon: u64,
    },
}

impl Refusal {
    /// The same of several at once, of which `largest` would have been granted to all now; it is soon, too.
    #[must_use]
    pub fn of_several(self, largest: u64) -> Self {
        match self {
            Self::NoRoom {
                largest_slice_soon, ..
            } => Self::NoRoom {
                largest_slice: largest,
                largest_slice_soon: largest_slice_soon.max(largest),
            },
            other => other,
        }
    }

    /// The same for who may have no larger slice than `most`, whatever is free.
    #[must_use]
    pub fn within(self, most: u64) -> Self {
        match self {
            Self::NoRoom {
                largest_slice,
                largest_slice_soon,
            } => Self::NoRoom {
                largest_slice: largest_slice.min(most),
                largest_slice_soon: largest_slice_soon.min(most),
            },
            other @ Self::NoCpu => other,
        }
    }
}

/// Room that is given up, to be given back by [`Placement::release`] when it is paid for.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Release {
    cpu: usize,
    charge: Charge,
}

/// How changed terms are granted.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Change {
    /// On the CPU where it is: [`crate::Queue::change`], then release at the time it answers.
    Here(Release),
    /// On another: [`crate::Queue::leave`] the old one, release at the time it answers, and when the vCPU has left,
    /// arrive at the new one under the new terms.
    Elsewhere {
        /// The CPU it is to move to.
        to: usize,
        /// All it had of the old one.
        release: Release,
    },
}

/// What is reserved of all CPUs.
pub struct Placement<'a> {
    cpus: &'a mut [CpuBooks],
    rules: Rules,
    /// What can be reserved of each: the rules', which take a long division.
    capacity: Charge,
    /// The step that all wheels were last turned to.
    turned_to: u64,
}

impl<'a> Placement<'a> {
    /// Nothing reserved, and no CPU online. What the storage holds is overwritten.
    #[must_use]
    pub fn new(cpus: &'a mut [CpuBooks], rules: Rules) -> Self {
        cpus.fill(CpuBooks::OFFLINE);
        Self {
            cpus,
            rules,
            capacity: rules.capacity(),
            turned_to: 0,
        }
    }

    /// Lets a CPU take vCPUs, or no new ones; false if there is no such CPU.
    pub fn set_online(&mut self, cpu: usize, online: bool) -> bool {
        match self.cpus.get_mut(cpu) {
            Some(books) => {
                books.online = online;
                true
            }
            None => false,
        }
    }

    /// Finds a CPU for a new vCPU and charges it: the first with room among those that are both `allowed` and
    /// `preferred` (those without a vCPU of the same domain, say), then the first with room among the `allowed`. One
    /// that is promised nothing goes where the fewest vCPUs are.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn admit(
        &mut self,
        now: u64,
        terms: &Terms,
        allowed: impl Fn(usize) -> bool,
        preferred: impl Fn(usize) -> bool,
    ) -> Result<usize, Refusal> {
        self.turn(now);
        let charge = terms.charge(&self.rules);
        let cpu = self
            .find(charge, |cpu| allowed(cpu) && preferred(cpu))
            .or_else(|| self.find(charge, &allowed))
            .ok_or_else(|| self.refusal(terms, &allowed, None))?;
        self.take(cpu, charge, 1);
        Ok(cpu)
    }

    /// Grants other terms to a vCPU that has `from` on `cpu`: there if it may stay there and there is room, else on the
    /// first CPU with room. What it is promised is not more than before: always granted where it may stay.
    ///
    /// # Errors
    /// See [`Refusal`]; it keeps what it has.
    pub fn amend(
        &mut self,
        now: u64,
        cpu: usize,
        from: &Terms,
        to: &Terms,
        allowed: impl Fn(usize) -> bool,
    ) -> Result<Change, Refusal> {
        self.turn(now);
        let (old, new) = (from.charge(&self.rules), to.charge(&self.rules));
        if allowed(cpu) && self.take_if_room(cpu, new.less(old)) {
            let charge = old.less(new);
            return Ok(Change::Here(Release { cpu, charge }));
        }
        let other = self
            .find(new, |other| other != cpu && allowed(other))
            .ok_or_else(|| self.refusal(to, &allowed, Some((cpu, old))))?;
        self.take(other, new, 1);
        let release = self.withdraw(cpu, from);
        Ok(Change::Elsewhere { to: other, release })
    }

    /// What one gives back that was charged `had` and gets terms where it is that are charged `will`, which it was granted
    /// there ([`Self::amend_in_place`]).
    pub const fn given_back(&self, cpu: usize, had: Charge, will: Charge) -> Release {
        let charge = had.less(will);
        Release { cpu, charge }
    }

    /// Of some CPUs the one with the fewest vCPUs among those with room for one that has these terms on `at`.
    pub fn roomiest(&mut self, now: u64, terms: &Terms, at: usize, cpus: &CpuSet) -> Option<usize> {
        self.turn(now);
        let roomy = self.with_room(terms.charge(&self.rules));
        let fit = roomy.with(at as u32).and(cpus);
        let fit = fit.iter().map(|cpu| cpu as usize);
        fit.min_by_key(|&cpu| (self.vcpus(cpu), cpu))
    }

    /// A vCPU ends, or was admitted and then not made: what it had of a CPU is to be released.
    pub fn withdraw(&mut self, cpu: usize, terms: &Terms) -> Release {
        self.give(cpu, Charge::NOTHING, 1);
        Release {
            cpu,
            charge: terms.charge(&self.rules),
        }
    }

    /// Gives room back at `at`, or up to an eighth of the longest period later.
    pub fn release(&mut self, now: u64, release: Release, at: u64) {
        self.turn(now);
        let width = self.step_width();
        let Some(books) = self.cpus.get_mut(release.cpu) else {
            return;
        };
        if at <= now {
            books.charged = books.charged.less(release.charge);
        } else {
            books.departing.hold(release.charge, at, width);
        }
    }

    /// What is charged on a CPU, what is not yet given back included; `None` if there is no such CPU.
    #[must_use]
    pub fn charged(&self, cpu: usize) -> Option<Charge> {
        self.cpus.get(cpu).map(|books| books.charged)
    }

    /// Of what is charged, what is only taken until it is paid for, as of `now`; `None` if there is no such CPU.
    #[must_use]
    pub fn departing(&mut self, now: u64, cpu: usize) -> Option<Charge> {
        self.turn(now);
        self.cpus
            .get(cpu)
            .map(|books| books.departing.collect_held())
    }

    /// Whether a CPU takes vCPUs.
    #[must_use]
    pub fn is_online(&self, cpu: usize) -> bool {
        self.cpus.get(cpu).is_some_and(|books| books.online)
    }

    /// Goes on with another quantum; false, and nothing changes, if the rules differ in more than that.
    pub fn set_quantum(&mut self, rules: Rules) -> bool {
        let is_same = self.rules.with_quantum(rules.quantum()) == Ok(rules);
        if is_same {
            self.rules = rules;
        }
        is_same
    }

    /// How many vCPUs are on a CPU; `None` if there is no such CPU.
    #[must_use]
    pub fn vcpus(&self, cpu: usize) -> Option<u32> {
        self.cpus.get(cpu).map(|books| books.vcpus)
    }

    fn find(&self, charge: Charge, allowed: impl Fn(usize) -> bool) -> Option<usize> {
        let mut open = self.open(&allowed);
        if charge == Charge::NOTHING {
            open.min_by_key(|&(cpu, books)| (books.vcpus, cpu))
                .map(|(cpu, _)| cpu)
        } else {
            open.find(|&(cpu, _)| charge <= self.room(cpu))
                .map(|(cpu, _)| cpu)
        }
    }

    pub(crate) fn refusal(
        &self,
        terms: &Terms,
        allowed: &impl Fn(usize) -> bool,
        has: Option<(usize, Charge)>,
    ) -> Refusal {
        if self.open(allowed).next().is_none() {
            return Refusal::NoCpu;
        }
        let largest = |soon: bool| {
            let rooms = self.open(allowed).map(|(cpu, books)| {
                let mut room = self.room(cpu);
                if soon {
                    room = room.and(books.departing.collect_held());
                }
                // Where it is, what it has is its own.
                match has {
                    Some((here, charge)) if here == cpu => room.and(charge),
                    _ => room,
                }
            });
            let most = rooms.max().unwrap_or(Charge::NOTHING);
            most.largest_slice(&self.rules, terms.period())
        };
        Refusal::NoRoom {
            largest_slice: largest(false),
            largest_slice_soon: largest(true),
        }
    }

    /// The CPUs that take vCPUs and are allowed.
    fn open<'b>(
        &'b self,
        allowed: &'b impl Fn(usize) -> bool,
    ) -> impl Iterator<Item = (usize, &'b CpuBooks)> + 'b {
        let cpus = self.cpus.iter().enumerate();
        cpus.filter(move |&(cpu, books)| books.online && allowed(cpu))
    }

    /// The CPUs that take vCPUs and have room for a charge.
    pub(crate) fn with_room(&self, charge: Charge) -> CpuSet {
        let open = self.open(&|_| true);
        let roomy = open.filter(|&(cpu, _)| charge <= self.room(cpu));
        roomy.fold(CpuSet::EMPTY, |set, (cpu, _)| set.with(cpu as u32))
    }

    pub(crate) fn room(&self, cpu: usize) -> Charge {
        let charged = self.charged(cpu).unwrap_or(Charge::WHOLE);
        self.capacity.less(charged)
    }

    /// The rules that it goes by.
    #[must_use]
    pub const fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Undoes [`Self::take`], to the unit.
    pub(crate) fn give(&mut self, cpu: usize, charge: Charge, vcpus: u32) {
        if let Some(books) = self.cpus.get_mut(cpu) {
            books.charged = books.charged.less(charge);
            books.vcpus = books.vcpus.saturating_sub(vcpus);
        }
    }

    pub(crate) fn take(&mut self, cpu: usize, charge: Charge, vcpus: u32) {
        if let Some(books) = self.cpus.get_mut(cpu) {
            books.charged = books.charged.and(charge);
            books.vcpus = books.vcpus.saturating_add(vcpus);
        }
    }

    /// Charges a CPU more, if it has room for that. For nothing there is room always.
    pub(crate) fn take_if_room(&mut self, cpu: usize, more: Charge) -> bool {
        let fits = more == Charge::NOTHING || more <= self.room(cpu);
        if fits {
            self.take(cpu, more, 0);
        }
        fits
    }

    fn step_width(&self) -> u64 {
        self.rules.longest_period() / 8
    }

    /// Gives back what is free by now: once in each step, however many CPUs there are.
    pub(crate) fn turn(&mut self, now: u64) {
        let width = self.step_width();
        let step = now / width.max(1);
        if step <= self.turned_to {
            return;
        }
        self.turned_to = step;
        for books in self.cpus.iter_mut() {
            let free = books.departing.turn(now, width);
            books.charged = books.charged.less(free);
        }
    }
}

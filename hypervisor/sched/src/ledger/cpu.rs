//! The books of one CPU: which account is open, and what is not in the accounts yet.
//!
//! Exits from guests are many, and accounts need not be written for each: intervals are gathered here by cause, for the
//! one vCPU in hand, and entered when it changes or somebody asks ([`CpuLedger::settle`]). A place in which an interval
//! is open has its beginning taken off already: what it holds then is no number of cycles.
//!
//! Who pays for an interval may be found out while it goes on. What begins with an interrupt is nobody's at first:
//! whoever turns out to be the reason claims it from its beginning, without another reading ([`CpuLedger::claim`]).

use super::account::{ALWAYS, Open, VcpuAccount};
use super::usage::{CAUSES, Cause, Kind};
use core::cell::Cell;

/// Where an interval is gathered. The first are the causes, for the vCPU in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Place {
    Call = Cause::Call as u8,
    Fault = Cause::Fault as u8,
    Interrupt = Cause::Interrupt as u8,
    Timer = Cause::Timer as u8,
    Device = Cause::Device as u8,
    Switch = Cause::Switch as u8,
    /// An interrupt, before it is known whose. The vCPU in hand pays if nobody claims it.
    Fresh,
    /// For the domain that is named in `elsewhere`.
    Elsewhere,
    /// From sleep on: for whoever claims it or runs next, or else the machine's.
    Unassigned,
    Machine,
    Idle,
}

/// One more than there are places, and a power of two.
const PLACES: usize = 16;

impl Place {
    const fn of(cause: Cause) -> Place {
        match cause {
            Cause::Call => Place::Call,
            Cause::Fault => Place::Fault,
            Cause::Interrupt => Place::Interrupt,
            Cause::Timer => Place::Timer,
            Cause::Device => Place::Device,
            Cause::Switch => Place::Switch,
        }
    }

    /// Whether it is the vCPU in hand that pays.
    const fn is_in_hand(self) -> bool {
        (self as u8) <= Place::Fresh as u8
    }
}

/// Who pays for work that is done while none of its vCPUs is in hand: a domain, by a number of the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payer(pub u64);

/// Cycles to be put into the account of a domain. They count as sold: whoever gets this adds them somewhere.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Whose.
    pub payer: Payer,
    /// What for.
    pub cause: Cause,
    /// How many.
    pub cycles: u64,
}

/// Cycles in the guest in hand that were not in its account yet, as the code at its entries and exits gathers them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guest {
    /// In its applications.
    pub user: u64,
    /// In its kernel.
    pub kernel: u64,
}

impl Guest {
    /// It did not run.
    pub const NONE: Self = Self { user: 0, kernel: 0 };
}

/// Who pays for the open interval: for [`CpuLedger::pays_again`].
#[must_use]
#[derive(Clone, Copy, Debug)]
pub struct Paying {
    place: Place,
    elsewhere: Option<(Payer, Cause)>,
}

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

/// The books of one CPU, touched by that CPU alone.
pub struct CpuLedger {
    cpu: Cell<u16>,
    places: [Cell<u64>; PLACES],
    open: Cell<Place>,
    last: Cell<u64>,
    first: Cell<u64>,
    elsewhere: Cell<Option<(Payer, Cause)>>,
    idle: Cell<u64>,
    machine: Cell<u64>,
    sold: Cell<u64>,
    /// Of that, what was not of vCPUs that were in hand.
    sold_aside: Cell<u64>,
    /// What the last vCPU that was let run was given of what nobody had claimed.
    given: Cell<u64>,
    backwards: Cell<u64>,
    /// Until when the vCPU in hand runs in its own time: [`ALWAYS`], or 0 if it does not.
    own_until: Cell<u64>,
}

impl Default for CpuLedger {
    fn default() -> Self {
        Self::new()
    }
}

impl CpuLedger {
    /// Books that are not open yet: [`Self::begin`].
    #[must_use]
    pub const fn new() -> Self {
        Self {
            cpu: Cell::new(0),
            places: [const { Cell::new(0) }; PLACES],
            open: Cell::new(Place::Machine),
            last: Cell::new(0),
            first: Cell::new(0),
            elsewhere: Cell::new(None),
            idle: Cell::new(0),
            machine: Cell::new(0),
            sold: Cell::new(0),
            sold_aside: Cell::new(0),
            given: Cell::new(0),
            backwards: Cell::new(0),
            own_until: Cell::new(0),
        }
    }

    /// Opens the books of this CPU: what came before is nobody's, and what comes next the machine's.
    pub fn begin(&self, now: u64, cpu: u16) {
        self.cpu.set(cpu);
        self.places.iter().for_each(|place| place.set(0));
        let sums = [&self.idle, &self.machine, &self.sold, &self.sold_aside];
        sums.into_iter().for_each(|sum| sum.set(0));
        self.backwards.set(0);
        self.elsewhere.set(None);
        self.first.set(now);
        self.open(now, Place::Machine);
    }

    #[inline(always)]
    fn place(&self, place: Place) -> &Cell<u64> {
        &self.places[place as usize & (PLACES - 1)]
    }

    #[inline(always)]
    fn close(&self, now: u64) {
        let place = self.place(self.open.get());
        place.set(place.get().wrapping_add(now));
    }

    #[inline(always)]
    fn open(&self, now: u64, to: Place) {
        let place = self.place(to);
        place.set(place.get().wrapping_sub(now));
        self.open.set(to);
        self.last.set(now);
    }

    /// As [`Self::close`], and counts a reading that lies before the last.
    fn close_checked(&self, now: u64) {
        if (now.wrapping_sub(self.last.get()) as i64) < 0 {
            Self::grow(&self.backwards, 1);
        }
        self.close(now);
    }

    /// A boundary.
    fn boundary(&self, now: u64, to: Place) {
        self.close_checked(now);
        self.open(now, to);
    }

    fn take(&self, place: Place) -> u64 {
        self.place(place).take()
    }

    fn grow(sum: &Cell<u64>, cycles: u64) {
        sum.set(sum.get().wrapping_add(cycles));
    }

    /// A guest was entered at `left` and has come back at `entered`, with a call or a fault. The cycles between are the
    /// guest's, and gathered elsewhere: [`Guest`].
    #[inline(always)]
    pub fn came_back(&self, left: u64, entered: u64, with: Cause) {
        self.close(left);
        self.open(entered, Place::of(with));
    }

    /// As [`Self::came_back`], with an interrupt: it is to be seen whose.
    #[inline(always)]
    pub fn came_back_by_interrupt(&self, left: u64, entered: u64) {
        self.close(left);
        self.open(entered, Place::Fresh);
    }

    /// Who pays.
    pub fn paying(&self) -> Paying {
        Paying {
            place: self.open.get(),
            elsewhere: self.elsewhere.get(),
        }
    }

    /// Whoever paid before does so again from now on, if another has claimed what goes on meanwhile. What nobody had
    /// claimed stays with whom claimed it.
    #[must_use]
    pub fn pays_again(&self, before: Paying, now: impl FnOnce() -> u64) -> Option<Due> {
        let open = self.open.get();
        let same = open == before.place
            && (open != Place::Elsewhere || self.elsewhere.get() == before.elsewhere);
        if same || matches!(before.place, Place::Fresh | Place::Unassigned) {
            return None;
        }
        self.restore(before, now())
    }

    fn restore(&self, before: Paying, now: u64) -> Option<Due> {
        self.close(now);
        let due = match before.elsewhere {
            Some((payer, cause)) if before.place == Place::Elsewhere => self.name(payer, cause),
            _ => None,
        };
        self.open(now, before.place);
        due
    }

    /// An interrupt in ring 0, where interrupts are let in, or while the CPU sleeps.
    pub fn interrupted(&self, now: u64) -> Paying {
        self.handled();
        let before = self.paying();
        let to = match before.place {
            place if place.is_in_hand() => Place::Fresh,
            // Whoever is worked for elsewhere has nobody in hand to pay.
            _ => Place::Unassigned,
        };
        self.boundary(now, to);
        before
    }

    /// The interrupt's handler is done. What was interrupted goes on, but for sleep: that is over.
    #[must_use]
    pub fn resumed(&self, now: u64, before: Paying) -> Option<Due> {
        if before.place == Place::Idle {
            return None;
        }
        self.handled();
        self.restore(before, now)
    }

    /// An interrupt that came with a guest is dealt with: if nobody claimed it the vCPU in hand pays.
    pub fn handled(&self) {
        if self.open.get() == Place::Fresh {
            self.rename(Place::Interrupt);
        }
    }

    /// Who is worked for elsewhere, if anybody is now.
    #[must_use]
    pub fn payer(&self) -> Option<(Payer, Cause)> {
        let elsewhere = self.elsewhere.get();
        elsewhere.filter(|_| self.open.get() == Place::Elsewhere)
    }

    /// Whether the vCPU in hand pays for a change of vCPUs.
    #[must_use]
    pub fn is_switching(&self) -> bool {
        self.open.get() == Place::Switch
    }

    /// The vCPU in hand was let run and has more to do before it can: that is its own, as for a call, whoever pays for
    /// letting it run.
    pub fn goes_on(&self, now: impl FnOnce() -> u64) {
        if matches!(self.open.get(), Place::Switch | Place::Elsewhere) {
            self.boundary(now(), Place::Call);
        }
    }

    /// The open interval is another's from its beginning.
    fn rename(&self, to: Place) {
        let last = self.last.get();
        self.close(last);
        self.open(last, to);
    }

    /// Whether nobody has claimed the open interval that could be claimed from its beginning.
    fn is_unclaimed(&self) -> bool {
        matches!(self.open.get(), Place::Fresh | Place::Unassigned)
    }

    /// What goes on is for the vCPU in hand or its siblings: from its beginning if it is an interrupt that nobody has
    /// claimed, or else from now on.
    pub fn claim(&self, cause: Cause, now: impl FnOnce() -> u64) {
        let to = Place::of(cause);
        if self.is_unclaimed() {
            self.rename(to);
        } else if self.open.get() != to {
            self.boundary(now(), to);
        }
    }

    /// As [`Self::claim`], but nothing if somebody has claimed what goes on.
    pub fn claim_fresh(&self, cause: Cause) {
        if self.open.get() == Place::Fresh {
            self.rename(Place::of(cause));
        }
    }

    /// As [`Self::claim`], for a domain of which no vCPU is in hand. Answers what is due from whoever was the last such.
    #[must_use]
    pub fn claim_elsewhere(
        &self,
        payer: Payer,
        cause: Cause,
        now: impl FnOnce() -> u64,
    ) -> Option<Due> {
        let open = self.open.get();
        if open == Place::Elsewhere && self.elsewhere.get() == Some((payer, cause)) {
            return None;
        }
        let at = match self.is_unclaimed() {
            true => self.last.get(),
            false => now(),
        };
        self.close(at);
        let due = self.name(payer, cause);
        self.open(at, Place::Elsewhere);
        due
    }

    /// As [`Self::claim`], for nobody: the machine's own.
    pub fn claim_machine(&self, now: impl FnOnce() -> u64) {
        match self.open.get() {
            Place::Machine => {}
            _ if self.is_unclaimed() => self.rename(Place::Machine),
            _ => self.boundary(now(), Place::Machine),
        }
    }

    /// Names who is worked for elsewhere. No interval is open there.
    fn name(&self, payer: Payer, cause: Cause) -> Option<Due> {
        let due = self.take_due();
        self.elsewhere.set(Some((payer, cause)));
        due
    }

    fn take_due(&self) -> Option<Due> {
        let (payer, cause) = self.elsewhere.take()?;
        let cycles = self.take(Place::Elsewhere);
        Self::grow(&self.sold, cycles);
        Self::grow(&self.sold_aside, cycles);
        Some(Due {
            payer,
            cause,
            cycles,
        })
    }

    /// Another vCPU takes the place of the one in hand from now on. Who pays stays who pays: whoever caused it.
    pub fn switches(&self, now: u64) {
        if self.open.get().is_in_hand() {
            self.boundary(now, Place::Switch);
        }
    }

    /// Enters what was gathered up to `now` in the accounts: of the vCPU in hand, if one is, which goes on to be.
    #[must_use]
    pub fn settle(&self, now: u64, in_hand: Option<&VcpuAccount>, guest: Guest) -> Option<Due> {
        self.handled();
        let open = self.open.get();
        let elsewhere = self.elsewhere.get();
        let due = self.enter(now, in_hand, guest, Some(self.since(now)));
        if open == Place::Elsewhere {
            self.elsewhere.set(elsewhere);
        }
        self.open(now, open);
        due
    }

    fn since(&self, now: u64) -> Open {
        Open {
            cpu: self.cpu.get(),
            since: now,
        }
    }

    /// Closes the open interval at `now` and empties all places but the one of what is not assigned.
    fn enter(
        &self,
        now: u64,
        in_hand: Option<&VcpuAccount>,
        guest: Guest,
        open: Option<Open>,
    ) -> Option<Due> {
        self.handled();
        self.close_checked(now);
        let mut causes = [0; CAUSES];
        for (cycles, cause) in causes.iter_mut().zip(Cause::ALL) {
            *cycles = self.take(Place::of(cause));
        }
        // Interrupts that a guest went on after before anybody had claimed them.
        let unclaimed = &mut causes[Cause::Interrupt as usize];
        *unclaimed = unclaimed.wrapping_add(self.take(Place::Fresh));
        match in_hand {
            Some(account) => {
                let all = account.enter(
                    guest.user,
                    guest.kernel,
                    &causes,
                    open,
                    self.own_until.get(),
                );
                Self::grow(&self.sold, all);
            }
            // Nobody's: nothing was gathered for a vCPU while none was in hand.
            None => {
                let all = causes.iter().fold(0_u64, |sum, c| sum.wrapping_add(*c));
                Self::grow(&self.machine, all);
            }
        }
        Self::grow(&self.machine, self.take(Place::Machine));
        Self::grow(&self.idle, self.take(Place::Idle));
        self.take_due()
    }

    /// The CPU works for a vCPU from now on, to let it run, in time of this kind; `before` was in hand until then, perhaps
    /// the same. What nobody has claimed since the CPU slept is for the one that comes.
    #[must_use]
    pub fn works_for(
        &self,
        now: u64,
        before: Option<&VcpuAccount>,
        guest: Guest,
        vcpu: &VcpuAccount,
        kind: Kind,
    ) -> Option<Due> {
        let same = before.is_some_and(|before| core::ptr::eq(before, vcpu));
        let due = self.enter(now, before, guest, None);
        self.own_until.set(match kind {
            Kind::Guaranteed => ALWAYS,
            Kind::Extra => 0,
        });
        let woken = self.take(Place::Unassigned);
        vcpu.opens(woken, self.since(now), kind == Kind::Guaranteed);
        Self::grow(&self.sold, woken);
        Self::grow(&self.sold_aside, woken);
        self.given.set(woken);
        if !same {
            vcpu.count_switch();
        }
        self.open(now, Place::Switch);
        due
    }

    /// The own time of the vCPU in hand ended when the counter was at `at`, after the last boundary at which its account was
    /// written, and nobody decided anything there: what it used since is what nobody had reserved.
    pub fn own_time_ended(&self, at: u64) {
        self.own_until.set(at.min(self.own_until.get()));
    }

    /// The CPU sleeps from now on, with nobody in hand; `before` was until then.
    #[must_use]
    pub fn sleeps(&self, now: u64, before: Option<&VcpuAccount>, guest: Guest) -> Option<Due> {
        self.leaves(now, before, guest, Place::Idle)
    }

    /// The CPU works for nobody from now on, with nobody in hand; `before` was until then.
    #[must_use]
    pub fn works(&self, now: u64, before: Option<&VcpuAccount>, guest: Guest) -> Option<Due> {
        self.leaves(now, before, guest, Place::Machine)
    }

    fn leaves(
        &self,
        now: u64,
        before: Option<&VcpuAccount>,
        guest: Guest,
        to: Place,
    ) -> Option<Due> {
        let due = self.enter(now, before, guest, None);
        Self::grow(&self.machine, self.take(Place::Unassigned));
        self.open(now, to);
        due
    }

    /// Sleep is over. What woke the CPU may have begun the interval that is open.
    pub fn woke(&self, now: impl FnOnce() -> u64) {
        if self.open.get() == Place::Idle {
            self.boundary(now(), Place::Unassigned);
        }
    }

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

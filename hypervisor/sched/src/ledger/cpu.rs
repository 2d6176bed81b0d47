//! The books of one CPU: which account is open, and what is not in the accounts yet.
//!
//! Exits from guests are many, and accounts need not be written for each: intervals are gathered here by cause, for the
//! one vCPU in hand, and entered when it changes or somebody asks ([`CpuLedger::settle`]). A place in which an interval
//! is open has its beginning taken off already: what it holds then is no number of cycles.
//!
//! Who pays for an interval may be found out while it goes on. What begins with an interrupt is nobody's at first:
//! whoever turns out to be the reason claims it from its beginning, without another reading ([`CpuLedger::claim`]).

mod claims;
mod told;

pub use claims::Paying;
pub use told::CpuBooks;

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
}

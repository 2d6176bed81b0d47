//! One vCPU's reservation as a constant-bandwidth server: its budget, its deadline, and what it owes.
//!
//! ```text
//!   a period:   begins ─────────── budget is taken by running ─────────── deadline
//!               budget = slice − debt                     it can run: the next period begins here
//!                                                         it sleeps: what is left is gone when it wakes later
//! ```
//!
//! Budget that is not taken by the deadline lapses. When the budget is used up the vCPU waits for its deadline, where
//! the next period begins; it may run in left-over time meanwhile. What it ran beyond its budget because it could not
//! be stopped at once is a debt that following budgets pay first (T3).
//!
//! Nothing here knows of other servers; `queue` and `decide` choose among them.

use crate::accounts::Account;
use crate::heap::{HEAPS, NONE};
use crate::queue::Seat;
use crate::rules::{Extra, Terms};
use rows::{Rows, rows_for};

/// The caller's storage for one vCPU on one CPU.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    pub(crate) server: Server,
    /// Who is in this place of each heap; who is in the first, the heap knows itself.
    pub(crate) places: [u32; HEAPS],
    /// How often the slot was given to somebody: a seat of before is not a seat of now.
    pub(crate) generation: u32,
    /// The next free slot.
    pub(crate) link: u32,
}

impl Slot {
    /// What the storage is filled with.
    pub const EMPTY: Self = Self {
        server: Server::EMPTY,
        places: [NONE; HEAPS],
        generation: 0,
        link: NONE,
    };

    /// The seat of who has it, which is the slot of this number.
    #[inline]
    pub(crate) const fn seat(&self, number: u32) -> Seat {
        Seat {
            slot: number,
            generation: self.generation,
        }
    }
}

/// vCPUs that a queue can have, whatever storage there is.
const MAX_VCPUS: usize = 8192;

// Sixteen find room in a page.
const _: () = assert!(size_of::<Slot>() <= 256);

/// The storage of as many.
pub(crate) type Slots<'a> = Rows<'a, Slot, { rows_for::<Slot>(MAX_VCPUS) }>;

/// Why a vCPU does not want to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sleep {
    Awake,
    Blocked,
    /// Asleep until one of some ports has an event, masked or not.
    Polling,
}

/// What keeps a vCPU from running, of its own or others' will.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rest {
    pub(crate) sleep: Sleep,
    pub(crate) down: bool,
    pub(crate) paused: u32,
}

impl Rest {
    /// Nothing does.
    pub(crate) fn is_over(&self) -> bool {
        self.sleep == Sleep::Awake && !self.down && self.paused == 0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nobody's slot.
    Free,
    Here,
    /// To leave at the end of its period.
    Leaving,
    /// Out of all heaps; to be fetched.
    HasLeft,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Server {
    pub(crate) stage: Stage,
    pub(crate) tag: u64,
    pub(crate) domain: u32,
    /// Periods of the domain's vCPUs begin whole periods from here, as far as sleeping lets them.
    pub(crate) origin: u64,
    pub(crate) terms: Option<Terms>,
    /// In force from the next period.
    pub(crate) next_terms: Option<Terms>,
    pub(crate) rest: Rest,
    pub(crate) deadline: u64,
    pub(crate) budget: u64,
    pub(crate) debt: u64,
    pub(crate) virtual_time: u128,
    /// Orders those with equal keys.
    pub(crate) turn: u64,
    /// Its place in each heap.
    pub(crate) at: [u32; HEAPS],
    /// The ring of its domain's vCPUs on this CPU, or the list of those that have left.
    pub(crate) ring_next: u32,
    pub(crate) ring_previous: u32,
    /// Since when it could run and did not; `None` while it runs, or cannot.
    pub(crate) waits_since: Option<u64>,
    pub(crate) account: Account,
}

impl Server {
    pub(crate) const EMPTY: Self = Self {
        stage: Stage::Free,
        tag: 0,
        domain: 0,
        origin: 0,
        terms: None,
        next_terms: None,
        rest: Rest {
            sleep: Sleep::Awake,
            down: true,
            paused: 0,
        },
        deadline: 0,
        budget: 0,
        debt: 0,
        virtual_time: 0,
        turn: 0,
        at: [NONE; HEAPS],
        ring_next: NONE,
        ring_previous: NONE,
        waits_since: None,
        account: Account {
            guaranteed: 0,
            extra: 0,
            elsewhere: 0,
            stolen: 0,
            missed: 0,
        },
    };

    /// It could run if the CPU were its own.
    pub(crate) fn can_run(&self) -> bool {
        self.is_here() && self.rest.is_over()
    }

    /// It is of this CPU, perhaps not for long.
    pub(crate) fn is_here(&self) -> bool {
        matches!(self.stage, Stage::Here | Stage::Leaving)
    }

    pub(crate) fn slice(&self) -> u64 {
        self.terms.map_or(0, |terms| terms.slice())
    }

    fn period(&self) -> u64 {
        self.terms.map_or(1, |terms| terms.period())
    }

    pub(crate) fn takes_extra(&self) -> bool {
        self.terms
            .is_some_and(|terms| terms.extra() == Extra::ByWeight)
    }

    /// It has become able to run at `now` (T4). What it has left may be used by the deadline only if that is no more
    /// than its rate until then: to keep more would be to take from the others, and less would be a guarantee lost. So
    /// otherwise a whole period begins now. And where the time to the deadline is too short for a section of B to come
    /// in between, the period is put off to end a whole one from now, for what its rate gives: no promise that cannot
    /// be kept, and nothing lost.
    pub(crate) fn awaken(&mut self, now: u64, section: u64) {
        if now >= self.deadline {
            self.forgive(now);
            self.begin(now);
        } else if self.budget == 0 {
            // It waits for the deadline.
        } else if self.is_ahead(now) {
            self.begin(now);
        } else {
            if !self.fits(now, section) {
                let fits = self.fits_until_deadline(now, section);
                if self.next_terms.is_some() || self.stage == Stage::Leaving {
                    // What is to come counts on this very deadline.
                    self.budget = fits;
                } else {
                    self.put_off(now.saturating_add(self.period()));
                }
            }
        }
    }

    /// It has more budget than its rate gives until the deadline.
    fn is_ahead(&self, now: u64) -> bool {
        let left = self.deadline.saturating_sub(now);
        // budget / left > slice / period. Each factor is below 2^64, so no product overflows.
        u128::from(self.budget) * u128::from(self.period())
            > u128::from(left) * u128::from(self.slice())
    }

    /// Whether its budget, with B, is within what is charged for it until the deadline. As
    /// `budget <= fits_until_deadline`, without a division.
    fn fits(&self, now: u64, section: u64) -> bool {
        let left = u128::from(self.deadline.saturating_sub(now));
        let charged = u128::from(self.slice().saturating_add(section));
        let wanted = u128::from(self.budget.saturating_add(section));
        wanted * u128::from(self.period()) <= charged * left
    }

    /// The most budget that, with B, is within what is charged for it until the deadline: (slice + B) / period.
    fn fits_until_deadline(&self, now: u64, section: u64) -> u64 {
        let left = u128::from(self.deadline.saturating_sub(now));
        // Both below 2^65: terms are less than 2^41.
        let charged = u128::from(self.slice().saturating_add(section));
        let fits = (charged * left / u128::from(self.period())).saturating_sub(u128::from(section));
        u64::try_from(fits).unwrap_or(u64::MAX)
    }

    /// The whole periods since the deadline in which it asked for nothing pay for what it owes.
    fn forgive(&mut self, now: u64) {
        let periods = now.saturating_sub(self.deadline) / self.period();
        self.debt = self
            .debt
            .saturating_sub(periods.saturating_mul(self.slice()));
    }

    /// A whole period from `now`, under the terms that were to come into force with it.
    fn begin(&mut self, now: u64) {
        self.adopt();
        self.deadline = now.saturating_add(self.period());
        self.grant(self.slice());
    }

    pub(crate) fn adopt(&mut self) {
        if let Some(next) = self.next_terms.take() {
            self.terms = Some(next);
        }
    }

    fn grant(&mut self, budget: u64) {
        let paid = self.debt.min(budget);
        self.debt -= paid;
        self.budget = budget - paid;
    }

    /// The period is over at the deadline, which `now` has reached, and it can run: the next begins there.
    ///
    /// To bring the vCPUs of a domain into phase again after they slept, a period is longer by up to an eighth, and its
    /// budget in proportion, until it ends on the domain's grid.
    pub(crate) fn renew(&mut self, now: u64) {
        self.adopt();
        let period = self.period();
        let mut begins = self.deadline;
        if now >= begins.saturating_add(period) {
            // Whole periods late: that is no period any more which others made room for. Only where B is not kept.
            self.forgive(now);
            begins = now;
        }
        let stretch = self.stretch(begins);
        let more = self.at_rate(stretch);
        self.deadline = begins.saturating_add(period).saturating_add(stretch);
        self.grant(self.slice().saturating_add(more));
    }

    /// Whether nothing depends on when it is renewed while one with this deadline runs in its own time: its next period ends no
    /// earlier, and brings neither other terms nor its leave.
    pub(crate) fn can_wait_behind(&self, deadline: u64) -> bool {
        let begins = self.deadline;
        let ends = begins.saturating_add(self.period());
        let is_the_same = self.next_terms.is_none() && self.stage == Stage::Here;
        // Most often without the stretch, which takes a division.
        is_the_same && (ends >= deadline || ends.saturating_add(self.stretch(begins)) >= deadline)
    }

    /// By how much a period is longer that begins at `begins`.
    fn stretch(&self, begins: u64) -> u64 {
        let period = self.period();
        self.apart_from_grid(begins, period).min(period / 8)
    }

    /// From the end of a period that begins at `begins` to the next point of the grid.
    fn apart_from_grid(&self, begins: u64, period: u64) -> u64 {
        let apart = begins.abs_diff(self.origin) % period;
        if apart == 0 {
            0
        } else if begins > self.origin {
            period - apart
        } else {
            apart
        }
    }

    /// What its rate gives in `ticks`, rounded down.
    pub(crate) fn at_rate(&self, ticks: u64) -> u64 {
        let product = u128::from(self.slice()) * u128::from(ticks);
        // The slice is at most the period, so the quotient is at most `ticks`.
        (product / u128::from(self.period())) as u64
    }

    /// Puts the end of its period off to `deadline`, for what its rate gives in between.
    pub(crate) fn put_off(&mut self, deadline: u64) {
        let more = self.at_rate(deadline.saturating_sub(self.deadline));
        self.budget = self.budget.saturating_add(more);
        self.deadline = self.deadline.max(deadline);
    }

    /// Takes time off the budget, and what exceeds it off the next ones.
    pub(crate) fn debit(&mut self, ticks: u64) {
        let paid = self.budget.min(ticks);
        self.budget -= paid;
        self.debt = self.debt.saturating_add(ticks - paid);
    }

    /// Undoes [`Self::debit`] of its last ticks: what they had become of debt is none any more, and the rest is budget again.
    pub(crate) fn credit(&mut self, ticks: u64) {
        let forgiven = self.debt.min(ticks);
        self.debt -= forgiven;
        self.budget = self.budget.saturating_add(ticks - forgiven);
    }

    /// Counts left-over time. Linear in the ticks: many small charges are one large one.
    pub(crate) fn weigh(&mut self, ticks: u64) {
        // Below 2^64 × 2^40; the sum needs 2^24 such before it ends.
        let weighed = self.weighed(ticks);
        self.virtual_time = self.virtual_time.saturating_add(weighed);
    }

    /// Undoes [`Self::weigh`].
    pub(crate) fn unweigh(&mut self, ticks: u64) {
        let weighed = self.weighed(ticks);
        self.virtual_time = self.virtual_time.saturating_sub(weighed);
    }

    fn weighed(&self, ticks: u64) -> u128 {
        let stride = self.terms.map_or(1 << 40, |terms| terms.stride());
        u128::from(ticks) * u128::from(stride)
    }

    /// When what it took of this CPU is paid for out of what is charged for it: not before is the charge free for
    /// others (T1). It is at the deadline, less the time in which the charge would give what it has left, of
    /// which B may still go on getting it off the CPU.
    pub(crate) fn paid_for_at(&self, section: u64) -> u64 {
        if self.slice() == 0 {
            return 0;
        }
        let charged = u128::from(self.slice().saturating_add(section));
        let left = self.budget.saturating_sub(section);
        let left = u128::from(left) * u128::from(self.period()) / charged;
        self.deadline
            .saturating_sub(u64::try_from(left).unwrap_or(u64::MAX))
    }

    pub(crate) fn stop_waiting(&mut self, now: u64) {
        if let Some(since) = self.waits_since.take() {
            // Cannot wrap within centuries.
            let waited = now.saturating_sub(since);
            self.account.stolen = self.account.stolen.wrapping_add(waited);
        }
    }
}

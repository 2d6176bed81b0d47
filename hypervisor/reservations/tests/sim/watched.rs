//! What an onlooker knows of a vCPU, and the formula of `docs/scheduling.md` over all windows of its time at once.

use crate::sim::SECTION;
use reservations::{Extra, Seat, Terms};

/// What an onlooker knows of a vCPU.
pub struct Watched {
    pub seat: Seat,
    pub cpu: usize,
    pub terms: Terms,
    /// It has asked to stay behind its own deadline: only the upper bound is its right.
    pub yielded: bool,
    pub alive: bool,
    /// On its way to another CPU: it waits for the end of its period, and a little for the way.
    pub moving: bool,
    pub awake: bool,
    pub down: bool,
    pub paused: u32,
    /// CPU time it got.
    pub ran: u64,
    /// Of which in its own time.
    pub guaranteed: u64,
    /// Since when the terms are these, it can run, or both: where windows begin.
    windows: Windows,
}

/// The extremes of `period · ran − slice · time`: over all windows that end now, what a window got beyond its rate is
/// this value less the least of before, and what it lacks is the greatest of before less this value.
struct Windows {
    least: Option<i128>,
    greatest: Option<i128>,
}

impl Watched {
    /// One that is down.
    pub fn new(seat: Seat, cpu: usize, terms: Terms) -> Self {
        Self {
            seat,
            cpu,
            terms,
            yielded: false,
            alive: true,
            moving: false,
            awake: true,
            down: true,
            paused: 0,
            ran: 0,
            guaranteed: 0,
            windows: Windows {
                least: None,
                greatest: None,
            },
        }
    }

    /// It has come to another CPU: what it may lack is counted anew.
    pub fn arrived(&mut self, seat: Seat, cpu: usize) {
        self.seat = seat;
        self.cpu = cpu;
        self.moving = false;
        self.windows.greatest = None;
    }

    pub fn can_run(&self) -> bool {
        self.alive && self.awake && !self.down && self.paused == 0
    }

    fn value(&self, now: u64) -> i128 {
        let (slice, period) = (self.terms.slice() as i128, self.terms.period() as i128);
        period * self.ran as i128 - slice * now as i128
    }

    /// 9/4 · slice · (period − slice) + B · period, and a little for rounding down: the formula, times the period.
    fn bound(&self) -> i128 {
        let (slice, period) = (self.terms.slice() as i128, self.terms.period() as i128);
        9 * slice * (period - slice) / 4 + (SECTION as i128 + 9) * period
    }

    /// To be called whenever it begins or ends to run, or to be able to.
    pub fn look(&mut self, now: u64) {
        if !self.alive || self.terms.slice() == 0 {
            return;
        }
        let value = self.value(now);
        let least = *self.windows.least.get_or_insert(value);
        if self.terms.extra() == Extra::Never {
            assert!(
                value - least <= self.bound(),
                "got too much by {} at {now}: {:?}",
                value - least - self.bound(),
                self.terms,
            );
        }
        self.windows.least = Some(least.min(value));
        if self.can_run() && !self.yielded && !self.moving {
            // A section more: what a wake-up close to the end of a last period before a change may cost.
            let lower = self.bound() + (SECTION * self.terms.period()) as i128;
            let greatest = *self.windows.greatest.get_or_insert(value);
            assert!(
                greatest - value <= lower,
                "got too little by {} at {now}: {:?}",
                greatest - value - lower,
                self.terms,
            );
            self.windows.greatest = Some(greatest.max(value));
        } else {
            self.windows.greatest = None;
        }
    }

    pub fn forget_windows(&mut self) {
        self.windows = Windows {
            least: None,
            greatest: None,
        };
    }
}

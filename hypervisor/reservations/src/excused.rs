//! What passes while a vCPU runs and is not its own: it is not charged for it, or has it back.

use crate::decide::{Decision, Next};
use crate::queue::Queue;

/// What the vCPU that runs was charged since the last decision: what of it was not its own can be given back.
#[derive(Clone, Copy, Default)]
pub(crate) struct Charged {
    /// Of its budget, in this period.
    pub(crate) guaranteed: u64,
    /// Of left-over time.
    pub(crate) extra: u64,
}

impl Charged {
    fn is_nothing(&self) -> bool {
        self.guaranteed | self.extra == 0
    }

    /// The budget that this was of is no more: it is not given back to the next one.
    pub(crate) fn forget_guaranteed(&mut self) {
        self.guaranteed = 0;
    }
}

impl Queue<'_> {
    /// The vCPU that was chosen runs from `now` on. If it comes `anew`, not having run before the decision, what has passed since
    /// is not its: whoever caused the change pays ([`Self::owes`]). Nor is what others did for it meanwhile, `owed`, anybody
    /// else's: that is taken off its budget, or counted as left-over time if it has none by its terms.
    pub fn begins(&mut self, now: u64, anew: bool, owed: u64) -> Next {
        if anew {
            self.excuse(now, u64::MAX);
            self.still_comes = Some(*self.took_to_come());
        }
        let now = self.advance(now);
        if let Some(who) = self.running.filter(|_| owed != 0) {
            self.take_elsewhere(who, owed);
        }
        self.goes_on(now)
    }

    /// This CPU worked for others in `ticks` of the time since the last decision: whoever runs here does not pay. Answers how much
    /// of that it had been charged, and has back.
    pub fn excused(&mut self, now: u64, ticks: u64) -> (u64, Next) {
        self.still_comes = self.still_comes.map(|more| more.saturating_sub(ticks));
        let was_charged = self.excuse(now, ticks);
        let now = self.advance(now);
        (was_charged, self.goes_on(now))
    }

    /// As [`Self::excused`] and then [`Self::decide`], for less than both. Before a period is renewed that began meanwhile and ended
    /// no decision, `is_for` is given the caller's name of whose it is: who ran does not pay for that.
    ///
    /// After [`Self::begins`] who comes still has not the CPU, and does not pay for that until it has, which is told here. As
    /// long as that took the last time, a tenth of B at most, the next one's decision lasts longer: else each budget's end would
    /// be noticed once before it is there. Where that was more than it is, it is an overrun.
    pub fn decide_excusing(&mut self, now: u64, ticks: u64, is_for: impl FnMut(u64)) -> Decision {
        let excused = self.excuse(now, ticks);
        if self.still_comes.is_some() {
            let most = self.rules.section() / 10;
            let took = self.took_to_come();
            // Down at once, and up by little: what is seldom is not what is to be expected.
            *took += (excused.min(most).saturating_sub(*took)) / 8;
            *took = excused.min(*took);
        }
        self.decide_telling(now, is_for)
    }

    /// How long it took the last time that one came as the one that runs did: in another's place, or in nobody's.
    fn took_to_come(&mut self) -> &mut u64 {
        let [from_another, from_idle] = &mut self.took_to_come;
        if self.was_idle {
            from_idle
        } else {
            from_another
        }
    }

    /// Of the time since the last decision so much was not for the one that runs: what is not charged yet is left out, and of what
    /// is, it has back the rest. Answers how much of it there was.
    fn excuse(&mut self, now: u64, ticks: u64) -> u64 {
        if ticks == 0 || self.running.is_none() {
            return 0;
        }
        let skipped = self.skip(now, ticks);
        match ticks - skipped {
            0 => skipped,
            _ if self.charged.is_nothing() => skipped,
            more => skipped + self.give_back(more),
        }
    }

    /// Of the time since the last boundary so much is not charged to the one that runs, which is then not to be given back; answers
    /// how much there was.
    fn skip(&mut self, now: u64, ticks: u64) -> u64 {
        let skipped = now.saturating_sub(self.books.last).min(ticks);
        self.books.last += skipped;
        self.books.for_others = self.books.for_others.wrapping_add(skipped);
        skipped
    }

    /// Gives the one that runs back what it was charged last, and answers how much that was.
    fn give_back(&mut self, ticks: u64) -> u64 {
        let extra = ticks.min(self.charged.extra);
        let guaranteed = (ticks - extra).min(self.charged.guaranteed);
        let Some(who) = self.running.filter(|_| extra != 0 || guaranteed != 0) else {
            return 0;
        };
        let Some(server) = self.get_mut(who) else {
            return 0;
        };
        server.account.extra = server.account.extra.wrapping_sub(extra);
        server.account.guaranteed = server.account.guaranteed.wrapping_sub(guaranteed);
        let had_budget = server.budget != 0;
        server.unweigh(extra);
        server.credit(guaranteed);
        self.charged.extra -= extra;
        self.charged.guaranteed -= guaranteed;
        if extra != 0 || !had_budget {
            self.refile(who);
        }
        self.books.for_others = self.books.for_others.wrapping_add(extra + guaranteed);
        extra + guaranteed
    }
}

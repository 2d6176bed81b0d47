//! Periods end and begin: when they are renewed, and which of them has to end a decision.
//!
//! A period that begins while somebody runs in its own time changes nothing until that one is done, unless its deadline is
//! the earlier: the timer need not fire for it. It is renewed at the next boundary, whatever that is for, before anything
//! else is done there; so who runs when, deadlines and budgets are as if it had been renewed as it began. Where that is a
//! decision the caller is told for whom it works.
//!
//! # Invariants
//! - R1: no decision outlasts the beginning of a period of one that would then be the one to run, or that has other terms to
//!   come or is to leave then.
//! - R2: before the end of a decision begin fewer periods than one call renews ([`DUE_AT_ONCE`]), but for those that begin at
//!   the same tick: putting renewals off makes no decision longer than it may be.
//! - R3: a decision that ends only because of R2 finds four periods at least that have begun.

use crate::queue::Queue;
use crate::server::Stage;

/// What one call renews at most (T9): beyond that the CPU takes interrupts in between. With the decision itself it is to be
/// well within B.
pub(crate) const DUE_AT_ONCE: u32 = 8;

/// Places of the heap of those who wait that are above all others: three levels, one less than are renewed at once.
const ABOVE: u32 = DUE_AT_ONCE - 1;

/// Whose period begins, and when.
#[derive(Clone, Copy)]
pub(crate) struct Begins {
    pub(crate) who: u32,
    pub(crate) at: u64,
}

impl Queue<'_> {
    /// Renews the periods that ended, of which one call has renewed some already; true if there are more than one call does.
    #[inline]
    pub(crate) fn renew_due(&mut self, now: u64, renewed: u32) -> bool {
        for _ in renewed..DUE_AT_ONCE {
            let Some(who) = self.due(now) else {
                return false;
            };
            self.end_period(who, now);
        }
        self.due(now).is_some()
    }

    /// Renews the periods that have begun and that the last decision did not end for, each as if that had been noticed as it
    /// began, and names before whose each is; answers how many.
    #[inline(always)]
    pub(crate) fn renew_put_off(&mut self, now: u64, is_for: impl FnMut(u64)) -> u32 {
        match self.waiting.root() {
            Some(_) => self.renew_some_put_off(now, is_for),
            None => 0,
        }
    }

    /// As [`Self::renew_put_off`], where somebody waits for a period.
    #[inline(never)]
    fn renew_some_put_off(&mut self, now: u64, mut is_for: impl FnMut(u64)) -> u32 {
        for renewed in 0..DUE_AT_ONCE {
            let Some(Begins { who, at }) = self.next_to_begin() else {
                return renewed;
            };
            if at > now || at >= self.put_off_until {
                return renewed;
            }
            if let Some(server) = self.get(who) {
                is_for(server.tag);
            }
            self.end_period(who, at);
        }
        DUE_AT_ONCE
    }

    #[inline]
    fn due(&self, now: u64) -> Option<u32> {
        [&self.waiting, &self.ready]
            .into_iter()
            .filter_map(|heap| heap.root())
            .find(|&who| self.get(who).is_some_and(|server| server.deadline <= now))
    }

    /// The period of one that can run is over, which is noticed at `now`.
    pub(crate) fn end_period(&mut self, who: u32, now: u64) {
        let turn = self.next_turn();
        if self.running == Some(who) {
            self.charged.forget_guaranteed();
        }
        let Some(server) = self.get_mut(who) else {
            return;
        };
        if server.budget != 0 {
            server.account.missed = server.account.missed.wrapping_add(1);
        }
        if server.stage == Stage::Leaving {
            server.budget = 0;
            server.stop_waiting(now);
            self.note_left(who);
        } else {
            server.turn = turn;
            server.renew(now);
        }
        self.refile(who);
    }

    /// The first of those who wait for a period.
    pub(crate) fn next_to_begin(&self) -> Option<Begins> {
        let who = self.waiting.root()?;
        let at = self.get(who)?.deadline;
        Some(Begins { who, at })
    }

    /// The first period to begin before `end` that has to be renewed then while one with this deadline runs in its own time (R1),
    /// or is taken for such a one (R2). Looks at 15 places of the heap at most, and at those only whose periods begin before.
    #[inline]
    pub(crate) fn next_to_matter(&self, deadline: u64, end: u64) -> Option<Begins> {
        let mut first = None;
        let mut before = end;
        // Places to look at, and the children of those that can wait: nobody begins before who is above it.
        let mut places = 1_u32;
        while places != 0 {
            let place = places.trailing_zeros();
            places &= places - 1;
            let Some(who) = self.waiting.nth(&self.slots, place) else {
                continue;
            };
            let Some(server) = self.get(who).filter(|server| server.deadline < before) else {
                continue;
            };
            if place < ABOVE && server.can_wait_behind(deadline) {
                places |= 0b11 << (2 * place + 1);
            } else {
                before = server.deadline;
                first = Some(Begins { who, at: before });
            }
        }
        first
    }
}

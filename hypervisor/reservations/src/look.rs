//! What can be asked of a queue without changing it.

use crate::accounts::{Account, Books};
use crate::decide::Kind;
use crate::queue::{Gone, Queue, Seat, State};
use crate::rules::{Rules, Terms};
use crate::server::{Sleep, Stage};

impl Queue<'_> {
    /// The rules it was made with.
    #[must_use]
    pub const fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The caller's name for a vCPU.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn tag(&self, seat: Seat) -> Result<u64, Gone> {
        let who = self.find(seat)?;
        self.get(who).map(|server| server.tag).ok_or(Gone)
    }

    /// The run state a vCPU is in. One that is out of budget is runnable; one that is blocked and paused is blocked.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn state(&self, seat: Seat) -> Result<State, Gone> {
        let who = self.find(seat)?;
        let server = self.get(who).ok_or(Gone)?;
        Ok(if server.rest.down {
            State::Offline
        } else if server.rest.sleep != Sleep::Awake {
            State::Blocked
        } else if server.rest.paused != 0 {
            State::Offline
        } else if self.running == Some(who) {
            State::Running
        } else {
            State::Runnable
        })
    }

    /// Whether it sleeps until one of some ports has an event: then an event wakes it even if the port is masked.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn is_polling(&self, seat: Seat) -> Result<bool, Gone> {
        let who = self.find(seat)?;
        let server = self.get(who).ok_or(Gone)?;
        Ok(server.rest.sleep == Sleep::Polling)
    }

    /// The terms in force, and those that will be from its next period on.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn terms(&self, seat: Seat) -> Result<(Terms, Option<Terms>), Gone> {
        let who = self.find(seat)?;
        let server = self.get(who).ok_or(Gone)?;
        server
            .terms
            .map(|terms| (terms, server.next_terms))
            .ok_or(Gone)
    }

    /// What it was granted last: the terms that will be in force from its next period on, or those that are and stay.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn granted(&self, seat: Seat) -> Result<Terms, Gone> {
        let (in_force, coming) = self.terms(seat)?;
        Ok(coming.unwrap_or(in_force))
    }

    /// The terms that will be in force from its next period on, and when that begins as far as is known: a period can be
    /// put off. `None` if those in force stay.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn coming(&self, seat: Seat) -> Result<Option<(Terms, u64)>, Gone> {
        let who = self.find(seat)?;
        let server = self.get(who).ok_or(Gone)?;
        Ok(server.next_terms.map(|terms| (terms, server.deadline)))
    }

    /// Whether other terms are to come into force with its next period.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn comes(&self, seat: Seat) -> Result<bool, Gone> {
        let who = self.find(seat)?;
        let server = self.get(who).ok_or(Gone)?;
        Ok(server.next_terms.is_some())
    }

    /// The terms in force at `now`, and those that will be and when. The queue notes a change when it next looks at the vCPU:
    /// of one that sleeps, when it wakes.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn promised(&self, now: u64, seat: Seat) -> Result<(Terms, Option<(Terms, u64)>), Gone> {
        let (in_force, _) = self.terms(seat)?;
        Ok(match self.coming(seat)? {
            Some((terms, at)) if at <= now => (terms, None),
            coming => (in_force, coming),
        })
    }

    /// When the running vCPU's own time is over while it may run on because nobody else wants any: the last decision then
    /// ends later, and what it runs beyond is left-over time.
    #[must_use]
    pub fn budget_ends(&self) -> Option<u64> {
        let server = self.running.and_then(|who| self.get(who))?;
        let spills = self.kind == Kind::Guaranteed && self.spills;
        let own = server.budget.saturating_add(self.still_comes.unwrap_or(0));
        spills.then(|| self.books.last.saturating_add(own))
    }

    /// When its period ends, what is left of its budget, and what it owes.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn period(&self, seat: Seat) -> Result<(u64, u64, u64), Gone> {
        let who = self.find(seat)?;
        let server = self.get(who).ok_or(Gone)?;
        Ok((server.deadline, server.budget, server.debt))
    }

    /// What a vCPU got here up to the last boundary.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn account(&self, seat: Seat) -> Result<Account, Gone> {
        let who = self.find(seat)?;
        let mut server = *self.get(who).ok_or(Gone)?;
        server.stop_waiting(self.books.last);
        Ok(server.account)
    }

    /// What became of the CPU's time up to the last boundary.
    #[must_use]
    pub const fn books(&self) -> Books {
        self.books
    }

    /// T8: true unless a tick was lost or counted twice. O(slots): for audits, not for hot paths.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        let used = self
            .slots
            .iter()
            .filter(|slot| slot.server.stage != Stage::Free)
            .fold(self.books.departed.used(), |sum, slot| {
                sum.wrapping_add(slot.server.account.used())
            });
        let whole = self.books.last.wrapping_sub(self.books.first);
        let here = used
            .wrapping_add(self.books.idle)
            .wrapping_add(self.books.for_others);
        here == whole.wrapping_add(self.books.by_others)
    }

    /// T5 and T7, and that the heaps are in order: true unless somebody was lost. O(slots): for audits.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let mut counted = [0_u32; 3];
        for (who, slot) in self.slots.iter().enumerate() {
            let server = &slot.server;
            let promised = server.can_run() && server.slice() != 0;
            let wanted = [
                promised && server.budget != 0,
                promised && server.budget == 0,
                server.can_run() && server.takes_extra(),
            ];
            let who = who as u32;
            let is_in = [
                self.ready.contains(&self.slots, who),
                self.waiting.contains(&self.slots, who),
                self.extra.contains(&self.slots, who),
            ];
            if is_in != wanted {
                return false;
            }
            for (count, wanted) in counted.iter_mut().zip(wanted) {
                *count += u32::from(wanted);
            }
        }
        let lengths = [self.ready.len(), self.waiting.len(), self.extra.len()];
        counted == lengths
            && self.ready.is_in_order(&self.slots)
            && self.waiting.is_in_order(&self.slots)
            && self.extra.is_in_order(&self.slots)
    }
}

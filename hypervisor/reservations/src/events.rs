//! What happens to a vCPU: it wakes and sleeps, is paused and changed, and the hypervisor works for it.

use crate::decide::{Kind, Next};
use crate::queue::{Gone, Queue, Seat};
use crate::rules::Terms;
use crate::server::{Rest, Sleep, Stage};

impl Queue<'_> {
    /// An event wants it to run, or its timer. To be called after [`Self::block`] as well if an event is found pending
    /// then, so that no wake-up is lost between the look and the sleep.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn wake(&mut self, now: u64, seat: Seat) -> Result<Next, Gone> {
        self.change_state(now, seat, |rest| rest.sleep = Sleep::Awake)
    }

    /// It has nothing to do until it is woken. What it has left is kept, and judged when it wakes (T4).
    ///
    /// # Errors
    /// [`Gone`].
    pub fn block(&mut self, now: u64, seat: Seat) -> Result<Next, Gone> {
        self.change_state(now, seat, |rest| rest.sleep = Sleep::Blocked)
    }

    /// It waits for an event on some ports, masked or not: as [`Self::block`], and [`Self::is_polling`] says so. To be
    /// called before the ports are looked at; if one is pending, [`Self::wake`] follows.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn poll(&mut self, now: u64, seat: Seat) -> Result<Next, Gone> {
        self.change_state(now, seat, |rest| rest.sleep = Sleep::Polling)
    }

    /// Its guest starts it.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn up(&mut self, now: u64, seat: Seat) -> Result<Next, Gone> {
        self.change_state(now, seat, |rest| {
            rest.down = false;
            rest.sleep = Sleep::Awake;
        })
    }

    /// Its guest takes it down.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn down(&mut self, now: u64, seat: Seat) -> Result<Next, Gone> {
        self.change_state(now, seat, |rest| rest.down = true)
    }

    /// Stops it until it is unpaused as often as it was paused.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn pause(&mut self, now: u64, seat: Seat) -> Result<Next, Gone> {
        self.change_state(now, seat, |rest| {
            rest.paused = rest.paused.saturating_add(1)
        })
    }

    /// Undoes one [`Self::pause`].
    ///
    /// # Errors
    /// [`Gone`].
    pub fn unpause(&mut self, now: u64, seat: Seat) -> Result<Next, Gone> {
        self.change_state(now, seat, |rest| {
            rest.paused = rest.paused.saturating_sub(1)
        })
    }

    fn change_state(
        &mut self,
        now: u64,
        seat: Seat,
        change: impl FnOnce(&mut Rest),
    ) -> Result<Next, Gone> {
        let who = self.find(seat)?;
        let server = self.get_mut(who).ok_or(Gone)?;
        let mut rest = server.rest;
        change(&mut rest);
        // What changes nothing of whether it can run is no boundary: the last decision stands, or is being made anew.
        if rest.is_over() == server.rest.is_over() || !server.is_here() {
            server.rest = rest;
            return Ok(Next::Keep);
        }
        if !rest.is_over() && self.sleeps_within_budget(who, now) {
            if let Some(server) = self.get_mut(who) {
                server.rest = rest;
            }
            self.unfile(who);
            return Ok(Next::Decide);
        }
        let now = self.advance(now);
        if let Some(server) = self.get_mut(who) {
            server.rest = rest;
        }
        let is_clear = if rest.is_over() {
            self.awaken(who, now);
            self.cut_turn_for(seat, who, now);
            self.running.is_none()
        } else {
            self.put_to_sleep(who, now);
            self.running == Some(who)
        };
        if is_clear {
            return Ok(Next::Decide);
        }
        Ok(self.what_follows(now))
    }

    /// Whether the one that runs may go to sleep without being charged first: the decision that follows charges it to the same
    /// budget, as nothing of what it ran was beyond that.
    fn sleeps_within_budget(&self, who: u32, now: u64) -> bool {
        let ran = now.saturating_sub(self.books.last);
        self.running == Some(who)
            && self.kind == Kind::Guaranteed
            && self.get(who).is_some_and(|server| {
                server.stage == Stage::Here && now <= server.deadline && ran < server.budget
            })
    }

    /// Ends the turn in left-over time soon if the one that has woken has had less of it, by weight: who sleeps has waited
    /// for something. Nobody is given more for it: the order stays that of virtual times.
    fn cut_turn_for(&mut self, seat: Seat, who: u32, now: u64) {
        let Some(running) = self.running.filter(|_| self.kind == Kind::Extra) else {
            return;
        };
        let has_had = |who| match self.get(who) {
            Some(server) if self.extra.contains(&self.slots, who) => server.virtual_time,
            _ => u128::MAX,
        };
        let end = now.max(self.turn_began.saturating_add(self.rules.shortest_turn()));
        if has_had(who) < has_had(running) && end < self.turn_ends {
            self.turn_ends = end;
            self.cut_for = Some(seat);
        }
    }

    pub(crate) fn awaken(&mut self, who: u32, now: u64) {
        let turn = self.next_turn();
        let section = self.rules.section();
        self.note_floor();
        let (floor, runs) = (self.floor, self.running == Some(who));
        let mut is_another_budget = false;
        if let Some(server) = self.get_mut(who) {
            let had = (server.deadline, server.budget);
            server.awaken(now, section);
            is_another_budget = had != (server.deadline, server.budget);
            server.turn = turn;
            // A unit less than a billionth of a tick: before those that have had as much, and did not sleep.
            server.virtual_time = server.virtual_time.max(floor.saturating_sub(1));
            if !runs {
                server.waits_since = Some(now);
            }
        }
        if runs && is_another_budget {
            self.charged.forget_guaranteed();
        }
        self.refile(who);
    }

    fn put_to_sleep(&mut self, who: u32, now: u64) {
        let mut leaves = false;
        if let Some(server) = self.get_mut(who) {
            server.stop_waiting(now);
            leaves = server.stage == Stage::Leaving;
        }
        if leaves {
            self.note_left(who);
        }
        self.refile(who);
    }

    /// Changes what a vCPU is promised, from its next period on; answers when that begins at the latest, until when
    /// the old terms hold. At once if it was promised nothing, or sleeps beyond its period.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn change(&mut self, now: u64, seat: Seat, terms: Terms) -> Result<(u64, Next), Gone> {
        let holds_until = self.change_one(now, seat, terms)?;
        Ok((holds_until, self.changed(now)))
    }

    /// As [`Self::change`], of one of several: when all are done it is asked what follows ([`Self::changed`]).
    ///
    /// # Errors
    /// [`Gone`].
    pub fn change_one(&mut self, now: u64, seat: Seat, terms: Terms) -> Result<u64, Gone> {
        let now = self.advance(now);
        let who = self.find(seat)?;
        let section = self.rules.section();
        let server = self.get_mut(who).ok_or(Gone)?;
        server.next_terms = Some(terms);
        let holds_until = if server.slice() == 0 {
            server.adopt();
            server.deadline = now;
            server.budget = 0;
            if server.can_run() {
                server.awaken(now, section);
            }
            self.refile(who);
            now
        } else if !server.can_run() && now >= server.deadline {
            server.adopt();
            now
        } else {
            server.deadline
        };
        Ok(holds_until)
    }

    /// What follows from [`Self::change_one`].
    pub fn changed(&mut self, now: u64) -> Next {
        let now = self.advance(now);
        self.what_follows(now)
    }

    /// The hypervisor worked for this vCPU, here while another ran or none, or on another CPU: that is taken off its budget, or
    /// counted as left-over time if it has none by its terms. Who ran meanwhile is not to pay: [`Self::excused`].
    ///
    /// # Errors
    /// [`Gone`]; nobody has paid.
    pub fn owes(&mut self, now: u64, seat: Seat, ticks: u64) -> Result<Next, Gone> {
        let now = self.advance(now);
        let who = self.find(seat)?;
        self.take_elsewhere(who, ticks);
        Ok(self.what_follows(now))
    }

    pub(crate) fn take_elsewhere(&mut self, who: u32, ticks: u64) {
        let Some(server) = self.get_mut(who) else {
            return;
        };
        server.account.elsewhere = server.account.elsewhere.wrapping_add(ticks);
        let had_budget = server.budget != 0;
        if server.slice() == 0 {
            server.weigh(ticks);
        } else {
            server.debit(ticks);
        }
        // Who has budget left stays where it is.
        let stays = had_budget && server.budget != 0;
        self.books.by_others = self.books.by_others.wrapping_add(ticks);
        if !stays {
            self.refile(who);
        }
    }
}

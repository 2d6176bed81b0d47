//! Who runs from now on, and until when: time is charged, periods that ended begin anew, and the roots of the heaps
//! are looked at.

use crate::excused::Charged;
use crate::heap::{NONE, Which};
use crate::queue::{Queue, Seat};
use crate::renewals::Begins;

/// What a call leaves to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Next {
    /// The last decision stands, and so does its end.
    Keep,
    /// [`Queue::decide`] is to be called on this queue's CPU: interrupt it if it is another one.
    Decide,
}

/// In whose time a vCPU runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// In what was reserved for it.
    Guaranteed,
    /// In what nobody had reserved.
    Extra,
    /// Nobody runs.
    Idle,
}

/// Who runs, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The vCPU to run; `None` to idle.
    pub run: Option<Seat>,
    /// The caller's name for it; 0 with nobody.
    pub tag: u64,
    /// In whose time.
    pub kind: Kind,
    /// When to decide anew if no call asks for it before; `None` if time changes nothing. Not after `now` when more
    /// periods began at once than one call renews: then decide again.
    pub until: Option<u64>,
}

#[derive(Clone, Copy)]
struct Plan {
    run: Option<u32>,
    kind: Kind,
    spills: bool,
    begins_turn: bool,
    turn_ends: u64,
    until: Option<u64>,
    /// Whose period begins then, if it ends for that.
    ends_for: Option<u32>,
}

impl Plan {
    /// It ends where a period begins, if that is earlier.
    fn ends_by(&mut self, begins: Option<Begins>) {
        if let Some(Begins { who, at }) = begins
            && self.until.is_none_or(|until| at <= until)
        {
            (self.until, self.ends_for) = (Some(at), Some(who));
        }
    }
}

impl Queue<'_> {
    /// Decides who runs from `now` on.
    pub fn decide(&mut self, now: u64) -> Decision {
        self.decide_telling(now, |_| ())
    }

    /// As [`Self::decide`]. Before a period is renewed that began meanwhile and ended no decision, names whose it is.
    pub(crate) fn decide_telling(&mut self, now: u64, is_for: impl FnMut(u64)) -> Decision {
        let now = self.charge_until(now);
        let renewed = self.renew_put_off(now, is_for);
        let more_due = self.renew_due(now, renewed);
        self.still_comes = None;
        let plan = self.plan(now);
        let before = core::mem::replace(&mut self.running, plan.run);
        self.was_idle = before.is_none();
        if before != plan.run {
            if let Some(server) = before.and_then(|who| self.get_mut(who))
                && server.can_run()
            {
                server.waits_since = Some(now);
            }
            if let Some(server) = plan.run.and_then(|who| self.get_mut(who)) {
                server.stop_waiting(now);
            }
        }
        self.charged = Charged::default();
        self.kind = plan.kind;
        self.spills = plan.spills;
        if plan.begins_turn {
            (self.turn_began, self.turn_ends) = (now, plan.turn_ends);
            self.cut_for = None;
        }
        self.ends(&plan);
        if more_due {
            // Nobody knows yet who is to run: what is still due is late, as it is.
            (self.until, self.put_off_until) = (Some(now), 0);
        }
        self.decision()
    }

    /// The caller's name for the vCPU that runs by the decision in force.
    #[must_use]
    pub fn runs(&self) -> Option<u64> {
        let server = self.running.and_then(|who| self.get(who));
        server.map(|server| server.tag)
    }

    /// When the decision in force ends, if it does.
    #[must_use]
    pub const fn ends_at(&self) -> Option<u64> {
        self.until
    }

    /// The decision in force: until its end a timer must be set, whatever else it was used for meanwhile.
    #[must_use]
    pub fn decision(&self) -> Decision {
        let slot = self
            .running
            .and_then(|who| Some((who, self.slots.get(who as usize)?)));
        Decision {
            run: slot.map(|(who, slot)| slot.seat(who)),
            tag: slot.map_or(0, |(_, slot)| slot.server.tag),
            kind: self.kind,
            until: self.until,
        }
    }

    /// A timer has fired, perhaps early, perhaps for something else. What else asks for a decision has said so.
    pub const fn expire(&self, now: u64) -> Next {
        match self.until {
            Some(until) if until <= now => Next::Decide,
            _ => Next::Keep,
        }
    }

    /// The caller's name of the vCPU for whose sake the last decision is over at `now`, if it is not for that of the one that
    /// runs: its next period begins, or it woke and cut a turn short.
    #[must_use]
    pub fn ends_for(&self, now: u64) -> Option<u64> {
        let is_over = self.until.is_some_and(|until| until <= now);
        if let Some(begins) = self.ends_for.filter(|_| is_over) {
            return self.tag(begins).ok();
        }
        let turn_is_over = self.kind == Kind::Extra && self.turn_ends <= now;
        let woken = self.cut_for.filter(|_| turn_is_over)?;
        self.tag(woken).ok()
    }

    /// Whether the decision in force is still what would be decided, and ends early enough.
    pub(crate) fn what_follows(&self, now: u64) -> Next {
        let plan = self.plan(now);
        let same = plan.run == self.running && plan.kind == self.kind && plan.spills == self.spills;
        let ends = self.until.unwrap_or(u64::MAX);
        if same && now < ends && ends <= plan.until.unwrap_or(u64::MAX) {
            Next::Keep
        } else if same && plan.until.is_none() && self.until.is_none() {
            // The end of time itself is no reason to decide.
            Next::Keep
        } else {
            Next::Decide
        }
    }

    /// The one that runs has another budget than a moment ago: where it is still the one to run, the decision's end moves.
    pub(crate) fn goes_on(&mut self, now: u64) -> Next {
        if self.until.is_some_and(|until| until <= now) {
            // It has ended, which a timer says.
            return Next::Keep;
        }
        if self.spills && self.running.is_some_and(|who| self.is_alone(who)) {
            // Whatever its budget is, it runs until its deadline.
            return Next::Keep;
        }
        let plan = self.plan(now);
        let same = plan.run == self.running && plan.kind == self.kind && plan.spills == self.spills;
        if !same {
            return Next::Decide;
        }
        self.ends(&plan);
        Next::Keep
    }

    /// The decision ends where the plan does. Periods that begin before are put off (`renewals`).
    fn ends(&mut self, plan: &Plan) {
        self.until = plan.until;
        self.put_off_until = plan.until.unwrap_or(0);
        self.ends_for = plan
            .ends_for
            .and_then(|who| Some(self.slots.get(who as usize)?.seat(who)));
    }

    /// Whether one that has budget is alone in everything: what it runs beyond its budget takes nothing from anybody.
    #[inline]
    fn is_alone(&self, who: u32) -> bool {
        self.ready.is_only(who) && self.extra.is_only(who)
    }

    #[inline]
    fn plan(&self, now: u64) -> Plan {
        let mut plan = Plan {
            run: None,
            kind: Kind::Idle,
            spills: false,
            begins_turn: false,
            turn_ends: self.turn_ends,
            until: None,
            ends_for: None,
        };
        if let Some(who) = self.ready.root()
            && let Some(server) = self.get(who)
        {
            plan.spills = self.is_alone(who);
            let end = if plan.spills {
                server.deadline
            } else {
                let own = server.budget.saturating_add(self.still_comes.unwrap_or(0));
                server.deadline.min(now.saturating_add(own))
            };
            plan.run = Some(who);
            plan.kind = Kind::Guaranteed;
            plan.until = Some(end);
            plan.ends_by(if plan.spills {
                self.next_to_begin()
            } else {
                self.next_to_matter(server.deadline, end)
            });
        } else if let Some(first) = self.extra.root() {
            plan.kind = Kind::Extra;
            let stays = self.kind == Kind::Extra && now < self.turn_ends;
            match self.running {
                Some(who) if stays && self.extra.contains(&self.slots, who) => plan.run = Some(who),
                _ => {
                    plan.run = Some(first);
                    plan.begins_turn = true;
                    plan.turn_ends = now.saturating_add(self.rules.quantum());
                }
            }
            if self.extra.len() > 1 {
                plan.until = Some(plan.turn_ends);
            }
            plan.ends_by(self.next_to_begin());
        } else {
            plan.ends_by(self.next_to_begin());
        }
        plan
    }

    /// Makes `now` the last boundary, as far as a decision has nothing to do with it: charges the time since the one before to
    /// whoever ran, and renews the periods that have begun meanwhile without one. Answers the boundary.
    #[inline(always)]
    pub(crate) fn advance(&mut self, now: u64) -> u64 {
        let now = self.charge_until(now);
        let _ = self.renew_put_off(now, |_| ());
        now
    }

    /// Charges the time since the last boundary to whoever ran, and makes `now` the last boundary; answers it.
    #[inline(always)]
    fn charge_until(&mut self, now: u64) -> u64 {
        let last = self.books.last;
        if now <= last {
            return last;
        }
        self.books.last = now;
        match self.running {
            None => self.books.idle = self.books.idle.wrapping_add(now - last),
            Some(who) => self.charge(who, last, now),
        }
        now
    }

    /// Charges one that runs what is between two boundaries.
    #[inline(never)]
    fn charge(&mut self, who: u32, last: u64, now: u64) {
        match self.kind {
            Kind::Guaranteed => {
                let Some(server) = self.get(who) else {
                    return;
                };
                // A period that ended meanwhile takes its part, and the next one its own.
                if server.deadline < now && server.can_run() && server.slice() != 0 {
                    let ends = server.deadline.max(last);
                    self.charge_two(who, ends - last, now - ends, now);
                } else {
                    self.charge_guaranteed(who, now - last);
                }
            }
            _ => self.charge_extra(who, now - last),
        }
    }

    /// Charges what was before the end of a period, and what after it.
    #[cold]
    fn charge_two(&mut self, who: u32, before: u64, after: u64, now: u64) {
        self.charge_guaranteed(who, before);
        // What began before it comes before it where deadlines are equal.
        let _ = self.renew_put_off(now - after, |_| ());
        self.end_period(who, now);
        self.charge_guaranteed(who, after);
    }

    #[inline(always)]
    fn charge_guaranteed(&mut self, who: u32, ticks: u64) {
        let spills = self.spills;
        let Some(server) = self.get_mut(who) else {
            return;
        };
        let beyond = if spills {
            ticks.saturating_sub(server.budget)
        } else {
            0
        };
        let within = ticks - beyond;
        server.account.guaranteed = server.account.guaranteed.wrapping_add(within);
        server.debit(within);
        let is_used_up = server.budget == 0;
        self.charged.guaranteed = self.charged.guaranteed.saturating_add(within);
        if is_used_up {
            self.refile(who);
        }
        if beyond != 0 {
            self.charge_extra(who, beyond);
        }
    }

    fn charge_extra(&mut self, who: u32, ticks: u64) {
        let Some(server) = self.get_mut(who) else {
            return;
        };
        server.account.extra = server.account.extra.wrapping_add(ticks);
        server.weigh(ticks);
        let place = server.at[Which::Extra as usize];
        self.charged.extra = self.charged.extra.saturating_add(ticks);
        if place != NONE {
            self.extra.moved(&mut self.slots, who, place);
        }
    }
}

//! Coming to a queue and leaving it: for the first time and for good, or on the way to another CPU.
//!
//! A vCPU that is promised something leaves when its period ends, so that no promise is broken by the move; until it is
//! fetched it stands in the list of those that left, and cannot run.

use crate::accounts::Account;
use crate::decide::Next;
use crate::heap::NONE;
use crate::queue::{Gone, Queue, Seat};
use crate::rules::Terms;
use crate::server::{Server, Stage};

/// The storage is used up: [`Queue::add_row`] brings more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Who comes.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// The caller's name for the vCPU.
    pub tag: u64,
    /// Its domain: who yields lets others of its domain go first.
    pub domain: u32,
    /// Any other vCPU of the domain on this CPU, if there is one.
    pub sibling: Option<Seat>,
    /// Where the domain's periods begin, give or take whole periods: the same for all its vCPUs.
    pub origin: u64,
    /// What it was promised.
    pub terms: Terms,
}

/// A vCPU on its way from one CPU to another.
#[derive(Clone, Copy, Debug)]
pub struct Carried {
    server: Server,
    /// Virtual time beyond what others of the old queue had.
    lag: u128,
}

impl Carried {
    /// The caller's name for it.
    #[must_use]
    pub const fn tag(&self) -> u64 {
        self.server.tag
    }

    /// As it is, by another name.
    #[must_use]
    pub const fn named(mut self, tag: u64) -> Self {
        self.server.tag = tag;
        self
    }

    /// What it got on the CPU that it comes from.
    #[must_use]
    pub const fn account(&self) -> Account {
        self.server.account
    }
}

impl Queue<'_> {
    /// Takes a vCPU in, down: [`Self::up`] starts it. That there is room in time is [`crate::Placement`]'s to say.
    ///
    /// # Errors
    /// [`Full`].
    pub fn arrive(&mut self, now: u64, who: Arrival) -> Result<Seat, Full> {
        let server = Server {
            stage: Stage::Here,
            tag: who.tag,
            domain: who.domain,
            origin: who.origin,
            terms: Some(who.terms),
            ..Server::EMPTY
        };
        self.seat(now, server, who.sibling)
            .map(|(seat, _)| seat)
            .ok_or(Full)
    }

    /// Takes a vCPU in that has left another queue, in the state it was in, under the terms that this CPU has room for:
    /// they are in force at once. A period that it slept in goes on if they allow (T4).
    ///
    /// # Errors
    /// [`Full`]; the vCPU is still the caller's.
    pub fn arrive_from(
        &mut self,
        now: u64,
        who: &Carried,
        terms: Terms,
        sibling: Option<Seat>,
    ) -> Result<(Seat, Next), Full> {
        self.note_floor();
        let old = &who.server;
        let deadline = match old.terms {
            Some(same) if same == terms => old.deadline,
            // It need not wait longer than its new period is; and what was promised nothing had none.
            _ if old.slice() != 0 => old.deadline.min(now.saturating_add(terms.period())),
            _ => now,
        };
        let server = Server {
            stage: Stage::Here,
            terms: Some(terms),
            next_terms: None,
            deadline,
            budget: if terms.slice() == 0 { 0 } else { old.budget },
            virtual_time: self.floor.saturating_add(who.lag),
            account: Account::default(),
            at: Server::EMPTY.at,
            waits_since: None,
            ..who.server
        };
        self.seat(now, server, sibling).ok_or(Full)
    }

    fn seat(&mut self, now: u64, server: Server, sibling: Option<Seat>) -> Option<(Seat, Next)> {
        let now = self.advance(now);
        let index = self.free;
        let sibling = sibling
            .and_then(|seat| self.find(seat).ok())
            .filter(|&other| self.get(other).is_some_and(|s| s.domain == server.domain));
        let slot = self.slots.get_mut(index as usize)?;
        self.free = slot.link;
        slot.link = NONE;
        slot.generation = slot.generation.wrapping_add(1);
        slot.server = server;
        let seat = slot.seat(index);
        self.enter_ring(index, sibling);
        if server.can_run() {
            self.awaken(index, now);
        }
        Some((seat, self.what_follows(now)))
    }

    /// Lets a vCPU go for good. Answers what it got here, and when what it took is paid for (for
    /// [`crate::Placement::release`]). If it runs, it runs until the next decision.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn remove(&mut self, now: u64, seat: Seat) -> Result<(Account, u64, Next), Gone> {
        let (carried, paid_for_at) = self.carry_off(now, seat)?;
        let next = self.what_follows(self.books.last);
        Ok((carried.account(), paid_for_at, next))
    }

    /// Takes out a vCPU that is on no CPU and paused, on its way to another: at once, even if a part of a decision chose it and
    /// it has not begun. Answers it, and when what it took here is paid for (for [`crate::Placement::release`]).
    ///
    /// # Errors
    /// [`Gone`].
    pub fn carry_off(&mut self, now: u64, seat: Seat) -> Result<(Carried, u64), Gone> {
        let now = self.advance(now);
        let who = self.find(seat)?;
        let carried = self.take_out(who, now);
        let paid_for_at = carried.server.paid_for_at(self.rules.section()).max(now);
        Ok((carried, paid_for_at))
    }

    /// Lets a vCPU go to another CPU without breaking what it is promised: at once if it sleeps or is promised nothing,
    /// else when its period ends or it sleeps; then [`Self::take_one_that_left`] has it. Answers when what it took here is
    /// paid for (for [`crate::Placement::release`]), which is when it will have left or later.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn leave(&mut self, now: u64, seat: Seat) -> Result<(u64, Next), Gone> {
        let now = self.advance(now);
        let who = self.find(seat)?;
        let section = self.rules.section();
        let server = self.get_mut(who).ok_or(Gone)?;
        let mut free_at = server.paid_for_at(section).max(now);
        if server.can_run() && server.slice() != 0 && now < server.deadline {
            server.stage = Stage::Leaving;
            free_at = server.deadline;
        } else if server.stage != Stage::HasLeft {
            server.stop_waiting(now);
            self.note_left(who);
            self.refile(who);
        }
        Ok((free_at, self.what_follows(now)))
    }

    /// A vCPU whose time to leave has come; not while it is the one that runs. To be asked after each [`Self::leave`],
    /// and after each decision when the vCPU that ran is off the CPU with all its state, until there is none.
    pub fn take_one_that_left(&mut self, now: u64) -> Option<Carried> {
        let who = self.left;
        if self.running == Some(who) {
            return None;
        }
        self.get(who)?;
        let now = self.advance(now);
        Some(self.take_out(who, now))
    }

    fn take_out(&mut self, who: u32, now: u64) -> Carried {
        match self.get(who).map(|server| server.stage) {
            Some(Stage::HasLeft) => self.drop_from_left(who),
            _ => self.leave_ring(who),
        }
        self.note_floor();
        let floor = self.floor;
        let Some(server) = self.get_mut(who) else {
            return Carried {
                server: Server::EMPTY,
                lag: 0,
            };
        };
        server.stop_waiting(now);
        let left = *server;
        server.stage = Stage::HasLeft;
        self.refile(who);
        if self.running == Some(who) {
            self.running = None;
        }
        self.books.departed = self.books.departed.plus(&left.account);
        let free = self.free;
        if let Some(slot) = self.slots.get_mut(who as usize) {
            slot.server = Server::EMPTY;
            slot.link = free;
            slot.generation = slot.generation.wrapping_add(1);
            self.free = who;
        }
        Carried {
            lag: left.virtual_time.saturating_sub(floor),
            server: left,
        }
    }

    /// It cannot run any more here, and is to be fetched: out of its domain's ring and into the list of those.
    pub(crate) fn note_left(&mut self, who: u32) {
        self.leave_ring(who);
        let first = self.left;
        if let Some(server) = self.get_mut(who) {
            server.stage = Stage::HasLeft;
            (server.ring_previous, server.ring_next) = (NONE, first);
            self.left = who;
        }
        if let Some(server) = self.get_mut(first) {
            server.ring_previous = who;
        }
    }

    fn drop_from_left(&mut self, who: u32) {
        let Some((previous, next)) = self.get(who).map(|s| (s.ring_previous, s.ring_next)) else {
            return;
        };
        match self.get_mut(previous) {
            Some(server) => server.ring_next = next,
            None => self.left = next,
        }
        if let Some(server) = self.get_mut(next) {
            server.ring_previous = previous;
        }
    }
}

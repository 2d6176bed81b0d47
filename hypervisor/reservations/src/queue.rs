//! The vCPUs of one CPU, and what happens to them.
//!
//! ```text
//!                         budget used up                      its period ends
//!    ready (by deadline) ───────────────▶ waiting (by deadline) ─────────────▶ ready
//!         ▲  │ sleep, pause, down             ▲  │
//!         │  ▼                                │  ▼        and, besides, in the heap of left-over time
//!        asleep ──────── wake, unpause, up ───┴──────     if it can run and takes part in it
//! ```
//!
//! The vCPU that runs stays in its heaps: between decisions it is the root of one of them. It pays for all time until
//! the next decision, also for the hypervisor's work on its block or its end of turn.
//!
//! Each call is given the time; one that lies before the last boundary counts as the last boundary (clocks of several
//! CPUs differ a little). A call for a seat that is nobody's any more changes nothing and answers so: the vCPU may
//! have been moved a moment ago.

use crate::accounts::{Account, Books};
use crate::decide::{Kind, Next};
use crate::heap::{Heap, NONE, Which};
use crate::rules::{Rules, Terms};
use crate::server::{Server, Slot, Stage};

/// A vCPU's place in a queue, as long as it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seat {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// The seat is nobody's any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// The storage is used up: [`Queue::grow`] it.
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

    /// What it got on the CPU that it comes from.
    #[must_use]
    pub const fn account(&self) -> Account {
        self.server.account
    }
}

/// What a vCPU is doing, by the numbers of the guest interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum State {
    /// It runs.
    Running = 0,
    /// It could run, and waits: for others, or for its next period.
    Runnable = 1,
    /// It has nothing to do.
    Blocked = 2,
    /// It is down or paused.
    Offline = 3,
}

/// The vCPUs of one CPU.
pub struct Queue<'a> {
    pub(crate) slots: &'a mut [Slot],
    pub(crate) rules: Rules,
    pub(crate) ready: Heap,
    pub(crate) waiting: Heap,
    pub(crate) extra: Heap,
    free: u32,
    left: u32,
    turns: u64,
    /// Who runs, since the last decision.
    pub(crate) running: Option<u32>,
    pub(crate) kind: Kind,
    /// What the running vCPU runs beyond its budget is left-over time: nobody else wants any.
    pub(crate) spills: bool,
    /// When the turn in left-over time is over.
    pub(crate) turn_ends: u64,
    /// The end of the last decision.
    pub(crate) until: Option<u64>,
    /// No less than this is the virtual time of who begins to share left-over time.
    pub(crate) floor: u128,
    pub(crate) books: Books,
}

impl<'a> Queue<'a> {
    /// An empty queue. There is room for as many vCPUs as there are slots; what they hold is overwritten.
    #[must_use]
    pub fn new(slots: &'a mut [Slot], rules: Rules, now: u64) -> Self {
        slots.fill(Slot::EMPTY);
        let mut queue = Self {
            slots,
            rules,
            ready: Heap::new(Which::Ready),
            waiting: Heap::new(Which::Waiting),
            extra: Heap::new(Which::Extra),
            free: NONE,
            left: NONE,
            turns: 0,
            running: None,
            kind: Kind::Idle,
            spills: false,
            turn_ends: 0,
            until: None,
            floor: 0,
            books: Books {
                first: now,
                last: now,
                ..Books::default()
            },
        };
        queue.free_from(0);
        queue
    }

    /// Goes on with more storage, and gives back what it had; `Err` if it is no more. O(slots): not for hot paths.
    ///
    /// # Errors
    /// The storage that was offered.
    pub fn grow(&mut self, larger: &'a mut [Slot]) -> Result<&'a mut [Slot], &'a mut [Slot]> {
        let had = self.slots.len();
        if larger.len() <= had {
            return Err(larger);
        }
        larger.fill(Slot::EMPTY);
        for (new, old) in larger.iter_mut().zip(self.slots.iter()) {
            *new = *old;
        }
        let old = core::mem::replace(&mut self.slots, larger);
        self.free_from(had);
        Ok(old)
    }

    /// Puts the slots from this one on into the list of free ones.
    fn free_from(&mut self, first: usize) {
        // The last slot that the type can number is left out: its number means nobody.
        let end = self.slots.len().min(NONE as usize);
        for index in (first..end).rev() {
            let free = self.free;
            if let Some(slot) = self.slots.get_mut(index) {
                slot.link = free;
                self.free = index as u32;
            }
        }
    }

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
        let seat = Seat {
            slot: index,
            generation: slot.generation,
        };
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
        let now = self.advance(now);
        let who = self.find(seat)?;
        let carried = self.take_out(who, now);
        let paid_for_at = carried.server.paid_for_at(self.rules.section()).max(now);
        Ok((carried.account(), paid_for_at, self.what_follows(now)))
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

    pub(crate) fn next_turn(&mut self) -> u64 {
        // 2^64 turns last longer than any machine.
        self.turns = self.turns.wrapping_add(1);
        self.turns
    }

    pub(crate) fn get(&self, who: u32) -> Option<&Server> {
        self.slots.get(who as usize).map(|slot| &slot.server)
    }

    pub(crate) fn get_mut(&mut self, who: u32) -> Option<&mut Server> {
        self.slots
            .get_mut(who as usize)
            .map(|slot| &mut slot.server)
    }

    pub(crate) fn find(&self, seat: Seat) -> Result<u32, Gone> {
        let slot = self.slots.get(seat.slot as usize).ok_or(Gone)?;
        if slot.generation == seat.generation && slot.server.stage != Stage::Free {
            Ok(seat.slot)
        } else {
            Err(Gone)
        }
    }

    /// Puts a vCPU, whose state, budget or keys have changed, into the heaps where it belongs (T7).
    pub(crate) fn refile(&mut self, who: u32) {
        let Some(&server) = self.get(who) else {
            return;
        };
        let promised = server.can_run() && server.slice() != 0;
        let wanted = [
            (&mut self.ready, promised && server.budget != 0),
            (&mut self.waiting, promised && server.budget == 0),
            (&mut self.extra, server.can_run() && server.takes_extra()),
        ];
        for (heap, wanted) in wanted {
            if !wanted {
                heap.remove(self.slots, who);
            } else if heap.contains(self.slots, who) {
                heap.moved(self.slots, who);
            } else {
                heap.insert(self.slots, who);
            }
        }
    }
}

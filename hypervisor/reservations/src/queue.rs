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
//! The vCPU that runs stays in its heaps: between decisions it is the root of one of them. It pays for all time from when it
//! begins ([`Queue::begins`]) until the next decision, but for what is excused ([`Queue::excused`]). What others did for it
//! meanwhile, and its own coming and going, is told by [`Queue::owes`].
//!
//! Each call is given the time; one that lies before the last boundary counts as the last boundary (clocks of several
//! CPUs differ a little). A call for a seat that is nobody's any more changes nothing and answers so: the vCPU may
//! have been moved a moment ago.

use crate::accounts::Books;
use crate::decide::Kind;
use crate::excused::Charged;
use crate::heap::{ByDeadline, ByVirtualTime, HEAPS, Heap, NONE, Which};
use crate::rules::Rules;
use crate::server::{Server, Slot, Slots, Stage};

/// A vCPU's place in a queue, as long as it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seat {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl Seat {
    /// As a number, to be kept where a number is. It means a seat only to the queue that gave it.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        (self.generation as u64) << 32 | self.slot as u64
    }

    /// The seat that a number was made of.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self {
            slot: bits as u32,
            generation: (bits >> 32) as u32,
        }
    }
}

/// The seat is nobody's any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

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
    pub(crate) slots: Slots<'a>,
    pub(crate) rules: Rules,
    pub(crate) ready: Heap<ByDeadline>,
    pub(crate) waiting: Heap<ByDeadline>,
    pub(crate) extra: Heap<ByVirtualTime>,
    /// The first of the free slots, linked.
    pub(crate) free: u32,
    /// The first of those that are to be fetched, linked in their rings' places.
    pub(crate) left: u32,
    turns: u64,
    /// Who runs, since the last decision.
    pub(crate) running: Option<u32>,
    pub(crate) kind: Kind,
    /// What the running vCPU runs beyond its budget is left-over time: nobody else wants any.
    pub(crate) spills: bool,
    /// When the turn in left-over time began, when it is over, and for whose sake it is before its time.
    pub(crate) turn_began: u64,
    pub(crate) turn_ends: u64,
    pub(crate) cut_for: Option<Seat>,
    /// The end of the last decision, and whose period begins then, if it ends for that.
    pub(crate) until: Option<u64>,
    pub(crate) ends_for: Option<Seat>,
    /// Periods that begin before this need not be renewed then.
    pub(crate) put_off_until: u64,
    /// Of the one that runs, since then.
    pub(crate) charged: Charged,
    /// Since it began, how long it takes until it has the CPU, as far as is known; and how long that took the last time.
    pub(crate) still_comes: Option<u64>,
    pub(crate) took_to_come: [u64; 2],
    /// Nobody ran before the last decision.
    pub(crate) was_idle: bool,
    /// No less than this is the virtual time of who begins to share left-over time.
    pub(crate) floor: u128,
    pub(crate) books: Books,
}

impl<'a> Queue<'a> {
    /// Slots a row has.
    pub const PER_ROW: usize = Slots::PER_ROW;

    /// An empty queue. There is room for as many vCPUs as there are slots, which is what [`Self::add_row`] brings and what
    /// is here already; what they hold is overwritten.
    #[must_use]
    pub fn new(slots: &'a mut [Slot], rules: Rules, now: u64) -> Self {
        slots.fill(Slot::EMPTY);
        let mut queue = Self {
            slots: Slots::new(slots),
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
            turn_began: 0,
            turn_ends: 0,
            cut_for: None,
            until: None,
            ends_for: None,
            put_off_until: 0,
            charged: Charged::default(),
            still_comes: None,
            took_to_come: [0; 2],
            was_idle: true,
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

    /// vCPUs that there is storage for.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// Adds a row of storage, [`Self::PER_ROW`] slots or, as the last, fewer; nobody is moved. False if it cannot be.
    pub fn add_row(&mut self, row: &'a mut [Slot]) -> bool {
        let had = self.slots.len();
        row.fill(Slot::EMPTY);
        let added = self.slots.add(row);
        self.free_from(had);
        added
    }

    /// Goes on with another quantum: turns that begin from now on are as long. False, and nothing changes, if the rules
    /// differ in more than that: what was granted counts on the rest.
    pub fn set_quantum(&mut self, rules: Rules) -> bool {
        let is_same = self.rules.with_quantum(rules.quantum()) == Ok(rules);
        if is_same {
            self.rules = rules;
        }
        is_same
    }

    /// Puts the slots from this one on into the list of free ones: as many as were added.
    fn free_from(&mut self, first: usize) {
        for index in (first..self.slots.len()).rev() {
            let free = self.free;
            if let Some(slot) = self.slots.get_mut(index) {
                slot.link = free;
                self.free = index as u32;
            }
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
        let Some(slot) = self.slots.get_mut(who as usize) else {
            return;
        };
        let server = &mut slot.server;
        let can_run = server.can_run();
        let promised = can_run && server.slice() != 0;
        let has_budget = server.budget != 0;
        let takes_extra = can_run && server.takes_extra();
        let wanted = [promised && has_budget, promised && !has_budget, takes_extra];
        let [ready, waiting, extra] = &mut server.at;
        if takes_extra != (*extra != NONE) && self.extra.is_only(who) {
            // As `note_floor`, which looks for it.
            self.floor = self.floor.max(server.virtual_time);
        }
        let is_done = self.ready.file_alone(who, ready, wanted[0])
            & self.waiting.file_alone(who, waiting, wanted[1])
            & self.extra.file_alone(who, extra, wanted[2]);
        if !is_done {
            self.refile_among(who, wanted);
        }
    }

    /// As [`Self::refile`], of one that cannot run any more.
    pub(crate) fn unfile(&mut self, who: u32) {
        let Some(slot) = self.slots.get_mut(who as usize) else {
            return;
        };
        let server = &mut slot.server;
        let [ready, waiting, extra] = &mut server.at;
        if self.extra.is_only(who) {
            // As `note_floor`, which looks for it.
            self.floor = self.floor.max(server.virtual_time);
        }
        let is_done = self.ready.file_alone(who, ready, false)
            & self.waiting.file_alone(who, waiting, false)
            & self.extra.file_alone(who, extra, false);
        if !is_done {
            self.refile_among(who, [false; HEAPS]);
        }
    }

    /// As [`Self::refile`], where others are in the heaps in which it is, or should be, by their numbers.
    fn refile_among(&mut self, who: u32, wanted: [bool; HEAPS]) {
        let Some([ready, waiting, extra]) = self.get(who).map(|server| server.at) else {
            return;
        };
        if wanted[2] != (extra != NONE) {
            self.note_floor();
        }
        let slots = &mut self.slots;
        self.ready.file(slots, who, ready, wanted[0]);
        self.waiting.file(slots, who, waiting, wanted[1]);
        self.extra.file(slots, who, extra, wanted[2]);
    }

    /// Brings up to date what those are to have at least who begin to share left-over time: as much as who has had least.
    /// Before it is read, and before who shares changes.
    pub(crate) fn note_floor(&mut self) {
        if let Some(first) = self.extra.root().and_then(|who| self.get(who)) {
            self.floor = self.floor.max(first.virtual_time);
        }
    }
}

//! The run queue of one CPU: in turn, a quantum each (invariants S1 to S4).
//!
//! A vCPU here is one of
//!
//! ```text
//!               decide                 block, pause, down
//!    queued ───────────────▶ running ──────────────────────▶ off
//!      ▲ ▲                      │                              │
//!      │ └──── decide, its turn over and somebody waiting      │
//!      └────────────── wake, unpause, up ──────────────────────┘
//! ```
//!
//! "Off" has three reasons, kept apart because each ends by its own call: blocked, paused (counted) and
//! down. It is ready when none holds. Turns are taken from the head of a list; whoever becomes ready
//! goes to its tail, and so does the running vCPU when its turn ends. What is left of a turn when a vCPU
//! blocks or is paused is forfeited; it gets a whole one next time. When a sleeper wakes, the running turn
//! is cut to the shortest there is: who sleeps has been waiting for something, and the order stays the same.
//!
//! All calls are O(1). A call for a vCPU that is not here changes nothing: it may have been removed a
//! moment ago by another CPU.

use crate::rows::{Rows, rows_for};
use crate::{MAX_VCPUS, State, VcpuHandle};

/// What a vCPU was promised: at least `slice_ns` of CPU in every `period_ns` while it wants to run.
/// Turns do not look at it yet; it is kept with the vCPU for the policy that will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// CPU time in each period.
    pub slice_ns: u64,
    /// The period.
    pub period_ns: u64,
    /// Whether it may have more.
    pub extra: Extra,
}

/// Whether a vCPU takes part in time that nobody reserved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Extra {
    /// No: its slice is also its most.
    Never,
    /// Yes.
    #[default]
    WhenIdle,
}

impl Reservation {
    /// Nothing promised; runs in left-over time.
    pub const BEST_EFFORT: Self = Self {
        slice_ns: 0,
        period_ns: 100_000_000,
        extra: Extra::WhenIdle,
    };
}

/// The caller's storage for one vCPU.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    place: Place,
    blocked: bool,
    down: bool,
    paused: u32,
    previous: u32,
    next: u32,
    reservation: Reservation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Not of this CPU.
    Elsewhere,
    /// Of this CPU, not ready.
    Off,
    /// In the list.
    Queued,
    /// The one that runs.
    Running,
}

/// End of the list.
const NOBODY: u32 = u32::MAX;

impl Entry {
    /// What the storage is filled with.
    pub const EMPTY: Self = Self {
        place: Place::Elsewhere,
        blocked: false,
        down: false,
        paused: 0,
        previous: NOBODY,
        next: NOBODY,
        reservation: Reservation::BEST_EFFORT,
    };

    const fn is_ready(&self) -> bool {
        !self.blocked && !self.down && self.paused == 0
    }
}

/// What a call leaves to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Next {
    /// The last decision stands.
    Keep,
    /// [`RunQueue::decide`] is to be called on this queue's CPU; interrupt it if it is another one.
    Decide,
}

/// Who runs, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The vCPU to run; `None` to idle.
    pub run: Option<VcpuHandle>,
    /// When to decide anew if nothing happens before; `None` if nobody waits, and then no timer need be
    /// set (S4).
    pub until_ns: Option<u64>,
}

/// Why a vCPU cannot be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddError {
    /// The handle lies beyond the storage.
    OutOfRange,
    /// It is here already.
    AlreadyHere,
}

/// The storage of as many vCPUs as there can be.
pub type EntryRows<'a> = Rows<'a, Entry, { rows_for::<Entry>(MAX_VCPUS) }>;

/// The vCPUs of one CPU.
pub struct RunQueue<'a> {
    entries: EntryRows<'a>,
    quantum_ns: u64,
    shortest_ns: u64,
    head: u32,
    tail: u32,
    current: Option<VcpuHandle>,
    /// When the current vCPU's turn began.
    turn_began_ns: u64,
    /// When the current vCPU's turn is over, if somebody waits by then.
    turn_ends_ns: u64,
    /// Whose waking cut that turn short.
    cut_for: Option<VcpuHandle>,
}

impl<'a> RunQueue<'a> {
    /// An empty queue whose turns last `quantum_ns`, or `shortest_ns` where a sleeper wakes. The storage
    /// has an entry for every handle there is; what it holds is overwritten.
    #[must_use]
    pub fn new(entries: &'a mut [Entry], quantum_ns: u64, shortest_ns: u64) -> Self {
        entries.fill(Entry::EMPTY);
        Self {
            entries: Rows::new(entries),
            quantum_ns,
            shortest_ns: shortest_ns.min(quantum_ns),
            head: NOBODY,
            tail: NOBODY,
            current: None,
            turn_began_ns: 0,
            turn_ends_ns: 0,
            cut_for: None,
        }
    }

    /// Handles there is storage for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.entries.len()
    }

    /// Adds a row of storage, for the handles that follow. False if it cannot be.
    pub fn add_row(&mut self, row: &'a mut [Entry]) -> bool {
        row.fill(Entry::EMPTY);
        self.entries.add(row)
    }

    /// Takes a vCPU in, down: [`Self::up`] starts it.
    pub fn add(&mut self, vcpu: VcpuHandle, reservation: Reservation) -> Result<(), AddError> {
        // The list's end is no handle, however long the storage.
        if vcpu.0 == NOBODY {
            return Err(AddError::OutOfRange);
        }
        let entry = self
            .entries
            .get_mut(vcpu.index())
            .ok_or(AddError::OutOfRange)?;
        if entry.place != Place::Elsewhere {
            return Err(AddError::AlreadyHere);
        }
        *entry = Entry {
            place: Place::Off,
            down: true,
            reservation,
            ..Entry::EMPTY
        };
        Ok(())
    }

    /// Lets a vCPU go, whatever its state. If it runs, it runs until the next decision, which will not
    /// be for it.
    pub fn remove(&mut self, vcpu: VcpuHandle, now_ns: u64) -> Next {
        let next = self.change(vcpu, now_ns, |entry| entry.down = true);
        if let Some(entry) = self.entry_mut(vcpu) {
            *entry = Entry::EMPTY;
        }
        self.cut_for = self.cut_for.filter(|woken| *woken != vcpu);
        next
    }

    /// Its guest, or its event, wants it to run. Also to be called after [`Self::block`] if an event is
    /// found pending then, so that no wake-up is lost between the look and the sleep.
    pub fn wake(&mut self, vcpu: VcpuHandle, now_ns: u64) -> Next {
        let was_off = self.entry(vcpu).is_some_and(|e| e.place == Place::Off);
        let next = self.change(vcpu, now_ns, |entry| entry.blocked = false);
        let waits = self.entry(vcpu).is_some_and(|e| e.place == Place::Queued);
        let end_ns = self.turn_began_ns.saturating_add(self.shortest_ns);
        if self.current.is_some() && was_off && waits && end_ns < self.turn_ends_ns {
            self.turn_ends_ns = end_ns;
            self.cut_for = Some(vcpu);
            return Next::Decide;
        }
        next
    }

    /// It has nothing to do until it is woken.
    pub fn block(&mut self, vcpu: VcpuHandle, now_ns: u64) -> Next {
        self.change(vcpu, now_ns, |entry| entry.blocked = true)
    }

    /// Its guest starts it.
    pub fn up(&mut self, vcpu: VcpuHandle, now_ns: u64) -> Next {
        self.change(vcpu, now_ns, |entry| {
            entry.down = false;
            entry.blocked = false;
        })
    }

    /// Its guest takes it down.
    pub fn down(&mut self, vcpu: VcpuHandle, now_ns: u64) -> Next {
        self.change(vcpu, now_ns, |entry| entry.down = true)
    }

    /// Stops it until it is unpaused as often as it was paused.
    pub fn pause(&mut self, vcpu: VcpuHandle, now_ns: u64) -> Next {
        self.change(vcpu, now_ns, |entry| {
            entry.paused = entry.paused.saturating_add(1)
        })
    }

    /// Undoes one [`Self::pause`].
    pub fn unpause(&mut self, vcpu: VcpuHandle, now_ns: u64) -> Next {
        self.change(vcpu, now_ns, |entry| {
            entry.paused = entry.paused.saturating_sub(1)
        })
    }

    /// Gives up the rest of its turn, if it runs. Alone, it goes on running.
    pub fn yield_now(&mut self, vcpu: VcpuHandle, now_ns: u64) -> Next {
        if self.current != Some(vcpu) {
            return Next::Keep;
        }
        self.turn_ends_ns = self.turn_ends_ns.min(now_ns);
        self.if_somebody_waits()
    }

    /// The preemption timer has fired, perhaps early.
    pub fn tick(&mut self, now_ns: u64) -> Next {
        if now_ns >= self.turn_ends_ns {
            self.if_somebody_waits()
        } else {
            Next::Keep
        }
    }

    /// Changes what a vCPU was promised; false if it is not here.
    pub fn set_reservation(&mut self, vcpu: VcpuHandle, reservation: Reservation) -> bool {
        match self.entry_mut(vcpu) {
            Some(entry) => {
                entry.reservation = reservation;
                true
            }
            None => false,
        }
    }

    /// What a vCPU was promised; `None` if it is not here.
    #[must_use]
    pub fn reservation(&self, vcpu: VcpuHandle) -> Option<Reservation> {
        self.entry(vcpu).map(|entry| entry.reservation)
    }

    /// The vCPU the last decision was for, unless it has become unready since.
    #[must_use]
    pub fn current(&self) -> Option<VcpuHandle> {
        self.current
    }

    /// When the running vCPU's turn is over, if somebody waits for that: until then a timer must be set, whatever
    /// else it was used for meanwhile.
    #[must_use]
    pub fn turn_ends_ns(&self) -> Option<u64> {
        self.decision().until_ns
    }

    /// Whose waking cut the running vCPU's turn short, if any did: the turn's end is that one's doing.
    #[must_use]
    pub fn turn_cut_for(&self) -> Option<VcpuHandle> {
        self.cut_for
    }

    /// The runstate a vCPU is in; `None` if it is not here. One that is blocked and paused is blocked.
    #[must_use]
    pub fn state(&self, vcpu: VcpuHandle) -> Option<State> {
        let entry = self.entry(vcpu)?;
        Some(match entry.place {
            Place::Running => State::Running,
            Place::Queued => State::Runnable,
            Place::Off | Place::Elsewhere if entry.down => State::Offline,
            Place::Off | Place::Elsewhere if entry.blocked => State::Blocked,
            Place::Off | Place::Elsewhere => State::Offline,
        })
    }

    /// Decides who runs from now on.
    pub fn decide(&mut self, now_ns: u64) -> Decision {
        if let Some(current) = self.current {
            if self.head == NOBODY || now_ns < self.turn_ends_ns {
                return self.decision();
            }
            self.append(current);
        }
        self.current = self.take_first();
        self.cut_for = None;
        self.turn_began_ns = now_ns;
        self.turn_ends_ns = now_ns.saturating_add(self.quantum_ns);
        self.decision()
    }

    fn decision(&self) -> Decision {
        let somebody_waits = self.current.is_some() && self.head != NOBODY;
        Decision {
            run: self.current,
            until_ns: somebody_waits.then_some(self.turn_ends_ns),
        }
    }

    fn if_somebody_waits(&self) -> Next {
        if self.head == NOBODY {
            Next::Keep
        } else {
            Next::Decide
        }
    }

    /// Applies a change to a vCPU's reasons for being off, and moves it to where it then belongs.
    fn change(&mut self, vcpu: VcpuHandle, _now_ns: u64, apply: impl FnOnce(&mut Entry)) -> Next {
        let Some(entry) = self.entry_mut(vcpu) else {
            return Next::Keep;
        };
        apply(entry);
        let (place, ready) = (entry.place, entry.is_ready());
        match (place, ready) {
            (Place::Off, true) => {
                // The running vCPU needs a timer only once somebody waits, and an idle CPU needs waking.
                let was_empty = self.head == NOBODY;
                self.append(vcpu);
                if was_empty { Next::Decide } else { Next::Keep }
            }
            (Place::Queued, false) => {
                self.unlink(vcpu);
                // If it was the only one waiting, the timer set for its sake does no harm.
                Next::Keep
            }
            (Place::Running, false) => {
                self.current = None;
                if let Some(entry) = self.entry_mut(vcpu) {
                    entry.place = Place::Off;
                }
                Next::Decide
            }
            _ => Next::Keep,
        }
    }

    fn entry(&self, vcpu: VcpuHandle) -> Option<&Entry> {
        self.entries
            .get(vcpu.index())
            .filter(|entry| entry.place != Place::Elsewhere)
    }

    fn entry_mut(&mut self, vcpu: VcpuHandle) -> Option<&mut Entry> {
        self.entries
            .get_mut(vcpu.index())
            .filter(|entry| entry.place != Place::Elsewhere)
    }

    /// Puts a vCPU that is not in the list at its tail.
    fn append(&mut self, vcpu: VcpuHandle) {
        let tail = self.tail;
        let Some(entry) = self.entry_mut(vcpu) else {
            return;
        };
        entry.place = Place::Queued;
        entry.previous = tail;
        entry.next = NOBODY;
        match self.entry_mut(VcpuHandle(tail)) {
            Some(last) => last.next = vcpu.0,
            None => self.head = vcpu.0,
        }
        self.tail = vcpu.0;
    }

    /// Takes a vCPU out of the list.
    fn unlink(&mut self, vcpu: VcpuHandle) {
        let Some(entry) = self.entry_mut(vcpu) else {
            return;
        };
        entry.place = Place::Off;
        let (previous, next) = (entry.previous, entry.next);
        match self.entry_mut(VcpuHandle(previous)) {
            Some(entry) => entry.next = next,
            None => self.head = next,
        }
        match self.entry_mut(VcpuHandle(next)) {
            Some(entry) => entry.previous = previous,
            None => self.tail = previous,
        }
    }

    /// Takes the head of the list out of it, to run.
    fn take_first(&mut self) -> Option<VcpuHandle> {
        let first = VcpuHandle(self.head);
        if first.0 == NOBODY {
            return None;
        }
        self.unlink(first);
        self.entry_mut(first)?.place = Place::Running;
        Some(first)
    }
}

//! One-shot timers by deadline (invariant S3): a binary heap whose places are known to each timer.

use crate::MAX_TIMERS;
use crate::rows::{Rows, rows_for};

/// The caller's storage for one timer.
///
/// Slot `i` plays two parts that have nothing to do with each other: it is place `i` of the heap, and it
/// remembers in which place of the heap timer `i` is.
#[derive(Clone, Copy, Debug)]
pub struct TimerSlot {
    deadline_ns: u64,
    timer: u32,
    place: u32,
}

/// A timer that is not set is in no place.
const NO_PLACE: u32 = u32::MAX;

impl TimerSlot {
    /// What the storage is filled with.
    pub const EMPTY: Self = Self {
        deadline_ns: 0,
        timer: 0,
        place: NO_PLACE,
    };

    /// What the heap is ordered by; the timer's number makes the order total.
    const fn key(&self) -> (u64, u32) {
        (self.deadline_ns, self.timer)
    }
}

/// The number names no timer of this queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSuchTimer;

/// The storage of as many timers as there can be.
pub type TimerRows<'a> = Rows<'a, TimerSlot, { rows_for::<TimerSlot>(MAX_TIMERS) }>;

/// Timers numbered from zero, each set to one deadline or to none. Setting, cancelling and popping are
/// O(log n).
pub struct TimerQueue<'a> {
    slots: TimerRows<'a>,
    len: usize,
}

impl<'a> TimerQueue<'a> {
    /// As many timers as there are slots, none of them set. What the storage holds is overwritten.
    #[must_use]
    pub fn new(slots: &'a mut [TimerSlot]) -> Self {
        slots.fill(TimerSlot::EMPTY);
        Self {
            slots: Rows::new(slots),
            len: 0,
        }
    }

    /// Timers there are.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// Adds a row of storage, for the timers that follow. False if it cannot be.
    pub fn add_row(&mut self, row: &'a mut [TimerSlot]) -> bool {
        row.fill(TimerSlot::EMPTY);
        self.slots.add(row)
    }

    /// Sets a timer, or sets it anew. A deadline in the past is due at once.
    pub fn set(&mut self, timer: u32, deadline_ns: u64) -> Result<(), NoSuchTimer> {
        let place = match self.place_of(timer)? {
            Some(place) => place,
            None => {
                // There is room: at most one place a timer, and this one has none.
                let place = self.len;
                self.len += 1;
                place
            }
        };
        self.put(place, deadline_ns, timer);
        self.settle(place);
        Ok(())
    }

    /// Cancels a timer; true if it was set.
    pub fn cancel(&mut self, timer: u32) -> bool {
        let Ok(Some(place)) = self.place_of(timer) else {
            return false;
        };
        self.take_out(place);
        true
    }

    /// The deadline of a timer; `None` if it is not set.
    #[must_use]
    pub fn deadline(&self, timer: u32) -> Option<u64> {
        let place = self.place_of(timer).ok()??;
        self.slots.get(place).map(|slot| slot.deadline_ns)
    }

    /// The earliest deadline: what the hardware timer is to be set to.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        if self.len == 0 {
            None
        } else {
            self.slots.get(0).map(|slot| slot.deadline_ns)
        }
    }

    /// Takes out the earliest timer if its deadline has come. To be called until it answers `None`, or
    /// until a budget is used up: what is still due then stays the next deadline.
    pub fn pop_due(&mut self, now_ns: u64) -> Option<(u32, u64)> {
        if self.len == 0 {
            return None;
        }
        let (deadline_ns, timer) = self.slots.get(0)?.key();
        if deadline_ns > now_ns {
            return None;
        }
        self.remove(0, timer);
        Some((timer, deadline_ns))
    }

    fn place_of(&self, timer: u32) -> Result<Option<usize>, NoSuchTimer> {
        let slot = self.slots.get(timer as usize).ok_or(NoSuchTimer)?;
        Ok((slot.place != NO_PLACE).then_some(slot.place as usize))
    }

    /// Removes what is in a place, and fills the place with the heap's last.
    fn take_out(&mut self, place: usize) {
        if let Some((_, timer)) = self.key(place) {
            self.remove(place, timer);
        }
    }

    /// As [`Self::take_out`], of the timer that is there.
    #[inline]
    fn remove(&mut self, place: usize, timer: u32) {
        self.len -= 1;
        self.set_place(timer, NO_PLACE);
        if place < self.len
            && let Some((deadline_ns, timer)) = self.key(self.len)
        {
            self.put(place, deadline_ns, timer);
            self.settle(place);
        }
    }

    fn key(&self, place: usize) -> Option<(u64, u32)> {
        self.slots.get(place).map(TimerSlot::key)
    }

    fn put(&mut self, place: usize, deadline_ns: u64, timer: u32) {
        if let Some(slot) = self.slots.get_mut(place) {
            slot.deadline_ns = deadline_ns;
            slot.timer = timer;
        }
        self.set_place(timer, place as u32);
    }

    fn set_place(&mut self, timer: u32, place: u32) {
        if let Some(slot) = self.slots.get_mut(timer as usize) {
            slot.place = place;
        }
    }

    /// Moves what is in a place up or down to where the heap's order wants it.
    #[inline]
    fn settle(&mut self, place: usize) {
        if self.len > 1 {
            self.settle_among(place);
        }
    }

    fn settle_among(&mut self, place: usize) {
        let place = self.settle_up(place);
        self.settle_down(place);
    }

    fn settle_up(&mut self, mut place: usize) -> usize {
        while place > 0 {
            let parent = (place - 1) / 2;
            if !self.swap_if_later(parent, place) {
                break;
            }
            place = parent;
        }
        place
    }

    fn settle_down(&mut self, mut place: usize) {
        loop {
            let left = 2 * place + 1;
            if left >= self.len {
                return;
            }
            let right = left + 1;
            let child = if right < self.len && self.key(right) < self.key(left) {
                right
            } else {
                left
            };
            if !self.swap_if_later(place, child) {
                return;
            }
            place = child;
        }
    }

    /// Swaps two places if the upper one's deadline is the later.
    fn swap_if_later(&mut self, upper: usize, lower: usize) -> bool {
        let (Some(above), Some(below)) = (self.key(upper), self.key(lower)) else {
            return false;
        };
        if above <= below {
            return false;
        }
        self.put(upper, below.0, below.1);
        self.put(lower, above.0, above.1);
        true
    }
}

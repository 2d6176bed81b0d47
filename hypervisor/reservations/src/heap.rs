//! Three binary heaps in the storage of one queue: who has budget, who waits for a period, who shares what is left.
//!
//! A slot plays two parts that have nothing to do with each other: slot `i` is place `i` of each heap, and it holds
//! server `i`, which knows its place in each heap. So a heap has room for all servers, and inserting, removing and
//! moving one takes O(log n) steps at worst (invariant T9; tests count them).

use crate::server::Slots;

/// A server that is not in a heap is in no place; a place or list that is empty holds nobody.
pub(crate) const NONE: u32 = u32::MAX;

/// What a heap holds, and by what it is ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// Can run and has budget; earliest deadline first.
    Ready = 0,
    /// Can run, is promised something, and has no budget: earliest next period first.
    Waiting = 1,
    /// Can run and takes part in left-over time; least virtual time first.
    Extra = 2,
}

pub(crate) const HEAPS: usize = 3;

#[derive(Debug)]
pub(crate) struct Heap {
    which: Which,
    len: u32,
    /// Who is in the first place, if anybody is in.
    first: u32,
    #[cfg(test)]
    pub(crate) steps: u64,
}

impl Heap {
    pub(crate) const fn new(which: Which) -> Self {
        Self {
            which,
            len: 0,
            first: NONE,
            #[cfg(test)]
            steps: 0,
        }
    }

    pub(crate) const fn len(&self) -> u32 {
        self.len
    }

    /// The first in order.
    #[inline]
    pub(crate) const fn root(&self) -> Option<u32> {
        if self.len == 0 {
            None
        } else {
            Some(self.first)
        }
    }

    pub(crate) fn contains(&self, slots: &Slots<'_>, who: u32) -> bool {
        self.place(slots, who).is_some()
    }

    /// For audits: nobody comes before the one above, and everybody knows the place it is in.
    pub(crate) fn is_in_order(&self, slots: &Slots<'_>) -> bool {
        (0..self.len).all(|place| {
            let knows = self
                .at(slots, place)
                .is_some_and(|who| self.place(slots, who) == Some(place))
                && (place != 0 || self.at(slots, 0) == self.root());
            let above = place.saturating_sub(1) / 2;
            knows && self.key_at(slots, above) <= self.key_at(slots, place)
        })
    }

    /// Has a server in where its key wants it, or not in at all. `place` is where it is, [`NONE`] if it is not in.
    #[inline]
    pub(crate) fn file(&mut self, slots: &mut Slots<'_>, who: u32, place: u32, wanted: bool) {
        match (place != NONE, wanted) {
            (false, false) => {}
            (false, true) => self.insert(slots, who),
            (true, false) => self.remove(slots, who, place),
            (true, true) => self.moved(slots, place),
        }
    }

    /// Takes a server in, which is not in.
    pub(crate) fn insert(&mut self, slots: &mut Slots<'_>, who: u32) {
        let place = self.len;
        // There is room: each server has one place at most, and there is a place for each slot.
        self.len += 1;
        self.put(slots, place, who);
        self.rise(slots, place);
    }

    /// Takes a server out, from the place where it is.
    pub(crate) fn remove(&mut self, slots: &mut Slots<'_>, who: u32, place: u32) {
        self.len -= 1;
        self.set_place(slots, who, NONE);
        if place < self.len
            && let Some(last) = self.at(slots, self.len)
        {
            self.put(slots, place, last);
            self.settle(slots, place);
        }
    }

    /// Puts a server, which is in, where its key wants it that has changed.
    pub(crate) fn moved(&mut self, slots: &mut Slots<'_>, place: u32) {
        if self.len > 1 {
            self.settle(slots, place);
        }
    }

    fn settle(&mut self, slots: &mut Slots<'_>, place: u32) {
        let place = self.rise(slots, place);
        self.sink(slots, place);
    }

    fn rise(&mut self, slots: &mut Slots<'_>, mut place: u32) -> u32 {
        while place > 0 {
            let parent = (place - 1) / 2;
            if !self.swap_if_later(slots, parent, place) {
                break;
            }
            place = parent;
        }
        place
    }

    fn sink(&mut self, slots: &mut Slots<'_>, mut place: u32) {
        loop {
            // A heap is no longer than the storage, so this stays far below the end of the type on any machine that
            // can hold it; a slot is hundreds of bytes.
            let left = place.saturating_mul(2).saturating_add(1);
            if left >= self.len {
                return;
            }
            let right = left + 1;
            let right_first =
                right < self.len && self.key_at(slots, right) < self.key_at(slots, left);
            let child = if right_first { right } else { left };
            if !self.swap_if_later(slots, place, child) {
                return;
            }
            place = child;
        }
    }

    /// Swaps two places if the upper one's key is the later.
    fn swap_if_later(&mut self, slots: &mut Slots<'_>, upper: u32, lower: u32) -> bool {
        #[cfg(test)]
        {
            self.steps += 1;
        }
        let (Some(above), Some(below)) = (self.at(slots, upper), self.at(slots, lower)) else {
            return false;
        };
        if self.key(slots, above) <= self.key(slots, below) {
            return false;
        }
        self.put(slots, upper, below);
        self.put(slots, lower, above);
        true
    }

    /// What the heap is ordered by. Turns are given out once, so the order is total.
    fn key(&self, slots: &Slots<'_>, who: u32) -> (u128, u64) {
        match (slots.get(who as usize), self.which) {
            (Some(slot), Which::Extra) => (slot.server.virtual_time, slot.server.turn),
            (Some(slot), _) => (u128::from(slot.server.deadline), slot.server.turn),
            (None, _) => (u128::MAX, u64::MAX),
        }
    }

    fn key_at(&self, slots: &Slots<'_>, place: u32) -> (u128, u64) {
        match self.at(slots, place) {
            Some(who) => self.key(slots, who),
            None => (u128::MAX, u64::MAX),
        }
    }

    /// Who is in a place, if the heap is that long.
    pub(crate) fn nth(&self, slots: &Slots<'_>, place: u32) -> Option<u32> {
        if place < self.len {
            self.at(slots, place)
        } else {
            None
        }
    }

    fn at(&self, slots: &Slots<'_>, place: u32) -> Option<u32> {
        slots
            .get(place as usize)
            .map(|slot| slot.places[self.which as usize])
    }

    fn place(&self, slots: &Slots<'_>, who: u32) -> Option<u32> {
        let place = slots.get(who as usize)?.server.at[self.which as usize];
        (place != NONE).then_some(place)
    }

    fn put(&mut self, slots: &mut Slots<'_>, place: u32, who: u32) {
        if place == 0 {
            self.first = who;
        }
        if let Some(slot) = slots.get_mut(place as usize) {
            slot.places[self.which as usize] = who;
        }
        self.set_place(slots, who, place);
    }

    fn set_place(&self, slots: &mut Slots<'_>, who: u32, place: u32) {
        if let Some(slot) = slots.get_mut(who as usize) {
            slot.server.at[self.which as usize] = place;
        }
    }
}

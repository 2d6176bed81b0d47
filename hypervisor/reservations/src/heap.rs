//! Three binary heaps in the storage of one queue: who has budget, who waits for a period, who shares what is left.
//!
//! A slot plays two parts that have nothing to do with each other: slot `i` is place `i` of each heap, and it holds
//! server `i`, which knows its place in each heap. So a heap has room for all servers, and inserting, removing and
//! moving one takes O(log n) steps at worst (invariant T9; tests count them).

use core::marker::PhantomData;

use crate::server::{Server, Slots};

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

/// By what a heap is ordered. Turns are given out once, so the orders are total.
pub(crate) trait Order {
    type Key: Ord + Copy;
    /// After all.
    const LAST: Self::Key;

    fn key(server: &Server) -> Self::Key;
}

#[derive(Debug)]
pub(crate) struct ByDeadline;

impl Order for ByDeadline {
    // One number of both is compared in half as many instructions as two.
    type Key = u128;
    const LAST: u128 = u128::MAX;

    #[inline]
    fn key(server: &Server) -> Self::Key {
        u128::from(server.deadline) << 64 | u128::from(server.turn)
    }
}

#[derive(Debug)]
pub(crate) struct ByVirtualTime;

impl Order for ByVirtualTime {
    type Key = (u128, u64);
    const LAST: Self::Key = (u128::MAX, u64::MAX);

    #[inline]
    fn key(server: &Server) -> Self::Key {
        (server.virtual_time, server.turn)
    }
}

#[derive(Debug)]
pub(crate) struct Heap<O> {
    which: Which,
    len: u32,
    /// Who is in the first place, if anybody is in.
    first: u32,
    #[cfg(test)]
    pub(crate) steps: u64,
    order: PhantomData<O>,
}

impl<O: Order> Heap<O> {
    pub(crate) const fn new(which: Which) -> Self {
        Self {
            which,
            len: 0,
            first: NONE,
            #[cfg(test)]
            steps: 0,
            order: PhantomData,
        }
    }

    /// Whether one is in, and nobody else.
    #[inline]
    pub(crate) const fn is_only(&self, who: u32) -> bool {
        self.len == 1 && self.first == who
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
                .is_some_and(|who| self.place(slots, who) == Some(place));
            let above = place.saturating_sub(1) / 2;
            let key = |place| self.at(slots, place).map(|who| Self::key(slots, who));
            knows && key(above) <= key(place)
        })
    }

    /// As [`Self::file`], where that concerns nobody else; false, and nothing is done, if it does. `at` is what the server knows
    /// of its place.
    #[inline]
    pub(crate) fn file_alone(&mut self, who: u32, at: &mut u32, wanted: bool) -> bool {
        match (*at != NONE, wanted) {
            (false, false) => true,
            (false, true) if self.len == 0 => {
                (self.len, self.first, *at) = (1, who, 0);
                true
            }
            (true, false) if self.len == 1 => {
                (self.len, *at) = (0, NONE);
                true
            }
            (true, true) => self.len == 1,
            _ => false,
        }
    }

    /// Has a server in where its key wants it, or not in at all. `place` is where it is, [`NONE`] if it is not in.
    #[inline]
    pub(crate) fn file(&mut self, slots: &mut Slots<'_>, who: u32, place: u32, wanted: bool) {
        match (place != NONE, wanted) {
            (false, false) => {}
            (false, true) => self.insert(slots, who),
            (true, false) => self.remove(slots, who, place),
            (true, true) => self.moved(slots, who, place),
        }
    }

    /// Takes a server in, which is not in.
    pub(crate) fn insert(&mut self, slots: &mut Slots<'_>, who: u32) {
        let place = self.len;
        // There is room: each server has one place at most, and there is a place for each slot.
        self.len += 1;
        let place = self.rise(slots, place, Self::key(slots, who));
        self.put(slots, place, who);
    }

    /// Takes a server out, from the place where it is.
    pub(crate) fn remove(&mut self, slots: &mut Slots<'_>, who: u32, place: u32) {
        self.len -= 1;
        self.set_place(slots, who, NONE);
        if place < self.len
            && let Some(last) = self.at(slots, self.len)
        {
            let place = self.free_for(slots, place, last);
            self.put(slots, place, last);
        }
    }

    /// Puts a server, which is in this place, where its key wants it that has changed.
    pub(crate) fn moved(&mut self, slots: &mut Slots<'_>, who: u32, place: u32) {
        let wanted = self.free_for(slots, place, who);
        if wanted != place {
            self.put(slots, wanted, who);
        }
    }

    /// Frees the place that a server's key wants, above or below one that is free.
    fn free_for(&mut self, slots: &mut Slots<'_>, place: u32, who: u32) -> u32 {
        let key = Self::key(slots, who);
        match self.rise(slots, place, key) {
            risen if risen == place => self.sink(slots, place, key),
            risen => risen,
        }
    }

    /// Moves those above a place that is free one down that come after a key; answers which place is free then.
    fn rise(&mut self, slots: &mut Slots<'_>, mut place: u32, key: O::Key) -> u32 {
        while place > 0 {
            self.count_step();
            let parent = (place - 1) / 2;
            let Some(above) = self.at(slots, parent) else {
                break;
            };
            if Self::key(slots, above) <= key {
                break;
            }
            self.put(slots, place, above);
            place = parent;
        }
        place
    }

    /// Moves those below a place that is free one up that come before a key; answers which place is free then.
    fn sink(&mut self, slots: &mut Slots<'_>, mut place: u32, key: O::Key) -> u32 {
        loop {
            // A heap is no longer than the storage, so this stays far below the end of the type on any machine that
            // can hold it; a slot is hundreds of bytes.
            let left = 2 * place + 1;
            if left >= self.len {
                return place;
            }
            self.count_step();
            let Some(mut first) = self.at(slots, left) else {
                return place;
            };
            let (mut child, mut first_key) = (left, Self::key(slots, first));
            let right = left + 1;
            if right < self.len
                && let Some(other) = self.at(slots, right)
            {
                let other_key = Self::key(slots, other);
                if other_key < first_key {
                    (child, first, first_key) = (right, other, other_key);
                }
            }
            if key <= first_key {
                return place;
            }
            self.put(slots, place, first);
            place = child;
        }
    }

    #[inline]
    fn count_step(&mut self) {
        #[cfg(test)]
        {
            self.steps += 1;
        }
    }

    /// What a server is ordered by.
    #[inline]
    fn key(slots: &Slots<'_>, who: u32) -> O::Key {
        match slots.get(who as usize) {
            Some(slot) => O::key(&slot.server),
            None => O::LAST,
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

    #[inline]
    fn at(&self, slots: &Slots<'_>, place: u32) -> Option<u32> {
        // Who is first is known without a look: mostly it is the only one.
        if place == 0 {
            return self.root();
        }
        slots
            .get(place as usize)
            .map(|slot| slot.places[self.which as usize])
    }

    fn place(&self, slots: &Slots<'_>, who: u32) -> Option<u32> {
        let place = slots.get(who as usize)?.server.at[self.which as usize];
        (place != NONE).then_some(place)
    }

    #[inline]
    fn put(&mut self, slots: &mut Slots<'_>, place: u32, who: u32) {
        if place == 0 {
            self.first = who;
        } else if let Some(slot) = slots.get_mut(place as usize) {
            slot.places[self.which as usize] = who;
        }
        self.set_place(slots, who, place);
    }

    #[inline]
    fn set_place(&self, slots: &mut Slots<'_>, who: u32, place: u32) {
        if let Some(slot) = slots.get_mut(who as usize) {
            slot.server.at[self.which as usize] = place;
        }
    }
}

//! The way back: tables whose last reference went wait in an [`UndoList`], and their entries are dropped one by one.
//!
//! Whoever abandons a validation leaves its tables here too, with the [`Part`] of them that was done (P1 of [`super`]).
//!
//! # Invariants
//! - A table is on one list at most, and then it is in no validation: the link is in its record, beside its part.
//! - One at a time takes from a list; anybody adds to it.

use crate::atomic::{AtomicU32, AtomicU64};
use crate::entry::L4_RESERVED;
use crate::frame::{Frame, FrameType, Left, Level, Mfn};
use crate::machine::{Class, Machine};
use crate::table::Tables;
use crate::work::{Part, TABLE, spent};
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

/// What giving a frame back to the allocator costs beside dropping an entry.
const RELEASE: u32 = 12;

/// Tables that nobody refers to any more and that wait for their entries to be dropped.
///
/// Anybody adds to it; one at a time takes from it. The chain is in the frames' records.
#[derive(Debug)]
pub struct UndoList {
    /// The first table's frame number plus one; 0 for none.
    head: AtomicU64,
    /// Whether somebody takes from it.
    taken: AtomicU32,
}

impl Default for UndoList {
    fn default() -> UndoList {
        UndoList::new()
    }
}

impl UndoList {
    /// Nothing waits.
    pub const fn new() -> UndoList {
        UndoList {
            head: AtomicU64::new(0),
            taken: AtomicU32::new(0),
        }
    }

    /// Whether nothing waits and nobody is at work.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.head.load(Acquire) == 0 && self.taken.load(Acquire) == 0
    }

    /// Names the tables that wait, while nobody changes that.
    pub fn each<M: Machine>(&self, machine: &M, mut act: impl FnMut(Mfn)) {
        let mut next = self.head.load(Acquire);
        while let Some(mfn) = next.checked_sub(1).map(Mfn)
            && let Class::Ram(frame) = machine.class(mfn)
        {
            act(mfn);
            next = frame.work().0;
        }
    }

    fn push(&self, mfn: Mfn, frame: &Frame, part: Part) {
        let mut head = self.head.load(Relaxed);
        loop {
            frame.set_work(head, part);
            // Release: who takes the table off sees what its record says.
            match self
                .head
                .compare_exchange_weak(head, mfn.0 + 1, AcqRel, Relaxed)
            {
                Ok(_) => return,
                Err(seen) => head = seen,
            }
        }
    }

    /// The one who takes from it from now on; false while another does.
    fn begin(&self) -> bool {
        self.taken.compare_exchange(0, 1, AcqRel, Relaxed).is_ok()
    }

    fn end(&self) {
        self.taken.store(0, Release);
    }

    /// Takes one off. By the one that [`Self::begin`] let in: so that what was read of the first table's record still
    /// holds when the head is exchanged, for nobody else takes it off and puts it back.
    fn pop<'m, M: Machine>(&self, machine: &'m M) -> Option<(Mfn, &'m Frame, Part)> {
        let mut head = self.head.load(Acquire);
        loop {
            let mfn = Mfn(head.checked_sub(1)?);
            let Class::Ram(frame) = machine.class(mfn) else {
                return None;
            };
            let (next, part) = frame.work();
            match self.head.compare_exchange_weak(head, next, AcqRel, Acquire) {
                Ok(_) => return Some((mfn, frame, part)),
                Err(seen) => head = seen,
            }
        }
    }
}

impl<'m, M: Machine> Tables<'m, M> {
    /// Undoes a table whose last reference went. One of the lowest level at once, as far as the budget goes.
    pub(crate) fn undo(&self, mfn: Mfn, frame: &Frame) {
        let mut part = Part::WHOLE;
        let before = self.machine.budget();
        if before != 0 && frame.snapshot().frame_type() == FrameType::L1 {
            let mut left = before.saturating_sub(TABLE);
            let dropped = self.drop_leaves(mfn, part, &mut left);
            self.machine.charge(before.saturating_sub(left));
            match dropped {
                Ok(()) => return self.end_undoing(mfn, frame),
                Err(from) => part.from = from,
            }
        }
        self.leave_to_undo(mfn, frame, part);
    }

    fn end_undoing(&self, mfn: Mfn, frame: &Frame) {
        let left = frame.end_devalidation(self.machine.flush_clock());
        self.after(left, mfn);
    }

    /// A table without references but the work's own waits for its entries to be dropped.
    pub(crate) fn leave_to_undo(&self, mfn: Mfn, frame: &Frame, part: Part) {
        self.machine.undo_list().push(mfn, frame, part);
        if !self.machine.undo_waits() {
            while !self.undo_some() && self.machine.undo_list().taken.load(Acquire) == 0 {}
        }
    }

    /// Works off the tables that wait to be undone, for as long as the budget lasts. True if none is left and nobody
    /// else is at work on one.
    pub fn undo_some(&self) -> bool {
        self.undo_from(self.machine.undo_list())
    }

    /// As [`Self::undo_some`], of a list that somebody else left.
    pub fn undo_from(&self, list: &UndoList) -> bool {
        if list.is_idle() {
            return true;
        }
        if !list.begin() {
            return false;
        }
        while let Some((mfn, frame, part)) = list.pop(self.machine) {
            let from = self.drop_part(mfn, frame, part);
            if from < part.to {
                list.push(mfn, frame, Part { from, ..part });
            } else {
                self.end_undoing(mfn, frame);
            }
            if self.machine.budget() == 0 {
                break;
            }
        }
        list.end();
        list.is_idle()
    }

    /// Drops what the entries of a part hold; at most as many as there are units left, but one (P3). The first that
    /// still holds what it held is the answer.
    fn drop_part(&self, table: Mfn, frame: &Frame, part: Part) -> usize {
        let Some(level) = frame.snapshot().frame_type().level() else {
            return part.to;
        };
        let outcome = match level.below() {
            None => {
                let before = self.machine.budget();
                let mut left = before.saturating_sub(TABLE);
                let outcome = self.drop_leaves(table, part, &mut left);
                self.machine.charge(before.saturating_sub(left));
                outcome
            }
            Some(below) => self.drop_tables(table, level, below, part),
        };
        outcome.err().unwrap_or(part.to)
    }

    #[inline(never)]
    fn drop_leaves(&self, table: Mfn, part: Part, left: &mut u32) -> Result<(), usize> {
        let mut units = (*left).max(1);
        let outcome = self.machine.each_entry(table, part.from, |index, entry| {
            if index >= part.to {
                return Err(index);
            }
            if self.drop_leaf_here(entry) == Left::Nothing {
                units = units.saturating_sub(RELEASE).max(1);
            }
            if spent(&mut units) {
                return Err(index + 1);
            }
            Ok(())
        });
        *left = units;
        outcome
    }

    #[inline(never)]
    fn drop_tables(&self, table: Mfn, level: Level, below: Level, part: Part) -> Result<(), usize> {
        self.machine.charge(TABLE);
        self.machine.each_entry(table, part.from, |index, entry| {
            if index >= part.to {
                return Err(index);
            }
            if entry.is_present() && (level != Level::L4 || !L4_RESERVED.contains(&index)) {
                self.put_table(entry.mfn(), below);
            }
            // Counted as it is done: undoing what the entry named may have been part of it.
            self.machine.charge(1);
            if self.machine.budget() == 0 {
                return Err(index + 1);
            }
            Ok(())
        })
    }
}

//! Table work in parts: a validation that stops where its share of time ends, and tables that wait to be undone.
//!
//! Ring 0 lets nobody in while it works, and a tree of tables is as large as its owner likes. So both directions stop
//! between two entries and go on later:
//!
//! - A **validation** goes down: at most one table a level is in progress, each with the entries it has taken so far
//!   ([`Validation`]). Who stops keeps that value ([`Machine::keep`]) and makes the call again; or another goes on with it
//!   ([`Tables::advance`]) or gives it up ([`Tables::abandon`]).
//! - Tables whose last reference went wait in an [`UndoList`], chained through their own records: no memory is needed,
//!   however many there are. Who let them go works the list off ([`Tables::undo_some`]) before it goes on.
//!
//! A table in progress has one type reference, which is the work's, and is not valid: nobody else gets one (F6). Its
//! record says which of its entries hold references ([`Part`]), so that the audit can count them.
//!
//! # Invariants
//! - P1: of a table in progress exactly the entries of its [`Part`] hold references. Written whenever work stops.
//! - P2: who waits for a table in progress waits for one of a lower level than all that it has in progress itself: so
//!   no two wait for each other.
//! - P3: each call does some of the work, whatever the budget: repeated calls end.

use crate::atomic::{AtomicU32, AtomicU64};
use crate::entry::{ENTRIES_PER_TABLE, Entry, L4_RESERVED};
use crate::frame::{DomId, Frame, FrameType, Left, Level, Mfn, Taken};
use crate::machine::{Class, Machine, Refused};
use crate::table::Tables;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

/// What looking through a table costs beside its entries, in units of one entry.
const TABLE: u32 = 20;
/// What giving a frame back to the allocator costs beside dropping an entry.
const RELEASE: u32 = 12;

/// The entries of a table in progress that hold references.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    /// The first.
    pub from: usize,
    /// One past the last.
    pub to: usize,
}

impl Part {
    /// A whole table.
    pub const WHOLE: Part = Part {
        from: 0,
        to: ENTRIES_PER_TABLE,
    };
}

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

/// A validation under way: the tables in progress, from the one that was asked for down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Validation {
    dom: DomId,
    /// The level that was asked for.
    top: Level,
    /// The lowest level in progress; none when the table that was asked for is valid.
    low: Option<Level>,
    /// By level: the table, and how many of its entries are done.
    at: [(Mfn, usize); 4],
}

impl Validation {
    pub(crate) fn begin(dom: DomId, mfn: Mfn, level: Level) -> Validation {
        let mut at = [(Mfn(0), 0); 4];
        at[slot(level)].0 = mfn;
        Validation {
            dom,
            top: level,
            low: Some(level),
            at,
        }
    }

    /// Whose tables they are.
    pub fn dom(&self) -> DomId {
        self.dom
    }

    /// What was asked for.
    pub fn asked(&self) -> (Mfn, Level) {
        (self.at[slot(self.top)].0, self.top)
    }

    /// Whether the table that was asked for is valid: one reference on it belongs to this value.
    pub fn is_finished(&self) -> bool {
        self.low.is_none()
    }

    /// Names the tables in progress.
    pub fn each(&self, mut act: impl FnMut(Mfn)) {
        self.in_progress().for_each(|(mfn, _)| act(mfn));
    }

    /// The tables in progress, and how many of their entries are done.
    fn in_progress(&self) -> impl Iterator<Item = (Mfn, usize)> + '_ {
        let low = self.low.map_or(4, slot);
        (low..=slot(self.top)).filter_map(|slot| self.at.get(slot).copied())
    }
}

const fn slot(level: Level) -> usize {
    level as usize - 1
}

const fn above(level: Level) -> Option<Level> {
    match level {
        Level::L1 => Some(Level::L2),
        Level::L2 => Some(Level::L3),
        Level::L3 => Some(Level::L4),
        Level::L4 => None,
    }
}

/// Why looking through a table stopped, and how many entries are done.
enum Halt {
    /// The budget is used up.
    Spent(usize),
    /// This entry is refused.
    Refused(usize, Refused),
    /// This entry names a table that is to be validated first.
    Down(usize, Mfn),
}

/// What a stretch of validation came to.
enum Ran {
    Finished,
    Spent,
    Refused(Refused),
}

/// Counts one more unit of those left, of which there is one (P3); says whether it was the last.
#[inline(always)]
fn spent(left: &mut u32) -> bool {
    *left = left.wrapping_sub(1);
    *left == 0
}

impl<'m, M: Machine> Tables<'m, M> {
    /// Goes on with a validation until it ends or the budget does.
    pub(crate) fn validate(&self, mut v: Validation) -> Result<(), Refused> {
        match self.run(&mut v) {
            Ran::Finished => Ok(()),
            Ran::Spent => {
                self.put_by(v);
                Err(Refused::Unfinished)
            }
            Ran::Refused(Refused::Busy) => {
                // The table is somebody else's to finish (P2); what was done so far is not lost.
                self.machine.met_busy(v.dom);
                self.put_by(v);
                Err(Refused::Busy)
            }
            Ran::Refused(refused) => {
                self.abandon(v);
                Err(refused)
            }
        }
    }

    /// Keeps a validation for the one in hand, whose earlier one, if there is one left, is given up.
    fn put_by(&self, v: Validation) {
        for (mfn, done) in v.in_progress() {
            if let Class::Ram(frame) = self.machine.class(mfn) {
                // P1.
                frame.set_work(0, Part { from: 0, to: done });
            }
        }
        if let Some(other) = self.machine.keep(v) {
            self.abandon(other);
        }
    }

    /// Goes on with a validation that somebody else put by, for as long as the budget lasts. What is left to be kept for
    /// him is the answer: nothing if a table was refused, which he will find out himself.
    pub fn advance(&self, mut v: Validation) -> Option<Validation> {
        match self.run(&mut v) {
            Ran::Finished => Some(v),
            Ran::Spent | Ran::Refused(Refused::Busy) => {
                for (mfn, done) in v.in_progress() {
                    if let Class::Ram(frame) = self.machine.class(mfn) {
                        frame.set_work(0, Part { from: 0, to: done });
                    }
                }
                Some(v)
            }
            Ran::Refused(_) => {
                self.abandon(v);
                None
            }
        }
    }

    /// Gives a validation up: what is in progress waits to be undone.
    pub fn abandon(&self, v: Validation) {
        if v.is_finished() {
            let (mfn, level) = v.asked();
            self.put_table(mfn, level);
            return;
        }
        for (mfn, done) in v.in_progress() {
            if let Class::Ram(frame) = self.machine.class(mfn) {
                self.leave_to_undo(mfn, frame, Part { from: 0, to: done });
            }
        }
    }

    fn run(&self, v: &mut Validation) -> Ran {
        let before = self.machine.budget();
        let mut left = before;
        let ran = self.run_within(v, &mut left);
        self.machine.charge(before.saturating_sub(left));
        ran
    }

    fn run_within(&self, v: &mut Validation, left: &mut u32) -> Ran {
        while let Some(level) = v.low {
            let (table, from) = v.at[slot(level)];
            *left = left.saturating_sub(TABLE);
            let halted = match level.below() {
                None => self.take_leaves(v.dom, table, from, left),
                Some(below) => self.take_tables(v.dom, table, level, below, from, left),
            };
            let done = &mut v.at[slot(level)].1;
            match halted {
                Ok(()) => self.end_table(v, level, table),
                Err(Halt::Spent(at)) => {
                    *done = at;
                    return Ran::Spent;
                }
                Err(Halt::Refused(at, refused)) => {
                    *done = at;
                    return Ran::Refused(refused);
                }
                Err(Halt::Down(at, child)) => {
                    *done = at;
                    v.low = level.below();
                    if let Some(below) = level.below() {
                        v.at[slot(below)] = (child, 0);
                    }
                }
            }
            // P3: something was done.
            if *left == 0 && v.low.is_some() {
                return Ran::Spent;
            }
        }
        Ran::Finished
    }

    /// A table's entries are all taken: it is valid, and its reference becomes that of the entry that names it.
    fn end_table(&self, v: &mut Validation, level: Level, table: Mfn) {
        if level == Level::L4 {
            self.machine.init_root(v.dom, table);
        }
        if let Class::Ram(frame) = self.machine.class(table) {
            let _ = frame.end_validation(true, self.machine.flush_clock());
        }
        v.low = above(level).filter(|_| level != v.top);
        if let Some(parent) = v.low {
            v.at[slot(parent)].1 += 1;
        }
    }

    #[inline(never)]
    fn take_leaves(&self, dom: DomId, table: Mfn, from: usize, left: &mut u32) -> Result<(), Halt> {
        let mut units = (*left).max(1);
        let outcome = self.machine.each_entry(table, from, |index, entry| {
            match self.take_leaf_here(entry.stored_leaf(), dom) {
                Ok(stored) => self.keep(table, index, entry, stored),
                Err(refused) => return Err(Halt::Refused(index, refused)),
            }
            if spent(&mut units) && index + 1 < ENTRIES_PER_TABLE {
                return Err(Halt::Spent(index + 1));
            }
            Ok(())
        });
        *left = units;
        outcome
    }

    #[inline(never)]
    fn take_tables(
        &self,
        dom: DomId,
        table: Mfn,
        level: Level,
        below: Level,
        from: usize,
        left: &mut u32,
    ) -> Result<(), Halt> {
        let mut units = (*left).max(1);
        let outcome = self.machine.each_entry(table, from, |index, entry| {
            if level == Level::L4 && L4_RESERVED.contains(&index) {
                return Ok(());
            }
            let refused = |refused| Halt::Refused(index, refused);
            let stored = entry.stored_table(level).ok_or(refused(Refused::Invalid))?;
            let fresh = if stored.is_present() {
                self.take_table(dom, stored.mfn(), below).map_err(refused)?
            } else {
                self.check_nonpresent(stored).map_err(refused)?;
                false
            };
            self.keep(table, index, entry, stored);
            if fresh {
                return Err(Halt::Down(index, stored.mfn()));
            }
            if spent(&mut units) && index + 1 < ENTRIES_PER_TABLE {
                return Err(Halt::Spent(index + 1));
            }
            Ok(())
        });
        *left = units;
        outcome
    }

    /// Takes a type reference on a table, and says whether it is the first: then the table is to be validated.
    pub(crate) fn take_table(&self, dom: DomId, mfn: Mfn, level: Level) -> Result<bool, Refused> {
        let frame = self.ram(mfn)?;
        match frame.get_checked(Some(dom), level.frame_type())? {
            Taken::Shared => Ok(false),
            Taken::Fresh { stamp, same } => {
                if !same {
                    // The new type is published; flush before anything of it is trusted (F5).
                    self.machine.flush_since(stamp);
                }
                Ok(true)
            }
        }
    }

    /// Brings an entry of a table under validation to its stored form.
    #[inline]
    fn keep(&self, table: Mfn, index: usize, entry: Entry, stored: Entry) {
        if stored != entry {
            self.machine.write_entry(table, index, stored);
        }
    }

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

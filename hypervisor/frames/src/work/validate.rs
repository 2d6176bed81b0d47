//! The way down: a table's entries are taken one by one, and a table that one of them names before the next.
//!
//! A [`Validation`] is at most one table a level; the work on each stops behind an entry, and goes on there. The invariants
//! are those of [`super`]: P1 at each stop, P2 where a table is met that somebody else has in progress, P3.

use crate::entry::{ENTRIES_PER_TABLE, Entry, L4_RESERVED};
use crate::frame::{DomId, Level, Mfn, Taken};
use crate::machine::{Class, Machine, Refused};
use crate::table::Tables;
use crate::work::{Part, TABLE, spent};

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
}

//! Updates of single entries of validated tables.
//!
//! References of the new entry are taken before it is written and those of the old one dropped after, so that no
//! error needs undoing once memory has changed; a live entry changes by one exchange, so that exactly one of several
//! racing CPUs gets each old value and drops what it held (F4).

use crate::entry::{ENTRIES_PER_TABLE, Entry, L4_RESERVED};
use crate::frame::{DomId, Level, Mfn};
use crate::machine::{Class, Machine, Refused};
use crate::table::Tables;

/// How an entry is to change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// Store this value.
    Set(Entry),
    /// Store this value, keeping accessed and dirty bits that the CPU has set.
    SetKeepAd(Entry),
    /// Clear the bits that are zero in this mask.
    And(u64),
    /// Store a value if the entry is exactly the expected one; else change nothing.
    Replace {
        /// The value that must be there, as it is stored.
        expected: Entry,
        /// The value that takes its place.
        new: Entry,
    },
}

impl Change {
    #[inline]
    fn apply(self, old: Entry) -> Entry {
        match self {
            Change::Set(new) => new,
            Change::SetKeepAd(new) => Entry(new.0 | (old.0 & (Entry::ACCESSED | Entry::DIRTY))),
            Change::And(mask) => Entry(old.0 & mask),
            Change::Replace { new, .. } => new,
        }
    }

    /// Whether an entry with this value is left as it is.
    #[inline]
    fn leaves(self, old: Entry) -> bool {
        matches!(self, Change::Replace { expected, .. } if expected != old)
    }
}

impl<M: Machine> Tables<'_, M> {
    /// Changes entry `index` of a table that the caller holds a reference on, and returns the old entry: for
    /// [`Change::Replace`] the one that decided whether it changed.
    ///
    /// `mapped_owner` is whose frames a leaf may name: the domain itself, another whose memory it is allowed to map,
    /// [`DomId::IO`] for devices only, or [`DomId::RING0`] for the frames that ring 0 shows, which can only be read. What
    /// the leaf holds is the owner's frame's, so that neither domain need outlive the other for the counts to be right.
    /// Only an update can bring a foreign leaf into a table: validation refuses what is not the domain's own.
    #[inline(never)]
    pub fn update(
        &self,
        table: Mfn,
        level: Level,
        index: usize,
        change: Change,
        mapped_owner: DomId,
    ) -> Result<Entry, Refused> {
        self.update_here(table, level, index, change, mapped_owner)
    }

    /// As [`Self::update`], where it is done most often.
    #[inline(always)]
    pub fn update_here(
        &self,
        table: Mfn,
        level: Level,
        index: usize,
        change: Change,
        mapped_owner: DomId,
    ) -> Result<Entry, Refused> {
        if index >= ENTRIES_PER_TABLE || (level == Level::L4 && L4_RESERVED.contains(&index)) {
            return Err(Refused::Invalid);
        }
        match level.below() {
            None if mapped_owner == DomId::RING0 && !self.is_shown(change) => {
                Err(Refused::NotYours)
            }
            None => self.update_leaf(table, index, change, mapped_owner),
            Some(below) => self.update_upper(table, level, below, index, change),
        }
    }

    /// Whether a change brings no entry but one that reads a frame which ring 0 shows.
    fn is_shown(&self, change: Change) -> bool {
        match change {
            Change::Set(new) | Change::SetKeepAd(new) | Change::Replace { new, .. } => {
                !new.is_present() || !new.is_writable() && self.machine.ring0_shows(new.mfn())
            }
            Change::And(_) => true,
        }
    }

    #[inline(always)]
    fn update_leaf(
        &self,
        table: Mfn,
        index: usize,
        change: Change,
        mapped_owner: DomId,
    ) -> Result<Entry, Refused> {
        // Clearing is the most frequent change of all, and needs no look at what was there.
        if let Change::Set(new) = change
            && !new.is_present()
        {
            self.check_nonpresent(new)?;
            let was = self.machine.swap_entry(table, index, new);
            let _ = self.drop_leaf(was);
            return Ok(was);
        }
        let mut old = self.machine.read_entry(table, index);
        loop {
            if change.leaves(old) {
                return Ok(old);
            }
            let new = change.apply(old).stored_leaf();
            let outcome = if old.same_reference(new) {
                self.replace_harmless(table, index, old, new)?
            } else if old.is_present()
                && new.is_present()
                && old.mfn() == new.mfn()
                && !new.is_writable()
            {
                self.demote_leaf(table, index, old, new)?
            } else {
                let new = self.take_leaf(new, mapped_owner)?;
                let outcome = self.machine.replace_entry(table, index, old, new);
                let _ = self.drop_leaf(if outcome.is_ok() { old } else { new });
                outcome
            };
            match outcome {
                Ok(()) => return Ok(old),
                // Changed by another CPU, or marked accessed or dirty by this one.
                Err(seen) => old = seen,
            }
        }
    }

    /// A change that moves no reference. A non-present value is still looked at.
    #[inline]
    fn replace_harmless(
        &self,
        table: Mfn,
        index: usize,
        old: Entry,
        new: Entry,
    ) -> Result<Result<(), Entry>, Refused> {
        if !new.is_present() {
            self.check_nonpresent(new)?;
        }
        Ok(self.machine.replace_entry(table, index, old, new))
    }

    /// A mapping loses its write permission.
    #[inline]
    fn demote_leaf(
        &self,
        table: Mfn,
        index: usize,
        old: Entry,
        new: Entry,
    ) -> Result<Result<(), Entry>, Refused> {
        let Class::Ram(frame) = self.machine.class(old.mfn()) else {
            return Ok(self.machine.replace_entry(table, index, old, new));
        };
        if frame.get_for_demotion().is_err() {
            // The entry names the frame no longer. If it still does, a count is wrong (F4): no reason to try for ever.
            let seen = self.machine.read_entry(table, index);
            return if seen == old {
                Err(Refused::Invalid)
            } else {
                Ok(Err(seen))
            };
        }
        let outcome = self.machine.replace_entry(table, index, old, new);
        let now = self.machine.flush_clock();
        let left = if outcome.is_ok() {
            frame.put_writable(now)
        } else {
            frame.put(now)
        };
        self.after(left, old.mfn());
        Ok(outcome)
    }

    fn update_upper(
        &self,
        table: Mfn,
        level: Level,
        below: Level,
        index: usize,
        change: Change,
    ) -> Result<Entry, Refused> {
        let mut old = self.machine.read_entry(table, index);
        loop {
            if change.leaves(old) {
                return Ok(old);
            }
            let new = change
                .apply(old)
                .stored_table(level)
                .ok_or(Refused::Invalid)?;
            if new.is_present() {
                self.get_table(new.mfn(), below)?;
            } else {
                self.check_nonpresent(new)?;
            }
            // A plain store has no need to repeat the validation because another CPU was faster.
            let outcome = match change {
                Change::Set(_) => Ok(self.machine.swap_entry(table, index, new)),
                _ => self
                    .machine
                    .replace_entry(table, index, old, new)
                    .map(|()| old),
            };
            match outcome {
                Ok(was) => {
                    old = was;
                    break;
                }
                Err(seen) => {
                    if new.is_present() {
                        self.put_table(new.mfn(), below);
                    }
                    old = seen;
                }
            }
        }
        if old.is_present() {
            // Before the old table can become anything else, no CPU may walk through a cached copy of the
            // entry (F5). A same-frame change (permissions) needs it too.
            self.machine.flush_upper(self.dom);
            self.put_table(old.mfn(), below);
        }
        Ok(old)
    }
}

//! Guest page tables: validation, devalidation, pins, and updates of single entries.
//!
//! Everything here takes the new references before an entry is written and drops the old ones after (so that
//! no error needs undoing once memory has changed), and changes a live entry by one exchange, so that exactly
//! one of several racing CPUs gets each old value and drops what it held (F4).

use crate::entry::{ENTRIES_PER_TABLE, Entry, L4_RESERVED};
use crate::frame::{Denied, DomId, Frame, FrameType, Left, Level, Mfn, Taken};

/// What stands behind a frame number.
#[derive(Clone, Copy, Debug)]
pub enum Class<'a> {
    /// Memory that the frame table describes.
    Ram(&'a Frame),
    /// An address that is no memory of ours: device registers, firmware, the first MiB.
    Io,
    /// Beyond what the CPU can address.
    Absent,
}

/// The machine beneath: frame records, table memory, flushes.
pub trait Machine {
    /// What stands behind `mfn`.
    fn class(&self, mfn: Mfn) -> Class<'_>;
    /// Whether `dom` may map the non-memory frame `mfn`.
    fn may_map_io(&self, dom: DomId, mfn: Mfn) -> bool;
    /// Reads an entry of a table. `index` is below [`ENTRIES_PER_TABLE`].
    fn read_entry(&self, table: Mfn, index: usize) -> Entry;
    /// Writes an entry of a table that no CPU uses yet.
    fn write_entry(&self, table: Mfn, index: usize, entry: Entry);
    /// Exchanges a live entry and returns the old one.
    fn swap_entry(&self, table: Mfn, index: usize, new: Entry) -> Entry;
    /// Replaces a live entry if it still is `old`; otherwise returns what it is.
    fn replace_entry(&self, table: Mfn, index: usize, old: Entry, new: Entry) -> Result<(), Entry>;
    /// Fills the reserved slots of a root that is about to be usable.
    fn init_root(&self, dom: DomId, root: Mfn);
    /// Checks and normalises a page of descriptors; false refuses it.
    fn check_descriptors(&self, page: Mfn) -> bool;
    /// The flush clock.
    fn flush_clock(&self) -> u32;
    /// Flushes every CPU that has not flushed since the clock read `stamp` (F5).
    fn flush_since(&self, stamp: u32);
    /// Flushes what CPUs running `dom` may have cached of its upper-level entries.
    fn flush_upper(&self, dom: DomId);
    /// Takes back a frame whose last reference is gone (F3).
    fn release(&self, mfn: Mfn);
    /// Whether a non-present entry may carry the address of real memory: not on CPUs that speculate through
    /// it (L1 terminal fault).
    fn nonpresent_may_name_memory(&self) -> bool;
}

/// Why a change was refused. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// The request makes no sense or breaks a rule (`-EINVAL`).
    Invalid,
    /// The frame is not the caller's to map (`-EPERM`).
    NotYours,
    /// Another CPU is validating the frame: try again (`-EAGAIN` inside, retried by the caller).
    Busy,
}

impl From<Denied> for Refused {
    fn from(denied: Denied) -> Refused {
        match denied {
            Denied::NotYours => Refused::NotYours,
            Denied::Busy => Refused::Busy,
            Denied::InUse | Denied::TooMany => Refused::Invalid,
        }
    }
}

/// How an entry is to change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// Store this value.
    Set(Entry),
    /// Store this value, keeping accessed and dirty bits that the CPU has set.
    SetKeepAd(Entry),
    /// Clear the bits that are zero in this mask.
    And(u64),
}

impl Change {
    fn apply(self, old: Entry) -> Entry {
        match self {
            Change::Set(new) => new,
            Change::SetKeepAd(new) => {
                Entry(new.0 | (old.0 & (Entry::ACCESSED | Entry::DIRTY)))
            }
            Change::And(mask) => Entry(old.0 & mask),
        }
    }
}

/// The page-table operations of one domain on one machine.
#[derive(Clone, Copy)]
pub struct Tables<'m, M: Machine> {
    machine: &'m M,
    dom: DomId,
}

impl<'m, M: Machine> Tables<'m, M> {
    /// Page tables of `dom`.
    pub fn new(machine: &'m M, dom: DomId) -> Self {
        Tables { machine, dom }
    }

    /// Takes a type reference on a table, validating it if it is not in use as that yet.
    pub fn get_table(&self, mfn: Mfn, level: Level) -> Result<(), Refused> {
        let frame = self.ram(mfn)?;
        match frame.get_checked(Some(self.dom), level.frame_type())? {
            Taken::Shared => Ok(()),
            Taken::Fresh { stamp, same } => {
                if !same {
                    // The new type is published; flush before anything of it is trusted (F5).
                    self.machine.flush_since(stamp);
                }
                let outcome = self.validate(mfn, level);
                let left = frame.end_validation(outcome.is_ok(), self.machine.flush_clock());
                self.after(left, mfn);
                outcome
            }
        }
    }

    /// Drops a type reference on a table, devalidating it if it was the last.
    pub fn put_table(&self, mfn: Mfn, level: Level) {
        if let Class::Ram(frame) = self.machine.class(mfn) {
            match frame.put_type(self.machine.flush_clock()) {
                Left::MustDevalidate => {
                    self.drop_entries(mfn, level, ENTRIES_PER_TABLE);
                    let left = frame.end_devalidation(self.machine.flush_clock());
                    self.after(left, mfn);
                }
                left => self.after(left, mfn),
            }
        }
    }

    /// Takes a type reference on a page of descriptors, checking it if need be.
    pub fn get_descriptors(&self, mfn: Mfn) -> Result<(), Refused> {
        let frame = self.ram(mfn)?;
        match frame.get_checked(Some(self.dom), FrameType::Descriptors)? {
            Taken::Shared => Ok(()),
            Taken::Fresh { stamp, same } => {
                if !same {
                    self.machine.flush_since(stamp);
                }
                let good = self.machine.check_descriptors(mfn);
                let left = frame.end_validation(good, self.machine.flush_clock());
                self.after(left, mfn);
                if good { Ok(()) } else { Err(Refused::Invalid) }
            }
        }
    }

    /// Drops a reference taken by [`Self::get_descriptors`].
    pub fn put_descriptors(&self, mfn: Mfn) {
        if let Class::Ram(frame) = self.machine.class(mfn) {
            let left = match frame.put_type(self.machine.flush_clock()) {
                Left::MustDevalidate => frame.end_devalidation(self.machine.flush_clock()),
                left => left,
            };
            self.after(left, mfn);
        }
    }

    /// Pins a table: the guest's own reference, so that it stays validated while unused.
    pub fn pin(&self, mfn: Mfn, level: Level) -> Result<(), Refused> {
        let frame = self.ram(mfn)?;
        self.get_table(mfn, level)?;
        if frame.set_pinned() {
            Ok(())
        } else {
            self.put_table(mfn, level);
            Err(Refused::Invalid)
        }
    }

    /// Undoes [`Self::pin`].
    pub fn unpin(&self, mfn: Mfn) -> Result<(), Refused> {
        let frame = self.ram(mfn)?;
        let snap = frame.snapshot();
        if snap.owner() != self.dom {
            return Err(Refused::NotYours);
        }
        let level = snap.frame_type().level().ok_or(Refused::Invalid)?;
        // While the flag is set its reference keeps the type in place, so `level` is right if we clear it.
        if snap.is_pinned() && frame.clear_pinned() {
            self.put_table(mfn, level);
            Ok(())
        } else {
            Err(Refused::Invalid)
        }
    }

    /// Changes entry `index` of a table that the caller holds a reference on, and returns the old entry.
    ///
    /// `mapped_owner` is the domain whose frames a leaf may name (the caller itself, but for mappings of
    /// another domain's memory that it is allowed to make).
    #[inline]
    pub fn update(
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
            None => self.update_leaf(table, index, change, mapped_owner),
            Some(below) => self.update_upper(table, level, below, index, change),
        }
    }

    fn update_leaf(
        &self,
        table: Mfn,
        index: usize,
        change: Change,
        mapped_owner: DomId,
    ) -> Result<Entry, Refused> {
        let mut old = self.machine.read_entry(table, index);
        loop {
            let wanted = change.apply(old);
            let new = wanted.stored_leaf();
            if old.is_present() && old.same_reference(new) {
                match self.machine.replace_entry(table, index, old, new) {
                    Ok(()) => return Ok(old),
                    Err(seen) => old = seen,
                }
                continue;
            }
            let demoted = old.is_present()
                && new.is_present()
                && old.mfn() == new.mfn()
                && !new.is_writable();
            if !demoted {
                self.take_leaf(new, mapped_owner)?;
            }
            let outcome = match change {
                Change::Set(_) if !demoted => Ok(self.machine.swap_entry(table, index, new)),
                _ => self
                    .machine
                    .replace_entry(table, index, old, new)
                    .map(|()| old),
            };
            match outcome {
                Ok(was) if demoted => {
                    self.demote_leaf(was);
                    return Ok(was);
                }
                Ok(was) => {
                    self.drop_leaf(was);
                    return Ok(was);
                }
                Err(seen) => {
                    if !demoted {
                        self.drop_leaf(new);
                    }
                    old = seen;
                }
            }
        }
    }

    fn update_upper(
        &self,
        table: Mfn,
        level: Level,
        below: Level,
        index: usize,
        change: Change,
    ) -> Result<Entry, Refused> {
        let seen = self.machine.read_entry(table, index);
        let new = change
            .apply(seen)
            .stored_table(level)
            .ok_or(Refused::Invalid)?;
        if new.is_present() {
            self.get_table(new.mfn(), below)?;
        } else {
            self.check_nonpresent(new)?;
        }
        let old = self.machine.swap_entry(table, index, new);
        if old.is_present() {
            // Before the old table can become anything else, no CPU may walk through a cached copy of the
            // entry. A same-frame change (permissions) needs it too.
            self.machine.flush_upper(self.dom);
            self.put_table(old.mfn(), below);
        }
        Ok(old)
    }

    fn validate(&self, table: Mfn, level: Level) -> Result<(), Refused> {
        for index in 0..ENTRIES_PER_TABLE {
            if level == Level::L4 && L4_RESERVED.contains(&index) {
                continue;
            }
            let entry = self.machine.read_entry(table, index);
            let stored = self.validate_entry(entry, level);
            match stored {
                Ok(stored) if stored != entry => {
                    self.machine.write_entry(table, index, stored);
                }
                Ok(_) => {}
                Err(refused) => {
                    self.drop_entries(table, level, index);
                    return Err(refused);
                }
            }
        }
        if level == Level::L4 {
            self.machine.init_root(self.dom, table);
        }
        Ok(())
    }

    #[inline]
    fn validate_entry(&self, entry: Entry, level: Level) -> Result<Entry, Refused> {
        match level.below() {
            None => {
                let stored = entry.stored_leaf();
                self.take_leaf(stored, self.dom)?;
                Ok(stored)
            }
            Some(below) => {
                let stored = entry.stored_table(level).ok_or(Refused::Invalid)?;
                if stored.is_present() {
                    self.get_table(stored.mfn(), below)?;
                } else {
                    self.check_nonpresent(stored)?;
                }
                Ok(stored)
            }
        }
    }

    /// Drops what the first `count` entries of a table hold.
    fn drop_entries(&self, table: Mfn, level: Level, count: usize) {
        for index in 0..count {
            if level == Level::L4 && L4_RESERVED.contains(&index) {
                continue;
            }
            let entry = self.machine.read_entry(table, index);
            match level.below() {
                None => self.drop_leaf(entry),
                Some(below) if entry.is_present() => self.put_table(entry.mfn(), below),
                Some(_) => {}
            }
        }
    }

    #[inline]
    fn take_leaf(&self, entry: Entry, owner: DomId) -> Result<(), Refused> {
        if !entry.is_present() {
            return self.check_nonpresent(entry);
        }
        match self.machine.class(entry.mfn()) {
            Class::Ram(frame) if entry.is_writable() => {
                if let Taken::Fresh { stamp, same: false } = frame.get_writable(Some(owner))? {
                    self.machine.flush_since(stamp);
                }
                Ok(())
            }
            Class::Ram(frame) => Ok(frame.get(Some(owner))?),
            Class::Io if self.machine.may_map_io(self.dom, entry.mfn()) => Ok(()),
            Class::Io => Err(Refused::NotYours),
            Class::Absent => Err(Refused::Invalid),
        }
    }

    #[inline]
    fn drop_leaf(&self, entry: Entry) {
        if !entry.is_present() {
            return;
        }
        if let Class::Ram(frame) = self.machine.class(entry.mfn()) {
            let now = self.machine.flush_clock();
            let left = if entry.is_writable() {
                frame.put_type(now)
            } else {
                frame.put(now)
            };
            self.after(left, entry.mfn());
        }
    }

    #[inline]
    fn demote_leaf(&self, entry: Entry) {
        if let Class::Ram(frame) = self.machine.class(entry.mfn()) {
            frame.demote(self.machine.flush_clock());
        }
    }

    fn check_nonpresent(&self, entry: Entry) -> Result<(), Refused> {
        if entry.0 & Entry::ADDRESS == 0 || self.machine.nonpresent_may_name_memory() {
            return Ok(());
        }
        match self.machine.class(entry.mfn()) {
            Class::Ram(_) => Err(Refused::Invalid),
            Class::Io | Class::Absent => Ok(()),
        }
    }

    #[inline]
    fn after(&self, left: Left, mfn: Mfn) {
        if left == Left::Nothing {
            self.machine.release(mfn);
        }
    }

    fn ram(&self, mfn: Mfn) -> Result<&'m Frame, Refused> {
        match self.machine.class(mfn) {
            Class::Ram(frame) => Ok(frame),
            Class::Io | Class::Absent => Err(Refused::Invalid),
        }
    }
}

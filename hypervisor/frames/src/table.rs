//! Guest page tables: references on them, validation, devalidation, pins. Updates of single entries are in
//! `update.rs`.
//!
//! A table's contents are checked once, when the first reference of its type is taken, and undone once, when the
//! last one goes (F6); in between every present entry holds one reference of its own (F4). Levels only go down, so
//! that recursion is at most four deep and no table can name itself or one of its own level.

use crate::entry::{ENTRIES_PER_TABLE, Entry, L4_RESERVED};
use crate::frame::{DomId, Frame, FrameType, Left, Level, Mfn, Taken};

pub use crate::machine::{Class, Machine, Refused};
pub use crate::update::Change;

/// The page-table operations of one domain on one machine.
pub struct Tables<'m, M: Machine> {
    pub(crate) machine: &'m M,
    pub(crate) dom: DomId,
}

// By hand: a derived one would ask the same of the machine, which is only referred to.
impl<M: Machine> Clone for Tables<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M: Machine> Copy for Tables<'_, M> {}

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
        let level = self.ram(mfn)?.clear_pinned(self.dom)?;
        self.put_table(mfn, level);
        Ok(())
    }

    fn validate(&self, table: Mfn, level: Level) -> Result<(), Refused> {
        let outcome = match level.below() {
            None => self.machine.each_entry(table, |index, entry| {
                let stored = self.take_leaf(entry.stored_leaf(), self.dom);
                self.keep(table, index, entry, stored)
            }),
            Some(below) => self.machine.each_entry(table, |index, entry| {
                if level == Level::L4 && L4_RESERVED.contains(&index) {
                    return Ok(());
                }
                let stored = self.take_upper(entry, level, below);
                self.keep(table, index, entry, stored)
            }),
        };
        if let Err((index, refused)) = outcome {
            self.drop_entries(table, level, index);
            return Err(refused);
        }
        if level == Level::L4 {
            self.machine.init_root(self.dom, table);
        }
        Ok(())
    }

    /// Brings an entry of a table under validation to its stored form, or says which entry was refused.
    #[inline]
    fn keep(
        &self,
        table: Mfn,
        index: usize,
        entry: Entry,
        stored: Result<Entry, Refused>,
    ) -> Result<(), (usize, Refused)> {
        let stored = stored.map_err(|refused| (index, refused))?;
        if stored != entry {
            self.machine.write_entry(table, index, stored);
        }
        Ok(())
    }

    fn take_upper(&self, entry: Entry, level: Level, below: Level) -> Result<Entry, Refused> {
        let stored = entry.stored_table(level).ok_or(Refused::Invalid)?;
        if stored.is_present() {
            self.get_table(stored.mfn(), below)?;
        } else {
            self.check_nonpresent(stored)?;
        }
        Ok(stored)
    }

    /// Drops what the first `count` entries of a table hold.
    fn drop_entries(&self, table: Mfn, level: Level, count: usize) {
        // "Fails" where the entries that count end.
        let _ = match level.below() {
            None => self.machine.each_entry(table, |index, entry| {
                let counts = (index < count).then_some(()).ok_or(());
                counts.map(|()| self.drop_leaf(entry))
            }),
            Some(below) => self.machine.each_entry(table, |index, entry| {
                if index >= count {
                    return Err(());
                }
                if entry.is_present() && (level != Level::L4 || !L4_RESERVED.contains(&index)) {
                    self.put_table(entry.mfn(), below);
                }
                Ok(())
            }),
        };
    }

    /// Takes what a leaf that is about to be stored holds, which may be a frame of `owner`'s, or of a device if that is
    /// the domain itself or [`DomId::IO`]. What is to be stored is the answer: the entry itself, or without its
    /// permission to write where the frame is a device's that guests may only read.
    #[inline]
    pub(crate) fn take_leaf(&self, entry: Entry, owner: DomId) -> Result<Entry, Refused> {
        if !entry.is_present() {
            return self.check_nonpresent(entry).map(|()| entry);
        }
        match self.machine.class(entry.mfn()) {
            Class::Ram(frame) if entry.is_writable() => {
                if let Taken::Fresh { stamp, same: false } = frame.get_writable(Some(owner))? {
                    self.machine.flush_since(stamp);
                    frame.settle();
                }
                Ok(entry)
            }
            Class::Ram(frame) => Ok(frame.get(Some(owner)).map(|()| entry)?),
            Class::Io
                if (owner == self.dom || owner == DomId::IO)
                    && self.machine.may_map_io(self.dom, entry.mfn()) =>
            {
                if entry.is_writable() && self.machine.io_is_read_only(entry.mfn()) {
                    return Ok(Entry(entry.0 & !Entry::WRITABLE));
                }
                Ok(entry)
            }
            Class::Io => Err(Refused::NotYours),
            Class::Absent => Err(Refused::Invalid),
        }
    }

    #[inline]
    pub(crate) fn drop_leaf(&self, entry: Entry) {
        if !entry.is_present() {
            return;
        }
        if let Class::Ram(frame) = self.machine.class(entry.mfn()) {
            let now = self.machine.flush_clock();
            let left = if entry.is_writable() {
                frame.put_writable(now)
            } else {
                frame.put(now)
            };
            self.after(left, entry.mfn());
        }
    }

    pub(crate) fn check_nonpresent(&self, entry: Entry) -> Result<(), Refused> {
        if entry.0 & Entry::ADDRESS == 0 || self.machine.nonpresent_may_name_memory() {
            return Ok(());
        }
        match self.machine.class(entry.mfn()) {
            Class::Ram(_) => Err(Refused::Invalid),
            Class::Io | Class::Absent => Ok(()),
        }
    }

    #[inline]
    pub(crate) fn after(&self, left: Left, mfn: Mfn) {
        if left == Left::Nothing {
            self.machine.release(mfn);
        }
    }

    pub(crate) fn ram(&self, mfn: Mfn) -> Result<&'m Frame, Refused> {
        match self.machine.class(mfn) {
            Class::Ram(frame) => Ok(frame),
            Class::Io | Class::Absent => Err(Refused::Invalid),
        }
    }
}

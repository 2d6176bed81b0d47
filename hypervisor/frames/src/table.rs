//! Guest page tables: references on them and pins. How a table is validated and undone, in parts, is in `work`;
//! updates of single entries are in `update.rs`.
//!
//! A table's contents are checked once, when the first reference of its type is taken, and undone once, when the
//! last one goes (F6); in between every present entry holds one reference of its own (F4). Levels only go down, so
//! that no table can name itself or one of its own level.

use crate::entry::Entry;
use crate::frame::{Denied, DomId, Frame, FrameType, Left, Level, Mfn, Taken};

pub use crate::machine::{Class, Machine, Refused};
pub use crate::update::Change;
pub use crate::work::{UndoList, Validation};

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
    ///
    /// # Errors
    /// [`Refused::Unfinished`] where the budget ended first: the same call, made again, goes on.
    pub fn get_table(&self, mfn: Mfn, level: Level) -> Result<(), Refused> {
        match self.take_table(self.dom, mfn, level) {
            Ok(false) => Ok(()),
            Ok(true) => self.validate(Validation::begin(self.dom, mfn, level)),
            Err(Refused::Busy) => {
                if let Some(own) = self.machine.resume(self.dom, mfn, level) {
                    return self.validate(own);
                }
                self.machine.met_busy(self.dom);
                Err(Refused::Busy)
            }
            Err(refused) => Err(refused),
        }
    }

    /// Drops a type reference on a table. If it was the last, the table waits to be undone ([`Self::undo_some`]).
    pub fn put_table(&self, mfn: Mfn, _level: Level) {
        if let Class::Ram(frame) = self.machine.class(mfn) {
            match frame.put_type(self.machine.flush_clock()) {
                Left::MustDevalidate => self.undo(mfn, frame),
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

    /// Takes what a leaf that is about to be stored holds, which may be a frame of `owner`'s, or of a device if that is
    /// the domain itself or [`DomId::IO`]. What is to be stored is the answer: the entry itself, or without its
    /// permission to write where the frame is a device's that guests may only read.
    #[inline]
    pub(crate) fn take_leaf(&self, entry: Entry, owner: DomId) -> Result<Entry, Refused> {
        self.take_leaf_here(entry, owner)
    }

    /// As [`Self::take_leaf`], where it is done most often.
    #[inline(always)]
    pub(crate) fn take_leaf_here(&self, entry: Entry, owner: DomId) -> Result<Entry, Refused> {
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
            Class::Ram(frame) => match frame.get(Some(owner)) {
                Ok(()) => Ok(entry),
                Err(why) => self.take_shown(frame, entry, owner, why),
            },
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

    /// As [`Self::take_leaf`], of a leaf that only reads what is not its owner's: one of ring 0's frames that is shown as
    /// if it were, or nothing.
    #[cold]
    fn take_shown(
        &self,
        frame: &Frame,
        entry: Entry,
        owner: DomId,
        why: Denied,
    ) -> Result<Entry, Refused> {
        if why != Denied::NotYours || !self.machine.ring0_shows_of(owner, entry.mfn()) {
            return Err(why.into());
        }
        Ok(frame.get(Some(DomId::RING0)).map(|()| entry)?)
    }

    /// Drops what a leaf holds, and says what is left of it.
    #[inline]
    pub(crate) fn drop_leaf(&self, entry: Entry) -> Left {
        self.drop_leaf_here(entry)
    }

    /// As [`Self::drop_leaf`], where it is done most often.
    #[inline(always)]
    pub(crate) fn drop_leaf_here(&self, entry: Entry) -> Left {
        if !entry.is_present() {
            return Left::InUse;
        }
        let Class::Ram(frame) = self.machine.class(entry.mfn()) else {
            return Left::InUse;
        };
        let now = self.machine.flush_clock();
        let left = if entry.is_writable() {
            frame.put_writable(now)
        } else {
            frame.put(now)
        };
        self.after(left, entry.mfn());
        left
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

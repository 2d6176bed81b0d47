//! Grant tables: what a domain lends by its table of entries (version 1), who uses it, and by which handles.
//!
//! This crate decides; it touches no memory of a guest's. The hypervisor brings it an entry as one word, stores
//! the word it answers by one exchange, and takes and gives back the frame's references.
//!
//! # Invariants
//! - N1: an entry's bits *reading* and *writing* stand exactly while uses of it are counted here: *reading* while there
//!   are any, *writing* while there are some that may write.
//! - N2: while an entry is in use, its uses all mean the frame that the first of them found in it, whatever the granter
//!   writes there.
//! - N3: every handle that is in force counts one use of its entry, and holds one reference on the frame, which whoever
//!   ends it gives back: [`Ended`] says so by its type.
//! - N4: a failed operation changes nothing.
//!
//! Storage is the caller's, for uses when an entry is first used ([`Grants::add_uses`]), for handles a frame at a time
//! ([`Grants::add_handles`]), so that it can be charged to the domain; nothing here allocates.
#![no_std]
#![forbid(unsafe_code)]

mod entry;
mod handles;

pub use entry::{Access, Entry, Frame};
pub use handles::{
    HANDLES_PER_FRAME, Handle, HandleDirectory, HandleFrame, MAX_HANDLE_FRAMES, Mapping,
};

use guest_abi::grant::{GNTST_BAD_GNTREF, GNTST_GENERAL_ERROR, GNTST_NO_SPACE};
use handles::Handles;

/// A status of the interface that is not *okay*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub i16);

/// A domain's number.
pub type Domain = u16;

/// Frames a table may have, as many as Xen gives the initial domain.
pub const MAX_TABLE_FRAMES: usize = 64;
/// Entries in one of them.
pub const ENTRIES_PER_FRAME: usize = guest_abi::grant::GRANT_ENTRIES_V1_PER_PAGE as usize;

/// The uses of one entry. All zero: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Uses {
    /// The frame they mean (N2).
    frame: u32,
    /// All of them.
    all: u16,
    /// Those that may write.
    writing: u16,
}

/// The uses of a table frame's entries: a frame of storage.
pub type UsesFrame = [Uses; ENTRIES_PER_FRAME];
/// The uses of a table's first entries, which are all that most domains ever have in use: less than a frame.
pub type FirstUses = [Uses; FIRST_ENTRIES];

/// How many entries have storage apart.
pub const FIRST_ENTRIES: usize = 64;

/// Storage for uses, which is the caller's to give and to take back.
#[derive(Debug)]
pub enum Storage<'a> {
    /// Of the first entries.
    First(&'a mut FirstUses),
    /// Of the entries of a frame of the table, but for the first.
    Frame(&'a mut UsesFrame),
}

/// Storage that is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Of the first entries.
    First,
    /// Of a frame's.
    Frame,
}

const _: () = assert!(size_of::<UsesFrame>() == 4096 && size_of::<HandleFrame>() == 4096);
const _: () = assert!(size_of::<HandleDirectory<'_>>() == 4096);

const fn is_first(gref: u32) -> bool {
    (gref as usize) < FIRST_ENTRIES
}

/// One domain's grants: what it lends, and what it has borrowed.
///
/// About 1.5 KiB; everything else is in storage that the caller gives.
pub struct Grants<'a> {
    first: Option<&'a mut FirstUses>,
    uses: [Option<&'a mut UsesFrame>; MAX_TABLE_FRAMES],
    nr_frames: usize,
    /// Frames of the table there may be.
    max_frames: usize,
    /// Uses of all its entries.
    in_use: usize,
    handles: Handles<'a>,
}

/// How a use of an entry is to be begun: the word to store, if the granter's entry is still the one looked at, and what
/// to count once it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a use that is not counted must not be"]
pub struct Begin {
    /// The entry's reference.
    gref: u32,
    access: Access,
    /// The frame lent.
    pub frame: Frame,
    /// What to put in the entry's place, by an exchange that fails if it changed.
    pub store: Entry,
}

/// A handle that has ended: the reference that was held for it is the caller's to give back (N3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the reference that the handle held must be given back"]
pub struct Ended {
    /// What it stood for.
    pub mapping: Mapping,
}

impl<'a> Grants<'a> {
    /// No table and no handles, and room for so many frames of each, up to what there can be at all.
    pub const fn new(max_frames: usize, max_handle_frames: usize) -> Self {
        Grants {
            first: None,
            uses: [const { None }; MAX_TABLE_FRAMES],
            nr_frames: 0,
            max_frames: if max_frames < MAX_TABLE_FRAMES {
                max_frames
            } else {
                MAX_TABLE_FRAMES
            },
            in_use: 0,
            handles: Handles::new(max_handle_frames),
        }
    }

    /// The domain is dying: from here on it lends nothing more, borrows nothing more, and gets no storage. Uses of its
    /// entries that there are go on, and end as ever, also after the table is gone.
    pub fn retire(&mut self) {
        self.max_frames = 0;
        self.handles.retire();
    }

    /// Frames the table may have.
    pub fn max_frames(&self) -> usize {
        self.max_frames
    }

    /// Frames of the table.
    pub fn nr_frames(&self) -> usize {
        self.nr_frames
    }

    /// Gives the table another frame's entries. False if it has all it may have.
    pub fn add_table_frame(&mut self) -> bool {
        let room = self.nr_frames < self.max_frames;
        self.nr_frames += usize::from(room);
        room
    }

    /// What storage an entry of the table lacks to be used; `None` if it is there, or there is no such entry.
    pub fn wants_uses(&self, gref: u32) -> Option<Wanted> {
        let (frame, _) = self.place(gref).ok()?;
        let has = match is_first(gref) {
            true => self.first.is_some(),
            false => self.uses.get(frame)?.is_some(),
        };
        match (has, is_first(gref)) {
            (true, _) => None,
            (false, true) => Some(Wanted::First),
            (false, false) => Some(Wanted::Frame),
        }
    }

    /// Storage for the uses of an entry and its neighbours, which is cleared.
    ///
    /// # Errors
    /// The storage, if it is not what the entry wants by now, or the domain is dying.
    pub fn add_uses(&mut self, gref: u32, storage: Storage<'a>) -> Result<(), Storage<'a>> {
        let wanted = self.wants_uses(gref).filter(|_| self.max_frames != 0);
        match (wanted, storage) {
            (Some(Wanted::First), Storage::First(storage)) => {
                storage.fill(Uses::default());
                self.first = Some(storage);
                Ok(())
            }
            (Some(Wanted::Frame), Storage::Frame(storage)) => {
                let Some(slot) = self.uses.get_mut(gref as usize / ENTRIES_PER_FRAME) else {
                    return Err(Storage::Frame(storage));
                };
                storage.fill(Uses::default());
                *slot = Some(storage);
                Ok(())
            }
            (_, storage) => Err(storage),
        }
    }

    /// Whether storage for handles must be added before another can be had.
    pub fn wants_handles(&self) -> bool {
        self.handles.is_full()
    }

    /// Whether the next storage for handles needs a directory that is not there yet.
    pub fn wants_directory(&self) -> bool {
        self.handles.wants_directory()
    }

    /// Room for where more storage lies.
    pub fn add_directory(&mut self, directory: &'a mut HandleDirectory<'a>) {
        self.handles.add_directory(directory);
    }

    /// Storage for more handles. False if there is all there may be, or a directory is wanted.
    pub fn add_handles(&mut self, storage: &'a mut HandleFrame) -> bool {
        self.handles.add(storage)
    }

    /// Where an entry lies: frame of the table and index in it.
    ///
    /// # Errors
    /// *Bad reference* beyond the table.
    pub fn place(&self, gref: u32) -> Result<(usize, usize), Status> {
        let gref = gref as usize;
        let (frame, index) = (gref / ENTRIES_PER_FRAME, gref % ENTRIES_PER_FRAME);
        if frame < self.nr_frames {
            Ok((frame, index))
        } else {
            Err(Status(GNTST_BAD_GNTREF))
        }
    }

    fn uses(&self, gref: u32) -> Result<Uses, Status> {
        let (frame, index) = self.place(gref)?;
        let uses = match (&self.first, is_first(gref)) {
            (first, true) => first.as_ref().and_then(|f| f.get(index)),
            (_, false) => self.uses.get(frame).and_then(|f| f.as_ref()?.get(index)),
        };
        // What has no storage was never used.
        Ok(uses.copied().unwrap_or_default())
    }

    fn uses_mut(&mut self, gref: u32) -> Option<&mut Uses> {
        let (frame, index) = self.place(gref).ok()?;
        match is_first(gref) {
            true => self.first.as_mut()?.get_mut(index),
            false => self.uses.get_mut(frame)?.as_mut()?.get_mut(index),
        }
    }

    /// Whether an entry is in use.
    ///
    /// # Errors
    /// *Bad reference* beyond the table.
    pub fn is_in_use(&self, gref: u32) -> Result<bool, Status> {
        Ok(self.uses(gref)?.all != 0)
    }

    /// Whether any entry is.
    pub fn any_in_use(&self) -> bool {
        self.in_use != 0
    }

    /// Looks whether `who` may use an entry, which reads as `entry` now.
    ///
    /// # Errors
    /// *Bad reference* beyond the table; *general error* if the entry lends nothing, not to `who`, or not for this; *no
    /// space* if it is used too often, or its uses have no storage ([`Self::wants_uses`]).
    pub fn begin(
        &self,
        gref: u32,
        entry: Entry,
        who: Domain,
        access: Access,
    ) -> Result<Begin, Status> {
        let uses = self.uses(gref)?;
        if uses.all == u16::MAX {
            return Err(Status(GNTST_NO_SPACE));
        }
        entry.check(who, access)?;
        if self.wants_uses(gref).is_some() {
            return Err(Status(GNTST_NO_SPACE));
        }
        // While it is in use, another frame in the entry is the granter's mistake (N2).
        if uses.all != 0 && entry.frame() != Frame(uses.frame) {
            return Err(Status(GNTST_GENERAL_ERROR));
        }
        Ok(Begin {
            gref,
            access,
            frame: entry.frame(),
            store: entry.in_use(access),
        })
    }

    /// Counts a use whose entry has been stored.
    pub fn commit(&mut self, begin: Begin) {
        if let Some(uses) = self.uses_mut(begin.gref) {
            uses.frame = begin.frame.0;
            uses.all = uses.all.saturating_add(1);
            let writes = begin.access == Access::Write;
            uses.writing = uses.writing.saturating_add(u16::from(writes));
            self.in_use += 1;
        }
    }

    /// Ends a use. Returns the bits to clear in the entry (N1).
    #[must_use = "the bits must be cleared in the entry"]
    pub fn end(&mut self, gref: u32, access: Access) -> Entry {
        let Some(uses) = self.uses_mut(gref) else {
            return Entry::NONE;
        };
        uses.all = uses.all.saturating_sub(1);
        if access == Access::Write {
            uses.writing = uses.writing.saturating_sub(1);
        }
        let clear = Entry::bits_to_clear(uses.all == 0, uses.writing == 0);
        self.in_use = self.in_use.saturating_sub(1);
        clear
    }

    /// A handle for a mapping, whose use of the granter's entry is counted and whose frame is held (N3).
    ///
    /// # Errors
    /// *No space* if storage must be added first.
    pub fn new_handle(&mut self, mapping: Mapping) -> Result<Handle, Status> {
        self.handles.take(mapping).ok_or(Status(GNTST_NO_SPACE))
    }

    /// What a handle stands for.
    pub fn handle(&self, handle: Handle) -> Option<Mapping> {
        self.handles.get(handle)
    }

    /// Ends parts of a mapping: for the host, for devices. The handle goes with the last part.
    pub fn unmap(&mut self, handle: Handle, host: bool, device: bool) -> Option<Ended> {
        let mut mapping = self.handles.get(handle)?;
        let before = mapping;
        mapping.host &= !host;
        mapping.device &= !device;
        if mapping.host || mapping.device {
            self.handles.set(handle, mapping);
            return None;
        }
        self.handles.give(handle);
        Some(Ended { mapping: before })
    }

    /// For tearing the domain down: ends a mapping in the last frame of handles' storage, `None` when it has none left
    /// and can be taken. Its use and its reference are the caller's to give back (N3).
    pub fn end_one(&mut self) -> Option<Ended> {
        let mapping = self.handles.end_one()?;
        Some(Ended { mapping })
    }

    /// For tearing the domain down: takes the last frame of handles' storage back, `None` when there is none left, or
    /// a mapping in it.
    pub fn take_handles(&mut self) -> Option<&'a mut HandleFrame> {
        self.handles.take_frame()
    }

    /// For tearing the domain down: takes the directory back when no storage is found through it any more.
    pub fn take_directory(&mut self) -> Option<&'a mut HandleDirectory<'a>> {
        self.handles.take_directory()
    }

    /// For tearing the domain down: takes storage for uses back, `None` when there is none left. What uses there are are
    /// not counted any more: nobody reads the bits that told of them.
    pub fn take_uses(&mut self) -> Option<Storage<'a>> {
        let frames = self.uses.get_mut(..self.nr_frames)?;
        match frames.iter_mut().rev().find_map(Option::take) {
            Some(frame) => Some(Storage::Frame(frame)),
            None => self.first.take().map(Storage::First),
        }
    }

    /// For tearing the domain down, when no storage for uses is left: shortens the table by its last frame. False if it
    /// has none.
    pub fn take_table_frame(&mut self) -> bool {
        let some = self.nr_frames != 0;
        self.nr_frames -= usize::from(some);
        some
    }

    /// Every mapping in force.
    pub fn mappings(&self) -> impl Iterator<Item = Mapping> + '_ {
        self.handles.iter()
    }
}

//! Handles: the numbers by which a domain names what it has mapped of others' grants.

use crate::{Access, Domain, Frame};

/// Handles that a frame of storage is for.
pub const HANDLES_PER_FRAME: usize = 256;
/// Frames of storage that are found without a directory.
const DIRECT_FRAMES: usize = 8;
/// Frames of storage a domain may have for them.
pub const MAX_HANDLE_FRAMES: usize = DIRECT_FRAMES + 4096 / size_of::<Option<&mut HandleFrame>>();

/// Names a mapping.
pub type Handle = u32;

/// What a handle stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Whose grant.
    pub granter: Domain,
    /// Its reference.
    pub gref: u32,
    /// The frame, which is held for this mapping.
    pub frame: Frame,
    /// How it is mapped and held.
    pub access: Access,
    /// Whether it is mapped for the processor.
    pub host: bool,
    /// Whether for devices.
    pub device: bool,
    /// Whether the mapping is named by its page-table entry's machine address, not by the address it maps.
    pub by_entry: bool,
}

/// A handle's storage: 16 bytes. All zero: never used.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Slot {
    gref: u32,
    frame: u32,
    granter: u16,
    flags: u16,
    /// While free: the next free handle, plus one.
    next: u32,
}

const HOST: u16 = 1;
const DEVICE: u16 = 2;
const WRITE: u16 = 4;
const BY_ENTRY: u16 = 8;

/// A frame of storage.
pub type HandleFrame = [Slot; HANDLES_PER_FRAME];

/// A frame's room for where more storage lies: what few domains need. All zero: nothing.
pub type HandleDirectory<'a> = [Option<&'a mut HandleFrame>; MAX_HANDLE_FRAMES - DIRECT_FRAMES];

impl Slot {
    fn of(mapping: Mapping) -> Slot {
        let flag = |on: bool, bit: u16| if on { bit } else { 0 };
        Slot {
            gref: mapping.gref,
            frame: mapping.frame.0,
            granter: mapping.granter,
            flags: flag(mapping.host, HOST)
                | flag(mapping.device, DEVICE)
                | flag(mapping.by_entry, BY_ENTRY)
                | flag(mapping.access == Access::Write, WRITE),
            next: 0,
        }
    }

    /// What it stands for, if it is in force.
    fn mapping(&self) -> Option<Mapping> {
        (self.flags & (HOST | DEVICE) != 0).then_some(Mapping {
            granter: self.granter,
            gref: self.gref,
            frame: Frame(self.frame),
            access: if self.flags & WRITE != 0 {
                Access::Write
            } else {
                Access::Read
            },
            host: self.flags & HOST != 0,
            device: self.flags & DEVICE != 0,
            by_entry: self.flags & BY_ENTRY != 0,
        })
    }
}

pub(crate) struct Handles<'a> {
    direct: [Option<&'a mut HandleFrame>; DIRECT_FRAMES],
    directory: Option<&'a mut HandleDirectory<'a>>,
    nr_frames: usize,
    /// Frames of storage there may be.
    max_frames: usize,
    /// The first free handle, plus one; 0 for none.
    free: u32,
    /// While taken apart: slots of the last frame that have not been looked at.
    unseen: usize,
}

impl<'a> Handles<'a> {
    pub(crate) const fn new(max_frames: usize) -> Self {
        Handles {
            direct: [const { None }; DIRECT_FRAMES],
            directory: None,
            nr_frames: 0,
            max_frames: if max_frames < MAX_HANDLE_FRAMES {
                max_frames
            } else {
                MAX_HANDLE_FRAMES
            },
            free: 0,
            unseen: HANDLES_PER_FRAME,
        }
    }

    /// No handle can be had any more, and no storage.
    pub(crate) fn retire(&mut self) {
        self.free = 0;
        self.max_frames = 0;
    }

    pub(crate) fn is_full(&self) -> bool {
        self.free == 0
    }

    /// Whether a directory must be added before more storage can be.
    pub(crate) fn wants_directory(&self) -> bool {
        self.directory.is_none()
            && self.nr_frames == DIRECT_FRAMES
            && self.nr_frames < self.max_frames
    }

    pub(crate) fn add_directory(&mut self, directory: &'a mut HandleDirectory<'a>) {
        if self.directory.is_none() {
            directory.fill_with(|| None);
            self.directory = Some(directory);
        }
    }

    pub(crate) fn add(&mut self, storage: &'a mut HandleFrame) -> bool {
        let (at, behind) = (self.nr_frames, self.free);
        let first = (at * HANDLES_PER_FRAME) as u32;
        if at >= self.max_frames {
            return false;
        }
        let Some(place) = self.place(at) else {
            return false;
        };
        // The new ones come before those that are free already, lowest first.
        for (index, slot) in storage.iter_mut().enumerate() {
            let is_last = index + 1 == HANDLES_PER_FRAME;
            *slot = Slot {
                next: if is_last {
                    behind
                } else {
                    first + index as u32 + 2
                },
                ..Slot::default()
            };
        }
        *place = Some(storage);
        self.nr_frames += 1;
        self.free = first + 1;
        true
    }

    /// Where a frame of storage is kept.
    fn place(&mut self, at: usize) -> Option<&mut Option<&'a mut HandleFrame>> {
        match at.checked_sub(DIRECT_FRAMES) {
            None => self.direct.get_mut(at),
            Some(at) => self.directory.as_mut()?.get_mut(at),
        }
    }

    fn slot(&self, handle: Handle) -> Option<&Slot> {
        let (at, index) = split(handle);
        let frame = match at.checked_sub(DIRECT_FRAMES) {
            None => self.direct.get(at)?,
            Some(at) => self.directory.as_ref()?.get(at)?,
        };
        frame.as_ref()?.get(index)
    }

    fn slot_mut(&mut self, handle: Handle) -> Option<&mut Slot> {
        let (at, index) = split(handle);
        self.place(at)?.as_mut()?.get_mut(index)
    }

    pub(crate) fn get(&self, handle: Handle) -> Option<Mapping> {
        self.slot(handle)?.mapping()
    }

    pub(crate) fn take(&mut self, mapping: Mapping) -> Option<Handle> {
        let handle = self.free.checked_sub(1)?;
        let slot = self.slot_mut(handle)?;
        let next = slot.next;
        *slot = Slot::of(mapping);
        self.free = next;
        Some(handle)
    }

    pub(crate) fn set(&mut self, handle: Handle, mapping: Mapping) {
        if let Some(slot) = self.slot_mut(handle) {
            *slot = Slot::of(mapping);
        }
    }

    pub(crate) fn give(&mut self, handle: Handle) {
        let next = self.free;
        if let Some(slot) = self.slot_mut(handle) {
            *slot = Slot {
                next,
                ..Slot::default()
            };
            self.free = handle + 1;
        }
    }

    /// Ends a mapping in the last frame of storage, `None` if it has none left.
    pub(crate) fn end_one(&mut self) -> Option<Mapping> {
        let (last, unseen) = (self.nr_frames.checked_sub(1)?, self.unseen);
        let frame = self.place(last)?.as_mut()?;
        let slots = frame.get_mut(..unseen)?.iter_mut().enumerate().rev();
        for (index, slot) in slots {
            if let Some(mapping) = slot.mapping() {
                *slot = Slot::default();
                self.unseen = index;
                return Some(mapping);
            }
        }
        self.unseen = 0;
        None
    }

    /// Takes the last frame of storage back, if no mapping is in it. No handle can be had afterwards.
    pub(crate) fn take_frame(&mut self) -> Option<&'a mut HandleFrame> {
        let last = self.nr_frames.checked_sub(1)?;
        let place = self.place(last)?;
        if place.as_ref().is_some_and(|frame| has_mapping(frame)) {
            return None;
        }
        let storage = place.take();
        self.free = 0;
        self.nr_frames = last;
        self.unseen = HANDLES_PER_FRAME;
        storage
    }

    /// Takes the directory back, if no storage is found through it.
    pub(crate) fn take_directory(&mut self) -> Option<&'a mut HandleDirectory<'a>> {
        if self.nr_frames > DIRECT_FRAMES {
            return None;
        }
        self.directory.take()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Mapping> + '_ {
        let others = self.directory.iter().flat_map(|frames| frames.iter());
        let frames = self.direct.iter().chain(others).flatten();
        frames.flat_map(|frame| frame.iter().filter_map(Slot::mapping))
    }
}

/// Where a handle's slot is: the frame of storage and the place in it.
fn split(handle: Handle) -> (usize, usize) {
    let handle = handle as usize;
    (handle / HANDLES_PER_FRAME, handle % HANDLES_PER_FRAME)
}

fn has_mapping(frame: &HandleFrame) -> bool {
    frame.iter().any(|slot| slot.mapping().is_some())
}

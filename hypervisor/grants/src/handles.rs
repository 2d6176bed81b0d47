//! Handles: the numbers by which a domain names what it has mapped of others' grants.

use crate::{Access, Domain, Frame};

/// Handles that a frame of storage is for.
pub const HANDLES_PER_FRAME: usize = 256;
/// Frames of storage a domain may have for them.
pub const MAX_HANDLE_FRAMES: usize = 32;

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
    frames: [Option<&'a mut HandleFrame>; MAX_HANDLE_FRAMES],
    nr_frames: usize,
    /// The first free handle, plus one; 0 for none.
    free: u32,
}

impl<'a> Handles<'a> {
    pub(crate) const fn new() -> Self {
        Handles {
            frames: [const { None }; MAX_HANDLE_FRAMES],
            nr_frames: 0,
            free: 0,
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.free == 0
    }

    pub(crate) fn add(&mut self, storage: &'a mut HandleFrame) -> bool {
        let first = (self.nr_frames * HANDLES_PER_FRAME) as u32;
        let Some(slot) = self.frames.get_mut(self.nr_frames) else {
            return false;
        };
        // The new ones come before those that are free already, lowest first.
        let behind = self.free;
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
        *slot = Some(storage);
        self.nr_frames += 1;
        self.free = first + 1;
        true
    }

    fn slot(&self, handle: Handle) -> Option<&Slot> {
        let handle = handle as usize;
        let frame = self.frames.get(handle / HANDLES_PER_FRAME)?.as_ref()?;
        frame.get(handle % HANDLES_PER_FRAME)
    }

    fn slot_mut(&mut self, handle: Handle) -> Option<&mut Slot> {
        let handle = handle as usize;
        let frame = self.frames.get_mut(handle / HANDLES_PER_FRAME)?.as_mut()?;
        frame.get_mut(handle % HANDLES_PER_FRAME)
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

    /// Takes the last frame of storage back. No handle can be had afterwards.
    pub(crate) fn take_frame(&mut self) -> Option<&'a mut HandleFrame> {
        self.free = 0;
        self.nr_frames = self.nr_frames.checked_sub(1)?;
        self.frames.get_mut(self.nr_frames)?.take()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Mapping> + '_ {
        self.frames
            .iter()
            .flatten()
            .flat_map(|frame| mappings_in(frame))
    }
}

/// The mappings that a frame of storage has.
pub(crate) fn mappings_in(frame: &HandleFrame) -> impl Iterator<Item = Mapping> + '_ {
    frame.iter().filter_map(Slot::mapping)
}

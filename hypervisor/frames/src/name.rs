//! Names and numbers: frames, domains, frame types, table levels.

/// A machine frame number: a physical address divided by 4096.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Mfn(pub u64);

/// A domain id (15 bits; the ABI's special ids are resolved before they get here).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DomId(pub u16);

impl DomId {
    /// Owner of frames that are free or are no domain's: all fifteen bits set.
    pub const NOBODY: DomId = DomId(0x7fff);
    /// Owner of frames that ring 0 keeps for itself.
    pub const RING0: DomId = DomId(0x7ff2);
    /// Owner of addresses that are no memory: device registers, firmware.
    pub const IO: DomId = DomId(0x7ff1);
}

/// What a frame is being used as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FrameType {
    /// Nothing in particular: the type count is zero and no type was taken yet.
    Untyped = 0,
    /// Mapped writable somewhere.
    Writable = 1,
    /// A page table of the lowest level.
    L1 = 2,
    /// A page directory.
    L2 = 3,
    /// A page-directory-pointer table.
    L3 = 4,
    /// A root table.
    L4 = 5,
    /// A page of a descriptor table (GDT or LDT).
    Descriptors = 6,
}

impl FrameType {
    pub(crate) const fn from_bits(bits: u64) -> FrameType {
        match bits & 7 {
            1 => FrameType::Writable,
            2 => FrameType::L1,
            3 => FrameType::L2,
            4 => FrameType::L3,
            5 => FrameType::L4,
            6 => FrameType::Descriptors,
            _ => FrameType::Untyped,
        }
    }

    /// The table level, if this is a table type.
    pub const fn level(self) -> Option<Level> {
        match self {
            FrameType::L1 => Some(Level::L1),
            FrameType::L2 => Some(Level::L2),
            FrameType::L3 => Some(Level::L3),
            FrameType::L4 => Some(Level::L4),
            _ => None,
        }
    }

    /// Whether frames of this type must be checked before use (everything but `Writable`).
    pub const fn needs_validation(self) -> bool {
        !matches!(self, FrameType::Writable | FrameType::Untyped)
    }
}

/// A page-table level.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Level {
    /// Lowest: entries map pages.
    L1 = 1,
    /// Entries name L1 tables.
    L2 = 2,
    /// Entries name L2 tables.
    L3 = 3,
    /// Root: entries name L3 tables.
    L4 = 4,
}

impl Level {
    /// The frame type of a table of this level.
    pub const fn frame_type(self) -> FrameType {
        match self {
            Level::L1 => FrameType::L1,
            Level::L2 => FrameType::L2,
            Level::L3 => FrameType::L3,
            Level::L4 => FrameType::L4,
        }
    }

    /// The level that entries of this level name; `None` for L1, whose entries map pages.
    pub const fn below(self) -> Option<Level> {
        match self {
            Level::L1 => None,
            Level::L2 => Some(Level::L1),
            Level::L3 => Some(Level::L2),
            Level::L4 => Some(Level::L3),
        }
    }
}

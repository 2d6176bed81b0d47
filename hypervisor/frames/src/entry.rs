//! Page-table entries as guests write them and as they are stored.
//!
//! Both guest modes run at privilege level 3, so every stored entry has the user bit set: what keeps guest
//! user code from guest kernel memory is that the two run on different roots. Guests read entries back and
//! submit them again, so the bits added here are accepted on input.

use crate::frame::{Level, Mfn};

/// Entries in a table of any level.
pub const ENTRIES_PER_TABLE: usize = 512;

/// Root slots that belong to the hypervisor (virtual addresses `0xffff_8000_0000_0000` up to, not including,
/// `0xffff_8800_0000_0000`). Their contents in a guest's table are ignored and overwritten.
pub const L4_RESERVED: core::ops::Range<usize> = 256..272;

/// A page-table entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct Entry(pub u64);

impl Entry {
    /// The translation exists.
    pub const PRESENT: u64 = 1 << 0;
    /// Writes are allowed.
    pub const WRITABLE: u64 = 1 << 1;
    /// Privilege level 3 may use it.
    pub const USER: u64 = 1 << 2;
    /// The CPU has used the entry.
    pub const ACCESSED: u64 = 1 << 5;
    /// The CPU has written through the entry (leaves).
    pub const DIRTY: u64 = 1 << 6;
    /// In L2 and L3 entries: a large page. In L1 entries the same bit is part of the memory type.
    pub const LARGE: u64 = 1 << 7;
    /// Survives a load of CR3 (leaves).
    pub const GLOBAL: u64 = 1 << 8;
    /// No instruction may be fetched through it.
    pub const NO_EXECUTE: u64 = 1 << 63;
    /// The frame number's bits.
    pub const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
    /// Bits whose change needs no change of references in a leaf.
    const HARMLESS: u64 = !(Self::PRESENT | Self::WRITABLE | Self::ADDRESS);

    /// Whether the translation exists.
    #[inline]
    pub const fn is_present(self) -> bool {
        self.0 & Self::PRESENT != 0
    }

    /// Whether writes are allowed.
    #[inline]
    pub const fn is_writable(self) -> bool {
        self.0 & Self::WRITABLE != 0
    }

    /// The frame named.
    #[inline]
    pub const fn mfn(self) -> Mfn {
        Mfn((self.0 & Self::ADDRESS) >> 12)
    }

    /// Whether a leaf can go from `self` to `new` without touching a reference: same frame, same permission
    /// to write, both present (or both absent).
    #[inline]
    pub const fn same_reference(self, new: Entry) -> bool {
        let changed = self.0 ^ new.0;
        if self.is_present() {
            changed & !Self::HARMLESS == 0
        } else {
            !new.is_present()
        }
    }

    /// What is stored for a present leaf. Global is dropped: kernel and user roots of one guest share it, and
    /// a root switch must end the other's translations.
    #[inline]
    pub const fn stored_leaf(self) -> Entry {
        if self.is_present() {
            Entry((self.0 | Self::USER) & !Self::GLOBAL)
        } else {
            self
        }
    }

    /// What is stored for a present entry that names a table; `None` if it asks for a large page, which no
    /// guest gets, or sets a bit the architecture reserves.
    #[inline]
    pub const fn stored_table(self, level: Level) -> Option<Entry> {
        if !self.is_present() {
            return Some(self);
        }
        if self.0 & Self::LARGE != 0 {
            return None;
        }
        if matches!(level, Level::L4 | Level::L3) && self.0 & Self::GLOBAL != 0 {
            // Ignored by current CPUs at these levels, but AMD reserves it at L4.
            return Some(Entry((self.0 | Self::USER) & !Self::GLOBAL));
        }
        Some(Entry(self.0 | Self::USER))
    }
}

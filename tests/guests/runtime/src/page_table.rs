//! Page tables: reading them, protecting pages, and mapping with tables of our own.
//!
//! A page becomes a table in the interface's order: filled while writable, then mapped read-only, then linked or
//! pinned. It becomes an ordinary page again in the reverse order.

use crate::Global;
use crate::entry::start_info;
use crate::frames::virt_base;
use crate::frames::{self, Page};
use crate::hypercall;

/// Bits of an entry.
pub mod bits {
    #![allow(missing_docs)]
    pub const PRESENT: u64 = 1;
    pub const WRITE: u64 = 1 << 1;
    pub const USER: u64 = 1 << 2;
    pub const PWT: u64 = 1 << 3;
    pub const PCD: u64 = 1 << 4;
    pub const ACCESSED: u64 = 1 << 5;
    pub const DIRTY: u64 = 1 << 6;
    /// Superpage in L2 and L3, PAT in L1.
    pub const PSE: u64 = 1 << 7;
    pub const GLOBAL: u64 = 1 << 8;
    pub const AVAIL0: u64 = 1 << 9;
    /// Hypervisors may keep "kernel mapping" in this one.
    pub const BIT52: u64 = 1 << 52;
    pub const NX: u64 = 1 << 63;
    /// Machine address of the frame, 40 bits of number.
    pub const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
    /// A writable kernel page.
    pub const KERNEL_RW: u64 = PRESENT | WRITE | ACCESSED | DIRTY;
    /// A read-only kernel page.
    pub const KERNEL_RO: u64 = PRESENT | ACCESSED;
    /// An upper-level entry.
    pub const TABLE: u64 = PRESENT | WRITE | USER | ACCESSED | DIRTY;
    /// Bits a hypervisor may add or the processor may set: not compared when an entry is read back.
    pub const MAY_DIFFER: u64 = USER | ACCESSED | DIRTY | GLOBAL | BIT52;
}

static ROOT: Global<u64> = Global::new(0);

pub(crate) fn init() {
    ROOT.set(Page::at(start_info().pt_base).pfn);
}

/// The kernel's root table.
pub fn root() -> Page {
    Page { pfn: ROOT.get() }
}

/// Notes that another root is active now.
pub fn set_root(page: Page) {
    ROOT.set(page.pfn);
}

/// One entry found by a walk.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// The table.
    pub table: Page,
    /// Index of the entry in it.
    pub index: usize,
}

impl Slot {
    /// The entry.
    pub fn value(self) -> u64 {
        self.table.read(self.index)
    }

    /// Its machine address.
    pub fn maddr(self) -> u64 {
        self.table.entry_maddr(self.index)
    }

    /// Its virtual address.
    pub fn va(self) -> u64 {
        self.table.va() + 8 * self.index as u64
    }

    /// Sets it by mmu_update.
    pub fn set(self, value: u64) -> i64 {
        hypercall::mmu_update(self.maddr(), value)
    }
}

/// Index of the entry for `address` in a table of `level` (1 to 4).
pub fn index(address: u64, level: u32) -> usize {
    (address >> (12 + 9 * (level - 1))) as usize & 511
}

/// The entry of `level` for `address` under `root`, if the levels above it are present.
pub fn slot_under(root: Page, address: u64, level: u32) -> Option<Slot> {
    let mut table = root;
    for at in (level..=4).rev() {
        let slot = Slot {
            table,
            index: index(address, at),
        };
        if at == level {
            return Some(slot);
        }
        let value = slot.value();
        if value & bits::PRESENT == 0 {
            return None;
        }
        table = Page {
            pfn: frames::mfn_to_pfn((value & bits::ADDRESS) >> 12),
        };
    }
    None
}

/// The L1 entry for `address` under the active root.
pub fn slot(address: u64) -> Option<Slot> {
    slot_under(root(), address, 1)
}

/// Maps a page read-only at its own address.
pub fn protect(page: Page) -> i64 {
    hypercall::update_va_mapping(page.va(), page.maddr() | bits::KERNEL_RO | bits::NX)
}

/// Maps a page writable at its own address.
pub fn unprotect(page: Page) -> i64 {
    hypercall::update_va_mapping(page.va(), page.maddr() | bits::KERNEL_RW | bits::NX)
}

/// Removes a page's mapping at its own address.
pub fn hide(page: Page) -> i64 {
    hypercall::update_va_mapping(page.va(), 0)
}

/// A zeroed page ready to be linked as a table: mapped read-only.
pub fn new_table() -> Page {
    let page = frames::allocate();
    let result = protect(page);
    assert!(
        result == 0,
        "a fresh page could not be made read-only: {result}"
    );
    page
}

/// Gives back a page that was a table and is linked nowhere any more.
pub fn release_table(page: Page) {
    let result = unprotect(page);
    assert!(
        result == 0,
        "page {:#x} could not be made writable again: {result}",
        page.pfn
    );
    frames::release(page);
}

/// Sets the L1 entry for `address` under `root`, adding tables where they lack.
pub fn map_under(root: Page, address: u64, entry: u64) -> i64 {
    for level in (2..=4).rev() {
        let slot = slot_under(root, address, level).expect("the level above was just filled");
        if slot.value() & bits::PRESENT == 0 {
            let table = new_table();
            let result = slot.set(table.maddr() | bits::TABLE);
            if result != 0 {
                return result;
            }
        }
    }
    slot_under(root, address, 1)
        .expect("all levels are present")
        .set(entry)
}

/// As [`map_under`] the active root, and invalidates the translation.
pub fn map(address: u64, entry: u64) -> i64 {
    match map_under(root(), address, entry) {
        0 => hypercall::mmuext(crate::abi::mmuext::INVLPG_LOCAL, address, 0),
        error => error,
    }
}

/// Whether an address lies in the kernel's initial mapping.
pub fn is_linear(address: u64) -> bool {
    address >= virt_base() && slot(address).is_some_and(|slot| slot.value() & bits::PRESENT != 0)
}

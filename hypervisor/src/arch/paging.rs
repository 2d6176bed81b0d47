//! Ring 0's own page tables.
//!
//! Built once at boot; afterwards only pages are added: device registers, private stacks, and the exposed areas
//! of domains. Guests' tables are `mmu`'s business.

use crate::layout::PAGE;
use crate::memory::phys;
use core::sync::atomic::{AtomicU64, Ordering};
use frames::Mfn;

/// Entry bits.
pub mod bits {
    pub const PRESENT: u64 = 1;
    pub const WRITE: u64 = 2;
    pub const USER: u64 = 4;
    pub const UNCACHED: u64 = 0x18;
    pub const LARGE: u64 = 0x80;
    pub const NX: u64 = 1 << 63;
    /// Data of ring 0.
    pub const RW: u64 = PRESENT | WRITE | NX | ACCESSED_DIRTY;
    /// Constants of ring 0.
    pub const RO: u64 = PRESENT | NX | ACCESSED;
    /// Code of ring 0.
    pub const RX: u64 = PRESENT | ACCESSED;
    /// Device registers.
    pub const DEVICE: u64 = RW | UNCACHED;
    const ACCESSED: u64 = 0x20;
    const ACCESSED_DIRTY: u64 = 0x60;
    /// An entry that names a table: permissions are the leaves' business.
    pub const TABLE: u64 = PRESENT | WRITE | ACCESSED;
    /// The same where guests may read beneath it.
    pub const TABLE_USER: u64 = TABLE | USER;
    pub const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
}

/// Where table frames come from.
pub trait TableSource {
    /// A zeroed frame that is ring 0's from now on.
    fn table(&mut self) -> Option<Mfn>;
}

impl<F: FnMut() -> Option<Mfn>> TableSource for F {
    fn table(&mut self) -> Option<Mfn> {
        self()
    }
}

/// No frame was left for a page table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoFrame;

/// Ring 0's root, once it is in force.
static ROOT: AtomicU64 = AtomicU64::new(0);

/// Says which root is ring 0's.
pub fn set_root(root: Mfn) {
    ROOT.store(root.0, Ordering::Release);
}

/// Ring 0's root.
pub fn root() -> Mfn {
    Mfn(ROOT.load(Ordering::Acquire))
}

fn index(va: u64, level: u32) -> usize {
    (va >> (12 + 9 * (level - 1)) & 511) as usize
}

/// The table of the level below that covers `va`, made if missing with `link` as its permissions.
pub fn descend(
    table: Mfn,
    va: u64,
    level: u32,
    link: u64,
    source: &mut dyn TableSource,
) -> Result<Mfn, NoFrame> {
    let slot = phys::word(table, index(va, level));
    let entry = slot.load(Ordering::Acquire);
    if entry & bits::PRESENT != 0 {
        assert!(entry & bits::LARGE == 0, "mapping below a large page");
        return Ok(Mfn((entry & bits::ADDRESS) / PAGE));
    }
    let fresh = source.table().ok_or(NoFrame)?;
    slot.store((fresh.0 * PAGE) | link, Ordering::Release);
    Ok(fresh)
}

/// Maps one page of 4 KiB below a table of `level`.
pub fn map_below(
    table: Mfn,
    level: u32,
    va: u64,
    leaf: u64,
    link: u64,
    source: &mut dyn TableSource,
) -> Result<(), NoFrame> {
    let mut table = table;
    for l in (2..=level).rev() {
        table = descend(table, va, l, link, source)?;
    }
    phys::word(table, index(va, 1)).store(leaf, Ordering::Release);
    Ok(())
}

/// Maps `pa..pa+len` at `va` with pages as large as alignment allows.
pub fn map_range(
    root: Mfn,
    va: u64,
    pa: u64,
    len: u64,
    leaf: u64,
    source: &mut dyn TableSource,
) -> Result<(), NoFrame> {
    const LARGE_PAGE: u64 = 2 << 20;
    let mut done = 0;
    while done < len {
        let (v, p) = (va + done, pa + done);
        let l3 = descend(root, v, 4, bits::TABLE, source)?;
        let l2 = descend(l3, v, 3, bits::TABLE, source)?;
        let large = (v | p).is_multiple_of(LARGE_PAGE) && len - done >= LARGE_PAGE;
        let slot = phys::word(l2, index(v, 2));
        if large && slot.load(Ordering::Relaxed) & bits::PRESENT == 0 {
            slot.store(p | leaf | bits::LARGE, Ordering::Release);
            done += LARGE_PAGE;
        } else {
            let l1 = descend(l2, v, 2, bits::TABLE, source)?;
            phys::word(l1, index(v, 1)).store(p | leaf, Ordering::Release);
            done += PAGE;
        }
    }
    Ok(())
}

/// The entry of 4 KiB that maps `va`; `None` where there is none.
pub fn leaf_slot(root: Mfn, va: u64) -> Option<&'static AtomicU64> {
    let mut table = root;
    for level in (2..=4).rev() {
        let entry = phys::word(table, index(va, level)).load(Ordering::Acquire);
        if entry & bits::PRESENT == 0 || entry & bits::LARGE != 0 {
            return None;
        }
        table = Mfn((entry & bits::ADDRESS) / PAGE);
    }
    Some(phys::word(table, index(va, 1)))
}

/// Physical address and leaf entry behind `va` in the tables of `root`, or `None`.
pub fn walk(root: Mfn, va: u64) -> Option<u64> {
    let mut table = root;
    for level in (1..=4).rev() {
        let entry = phys::word(table, index(va, level)).load(Ordering::Acquire);
        if entry & bits::PRESENT == 0 {
            return None;
        }
        if level == 1 {
            return Some(entry);
        }
        if entry & bits::LARGE != 0 {
            return Some(entry);
        }
        table = Mfn((entry & bits::ADDRESS) / PAGE);
    }
    None
}

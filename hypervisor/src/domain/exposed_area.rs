//! A domain's part of the exposed area: per vCPU, descriptor tables, what the entry code needs, and an alias of its
//! vcpu_info.
//!
//! ```text
//! +0x00000  14 pages of the guest's descriptor table, read-only
//! +0x0e000  our own page, read-write: of the table (selectors 0xe0xx, TSS, LDT) the first hundred bytes, where the table
//!           ends; from +0x0e800 on the vCPU's transit words
//! +0x10000  16 pages of the local descriptor table, filled on demand, read-only
//! +0x21000  vcpu_info's page, read-write
//! ```

use crate::arch::paging::{self, NoFrame, TableSource, bits};
use crate::domain::MAX_VCPUS;
use crate::layout::{EXPOSED, EXPOSED_VCPU_STRIDE, EXPOSED_VCPUS, FIRST_SLOT, PAGE, PRIVATE_SLOTS};
use crate::memory::{alloc, phys};
use core::sync::atomic::Ordering;
use frames::Mfn;

/// Offsets in a vCPU's part.
pub const OWN_DESCRIPTORS: u64 = 0xe000;
/// Local descriptor table.
pub const LDT: u64 = 0x10000;
/// Where in our own page the words for the entry code begin: beyond the end of the descriptor table, so that no selector
/// makes a descriptor of them.
pub const TRANSIT: u64 = 0x800;
/// Alias of vcpu_info's page.
pub const VCPU_INFO: u64 = 0x21000;

/// First address of a vCPU's part.
pub fn vcpu_area(id: u32) -> u64 {
    EXPOSED_VCPUS + u64::from(id) * EXPOSED_VCPU_STRIDE
}

/// Makes a domain's L3 table of the exposed area: the common part, and nothing else yet (A3).
pub fn new_l3() -> Result<Mfn, NoFrame> {
    let l3 = alloc::take_ring0().ok_or(NoFrame)?;
    let ring0_l3 = paging::descend(paging::root(), EXPOSED, 4, bits::TABLE, &mut || None::<Mfn>)?;
    let common = phys::word(ring0_l3, 0).load(Ordering::Relaxed);
    phys::word(l3, 0).store(common, Ordering::Relaxed);
    Ok(l3)
}

/// Makes a root for ring 0 to run on while an isolated domain is on the CPU: ring 0's own slots (A1), and room for the
/// exposed area of whichever domain that is ([`show_in`]).
pub fn new_ring0_root() -> Result<Mfn, NoFrame> {
    let root = alloc::take_ring0().ok_or(NoFrame)?;
    for slot in PRIVATE_SLOTS {
        let entry = phys::word(paging::root(), slot).load(Ordering::Relaxed);
        phys::word(root, slot).store(entry, Ordering::Relaxed);
    }
    Ok(root)
}

/// Puts a domain's exposed area into such a root. The caller loads the root anew, or flushes.
pub fn show_in(root: Mfn, exposed_l3: Mfn) {
    phys::word(root, FIRST_SLOT + 1).store((exposed_l3.0 * PAGE) | bits::TABLE, Ordering::Release);
}

/// Maps (or with `None` unmaps) one page of a domain's exposed area, whose tables are there.
pub fn map(l3: Mfn, address: u64, frame: Option<Mfn>, leaf: u64) -> Result<(), NoFrame> {
    let leaf = frame.map_or(0, |f| (f.0 * PAGE) | leaf);
    paging::map_below(l3, 3, address, leaf, bits::TABLE, &mut || None::<Mfn>)
}

/// As [`map`], for an address whose tables may be missing: what they are made of comes from `source`.
pub fn map_new(
    l3: Mfn,
    address: u64,
    frame: Mfn,
    leaf: u64,
    source: &mut dyn TableSource,
) -> Result<(), NoFrame> {
    paging::map_below(l3, 3, address, (frame.0 * PAGE) | leaf, bits::TABLE, source)
}

/// Tables below the L3 table that a vCPU's part takes at most.
pub const VCPU_TABLES: usize = 2;

/// How many of those are missing. What is there stays as long as the domain.
pub fn missing_tables(l3: Mfn, id: u32) -> usize {
    let l1 = (vcpu_area(id) - EXPOSED_VCPUS) / (2 << 20);
    match below(l3, VCPUS_L2) {
        None => VCPU_TABLES,
        Some(l2) => usize::from(below(l2, l1 as usize).is_none()),
    }
}

/// Gives back a domain's L3 table and the tables below, which are only reached through it; what they still map is
/// somebody else's: each vCPU's own page went with the vCPU. No CPU may be on a root that has it. Says how many frames
/// there were.
pub fn free(l3: Mfn) -> u64 {
    let mut given = 1;
    // What the first entry leads to is the common part, which all domains have.
    if let Some(l2) = below(l3, VCPUS_L2) {
        // The vCPUs' parts are side by side.
        for l1 in (0..VCPUS_L1S).filter_map(|index| below(l2, index)) {
            alloc::give_ring0(l1);
            given += 1;
        }
        alloc::give_ring0(l2);
        given += 1;
    }
    alloc::give_ring0(l3);
    given
}

/// Tables of a domain's exposed area: what [`free`] gives back, but for the vCPUs' own pages.
pub fn tables(l3: Mfn) -> u64 {
    let l2s = (1..512).filter_map(|index| below(l3, index));
    let l1s = |l2| (0..512).filter_map(move |index| below(l2, index)).count() as u64;
    1 + l2s.map(|l2| 1 + l1s(l2)).sum::<u64>()
}

/// Where in the L3 table the one of the vCPUs' parts is, and tables of the lowest level that those of all take.
const VCPUS_L2: usize = (EXPOSED_VCPUS >> 30) as usize % 512;
const VCPUS_L1S: usize = (MAX_VCPUS as u64 * EXPOSED_VCPU_STRIDE).div_ceil(2 << 20) as usize;

// A table covers a whole number of vCPUs' parts, and begins with one; all of them are within one table of the level above.
const _: () = assert!(
    (2u64 << 20).is_multiple_of(EXPOSED_VCPU_STRIDE)
        && EXPOSED_VCPUS.is_multiple_of(1 << 30)
        && VCPUS_L2 != 0
        && VCPUS_L1S <= 512
);

/// What an entry of a table names, if it is present.
fn below(table: Mfn, index: usize) -> Option<Mfn> {
    let entry = phys::word(table, index).load(Ordering::Relaxed);
    (entry & bits::PRESENT != 0).then_some(Mfn((entry & bits::ADDRESS) / PAGE))
}

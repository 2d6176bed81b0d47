//! What walks through a guest's tables found lately (`arch/guest_memory.rs` looks and fills in).

use crate::memory::phys::{self, Words};
use core::cell::Cell;
use core::sync::atomic::AtomicU64;
use frames::Mfn;

/// What walks found lately: kernels name the same few pages and regions again and again.
///
/// Two levels: regions of 2 MiB whose L1 table is known, and pages whose leaf entry was looked at. Either is good while
/// its stamp is: no upper-level entry of the domain has changed (its generation) and the vCPU keeps its root; until
/// then the root's references keep the table in place (D2, F4). A leaf may change at any moment, so a page is good only
/// if its leaf entry is, besides, the very value that was looked at.
pub struct WalkCache {
    /// How often the vCPU changed its root. A stamp is this and the domain's generation added up: neither goes back,
    /// so that equal sums mean that neither moved.
    pub(super) roots: Cell<u64>,
    pub(super) pages: [CachedPage; PAGES],
    pub(super) regions: [CachedRegion; REGIONS],
}

#[repr(align(64))]
pub(super) struct CachedPage {
    /// The address over 4 KiB; no page has the number that is all ones.
    pub(super) page: Cell<u64>,
    pub(super) stamp: Cell<u64>,
    /// Where the leaf entry lies, and what it was when it was looked at: present, of RAM, marked accessed.
    pub(super) leaf: Cell<&'static AtomicU64>,
    pub(super) value: Cell<u64>,
    /// Whether all levels allow writes and the leaf was marked dirty.
    pub(super) writable: Cell<bool>,
    pub(super) memory: Cell<&'static Words>,
}

#[derive(Default)]
pub(super) struct CachedRegion {
    /// Address of the region over 2 MiB; no region has the number that is all ones.
    pub(super) region: Cell<u64>,
    pub(super) stamp: Cell<u64>,
    /// Whether all upper levels allow writes.
    pub(super) writable: Cell<bool>,
    pub(super) table: Cell<u64>,
}

pub(super) const PAGES: usize = 16;
pub(super) const REGIONS: usize = 8;
pub(super) const REGION_SHIFT: u32 = 21;
const NOWHERE: u64 = u64::MAX;

impl WalkCache {
    /// Nothing found yet.
    pub fn new() -> WalkCache {
        let nowhere = phys::page(Mfn(0));
        WalkCache {
            roots: Cell::new(0),
            pages: core::array::from_fn(|_| CachedPage {
                page: Cell::new(NOWHERE),
                stamp: Cell::new(0),
                leaf: Cell::new(&nowhere[0]),
                value: Cell::new(0),
                writable: Cell::new(false),
                memory: Cell::new(nowhere),
            }),
            regions: core::array::from_fn(|_| CachedRegion {
                region: Cell::new(NOWHERE),
                ..CachedRegion::default()
            }),
        }
    }

    /// Forgets everything: the vCPU has another root.
    pub fn forget(&self) {
        self.roots.set(self.roots.get().wrapping_add(1));
    }
}

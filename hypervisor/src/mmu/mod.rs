//! Guest page tables on the real machine: the rules of the crate `frames` bound to memory, flushes and domains.

pub mod audit;
pub mod trapped;

use crate::arch::percpu;
use crate::domain;
use crate::layout::{FIRST_SLOT, PAGE, PRIVATE_SLOTS};
use crate::memory::{alloc, frame_table, phys};
use core::sync::atomic::{AtomicBool, Ordering};
use frames::frame::{Denied, Left, Taken};
use frames::table::Tables;
use frames::{Class, DomId, Entry, Frame, L4_RESERVED, Machine, Mfn};
use guest_abi::Errno;

/// The machine as `frames` sees it.
pub struct Ring0;

/// The one machine.
pub static RING0: Ring0 = Ring0;

/// Page tables of a domain.
pub fn tables(dom: DomId) -> Tables<'static, Ring0> {
    Tables::new(&RING0, dom)
}

/// Set where the CPU speculates through non-present entries (L1 terminal fault).
static L1TF: AtomicBool = AtomicBool::new(false);

/// Says whether non-present entries must not name memory.
pub fn set_l1tf(vulnerable: bool) {
    L1TF.store(vulnerable, Ordering::Relaxed);
}

impl Machine for Ring0 {
    #[inline]
    fn class(&self, mfn: Mfn) -> Class<'_> {
        frame_table::class(mfn)
    }

    fn may_map_io(&self, dom: DomId, mfn: Mfn) -> bool {
        domain::get(dom).is_some_and(|d| d.privileged) && !crate::device::is_ring0_only(mfn)
    }

    #[inline]
    fn read_entry(&self, table: Mfn, index: usize) -> Entry {
        Entry(phys::word(table, index).load(Ordering::Acquire))
    }

    #[inline]
    fn write_entry(&self, table: Mfn, index: usize, entry: Entry) {
        phys::word(table, index).store(entry.0, Ordering::Release);
    }

    #[inline]
    fn swap_entry(&self, table: Mfn, index: usize, new: Entry) -> Entry {
        Entry(phys::word(table, index).swap(new.0, Ordering::AcqRel))
    }

    #[inline]
    fn replace_entry(&self, table: Mfn, index: usize, old: Entry, new: Entry) -> Result<(), Entry> {
        phys::word(table, index)
            .compare_exchange(old.0, new.0, Ordering::AcqRel, Ordering::Acquire)
            .map(|_| ())
            .map_err(Entry)
    }

    fn init_root(&self, dom: DomId, root: Mfn) {
        let Some(domain) = domain::get(dom) else {
            return;
        };
        let ring0 = crate::arch::paging::root();
        for slot in L4_RESERVED {
            let private = PRIVATE_SLOTS.contains(&slot);
            let entry = if slot == FIRST_SLOT {
                phys::word(ring0, slot).load(Ordering::Relaxed)
            } else if slot == FIRST_SLOT + 1 {
                (domain.exposed_l3.0 * PAGE) | crate::arch::paging::bits::TABLE
            } else if private && !domain.isolated {
                phys::word(ring0, slot).load(Ordering::Relaxed)
            } else {
                0
            };
            phys::word(root, slot).store(entry, Ordering::Release);
        }
    }

    fn check_descriptors(&self, page: Mfn) -> bool {
        crate::hypercall::descriptor::check_page(page)
    }

    #[inline]
    fn flush_clock(&self) -> u32 {
        percpu::flush_clock()
    }

    #[inline]
    fn flush_since(&self, stamp: u32) {
        percpu::flush_since(stamp);
    }

    fn flush_upper(&self, dom: DomId) {
        if let Some(domain) = domain::get(dom) {
            // Before the old table can go: what was cached of the way to it is void.
            domain.generation.fetch_add(1, Ordering::AcqRel);
        }
        percpu::flush_here();
    }

    fn release(&self, mfn: Mfn) {
        if let Some(frame) = frame_table::get(mfn) {
            if let Some(owner) = domain::get(frame.snapshot().owner()) {
                owner.pages.fetch_sub(1, Ordering::AcqRel);
            }
            alloc::give(mfn);
        }
    }

    fn nonpresent_may_name_memory(&self) -> bool {
        !L1TF.load(Ordering::Relaxed)
    }
}

/// Shows or hides the machine-to-pseudophysical table in a root: user mode has no business with it.
pub fn show_m2p(root: Mfn, show: bool) {
    let entry = if show {
        phys::word(crate::arch::paging::root(), FIRST_SLOT).load(Ordering::Relaxed)
    } else {
        0
    };
    phys::word(root, FIRST_SLOT).store(entry, Ordering::Release);
}

/// Takes a frame of a domain's as writable memory, and flushes what translated it under another use (F5). To be given
/// back by [`drop_writable`].
pub fn hold_writable(dom: DomId, mfn: Mfn) -> Result<&'static Frame, Errno> {
    let Class::Ram(frame) = frame_table::class(mfn) else {
        return Err(Errno::Inval);
    };
    match frame.get_writable(Some(dom)) {
        Ok(Taken::Fresh { stamp, same: false }) => RING0.flush_since(stamp),
        Ok(_) => {}
        Err(Denied::NotYours) => return Err(Errno::Perm),
        Err(_) => return Err(Errno::Inval),
    }
    Ok(frame)
}

/// Gives a reference of [`hold_writable`] back.
pub fn drop_writable(frame: &Frame, mfn: Mfn) {
    if frame.put_type(RING0.flush_clock()) == Left::Nothing {
        RING0.release(mfn);
    }
}

/// Gives a general reference back.
pub fn drop_general(frame: &Frame, mfn: Mfn) {
    if frame.put(RING0.flush_clock()) == Left::Nothing {
        RING0.release(mfn);
    }
}

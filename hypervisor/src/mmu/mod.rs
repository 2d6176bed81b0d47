//! Guest page tables on the real machine: the rules of the crate `frames` bound to memory, flushes and domains.

pub mod audit;
mod device_write;
pub mod trapped;
pub mod work;

use crate::arch::percpu;
use crate::domain::{self, Domain, teardown};
use crate::layout::{FIRST_SLOT, PAGE, PRIVATE_SLOTS};
use crate::memory::phys::STEP;
use crate::memory::{alloc, frame_table, m2p, phys};
use crate::sync;
use core::sync::atomic::{AtomicBool, Ordering};
use frames::held::{General, Held, Sole, Table, Writable};
use frames::table::{Refused, Tables, UndoList, Validation};
use frames::{Class, DomId, Entry, L4_RESERVED, Level, Machine, Mfn};
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
        let permitted = |d: &Domain| d.privileged || d.may_reach_frames(&(mfn.0..=mfn.0));
        !crate::device::is_ring0_only(mfn) && domain::get(dom).is_some_and(permitted)
    }

    fn io_is_read_only(&self, mfn: Mfn) -> bool {
        crate::device::msi::is_table(mfn)
    }

    fn ring0_shows(&self, mfn: Mfn) -> bool {
        m2p::holds(mfn)
    }

    fn ring0_shows_of(&self, dom: DomId, mfn: Mfn) -> bool {
        domain::get(dom).is_some_and(|dom| dom.usage_area.holds(mfn))
    }

    #[inline]
    fn read_entry(&self, table: Mfn, index: usize) -> Entry {
        Entry(phys::word(table, index).load(Ordering::Acquire))
    }

    #[inline]
    fn each_entry<E>(
        &self,
        table: Mfn,
        from: usize,
        mut act: impl FnMut(usize, Entry) -> Result<(), E>,
    ) -> Result<(), E> {
        // Tables of processes are sparse: what is empty is passed in steps.
        let (steps, _) = phys::page(table).as_chunks::<STEP>();
        for (number, step) in steps.iter().enumerate().skip(from / STEP) {
            if !phys::any(step) {
                continue;
            }
            let base = number * STEP;
            let mut within = from.saturating_sub(base);
            while within < STEP {
                let entry = Entry(step[within].load(Ordering::Acquire));
                if entry != Entry::default() {
                    act(base + within, entry)?;
                }
                within += 1;
            }
        }
        Ok(())
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
        work::charge(work::DESCRIPTOR_PAGE);
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
        // This CPU's own too: what follows the clock's reading is newer than it.
        percpu::flush_since(percpu::flush_clock());
    }

    fn release(&self, mfn: Mfn) {
        if let Some(frame) = frame_table::get(mfn) {
            let owner = domain::get(frame.snapshot().owner());
            alloc::give(mfn);
            if let Some(owner) = owner {
                owner.pages.fetch_sub(1, Ordering::AcqRel);
                teardown::note_release(owner);
            }
        }
    }

    fn nonpresent_may_name_memory(&self) -> bool {
        !L1TF.load(Ordering::Relaxed)
    }

    fn budget(&self) -> u32 {
        work::left()
    }

    fn charge(&self, units: u32) {
        work::charge(i32::try_from(units).unwrap_or(i32::MAX));
    }

    fn keep(&self, validation: Validation) -> Option<Validation> {
        work::keep(validation)
    }

    fn resume(&self, dom: DomId, table: Mfn, level: Level) -> Option<Validation> {
        work::resume(dom, table, level)
    }

    fn met_busy(&self, dom: DomId) {
        percpu::current().busy.set(Some(dom));
    }

    fn undo_list(&self) -> &UndoList {
        work::undo_list()
    }

    fn undo_waits(&self) -> bool {
        work::undo_waits()
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

/// A frame of a domain's held as writable memory.
pub type HeldWritable = Held<'static, Ring0, Writable>;
/// A frame of a domain's held for whatever it is.
pub type HeldFrame = Held<'static, Ring0, General>;
/// A frame on its way from a domain to the allocator.
pub type SoleFrame = Sole<'static, Ring0>;
/// A root of a domain's.
pub type HeldRoot = Held<'static, Ring0, Table>;

/// A frame's other use may have to be flushed on other CPUs: nothing is locked (J2 of `crate::sync`).
const HELD: &str = "a frame is taken for a use";

/// Takes a frame of a domain's as writable memory.
///
/// # Errors
/// `-EPERM` for a frame that is another's, `-EINVAL` for what is no memory or in another use.
#[track_caller]
pub fn hold_writable(dom: DomId, mfn: Mfn) -> Result<HeldWritable, Errno> {
    sync::assert_none(HELD);
    tables(dom).hold(mfn, Writable).map_err(|why| match why {
        Refused::NotYours => Errno::Perm,
        Refused::Invalid | Refused::Busy | Refused::Unfinished => Errno::Inval,
    })
}

/// Takes a frame of a domain's, whatever it is used for.
///
/// # Errors
/// `-EINVAL` for what is no memory of the domain's.
pub fn hold(dom: DomId, mfn: Mfn) -> Result<HeldFrame, Errno> {
    tables(dom).hold(mfn, General).map_err(|_| Errno::Inval)
}

/// Takes a root of a domain's, validating it if need be.
///
/// # Errors
/// `-EINVAL` for what cannot be a root; `-EAGAIN` where the call is to be made again.
#[track_caller]
pub fn hold_root(dom: DomId, mfn: Mfn) -> Result<HeldRoot, Errno> {
    sync::assert_none(HELD);
    tables(dom)
        .hold(mfn, Table(Level::L4))
        .map_err(|refused| match refused {
            Refused::Busy | Refused::Unfinished => Errno::Again,
            Refused::Invalid | Refused::NotYours => Errno::Inval,
        })
}

/// Takes over a frame that was kept: it is given back when the value goes.
pub fn kept(dom: DomId, mfn: Mfn) -> HeldFrame {
    Held::kept(tables(dom), mfn, General)
}

/// As [`kept`], of one that was held as writable memory.
pub fn kept_writable(dom: DomId, mfn: Mfn) -> HeldWritable {
    Held::kept(tables(dom), mfn, Writable)
}

/// Takes over a root that was kept: it is given back when the value goes.
pub fn kept_root(dom: DomId, mfn: Mfn) -> HeldRoot {
    Held::kept(tables(dom), mfn, Table(Level::L4))
}

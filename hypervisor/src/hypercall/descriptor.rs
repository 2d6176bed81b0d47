//! Descriptor tables: the guest's GDT and LDT, made of frames of its own that it can no longer write.

use crate::arch::exposed;
use crate::arch::paging::bits;
use crate::domain::local::GDT_FRAMES;
use crate::domain::{Guest, exposed_area};
use crate::hypercall::mmu::with_writable;
use crate::hypercall::{Args, Outcome};
use crate::layout::{PAGE, guest_range_ok};
use crate::memory::{frame_table, phys};
use crate::mmu::{Ring0, tables};
use core::sync::atomic::Ordering;
use frames::held::{Descriptors, Held};
use frames::table::Tables;
use frames::{Class, FrameType, Mfn};
use guest_abi::Errno;
use spin::Once;

/// Descriptors in the guest's part of the table.
const MAX_ENTRIES: u64 = 14 * 512;
/// Descriptors in a local table.
const MAX_LDT: u32 = 8192;

const PRESENT: u64 = 1 << 47;
const DPL: u64 = 3 << 45;
const NOT_SYSTEM: u64 = 1 << 44;
const ACCESSED: u64 = 1 << 40;

/// What is stored for a descriptor, or `None` if a guest may not have it: code and data get privilege level 3; of the
/// system kind only call gates could make sense, and no stock kernel uses one.
pub fn checked(raw: u64) -> Option<u64> {
    if raw & PRESENT == 0 {
        // Not usable by the CPU; the type is not looked at.
        return Some(raw);
    }
    if raw & NOT_SYSTEM == 0 {
        return None;
    }
    // Conforming code would run at the caller's level whatever its own: the caller's is 3. Accessed already: the CPU
    // would note it in a page that it sees read-only.
    Some(raw | DPL | ACCESSED)
}

/// A page of absent descriptors, for the parts of a table that a guest does not fill: naming one is then its own
/// general protection fault, as beyond the end of a table.
pub fn empty_page() -> Mfn {
    static EMPTY: Once<Mfn> = Once::new();
    *EMPTY.call_once(|| {
        crate::memory::alloc::take_ring0().expect("first used while the first domain is built")
    })
}

/// Checks and normalises a page that is to become part of a table.
pub fn check_page(page: Mfn) -> bool {
    (0..512).all(|i| {
        let word = phys::word(page, i);
        match checked(word.load(Ordering::Relaxed)) {
            Some(good) => {
                word.store(good, Ordering::Relaxed);
                true
            }
            None => false,
        }
    })
}

/// `set_gdt(frames, entries)`.
pub fn set_gdt(g: &mut Guest<'_>, args: Args) -> Outcome {
    let (list, entries) = (args[0], args[1] & 0xffff_ffff);
    if entries > MAX_ENTRIES {
        return Err(Errno::Inval.into());
    }
    let count = entries.div_ceil(512) as usize;
    let mut bytes = [0u8; GDT_FRAMES * 8];
    g.memory().read(list, &mut bytes[..count * 8])?;
    let t = tables(g.dom.id);
    let mut new = [const { None }; GDT_FRAMES];
    for (place, word) in new.iter_mut().zip(bytes.chunks_exact(8)).take(count) {
        let mfn = Mfn(u64::from_le_bytes(word.try_into().unwrap_or_default()));
        *place = Some(t.hold(mfn, Descriptors).map_err(|_| Errno::Inval)?);
    }
    let old = core::mem::replace(&mut g.local.gdt, new.map(|held| held.map(Held::keep)));
    g.local.gdt_entries = entries as u32;
    for (i, frame) in g.local.gdt.iter().enumerate() {
        let va = g.vcpu.area + i as u64 * PAGE;
        // The tables for these addresses were made with the vCPU's first page, so none is missing.
        let _ = exposed_area::map(
            g.dom.exposed_l3,
            va,
            Some(frame.unwrap_or(empty_page())),
            bits::RO,
        );
    }
    crate::arch::percpu::flush_here();
    give_back(t, &old);
    Ok(0)
}

/// `update_descriptor(machine address, descriptor)`.
pub fn update_descriptor(g: &mut Guest<'_>, args: Args) -> Outcome {
    let (address, raw) = (args[0], args[1]);
    if !address.is_multiple_of(8) {
        return Err(Errno::Inval.into());
    }
    let good = checked(raw).ok_or(Errno::Inval)?;
    let mfn = Mfn(address / PAGE);
    let Class::Ram(frame) = frame_table::class(mfn) else {
        return Err(Errno::Inval.into());
    };
    let t = tables(g.dom.id);
    let word = phys::word(mfn, (address % PAGE / 8) as usize);
    if frame
        .get_if_valid(Some(g.dom.id), FrameType::Descriptors)
        .is_ok()
    {
        word.store(good, Ordering::Release);
        t.put_descriptors(mfn);
        return Ok(0);
    }
    // Not in use as a table yet: an ordinary page of the caller's.
    with_writable(g, mfn, || word.store(good, Ordering::Release)).map_err(|_| Errno::Inval)?;
    Ok(0)
}

/// `MMUEXT_SET_LDT`: pages come in when first used.
pub fn set_ldt(g: &mut Guest<'_>, base: u64, entries: u32) -> Result<(), Errno> {
    let good = entries <= MAX_LDT
        && base.is_multiple_of(PAGE)
        && (entries == 0 || guest_range_ok(base, u64::from(entries) * 8));
    if !good {
        return Err(Errno::Inval);
    }
    if entries == 0 && g.local.ldt_entries == 0 {
        return Ok(());
    }
    drop_ldt_pages(g);
    g.local.ldt_base = base;
    g.local.ldt_entries = entries;
    exposed::set_ldt(
        g.vcpu.own_descriptors,
        g.vcpu.area + exposed_area::LDT,
        entries,
    );
    exposed::load_ldt(entries);
    Ok(())
}

fn drop_ldt_pages(g: &mut Guest<'_>) {
    let t = tables(g.dom.id);
    let old = core::mem::take(&mut g.local.ldt);
    if old.iter().all(Option::is_none) {
        return;
    }
    for (i, frame) in old.iter().enumerate() {
        if frame.is_some() {
            let va = g.vcpu.area + exposed_area::LDT + i as u64 * PAGE;
            let _ = exposed_area::map(g.dom.exposed_l3, va, None, 0);
        }
    }
    crate::arch::percpu::flush_here();
    give_back(t, &old);
}

/// Ends the use of descriptor pages that a vCPU kept, once no CPU reaches them.
fn give_back(t: Tables<'static, Ring0>, old: &[Option<Mfn>]) {
    for mfn in old.iter().flatten() {
        drop(Held::kept(t, *mfn, Descriptors));
    }
}

/// What a fault of the CPU's own descriptor fetch was.
pub enum LdtFault {
    /// A page of the local table that is there now: the guest tries again.
    Served,
    /// The guest's table has no usable page there: its fault, at its own address.
    Guest(u64),
    /// Not in the window of the local table.
    Elsewhere,
}

/// A fault in the window of the local table: brings in the page the guest has there.
pub fn ldt_fault(g: &mut Guest<'_>, address: u64) -> LdtFault {
    let Some(offset) = address.checked_sub(g.vcpu.area + exposed_area::LDT) else {
        return LdtFault::Elsewhere;
    };
    if offset / 8 >= u64::from(g.local.ldt_entries) {
        return LdtFault::Elsewhere;
    }
    let its = g.local.ldt_base.wrapping_add(offset);
    // `ldt_entries` is at most 8192: sixteen pages.
    let index = (offset / PAGE) as usize;
    let Ok(mfn) = g.memory().frame(its) else {
        return LdtFault::Guest(its);
    };
    let t = tables(g.dom.id);
    if g.local.ldt[index].is_some() {
        return LdtFault::Guest(its);
    }
    let Ok(page) = t.hold(mfn, Descriptors) else {
        return LdtFault::Guest(its);
    };
    let va = g.vcpu.area + exposed_area::LDT + index as u64 * PAGE;
    if exposed_area::map(g.dom.exposed_l3, va, Some(mfn), bits::RO).is_err() {
        return LdtFault::Guest(its);
    }
    g.local.ldt[index] = Some(page.keep());
    LdtFault::Served
}

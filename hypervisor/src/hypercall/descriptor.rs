//! Descriptor tables: the guest's GDT and LDT, made of frames of its own that it can no longer write.

use crate::arch::exposed;
use crate::arch::paging::bits;
use crate::domain::local::GDT_FRAMES;
use crate::domain::{Domain, Guest, Local, Vcpu, exposed_area};
use crate::hypercall::mmu::with_writable;
use crate::hypercall::{Args, Outcome, Stop};
use crate::layout::{PAGE, guest_range_ok};
use crate::memory::{frame_table, phys};
use crate::mmu::{Ring0, tables, work};
use core::sync::atomic::Ordering;
use frames::held::{Descriptors, Held};
use frames::table::Tables;
use frames::{Class, FrameType, Mfn};
use guest_abi::{Errno, Wire};
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
    let mut frames = [0u64; GDT_FRAMES];
    for (frame, bytes) in frames.iter_mut().zip(bytes.chunks_exact(8)) {
        *frame = u64::read_from(bytes).unwrap_or(0);
    }
    let new = match Gdt::hold(g.dom, &frames, entries) {
        Err(Errno::Again) => return Err(Stop::Again(args)),
        other => other?,
    };
    new.install(g.vcpu, g.local);
    Ok(0)
}

/// A descriptor table whose frames are held: to be put in place or, with the value, given back.
#[must_use]
pub struct Gdt {
    dom: &'static Domain,
    frames: [Option<Held<'static, Ring0, Descriptors>>; GDT_FRAMES],
    entries: u32,
}

impl Gdt {
    /// Checks and holds the frames of a table of so many descriptors. `-EAGAIN`: the call is to be made again.
    pub fn hold(dom: &'static Domain, named: &[u64], entries: u64) -> Result<Gdt, Errno> {
        if entries > MAX_ENTRIES {
            return Err(Errno::Inval);
        }
        let mut frames = [const { None }; GDT_FRAMES];
        let t = tables(dom.id);
        // At most 14: `entries` was checked.
        let count = entries.div_ceil(512) as usize;
        for (place, mfn) in frames.iter_mut().zip(named).take(count) {
            let page =
                work::has_room_for(work::DESCRIPTOR_PAGE).then(|| t.hold(Mfn(*mfn), Descriptors));
            let Some(page) = page else {
                park(frames);
                return Err(Errno::Again);
            };
            *place = Some(page.map_err(|_| Errno::Inval)?);
        }
        Ok(Gdt {
            dom,
            frames,
            entries: entries as u32,
        })
    }

    /// Holds it until the call in hand is made again.
    pub fn park(self) {
        park(self.frames);
    }

    /// Makes it a vCPU's table, in place of the old one.
    pub fn install(self, vcpu: &Vcpu, local: &mut Local) {
        let new = self.frames.map(|held| held.map(Held::keep));
        let old = core::mem::replace(&mut local.gdt, new);
        local.gdt_entries = self.entries;
        for (i, frame) in local.gdt.iter().enumerate() {
            let va = vcpu.area + i as u64 * PAGE;
            // The tables for these addresses were made with the vCPU's first page, so none is missing.
            let _ = exposed_area::map(
                self.dom.exposed_l3,
                va,
                Some(frame.unwrap_or(empty_page())),
                bits::RO,
            );
        }
        crate::arch::percpu::flush_here();
        give_back(tables(self.dom.id), &old);
    }
}

/// What is checked so far is checked when the call is made again.
fn park(frames: [Option<Held<'static, Ring0, Descriptors>>; GDT_FRAMES]) {
    frames
        .into_iter()
        .flatten()
        .for_each(work::park_descriptors);
}

/// Takes a vCPU's tables away, which does not run: nothing of them is mapped for it any more, and nothing held.
pub fn clear(dom: &'static Domain, vcpu: &Vcpu, local: &mut Local) {
    let none = Gdt {
        dom,
        frames: [const { None }; GDT_FRAMES],
        entries: 0,
    };
    none.install(vcpu, local);
    drop_ldt_pages_of(dom, vcpu, local);
    name_ldt(vcpu, local, 0, 0);
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
    with_writable(g.dom.id, mfn, || word.store(good, Ordering::Release))
        .map_err(|_| Errno::Inval)?;
    Ok(0)
}

/// `MMUEXT_SET_LDT`: pages come in when first used.
pub fn set_ldt(g: &mut Guest<'_>, base: u64, entries: u32) -> Result<(), Errno> {
    if !ldt_ok(base, u64::from(entries)) {
        return Err(Errno::Inval);
    }
    if entries == 0 && g.local.ldt_entries == 0 {
        return Ok(());
    }
    drop_ldt_pages(g);
    name_ldt(g.vcpu, g.local, base, entries);
    exposed::load_ldt(entries);
    Ok(())
}

/// Whether a guest may have its local table there.
pub fn ldt_ok(base: u64, entries: u64) -> bool {
    entries <= u64::from(MAX_LDT)
        && base.is_multiple_of(PAGE)
        && (entries == 0 || guest_range_ok(base, entries * 8))
}

/// Records a vCPU's local table, of which no page is mapped.
pub fn name_ldt(vcpu: &Vcpu, local: &mut Local, base: u64, entries: u32) {
    local.ldt_base = base;
    local.ldt_entries = entries;
    let window = vcpu.area + exposed_area::LDT;
    exposed::set_ldt(vcpu.own_descriptors, window, entries);
}

/// Brings in the page of the local table that a selector is about to be loaded from, if it names one.
pub fn bring_in_ldt(g: &mut Guest<'_>, selector: u16) {
    const TABLE_INDICATOR: u16 = 4;
    let offset = u64::from(selector & !7);
    let there = g.local.ldt.get((offset / PAGE) as usize);
    if selector & TABLE_INDICATOR != 0 && there == Some(&None) {
        // Where there is none the load faults, and that is told.
        let _ = ldt_fault(g, g.vcpu.area + exposed_area::LDT + offset);
    }
}

fn drop_ldt_pages(g: &mut Guest<'_>) {
    drop_ldt_pages_of(g.dom, g.vcpu, g.local);
}

fn drop_ldt_pages_of(dom: &Domain, vcpu: &Vcpu, local: &mut Local) {
    let t = tables(dom.id);
    let old = core::mem::take(&mut local.ldt);
    if old.iter().all(Option::is_none) {
        return;
    }
    for (i, frame) in old.iter().enumerate() {
        if frame.is_some() {
            let va = vcpu.area + exposed_area::LDT + i as u64 * PAGE;
            let _ = exposed_area::map(dom.exposed_l3, va, None, 0);
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

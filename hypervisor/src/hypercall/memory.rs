//! Memory: reservations, maps of the machine, exchange for contiguous frames.

use crate::domain::{Domain, Guest};
use crate::hypercall::{Args, Outcome, Stop, is_self, subject};
use crate::layout::M2P_GUEST;
use crate::memory::{alloc, frame_table, m2p};
use crate::mmu::{HeldFrame, hold};
use crate::{boot, device};
use arrayvec::ArrayVec;
use core::sync::atomic::Ordering;
use frames::{DomId, Mfn};
use guest_abi::memory::{
    E820_RESERVED, E820Entry, MEMOP_CMD_MASK, MemoryOp, XenMachphysMapping, XenMemoryDomain,
    XenMemoryExchange, XenMemoryMap, XenMemoryReservation,
};
use guest_abi::{Errno, Wire};

/// Bits of the operation number above which a continued call keeps its progress.
const PROGRESS_SHIFT: u32 = 6;

/// `memory_op(op, arg)`.
pub fn memory_op(g: &mut Guest<'_>, args: Args) -> Outcome {
    let [op, arg, ..] = args;
    let start = op >> PROGRESS_SHIFT & 0xffff_ffff;
    match MemoryOp::from_number((op & MEMOP_CMD_MASK) as u32) {
        Some(MemoryOp::DecreaseReservation) => decrease(g, args, start),
        Some(MemoryOp::PopulatePhysmap | MemoryOp::IncreaseReservation) => populate(g, args, start),
        Some(MemoryOp::MaximumRamPage) => Ok(frame_table::end().saturating_sub(1)),
        Some(MemoryOp::CurrentReservation) => Ok(target(g, arg)?.pages.load(Ordering::Relaxed)),
        Some(MemoryOp::MaximumReservation) => Ok(target(g, arg)?.max_pages.load(Ordering::Relaxed)),
        Some(MemoryOp::MachineMemoryMap) => machine_map(g, arg),
        Some(MemoryOp::MachphysMapping) => {
            let max_mfn = frame_table::end().saturating_sub(1);
            let mapping = XenMachphysMapping {
                v_start: M2P_GUEST,
                v_end: (M2P_GUEST + (max_mfn + 1) * 8).next_multiple_of(2 << 20),
                max_mfn,
            };
            g.memory().put(arg, &mapping)?;
            Ok(0)
        }
        Some(MemoryOp::Exchange) => exchange(g, arg),
        _ => Err(Errno::NoSys.into()),
    }
}

fn target(g: &Guest<'_>, arg: u64) -> Result<&'static Domain, Stop> {
    let who: XenMemoryDomain = g.memory().value(arg)?;
    Ok(subject(g, who.domid)?)
}

fn reservation(g: &Guest<'_>, arg: u64) -> Result<XenMemoryReservation, Stop> {
    let r: XenMemoryReservation = g.memory().value(arg)?;
    if !is_self(g, r.domid) {
        return Err(if g.dom.privileged {
            Errno::Srch
        } else {
            Errno::Perm
        }
        .into());
    }
    if r.extent_order > alloc::MAX_ORDER || r.nr_extents > u64::from(u32::MAX) {
        return Err(Errno::Inval.into());
    }
    Ok(r)
}

fn again(args: Args, done: u64) -> Stop {
    let mut next = args;
    next[0] = args[0] & MEMOP_CMD_MASK | done << PROGRESS_SHIFT;
    Stop::Again(next)
}

/// Gives one frame of the caller's back: no mapping of it may be left.
fn give_up(dom: DomId, mfn: Mfn) -> bool {
    // A reference of our own keeps it alive while the owner's claim goes.
    hold(dom, mfn).is_ok_and(|frame| frame.disown())
}

fn decrease(g: &mut Guest<'_>, args: Args, start: u64) -> Outcome {
    let r = reservation(g, args[1])?;
    if r.extent_order != 0 {
        // Contiguity is not what a guest gives back; nothing stock asks for it.
        return Err(Errno::Inval.into());
    }
    for i in start..r.nr_extents {
        if !g.spend() {
            return Err(again(args, i));
        }
        let Ok(mfn) = g.memory().value::<u64>(r.extent_start.wrapping_add(i * 8)) else {
            return Ok(i);
        };
        if !give_up(g.dom.id, Mfn(mfn)) {
            return Ok(i);
        }
    }
    Ok(r.nr_extents)
}

fn populate(g: &mut Guest<'_>, args: Args, start: u64) -> Outcome {
    let r = reservation(g, args[1])?;
    let bits = match r.address_bits() {
        0 => 64,
        bits => bits,
    };
    if r.extent_order > 9 {
        // Up to 2 MiB at once: a longer zeroing would hold everybody up.
        return Err(Errno::Perm.into());
    }
    let increase = args[0] & MEMOP_CMD_MASK == u64::from(MemoryOp::IncreaseReservation.number());
    let frames = 1u64 << r.extent_order;
    for i in start..r.nr_extents {
        if !g.spend() {
            return Err(again(args, i));
        }
        let at = r.extent_start.wrapping_add(i * 8);
        let pfn = if increase && r.extent_start == 0 {
            0
        } else {
            match g.memory().value::<u64>(at) {
                Ok(pfn) if g.memory().check_writable(at, 8).is_ok() => pfn,
                _ => return Ok(i),
            }
        };
        let held = g.dom.pages.load(Ordering::Relaxed);
        if held + frames > g.dom.max_pages.load(Ordering::Relaxed) {
            return Ok(i);
        }
        let Some(first) = alloc::take(g.dom.id, r.extent_order, bits) else {
            return Ok(i);
        };
        g.dom.pages.fetch_add(frames, Ordering::AcqRel);
        g.charge(frames - 1);
        for n in 0..frames {
            let number = if increase {
                m2p::INVALID
            } else {
                pfn.wrapping_add(n)
            };
            m2p::set(Mfn(first.0 + n), number);
        }
        if r.extent_start != 0 {
            let _ = g.memory().put(at, &first.0);
        }
    }
    Ok(r.nr_extents)
}

/// The machine's map as the control domain may use it: with the interrupt controllers' pages reserved.
fn machine_map(g: &mut Guest<'_>, arg: u64) -> Outcome {
    if !g.dom.privileged {
        return Err(Errno::Perm.into());
    }
    let mut map: XenMemoryMap = g.memory().value(arg)?;
    let mut written = 0u32;
    let mut put = |start: u64, end: u64, kind: u32| -> Result<(), Stop> {
        if written < map.nr_entries && start < end {
            let entry = E820Entry {
                addr: start,
                size: end - start,
                kind,
            };
            let at = map
                .buffer
                .wrapping_add(u64::from(written) * E820Entry::SIZE as u64);
            g.memory().put(at, &entry)?;
            written += 1;
        }
        Ok(())
    };
    let controllers = device::controller_ranges();
    let mut next = 0;
    for region in boot::boot_info().memory.iter() {
        while let Some(&(start, end)) = controllers.get(next).filter(|c| c.0 < region.start) {
            put(start, end.min(region.start), E820_RESERVED)?;
            next += 1;
        }
        while controllers.get(next).is_some_and(|c| c.0 < region.end) {
            next += 1;
        }
        put(region.start, region.end, region.kind.e820())?;
    }
    for &(start, end) in controllers.get(next..).unwrap_or_default() {
        put(start, end, E820_RESERVED)?;
    }
    map.nr_entries = written;
    g.memory().put(arg, &map)?;
    Ok(0)
}

/// Most frames one exchange may touch before it must be split: what stock kernels ask for (2^9).
const MAX_EXCHANGE: u64 = 1 << 9;

/// Exchanges frames: N of one order against one (or more) of another, all or nothing per extent.
fn exchange(g: &mut Guest<'_>, arg: u64) -> Outcome {
    let mut x: XenMemoryExchange = g.memory().value(arg)?;
    let (give, get) = (x.give, x.get);
    let good = is_self(g, give.domid)
        && is_self(g, get.domid)
        && give.extent_order <= 9
        && get.extent_order <= 9
        && x.nr_exchanged <= give.nr_extents
        && give.nr_extents <= MAX_EXCHANGE
        && get.nr_extents <= MAX_EXCHANGE
        && give.nr_extents << give.extent_order == get.nr_extents << get.extent_order
        && give.nr_extents << give.extent_order <= MAX_EXCHANGE;
    if !good {
        return Err(Errno::Inval.into());
    }
    if !g.dom.privileged && get.extent_order > 0 {
        return Err(Errno::Perm.into());
    }
    g.memory().check_writable(arg, XenMemoryExchange::SIZE)?;
    if x.nr_exchanged == give.nr_extents {
        return Ok(0);
    }
    let bits = match get.address_bits() {
        0 => 64,
        bits => bits,
    };
    // Clearing the new frames is most of the work, and a list of calls may have many exchanges.
    g.charge(give.nr_extents << give.extent_order);
    let swapped = swap_frames(g, &give, &get, bits);
    x.nr_exchanged = if swapped.is_ok() { give.nr_extents } else { 0 };
    g.memory().put(arg, &x)?;
    swapped.map(|()| 0).map_err(Stop::Refused)
}

fn swap_frames(
    g: &mut Guest<'_>,
    give: &XenMemoryReservation,
    get: &XenMemoryReservation,
    bits: u32,
) -> Result<(), Errno> {
    let memory = g.memory();
    let dom = g.dom.id;
    let word = |list: u64, i: u64| memory.value::<u64>(list.wrapping_add(i * 8));
    // Check: every frame given is the caller's and nowhere mapped (only its claim and our reference are left). The
    // list is read once: it may lie where our own accesses change it (accessed bits of an entry), and what is given
    // up must be what was checked.
    let mut held = ArrayVec::<HeldFrame, { MAX_EXCHANGE as usize }>::new();
    let total = give.nr_extents << give.extent_order;
    let given = |n: u64| -> Result<Mfn, Errno> {
        let base = word(give.extent_start, n >> give.extent_order)?;
        Ok(Mfn(base.wrapping_add(n & ((1 << give.extent_order) - 1))))
    };
    for n in 0..total {
        held.try_push(given(n).and_then(|mfn| hold_unmapped(dom, mfn))?)
            .map_err(|_| Errno::Inval)?;
    }
    let mut fresh = [Mfn(0); MAX_EXCHANGE as usize];
    let mut count = 0usize;
    let mut problem = None;
    for i in 0..get.nr_extents {
        let at = get.extent_start.wrapping_add(i * 8);
        let extent = memory
            .check_writable(at, 8)
            .map_err(Errno::from)
            .and_then(|()| alloc::take(dom, get.extent_order, bits).ok_or(Errno::NoMem));
        match extent {
            Ok(first) => {
                fresh[count] = first;
                count += 1;
            }
            Err(errno) => {
                problem = Some(errno);
                break;
            }
        }
    }
    if let Some(errno) = problem {
        for first in &fresh[..count] {
            for n in 0..1u64 << get.extent_order {
                give_up(dom, Mfn(first.0 + n));
                g.dom.pages.fetch_add(1, Ordering::AcqRel);
            }
        }
        return Err(errno);
    }
    // Commit: the old frames go, the new ones take the numbers the caller gave.
    for (i, first) in fresh[..count].iter().enumerate() {
        let at = get.extent_start.wrapping_add(i as u64 * 8);
        let pfn = memory.value::<u64>(at).unwrap_or(m2p::INVALID);
        for n in 0..1u64 << get.extent_order {
            m2p::set(Mfn(first.0 + n), pfn.wrapping_add(n));
        }
    }
    let added = (count as u64) << get.extent_order;
    g.dom.pages.fetch_add(added, Ordering::AcqRel);
    for frame in held {
        frame.disown();
    }
    for (i, first) in fresh[..count].iter().enumerate() {
        let _ = memory.put(get.extent_start.wrapping_add(i as u64 * 8), &first.0);
    }
    Ok(())
}

/// Takes a reference on a frame that must have no use but its owner's claim.
fn hold_unmapped(dom: DomId, mfn: Mfn) -> Result<HeldFrame, Errno> {
    let frame = hold(dom, mfn)?;
    frame.is_sole_use().then_some(frame).ok_or(Errno::Inval)
}

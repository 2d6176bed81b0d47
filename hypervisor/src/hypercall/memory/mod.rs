//! Memory: reservations, maps of the machine, exchange for contiguous frames.

mod exchange;
mod maps;

use crate::domain::{Domain, Guest};
use crate::hypercall::{Args, Outcome, Stop, is_self, subject};
use crate::memory::{alloc, frame_table, m2p};
use crate::mmu::hold;
use core::sync::atomic::Ordering;
use frames::{DomId, Mfn};
use guest_abi::Errno;
use guest_abi::memory::{MEMOP_CMD_MASK, MemoryOp, XenMemoryDomain, XenMemoryReservation};

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
        Some(MemoryOp::MachineMemoryMap) => maps::machine_map(g, arg),
        Some(MemoryOp::MachphysMfnList) => maps::machphys_frames(g, arg),
        Some(MemoryOp::MachphysMapping) => maps::machphys_mapping(g, arg),
        Some(MemoryOp::Exchange) => exchange::exchange(g, arg),
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

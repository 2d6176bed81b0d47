//! Frames given to a domain and taken back, and memory set aside for it.
//!
//! A continued call keeps its progress in the operation's number: extents of what is populated, frames of what is given
//! up. Clearing frames is most of the work of populating; an extent that is cleared in several parts stays free until it
//! is clean (`memory::alloc`), so that nothing but the number of extents has to be remembered.

use super::again;
use crate::arch::percpu;
use crate::domain::{Domain, Guest};
use crate::hypercall::{Args, Outcome, Stop, subject};
use crate::memory::alloc::{self, Shortage};
use crate::memory::m2p;
use crate::mmu::hold;
use frames::{DomId, Mfn};
use guest_abi::Errno;
use guest_abi::memory::{MEMOP_CMD_MASK, MemoryOp, XenMemoryReservation};

/// Largest extent: 2 MiB.
const MAX_ORDER: u32 = 9;
/// Units of work that clearing a frame is.
pub const CLEAR_UNITS: u32 = 7;
/// Units of work that giving up a frame is, on top of what an element of a list is: it joins its free neighbours.
const GIVE_UP_UNITS: u64 = 4;
/// Units of work that an extent is, whatever its size, on top of what an element of a list is.
const EXTENT_UNITS: u64 = 6;
/// Order of extents that are handed over with interrupts let in between looking at the frames, giving them to the domain
/// and naming them in the M2P.
pub(super) const LARGE: u32 = 7;
/// Frames that are looked at, and frames that are named, in a unit of work.
const LOOKED_AT: u64 = 16;
const NAMED: u64 = 8;
/// Frames whose handing over, once they are clean, is a unit of work.
const HANDED_OVER: u64 = 4;

/// What a call asks for, and for whom.
fn reservation(g: &Guest<'_>, arg: u64) -> Result<(XenMemoryReservation, &'static Domain), Stop> {
    let r: XenMemoryReservation = g.memory().value(arg)?;
    let dom = subject(g, r.domid)?;
    if r.extent_order > alloc::MAX_ORDER || r.nr_extents > u64::from(u32::MAX) {
        return Err(Errno::Inval.into());
    }
    if r.extent_order > MAX_ORDER {
        return Err(Errno::Perm.into());
    }
    Ok((r, dom))
}

/// Gives one frame of a domain's back. Where it is still mapped it goes with the last mapping.
pub(super) fn give_up(dom: DomId, mfn: Mfn) -> bool {
    // A reference of our own keeps it alive while the owner's claim goes.
    hold(dom, mfn).is_ok_and(|frame| frame.disown())
}

/// `decrease_reservation`: the result is the number of extents that are gone.
pub(super) fn decrease(g: &mut Guest<'_>, args: Args, start: u64) -> Outcome {
    let (r, dom) = reservation(g, args[1])?;
    let order = r.extent_order;
    let all = r.nr_extents << order;
    for done in start..all {
        if !g.spend() {
            return Err(again(args, done));
        }
        let extent = done >> order;
        let at = r.extent_start.wrapping_add(extent * 8);
        let Ok(first) = g.memory().value::<u64>(at) else {
            return Ok(extent);
        };
        g.charge(GIVE_UP_UNITS);
        if !give_up(dom.id, Mfn(first.wrapping_add(done & ((1 << order) - 1)))) {
            return Ok(extent);
        }
    }
    Ok(r.nr_extents)
}

/// Frames that may be cleared before interrupts are let in: at least one, or there would be no progress.
pub(super) fn clearable() -> u32 {
    let left = u32::try_from(percpu::current().budget.get()).unwrap_or(0);
    (left / CLEAR_UNITS).max(1)
}

/// `populate_physmap` and `increase_reservation`: the result is the number of extents that there are now. Of the flags the
/// number of address bits counts: there is one node, and memory is there at once or not at all.
pub(super) fn populate(g: &mut Guest<'_>, args: Args, start: u64) -> Outcome {
    let (r, dom) = reservation(g, args[1])?;
    let bits = match r.address_bits() {
        0 => 64,
        bits => bits,
    };
    let increase = args[0] & MEMOP_CMD_MASK == u64::from(MemoryOp::IncreaseReservation.number());
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
        let first = match new_extent(g, dom, r.extent_order, bits) {
            Ok(first) => first,
            Err(Shortage::NotClean) => return Err(again(args, i)),
            Err(Shortage::NoMemory) => return Ok(i),
        };
        if r.extent_order >= LARGE {
            g.let_others_in();
        }
        if !increase {
            m2p::set_block(first, r.extent_order, pfn);
            g.charge((1 << r.extent_order) / NAMED);
        }
        if r.extent_start != 0 {
            let _ = g.memory().put(at, &first.0);
        }
    }
    Ok(r.nr_extents)
}

/// New clean frames of a domain's, within what it may have.
fn new_extent(g: &mut Guest<'_>, dom: &Domain, order: u32, bits: u32) -> Result<Mfn, Shortage> {
    let frames = 1 << order;
    if !dom.grow(frames) {
        return Err(Shortage::NoMemory);
    }
    g.charge(frames / LOOKED_AT);
    let may_clear = clearable();
    let mut left = may_clear;
    let reserved = alloc::reserve(order, bits, Some(&dom.allotment.claim), &mut left);
    let cleared = may_clear - left;
    g.charge(u64::from(CLEAR_UNITS * cleared) + EXTENT_UNITS);
    match reserved {
        Ok(reserved) => {
            if order >= LARGE {
                // They are nobody's here, and nothing is locked.
                g.let_others_in();
            }
            g.charge(frames / HANDED_OVER);
            Ok(reserved.assign_in_parts(dom.id, || g.let_others_in()))
        }
        Err(shortage) => {
            dom.shrink(frames);
            Err(shortage)
        }
    }
}

/// `claim_pages`: so many frames in all, those it has among them, are to be had by this domain; 0 ends the claim.
pub(super) fn claim(g: &mut Guest<'_>, arg: u64, start: u64) -> Outcome {
    if start != 0 {
        return Err(Errno::Inval.into());
    }
    if !g.dom.privileged {
        return Err(Errno::Perm.into());
    }
    let r: XenMemoryReservation = g.memory().value(arg)?;
    if r.extent_start != 0 || r.extent_order != 0 || r.mem_flags != 0 {
        return Err(Errno::Inval.into());
    }
    subject(g, r.domid)?.claim(r.nr_extents)?;
    Ok(0)
}

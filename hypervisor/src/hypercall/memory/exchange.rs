//! Exchange of frames for others: single ones for contiguous ones, or for some that a device can reach.

use crate::domain::Guest;
use crate::hypercall::memory::give_up;
use crate::hypercall::{Outcome, Stop, is_self};
use crate::memory::{alloc, m2p};
use crate::mmu::{HeldFrame, hold};
use arrayvec::ArrayVec;
use core::sync::atomic::Ordering;
use frames::{DomId, Mfn};
use guest_abi::memory::{XenMemoryExchange, XenMemoryReservation};
use guest_abi::{Errno, Wire};

/// Most frames one exchange may touch before it must be split: what stock kernels ask for (2^9).
const MAX_EXCHANGE: u64 = 1 << 9;

/// Exchanges frames: N of one order against one (or more) of another, all or nothing per extent.
pub(super) fn exchange(g: &mut Guest<'_>, arg: u64) -> Outcome {
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

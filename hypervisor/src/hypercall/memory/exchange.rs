//! Exchange of frames for others: single ones for contiguous ones, or for some that a device can reach.

use super::reservation::{CLEAR_UNITS, clearable};
use crate::domain::Guest;
use crate::hypercall::{Args, Outcome, Stop, subject};
use crate::memory::alloc::{self, Reserved, Shortage};
use crate::memory::m2p;
use crate::mmu::{HeldFrame, hold};
use arrayvec::ArrayVec;
use core::sync::atomic::Ordering;
use frames::{DomId, Mfn};
use guest_abi::memory::{XenMemoryExchange, XenMemoryReservation};
use guest_abi::{Errno, Wire};

/// Most frames one exchange may touch before it must be split: what stock kernels ask for (2^9).
const MAX_EXCHANGE: u64 = 1 << 9;

/// Exchanges frames: N of one order against one (or more) of another, all or nothing per extent.
pub(super) fn exchange(g: &mut Guest<'_>, args: Args) -> Outcome {
    let arg = args[1];
    let mut x: XenMemoryExchange = g.memory().value(arg)?;
    let (give, get) = (x.give, x.get);
    let good = give.domid == get.domid
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
    // Nobody asks for it on behalf of another.
    if subject(g, give.domid)?.id != g.dom.id {
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
    let swapped = swap_frames(g, &give, &get, bits);
    if matches!(swapped, Err(Stop::Again(_))) {
        return Err(Stop::Again(args));
    }
    x.nr_exchanged = if swapped.is_ok() { give.nr_extents } else { 0 };
    g.memory().put(arg, &x)?;
    swapped.map(|()| 0)
}

/// Frames that came from the free ones, not yet the domain's.
type Fresh = ArrayVec<Reserved<'static>, { MAX_EXCHANGE as usize }>;

/// New frames, or the need to go on clearing some: what was cleared stays clean among the free ones.
fn fresh_frames(g: &mut Guest<'_>, get: &XenMemoryReservation, bits: u32) -> Result<Fresh, Stop> {
    let may_clear = clearable();
    let mut left = may_clear;
    let mut fresh = Fresh::new();
    let mut refused = None;
    for i in 0..get.nr_extents {
        let at = get.extent_start.wrapping_add(i * 8);
        if g.memory().check_writable(at, 8).is_err() {
            refused = Some(Stop::Refused(Errno::Fault));
            break;
        }
        match alloc::reserve(get.extent_order, bits, None, &mut left) {
            // As many fit as were asked for at most.
            Ok(extent) => fresh.try_push(extent).map_err(|_| Errno::Inval)?,
            Err(Shortage::NotClean) => {
                refused = Some(Stop::Again(Args::default()));
                break;
            }
            Err(Shortage::NoMemory) => {
                refused = Some(Stop::Refused(Errno::NoMem));
                break;
            }
        }
    }
    g.charge(u64::from(CLEAR_UNITS * (may_clear - left)) + fresh.len() as u64 / 2);
    match refused {
        None => Ok(fresh),
        Some(stop) => {
            // In the order opposite to that in which they came, so that they come in the same order again.
            while fresh.pop().is_some() {}
            Err(stop)
        }
    }
}

fn swap_frames(
    g: &mut Guest<'_>,
    give: &XenMemoryReservation,
    get: &XenMemoryReservation,
    bits: u32,
) -> Result<(), Stop> {
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
    g.charge(total / 2);
    let fresh = fresh_frames(g, get, bits)?;
    // Commit: the old frames go, the new ones take the numbers the caller gave. Nothing else may grow into the gap.
    let _growth = g.dom.hold_growth();
    for frame in held {
        frame.disown();
    }
    let added = (fresh.len() as u64) << get.extent_order;
    g.dom.pages.fetch_add(added, Ordering::AcqRel);
    for (i, extent) in fresh.into_iter().enumerate() {
        let at = get.extent_start.wrapping_add(i as u64 * 8);
        let first = extent.assign(dom);
        let pfn = memory.value::<u64>(at).unwrap_or(m2p::INVALID);
        m2p::set_block(first, get.extent_order, pfn);
        let _ = memory.put(at, &first.0);
    }
    Ok(())
}

/// Takes a reference on a frame that must have no use but its owner's claim.
fn hold_unmapped(dom: DomId, mfn: Mfn) -> Result<HeldFrame, Errno> {
    let frame = hold(dom, mfn)?;
    frame.is_sole_use().then_some(frame).ok_or(Errno::Inval)
}

//! Exchange of frames for others: single ones for contiguous ones, or for some that a device can reach.
//!
//! It is done a piece at a time, the fewest extents that are as many frames on both sides; how many were traded stands in
//! the caller's structure, from where the call goes on when it is made again. A piece is all or nothing: what is held and
//! taken for one cannot wait for another call. So within a large one interrupts are let in where a section ends, and
//! another vCPU runs only between one call's clearing of some of the new frames and the next's.
//!
//! # Invariants
//! - X1: frames that go are taken from their owner before new ones are looked for, each in one step, so that no other vCPU
//!   maps one that counts as gone. They come back where it is to no avail.
//! - X2: the domain's count of frames stays as it is: as many come as go, and nothing of that is to be seen meanwhile (G1
//!   of `domain::allotment`).

use super::reservation::{CLEAR_UNITS, LARGE, clearable};
use crate::domain::Guest;
use crate::hypercall::{Args, Outcome, Stop, subject};
use crate::memory::alloc::{self, Reserved, Shortage};
use crate::memory::m2p;
use crate::mmu::{SoleFrame, tables};
use arrayvec::ArrayVec;
use frames::Mfn;
use guest_abi::memory::{XenMemoryExchange, XenMemoryReservation};
use guest_abi::{Errno, Wire};

/// Most frames of one exchange: what stock kernels ask for (2^9).
const MAX_EXCHANGE: u64 = 1 << 9;

/// Exchanges frames: N of one order against one (or more) of another, all or nothing per piece.
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
    // Extents of a piece.
    let gives = 1 << get.extent_order.saturating_sub(give.extent_order);
    let gets = 1 << give.extent_order.saturating_sub(get.extent_order);
    if !x.nr_exchanged.is_multiple_of(gives) {
        return Err(Errno::Inval.into());
    }
    let (mut held, mut fresh) = (Given::new(), Fresh::new());
    let outcome = loop {
        let piece = x.nr_exchanged / gives;
        let part = |of: &XenMemoryReservation, extents: u64| XenMemoryReservation {
            extent_start: of.extent_start.wrapping_add(piece * extents * 8),
            nr_extents: extents,
            ..*of
        };
        let (given, got) = (part(&give, gives), part(&get, gets));
        let swapped = swap_frames(g, &given, &got, bits, (&mut held, &mut fresh));
        if let Err(stop) = swapped {
            let_go(g, &mut fresh);
            let_go(g, &mut held);
            break Err(stop);
        }
        x.nr_exchanged += gives;
        if x.nr_exchanged == give.nr_extents {
            break Ok(0);
        }
        if !g.spend() {
            break Err(Stop::Again(args));
        }
    };
    g.memory().put(arg, &x)?;
    match outcome {
        Err(Stop::Again(_)) => Err(Stop::Again(args)),
        other => other,
    }
}

/// Frames that came from the free ones, not yet the domain's.
type Fresh = ArrayVec<Reserved<'static>, { MAX_EXCHANGE as usize }>;
/// Frames that are to go (X1).
type Given = ArrayVec<SoleFrame, { MAX_EXCHANGE as usize }>;

/// Sections in which frames are cleared before another vCPU may run.
const CLEARING: u32 = 4;
/// Units of giving a frame back, and of taking a new one, on top of what an element of a list is.
const FRAME_UNITS: u64 = 10;

/// Lets go of a list's elements, the last first: so that they come in the same order again.
fn let_go<T, const N: usize>(g: &mut Guest<'_>, list: &mut ArrayVec<T, N>) {
    while list.pop().is_some() {
        g.spend_here();
        g.charge(FRAME_UNITS);
    }
}

/// New frames, or the need to go on clearing some: what was cleared stays clean among the free ones.
fn fresh_frames(
    g: &mut Guest<'_>,
    get: &XenMemoryReservation,
    bits: u32,
    fresh: &mut Fresh,
) -> Result<(), Stop> {
    let mut sections = CLEARING;
    for i in 0..get.nr_extents {
        g.spend_here();
        let at = get.extent_start.wrapping_add(i * 8);
        if g.memory().check_writable(at, 8).is_err() {
            return Err(Errno::Fault.into());
        }
        let reserved = loop {
            let may_clear = clearable();
            let mut left = may_clear;
            let reserved = alloc::reserve(get.extent_order, bits, None, &mut left);
            g.charge(u64::from(CLEAR_UNITS * (may_clear - left)));
            match reserved {
                Err(Shortage::NotClean) if sections != 0 => sections -= 1,
                other => break other,
            }
            g.let_others_in();
        };
        if get.extent_order >= LARGE {
            // All its frames were looked at.
            g.let_others_in();
        }
        match reserved {
            // As many fit as were asked for at most.
            Ok(extent) => fresh.try_push(extent).map_err(|_| Errno::Inval)?,
            Err(Shortage::NotClean) => return Err(Stop::Again(Args::default())),
            Err(Shortage::NoMemory) => return Err(Errno::NoMem.into()),
        }
    }
    Ok(())
}

/// Exchanges a piece. Where it comes to nothing, what is left in the lists is to be let go.
fn swap_frames(
    g: &mut Guest<'_>,
    give: &XenMemoryReservation,
    get: &XenMemoryReservation,
    bits: u32,
    (held, fresh): (&mut Given, &mut Fresh),
) -> Result<(), Stop> {
    let memory = g.memory();
    let dom = g.dom.id;
    let word = |list: u64, i: u64| memory.value::<u64>(list.wrapping_add(i * 8));
    // Check: every frame given is the caller's and nowhere mapped: nothing but its claim is left. The list is read once:
    // it may lie where our own accesses change it (accessed bits of an entry), and what is given up must be what was
    // checked.
    let total = give.nr_extents << give.extent_order;
    let given = |n: u64| -> Result<Mfn, Errno> {
        let base = word(give.extent_start, n >> give.extent_order)?;
        Ok(Mfn(base.wrapping_add(n & ((1 << give.extent_order) - 1))))
    };
    for n in 0..total {
        g.spend_here();
        // As many fit as were asked for at most.
        let frame = tables(dom).take_sole(given(n)?).map_err(|_| Errno::Inval)?;
        held.try_push(frame).map_err(|_| Errno::Inval)?;
    }
    fresh_frames(g, get, bits, fresh)?;
    // Commit: the old frames go, the new ones take the numbers the caller gave (X2).
    for frame in held.drain(..) {
        g.spend_here();
        g.charge(FRAME_UNITS);
        alloc::give(frame.give_up());
    }
    for (i, extent) in fresh.drain(..).enumerate() {
        g.spend_here();
        g.charge(FRAME_UNITS);
        let at = get.extent_start.wrapping_add(i as u64 * 8);
        if get.extent_order >= LARGE {
            g.let_others_in();
        }
        let first = extent.assign_in_parts(dom, || g.let_others_in());
        let pfn = memory.value::<u64>(at).unwrap_or(m2p::INVALID);
        m2p::set_block(first, get.extent_order, pfn);
        let _ = memory.put(at, &first.0);
    }
    Ok(())
}

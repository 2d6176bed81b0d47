//! The frame allocator: buddies of 2^0 to 2^18 frames, kept apart by the number of address bits they need, so
//! that devices with short addresses can be served.
//!
//! # Invariants
//! - B1: a frame is in the free structure if and only if it is the head of a listed block, or inside one; heads
//!   have `order` = block order + 1, all other frames 0.
//! - B2: a block of order k starts at a multiple of 2^k and lies in one zone.
//! - B3: every frame in a free block has no reference (F3) and owner nobody.
//!
//! Bounded: an allocation looks at most at `ZONES * ORDERS` list heads; a free merges at most `ORDERS` times.
//! Frames that a domain gets are put on its list (`memory/owned.rs`), and taken off when they come back.
//! Lock: `FREE`, innermost; nothing else is taken while it is held.

use crate::arch::percpu;
use crate::domain;
use crate::memory::owned::List;
use crate::memory::{frame_table, m2p, phys};
use core::sync::atomic::Ordering::Relaxed;
use frames::{DomId, Frame, Mfn};
use spin::mutex::SpinMutex;

/// Largest block: 2^18 frames, 1 GiB.
pub const MAX_ORDER: u32 = 18;
const ORDERS: usize = MAX_ORDER as usize + 1;
const ZONES: usize = 33;
const NIL: u32 = u32::MAX;

struct Free {
    heads: [[u32; ORDERS]; ZONES],
    /// Per zone, a bit per order with a non-empty list.
    some: [u32; ZONES],
    frames: u64,
}

static FREE: SpinMutex<Free> = SpinMutex::new(Free {
    heads: [[NIL; ORDERS]; ZONES],
    some: [0; ZONES],
    frames: 0,
});

/// Zone of a frame: how many bits its number has.
fn zone_of(mfn: u64) -> usize {
    (64 - mfn.leading_zeros()) as usize
}

fn record(mfn: u32) -> &'static Frame {
    frame_table::get(Mfn(u64::from(mfn))).expect("B1: listed frames are described")
}

impl Free {
    fn push(&mut self, mfn: u32, order: u32) {
        let zone = zone_of(u64::from(mfn));
        let frame = record(mfn);
        let head = &mut self.heads[zone][order as usize];
        frame.order.store(order + 1, Relaxed);
        frame.prev.store(NIL, Relaxed);
        frame.next.store(*head, Relaxed);
        if *head != NIL {
            record(*head).prev.store(mfn, Relaxed);
        }
        *head = mfn;
        self.some[zone] |= 1 << order;
    }

    fn unlink(&mut self, mfn: u32, order: u32) {
        let zone = zone_of(u64::from(mfn));
        let frame = record(mfn);
        let (prev, next) = (frame.prev.load(Relaxed), frame.next.load(Relaxed));
        if prev == NIL {
            self.heads[zone][order as usize] = next;
            if next == NIL {
                self.some[zone] &= !(1 << order);
            }
        } else {
            record(prev).next.store(next, Relaxed);
        }
        if next != NIL {
            record(next).prev.store(prev, Relaxed);
        }
        frame.order.store(0, Relaxed);
    }

    fn insert(&mut self, mut mfn: u32, mut order: u32) {
        self.frames += 1 << order;
        while order < MAX_ORDER {
            let buddy = mfn ^ (1 << order);
            let mergeable = zone_of(u64::from(buddy)) == zone_of(u64::from(mfn))
                && frame_table::get(Mfn(u64::from(buddy)))
                    .is_some_and(|f| f.order.load(Relaxed) == order + 1);
            if !mergeable {
                break;
            }
            self.unlink(buddy, order);
            mfn &= buddy;
            order += 1;
        }
        self.push(mfn, order);
    }

    fn take(&mut self, order: u32, max_zone: usize) -> Option<u32> {
        for zone in (0..=max_zone.min(ZONES - 1)).rev() {
            let fitting = self.some[zone] >> order;
            if fitting == 0 {
                continue;
            }
            let mut have = order + fitting.trailing_zeros();
            let mfn = self.heads[zone][have as usize];
            self.unlink(mfn, have);
            while have > order {
                have -= 1;
                self.push(mfn + (1 << have), have);
            }
            self.frames -= 1 << order;
            return Some(mfn);
        }
        None
    }
}

/// Gives frames to the allocator for the first time: usable memory found at boot.
pub fn add_range(first: u64, end: u64) {
    let mut mfn = first.max(1);
    while mfn < end.min(u64::from(NIL)) {
        let align = mfn.trailing_zeros().min(MAX_ORDER);
        let fit = (end - mfn).ilog2();
        let order = align.min(fit);
        for m in mfn..mfn + (1 << order) {
            if let Some(frame) = frame_table::get(Mfn(m)) {
                frame.reset();
            }
        }
        FREE.lock().insert(mfn as u32, order);
        mfn += 1 << order;
    }
}

/// Frames free.
pub fn free_frames() -> u64 {
    FREE.lock().frames
}

/// Takes 2^order contiguous frames whose addresses fit `address_bits`, assigned to `owner` with one general
/// reference each, zeroed. O(order) plus the zeroing.
pub fn take(owner: DomId, order: u32, address_bits: u32) -> Option<Mfn> {
    let first = take_raw(owner, order, address_bits)?;
    for m in first.0..first.0 + (1 << order) {
        phys::zero_frame(Mfn(m));
    }
    Some(first)
}

/// As [`take`], contents left as they are: for callers that overwrite every byte at once.
pub fn take_raw(owner: DomId, order: u32, address_bits: u32) -> Option<Mfn> {
    if order > MAX_ORDER {
        return None;
    }
    let max_zone = (address_bits.saturating_sub(12) as usize).min(ZONES - 1);
    let first = u64::from(FREE.lock().take(order, max_zone)?);
    let its = domain::get(owner);
    for m in first..first + (1 << order) {
        if let Some(frame) = frame_table::get(Mfn(m)) {
            // F5: the last owner's translations end before the next owner begins.
            percpu::flush_since(frame.stamp());
            let assigned = frame.assign(owner);
            assert!(assigned, "B3: a listed frame was not free");
        }
        if let Some(its) = its {
            its.frames.lock().insert(Mfn(m), List::Live);
        }
    }
    Some(Mfn(first))
}

/// Takes one frame for ring 0 itself.
pub fn take_ring0() -> Option<Mfn> {
    take(DomId::RING0, 0, 64)
}

/// Gives back a frame whose last reference is gone.
pub fn give(mfn: Mfn) {
    if let Some(frame) = frame_table::get(mfn) {
        if let Some(owner) = domain::get(frame.snapshot().owner()) {
            owner.frames.lock().remove(mfn);
        }
        frame.retire();
        m2p::set(mfn, m2p::INVALID);
        FREE.lock().insert(mfn.0 as u32, 0);
    }
}

/// Gives back a frame of ring 0's own.
pub fn give_ring0(mfn: Mfn) {
    if let Some(frame) = frame_table::get(mfn) {
        frame.disown();
        if frame.put(percpu::flush_clock()) == frames::frame::Left::Nothing {
            give(mfn);
        }
    }
}

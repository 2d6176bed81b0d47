//! The frame allocator: buddies of 2^0 to 2^18 frames, kept apart by the number of address bits they need, so
//! that devices with short addresses can be served.
//!
//! Frames come back as their last owner left them, and are cleared before the next sees them. Which free frames are clean
//! already is remembered frame by frame, so that a large block is cleared in parts ([`reserve`]): what was cleared before
//! the work was put off is not cleared again, whoever takes it, and no other record of the work is kept.
//!
//! # Invariants
//! - B1: a frame is in the free structure if and only if it is the head of a listed block, or inside one; heads
//!   have `order` = block order + 1, all other frames 0.
//! - B2: a block of order k starts at a multiple of 2^k and lies in one zone.
//! - B3: every frame in a free block has no reference (F3) and owner nobody.
//! - B4: `claimed` is the sum of all claims, and no more than the frames that are free: what is claimed is given to nobody
//!   else, and is promised once.
//! - B5: a frame that says it is clean is free, holds zeros, and no CPU has a translation of its last owner's (F5).
//!
//! Bounded: an allocation looks at most at `ZONES * ORDERS` list heads; a free merges at most `ORDERS` times.
//! Frames that a domain gets are put on its list (`memory/owned.rs`), and taken off when they come back.
//! Lock: `FREE`, innermost; nothing else is taken while it is held.

use crate::arch::percpu;
use crate::domain;
use crate::memory::owned::List;
use crate::memory::{frame_table, m2p, phys};
use crate::sync::{self, Lock, rank};
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;
use frames::{DomId, Frame, Mfn};

/// Largest block: 2^18 frames, 1 GiB.
pub const MAX_ORDER: u32 = 18;
const ORDERS: usize = MAX_ORDER as usize + 1;
const ZONES: usize = 33;
const NIL: u32 = u32::MAX;

struct Free {
    heads: [[u32; ORDERS]; ZONES],
    /// Per zone, a bit per order with a non-empty list.
    some: [u32; ZONES],
    /// Frames on the lists of each zone.
    in_zone: [u64; ZONES],
    frames: u64,
    /// Those of `frames` that are set aside for somebody (B4).
    claimed: u64,
}

static FREE: Lock<Free, rank::Free> = Lock::new(Free {
    heads: [[NIL; ORDERS]; ZONES],
    some: [0; ZONES],
    in_zone: [0; ZONES],
    frames: 0,
    claimed: 0,
});

/// Frames set aside for a domain, which it has not taken yet. Changes with the lock of [`FREE`] held.
pub struct Claim(AtomicU64);

/// Why a claim is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unclaimed {
    /// There is one already.
    Already,
    /// So many frames are not free, or are somebody else's claim.
    NoMemory,
}

impl Claim {
    /// No frames.
    pub const fn new() -> Claim {
        Claim(AtomicU64::new(0))
    }

    /// Frames still set aside.
    pub fn outstanding(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Sets frames aside.
    ///
    /// # Errors
    /// Nothing has changed then.
    pub fn make(&self, frames: u64) -> Result<(), Unclaimed> {
        let mut free = FREE.lock();
        if self.outstanding() != 0 {
            return Err(Unclaimed::Already);
        }
        if frames > free.frames - free.claimed {
            return Err(Unclaimed::NoMemory);
        }
        free.claimed += frames;
        self.0.store(frames, Relaxed);
        Ok(())
    }

    /// Gives up what is left of it.
    pub fn release(&self) {
        let mut free = FREE.lock();
        free.claimed -= self.0.swap(0, Relaxed);
    }
}

/// Frames set aside for all domains.
pub fn claimed_frames() -> u64 {
    FREE.lock().claimed
}

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
        self.in_zone[zone] += 1 << order;
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
        self.in_zone[zone] -= 1 << order;
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

    /// A block, and how many frames of it were taken from a claim.
    fn take(&mut self, order: u32, max_zone: usize, claim: Option<&Claim>) -> Option<(u32, u64)> {
        let wanted = 1u64 << order;
        let own = claim.map_or(0, |claim| claim.outstanding().min(wanted));
        // B4: what others claim stays.
        if self.frames < wanted + self.claimed - own {
            return None;
        }
        let first = self.take_block(order, max_zone)?;
        self.claimed -= own;
        if let Some(claim) = claim {
            claim.0.fetch_sub(own, Relaxed);
        }
        Some((first, own))
    }

    fn take_block(&mut self, order: u32, max_zone: usize) -> Option<u32> {
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

/// Frames free whose addresses have at least so many bits and at most so many.
pub fn free_frames_between(least_bits: u32, most_bits: u32) -> u64 {
    let zones = zone_within(least_bits)..=zone_within(most_bits);
    let free = FREE.lock();
    free.in_zone
        .get(zones)
        .map_or(0, |zones| zones.iter().sum())
}

/// Frames of a block that are given to somebody at a time.
const PART: usize = 256;

/// Frames that nobody owns yet, all of them clean. Dropped, they are free as they were.
#[must_use = "dropping it makes the frames free again"]
pub struct Reserved<'c> {
    first: u32,
    order: u32,
    claim: Option<&'c Claim>,
    /// Frames to go back to the claim.
    of_claim: u64,
}

/// Why frames cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// There are none.
    NoMemory,
    /// There are, but more of them had to be cleared than allowed: try again, they are getting fewer.
    NotClean,
}

impl Reserved<'_> {
    /// Gives the frames to a domain, with one general reference each, its claim on them. Returns the first.
    pub fn assign(self, owner: DomId) -> Mfn {
        self.assign_in_parts(owner, || {})
    }

    /// As [`Self::assign`]; `between` is called after every [`PART`] frames, with nothing locked.
    pub fn assign_in_parts(self, owner: DomId, between: impl FnMut()) -> Mfn {
        assign(u64::from(self.first), self.order, owner, between);
        let first = Mfn(u64::from(self.first));
        core::mem::forget(self);
        first
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        let mut free = FREE.lock();
        free.insert(self.first, self.order);
        if let Some(claim) = self.claim {
            free.claimed += self.of_claim;
            claim.0.fetch_add(self.of_claim, Relaxed);
        }
    }
}

/// What is fresh may have to be flushed on other CPUs: nothing is locked where frames are taken (J2 of `sync`).
const TAKEN: &str = "a frame is taken";

fn zone_within(address_bits: u32) -> usize {
    (address_bits.saturating_sub(12) as usize).min(ZONES - 1)
}

/// Reserves 2^order contiguous frames whose addresses fit `address_bits`, of those claimed first. At most `clear` frames
/// are cleared, which is counted down.
///
/// # Errors
/// Nothing is taken then; frames that were cleared stay clean.
#[track_caller]
pub fn reserve<'c>(
    order: u32,
    address_bits: u32,
    claim: Option<&'c Claim>,
    clear: &mut u32,
) -> Result<Reserved<'c>, Shortage> {
    sync::assert_none_but_call(TAKEN);
    if order > MAX_ORDER {
        return Err(Shortage::NoMemory);
    }
    let taken = FREE.lock().take(order, zone_within(address_bits), claim);
    let (first, of_claim) = taken.ok_or(Shortage::NoMemory)?;
    let reserved = Reserved {
        first,
        order,
        claim,
        of_claim,
    };
    // F5: the last owner's translations end before the frame is cleared. Not under the lock: a flush waits for other CPUs.
    let mut mfn = u64::from(first);
    for records in frame_table::block(Mfn(mfn), order) {
        for frame in records {
            if !frame.is_clean() {
                *clear = clear.checked_sub(1).ok_or(Shortage::NotClean)?;
                percpu::flush_since(frame.stamp());
                phys::zero_frame(Mfn(mfn));
                frame.set_clean(true);
            }
            mfn += 1;
        }
    }
    Ok(reserved)
}

/// Gives 2^order frames taken from the free ones to `owner`. Nothing translates to them any more (F5).
fn assign(first: u64, order: u32, owner: DomId, mut between: impl FnMut()) {
    let owner_record = domain::get(owner);
    let mut mfn = first;
    // B1: all frames of a block are described.
    for records in frame_table::block(Mfn(first), order).flat_map(|all| all.chunks(PART)) {
        for frame in records {
            frame.set_clean(false);
            let assigned = frame.assign(owner);
            assert!(assigned, "B3: a listed frame was not free");
        }
        if let Some(its) = owner_record {
            its.frames.lock().insert_row(Mfn(mfn), records, List::Live);
        }
        mfn += records.len() as u64;
        if records.len() == PART {
            between();
        }
    }
}

/// Takes 2^order contiguous frames whose addresses fit `address_bits`, assigned to `owner` with one general
/// reference each, zeroed. O(order) plus the zeroing.
#[track_caller]
pub fn take(owner: DomId, order: u32, address_bits: u32) -> Option<Mfn> {
    let mut all = u32::MAX;
    let reserved = reserve(order, address_bits, None, &mut all).ok()?;
    Some(reserved.assign(owner))
}

/// As [`take`], contents left as they are: for callers that overwrite every byte at once.
#[track_caller]
pub fn take_raw(owner: DomId, order: u32, address_bits: u32) -> Option<Mfn> {
    sync::assert_none_but_call(TAKEN);
    if order > MAX_ORDER {
        return None;
    }
    let max_zone = zone_within(address_bits);
    let (first, _) = FREE.lock().take(order, max_zone, None)?;
    for mfn in first..first + (1 << order) {
        percpu::flush_since(record(mfn).stamp());
    }
    let first = u64::from(first);
    assign(first, order, owner, || {});
    Some(Mfn(first))
}

/// Takes one frame for ring 0 itself.
#[track_caller]
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

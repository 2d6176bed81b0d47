//! Pieces of frames: what ring 0 keeps for a domain that needs less than a frame lies side by side in frames of ring 0's
//! own that are charged to that domain.
//!
//! A frame is 32 grains of 128 bytes. The first is its head: which frame is next, and which grains are taken.
//!
//! # Invariants
//! - P1: a piece is one run of grains of one frame, all of them taken, and nobody else's until it is given back.
//! - P2: every frame on a domain's list has a piece in it, but while one is being put there; the last piece given back
//!   gives the frame back.
//! - P3: what is in a piece is all of one domain's: no piece outlives the domain's record.

use crate::domain::Domain;
use crate::layout::{DIRECT_MAP, PAGE};
use crate::memory::{alloc, phys};
use crate::sync::{Guard, Lock, rank};
use core::sync::atomic::Ordering::Relaxed;
use frames::Mfn;

/// Bytes of a grain: every piece begins at a multiple of them.
pub const GRAIN: usize = 128;
/// Bytes of the largest piece: a frame but for its head.
pub const LARGEST: usize = PAGE as usize - GRAIN;

/// Words of a head: the next frame, 0 for none; and the grains that are taken, with what the frame is counted as.
const NEXT: usize = 0;
const TAKEN: usize = 1;
/// The head itself.
const HEAD: u64 = 1;
/// The frame is one of those that the domain consists of.
const FIXED: u64 = 1 << 32;

/// Why a piece is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// The domain or a vCPU consists of it.
    Fixed,
    /// The domain caused it: there is a limit.
    Caused,
}

/// A domain's frames of pieces: the first one's number, 0 for none.
pub struct Pieces {
    first: Lock<u64, rank::Pieces>,
}

impl Pieces {
    /// No frames.
    pub const fn new() -> Pieces {
        Pieces {
            first: Lock::new(0),
        }
    }
}

fn grains(bytes: usize) -> u32 {
    bytes.div_ceil(GRAIN) as u32
}

/// So many grains from this one on, as bits of a head.
fn bits(first: u32, count: u32) -> u64 {
    ((1 << count) - 1) << first
}

/// The first of so many bits in a row that are set: for each there are steps as for a logarithm, since a domain may have
/// many frames to look in.
fn first_run(set: u32, count: u32) -> Option<u32> {
    let (mut starts, mut long) = (set, 1);
    while long < count {
        let step = long.min(count - long);
        starts &= starts >> step;
        long += step;
    }
    (starts != 0).then(|| starts.trailing_zeros())
}

/// Looks for a run in a frame, and takes it. Under the lock of its domain's pieces.
fn take_in(frame: Mfn, count: u32) -> Option<u64> {
    let head = phys::word(frame, TAKEN);
    let taken = head.load(Relaxed);
    let first = first_run(!taken as u32, count)?;
    head.store(taken | bits(first, count), Relaxed);
    Some(frame.0 * PAGE + u64::from(first) * GRAIN as u64)
}

impl Domain {
    /// The physical address of a piece; what was in it before still is. `None` if there is no memory, or the domain has
    /// had its share.
    fn take_piece(&self, bytes: usize, charge: Charge) -> Option<u64> {
        assert!((1..=LARGEST).contains(&bytes));
        let count = grains(bytes);
        if let Some(place) = self.take_in_any(count) {
            return Some(place);
        }
        // Not under the lock: what is fresh may have to be flushed.
        let frame = match charge {
            Charge::Caused => self.take_charged()?,
            Charge::Fixed => {
                let frame = alloc::take_ring0()?;
                self.count_fixed(1);
                frame
            }
        };
        let kind = if charge == Charge::Fixed { FIXED } else { 0 };
        let mut first = self.pieces.first.lock();
        phys::word(frame, NEXT).store(*first, Relaxed);
        phys::word(frame, TAKEN).store(HEAD | kind, Relaxed);
        *first = frame.0;
        take_in(frame, count)
    }

    fn take_in_any(&self, count: u32) -> Option<u64> {
        let first = self.pieces.first.lock();
        let mut at = *first;
        while at != 0 {
            let frame = Mfn(at);
            if let Some(place) = take_in(frame, count) {
                return Some(place);
            }
            at = phys::word(frame, NEXT).load(Relaxed);
        }
        None
    }

    /// Gives a piece back by its address in the direct map: nobody refers to it any more.
    fn give_piece(&self, address: u64, bytes: usize) {
        let place = address.wrapping_sub(DIRECT_MAP);
        let frame = Mfn(place / PAGE);
        let grain = (place % PAGE / GRAIN as u64) as u32;
        let first = self.pieces.first.lock();
        let head = phys::word(frame, TAKEN);
        let left = head.load(Relaxed) & !bits(grain, grains(bytes));
        head.store(left, Relaxed);
        if left & !FIXED != HEAD {
            return;
        }
        unlink(first, frame);
        if left & FIXED == 0 {
            self.give_charged(frame);
        } else {
            alloc::give_ring0(frame);
            self.uncount_fixed(1);
        }
    }

    /// Puts a value into a piece.
    ///
    /// # Errors
    /// The value, if there is no piece.
    pub fn place<T>(&self, value: T, charge: Charge) -> Result<&'static mut T, T> {
        const { assert!(size_of::<T>() <= LARGEST && align_of::<T>() <= GRAIN) };
        let Some(place) = self.take_piece(size_of::<T>(), charge) else {
            return Err(value);
        };
        let place = phys::at(place, size_of::<T>() as u64).cast::<T>();
        // SAFETY: a piece of ring 0's own memory that is nobody else's (P1), long enough and aligned to a grain; nothing
        // of what it held is read.
        unsafe {
            place.write(value);
            Ok(&mut *place)
        }
    }

    /// As [`Self::place`], for so many bytes, all zero and aligned to a grain.
    pub fn place_bytes(&self, bytes: usize, charge: Charge) -> Option<&'static mut [u8]> {
        let place = phys::at(self.take_piece(bytes, charge)?, bytes as u64);
        // SAFETY: as in `place`.
        unsafe {
            place.write_bytes(0, bytes);
            Some(core::slice::from_raw_parts_mut(place, bytes))
        }
    }

    /// Takes back a piece of [`Self::place`], from the only one who refers to it.
    pub fn take_back<T>(&self, value: &'static mut T) -> T {
        // SAFETY: the only reference there is (its type), which ends here.
        unsafe { self.take_out(value) }
    }

    /// As [`Self::take_back`], of what others could look at.
    ///
    /// # Safety
    /// It was made by [`Self::place`] of this domain, and nobody looks at it any more or again.
    pub unsafe fn take_out<T>(&self, record: &'static T) -> T {
        let place: *const T = record;
        // SAFETY: the caller's contract: it is moved out, once.
        let value = unsafe { place.read() };
        self.give_piece(place as u64, size_of::<T>());
        value
    }

    /// Takes back a piece of [`Self::place_bytes`].
    pub fn take_back_bytes(&self, piece: &'static mut [u8]) {
        self.give_piece(piece.as_ptr() as u64, piece.len());
    }
}

/// Takes a frame off the list whose beginning that is.
fn unlink(mut first: Guard<'_, u64, rank::Pieces>, frame: Mfn) {
    let next = phys::word(frame, NEXT).load(Relaxed);
    if *first == frame.0 {
        *first = next;
        return;
    }
    let mut at = *first;
    while at != 0 {
        let link = phys::word(Mfn(at), NEXT);
        at = link.load(Relaxed);
        if at == frame.0 {
            return link.store(next, Relaxed);
        }
    }
}

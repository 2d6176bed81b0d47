//! Records of ring 0's own that live and go with a domain, each in whole frames: what guests cause to exist is never on
//! the heap.
//!
//! # Invariants
//! - R1: a record's frames are ring 0's and hold nothing else; they go back once, with the record.

use crate::layout::{DIRECT_MAP, PAGE};
use crate::memory::{alloc, phys};
use frames::{DomId, Mfn};

/// Frames that a record of this type takes.
pub const fn frames_of<T>() -> u64 {
    (size_of::<T>() as u64).div_ceil(PAGE)
}

/// Puts a value into frames of its own; `None` if there are none.
pub fn place<T>(value: T) -> Option<&'static T> {
    place_mut(value).map(|record| &*record)
}

/// As [`place`], for a record with one user.
pub fn place_mut<T>(value: T) -> Option<&'static mut T> {
    const { assert!(align_of::<T>() <= PAGE as usize && size_of::<T>() > 0) };
    let frames = frames_of::<T>();
    let order = frames.next_power_of_two().ilog2();
    let first = alloc::take_raw(DomId::RING0, order, 64)?;
    // Frames come in powers of two; what is not needed goes back at once.
    for rest in frames..1 << order {
        alloc::give_ring0(Mfn(first.0 + rest));
    }
    let place = phys::at(first.0 * PAGE, frames * PAGE).cast::<T>();
    // SAFETY: fresh frames of ring 0's own, which nobody else refers to (R1), side by side in the direct map, aligned
    // to a page; nothing of what they held is read.
    unsafe {
        place.write(value);
        Some(&mut *place)
    }
}

/// A frame of ring 0's own as a row of so many values, for tables that grow and stay; `None` if there is none.
pub fn place_row<T: Copy>(value: T, count: usize) -> Option<&'static mut [T]> {
    assert!(count * size_of::<T>() <= PAGE as usize && align_of::<T>() <= PAGE as usize);
    let first = alloc::take_raw(DomId::RING0, 0, 64)?;
    let place = phys::at(first.0 * PAGE, PAGE).cast::<T>();
    // SAFETY: a fresh frame of ring 0's own, which nobody else refers to and nobody gives back (R1), aligned to a page and
    // long enough; each value is written before a reference is made to it.
    unsafe {
        for index in 0..count {
            place.add(index).write(value);
        }
        Some(core::slice::from_raw_parts_mut(place, count))
    }
}

/// Ends a record and gives its frames back.
///
/// # Safety
/// It was made by [`place`], and nobody looks at it any more or again.
pub unsafe fn end<T>(record: &'static T) {
    let place: *const T = record;
    let first = (place as u64).wrapping_sub(DIRECT_MAP) / PAGE;
    // SAFETY: the caller's contract: ours alone from here on.
    unsafe { place.cast_mut().drop_in_place() };
    for frame in first..first + frames_of::<T>() {
        alloc::give_ring0(Mfn(frame));
    }
}

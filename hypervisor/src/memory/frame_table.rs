//! Where the frame records lie: a sparse array at [`FRAME_TABLE`], present in pieces of 2 MiB (65,536 frames)
//! wherever there is memory.
//!
//! # Invariants
//! - T1: `PRESENT` has a bit set only after its piece is mapped and every record in it initialised; bits are
//!   never cleared.
//! - T2: a record whose frame is no usable memory says so (`Frame::is_io`).

use crate::layout::{DIRECT_MAP_SIZE, FRAME_TABLE, PAGE};
use core::sync::atomic::{AtomicU64, Ordering};
use frames::{Class, Frame, Mfn};

/// Frames described by one piece.
pub const FRAMES_PER_PIECE: u64 = (2 << 20) / size_of::<Frame>() as u64;
const PIECES: usize = (DIRECT_MAP_SIZE / PAGE / FRAMES_PER_PIECE) as usize;

static PRESENT: [AtomicU64; PIECES / 64] = [const { AtomicU64::new(0) }; PIECES / 64];
/// One more than the highest frame number any piece describes.
static END: AtomicU64 = AtomicU64::new(0);
/// One more than the highest frame number the CPU can address.
static ADDRESSABLE: AtomicU64 = AtomicU64::new(1 << 24);

/// Says how many physical address bits the CPU has.
pub fn set_address_bits(bits: u8) {
    ADDRESSABLE.store(1 << (bits.clamp(32, 52) - 12), Ordering::Relaxed);
}

/// Marks a piece as usable.
///
/// # Safety
/// The piece must be mapped, zeroed, and stay so (T1).
pub unsafe fn add_piece(piece: u64) {
    let first = piece * FRAMES_PER_PIECE;
    for mfn in first..first + FRAMES_PER_PIECE {
        // SAFETY: mapped by the caller; `Frame` holds atomics only, for which zero is a value.
        let frame = unsafe { &*record(mfn) };
        frame.mark_io();
    }
    PRESENT[(piece / 64) as usize].fetch_or(1 << (piece % 64), Ordering::Release);
    END.fetch_max(first + FRAMES_PER_PIECE, Ordering::AcqRel);
}

/// Where the record of `mfn` lies if it is there.
fn record(mfn: u64) -> *const Frame {
    (FRAME_TABLE + mfn * size_of::<Frame>() as u64) as *const Frame
}

/// One more than the highest described frame number.
pub fn end() -> u64 {
    END.load(Ordering::Relaxed)
}

/// The record of a frame, whatever it is; `None` where the table has none.
#[inline]
pub fn get(mfn: Mfn) -> Option<&'static Frame> {
    let piece = mfn.0 / FRAMES_PER_PIECE;
    let word = PRESENT.get((piece / 64) as usize)?;
    if word.load(Ordering::Acquire) >> (piece % 64) & 1 == 0 {
        return None;
    }
    // SAFETY: T1; frames are never unmapped, and hold atomics only.
    Some(unsafe { &*record(mfn.0) })
}

/// The records of a block of 2^order frames that starts at a multiple of its size: in one or more pieces, in order. Frames
/// that the table does not describe are left out.
pub fn block(first: Mfn, order: u32) -> impl Iterator<Item = &'static [Frame]> {
    let end = first.0.saturating_add(1 << order.min(63));
    let mut next = first.0;
    core::iter::from_fn(move || {
        while next < end {
            let start = next;
            let piece = start / FRAMES_PER_PIECE;
            next = ((piece + 1) * FRAMES_PER_PIECE).min(end);
            if get(Mfn(start)).is_some() {
                // SAFETY: T1: every record of the piece is there, for ever, and holds atomics only; `next` is in it, or its
                // end.
                let records =
                    unsafe { core::slice::from_raw_parts(record(start), (next - start) as usize) };
                return Some(records);
            }
        }
        None
    })
}

/// What stands behind a frame number.
#[inline]
pub fn class(mfn: Mfn) -> Class<'static> {
    match get(mfn) {
        Some(frame) if !frame.is_io() => Class::Ram(frame),
        _ if mfn.0 < ADDRESSABLE.load(Ordering::Relaxed) => Class::Io,
        _ => Class::Absent,
    }
}

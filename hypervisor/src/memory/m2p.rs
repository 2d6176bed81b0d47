//! The machine-to-pseudophysical table: for each machine frame, the number its owner knows it by.
//!
//! Guests read it (slot 256, read-only); ring 0 writes it through slot 261. It is information for guests only:
//! nothing in ring 0 trusts it.

use crate::arch::paging;
use crate::layout::{M2P, PAGE};
use crate::memory::frame_table;
use core::sync::atomic::{AtomicU64, Ordering};
use frames::{Entry, Mfn};

/// Entry of a frame that is nobody's.
pub const INVALID: u64 = !0;
/// Frames whose entries one piece of 2 MiB holds.
pub const FRAMES_PER_PIECE: u64 = PIECE / 8;
/// Bytes of a piece, which is contiguous and aligned to its size.
const PIECE: u64 = 2 << 20;

/// Pieces lie below this address, so that the boot tables reach them.
pub const PIECES_BELOW: u64 = 4 << 30;
/// Which stretches of memory are pieces, a bit each.
static PIECES: [AtomicU64; (PIECES_BELOW / PIECE / 64) as usize] =
    [const { AtomicU64::new(0) }; (PIECES_BELOW / PIECE / 64) as usize];

/// Notes that a stretch of memory holds a piece of the table.
pub fn add_piece(memory: u64) {
    let number = memory / PIECE;
    if let Some(word) = PIECES.get((number / 64) as usize) {
        word.fetch_or(1 << (number % 64), Ordering::Relaxed);
    }
}

/// Whether a frame is one of those the table lies in.
pub fn holds(mfn: Mfn) -> bool {
    let number = mfn.0 / (PIECE / PAGE);
    let word = PIECES.get((number / 64) as usize);
    word.is_some_and(|word| word.load(Ordering::Relaxed) >> (number % 64) & 1 != 0)
}

/// The first frame of each piece in the order of the table, with one for each that is not there: [`None`].
pub fn pieces() -> impl Iterator<Item = Option<Mfn>> {
    let pieces = frame_table::end().div_ceil(FRAMES_PER_PIECE);
    (0..pieces).map(|piece| {
        let leaf = paging::walk(paging::root(), M2P + piece * PIECE)?;
        Some(Entry(leaf).mfn())
    })
}

/// Sets the entry of a frame that the frame table describes; others have none.
pub fn set(mfn: Mfn, pfn: u64) {
    if frame_table::get(mfn).is_some() {
        let place = (M2P + mfn.0 * 8) as *mut u64;
        // SAFETY: the table is present wherever the frame table is (boot/memory.rs maps both); guests have only
        // read-only mappings and a torn read is impossible for an aligned word.
        unsafe { place.write_volatile(pfn) };
    }
}

/// Sets the entries of a block of 2^order frames, which starts at a multiple of its size, to numbers from `pfn` on.
pub fn set_block(first: Mfn, order: u32, pfn: u64) {
    let mut mfn = first.0;
    for records in frame_table::block(first, order) {
        for _ in records {
            let place = (M2P + mfn * 8) as *mut u64;
            // SAFETY: as `set`: the frame's record is in hand.
            unsafe { place.write_volatile(pfn.wrapping_add(mfn - first.0)) };
            mfn += 1;
        }
    }
}

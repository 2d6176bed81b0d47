//! The machine-to-pseudophysical table: for each machine frame, the number its owner knows it by.
//!
//! Guests read it (slot 256, read-only); ring 0 writes it through slot 261. It is information for guests only:
//! nothing in ring 0 trusts it.

use crate::layout::M2P;
use crate::memory::frame_table;
use frames::Mfn;

/// Entry of a frame that is nobody's.
pub const INVALID: u64 = !0;
/// Frames whose entries one piece of 2 MiB holds.
pub const FRAMES_PER_PIECE: u64 = (2 << 20) / 8;

/// Sets the entry of a frame that the frame table describes; others have none.
pub fn set(mfn: Mfn, pfn: u64) {
    if frame_table::get(mfn).is_some() {
        let place = (M2P + mfn.0 * 8) as *mut u64;
        // SAFETY: the table is present wherever the frame table is (boot/memory.rs maps both); guests have only
        // read-only mappings and a torn read is impossible for an aligned word.
        unsafe { place.write_volatile(pfn) };
    }
}

/// Reads an entry.
pub fn get(mfn: Mfn) -> u64 {
    if frame_table::get(mfn).is_none() {
        return INVALID;
    }
    let place = (M2P + mfn.0 * 8) as *const u64;
    // SAFETY: as `set`.
    unsafe { place.read_volatile() }
}

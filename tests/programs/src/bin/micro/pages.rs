//! Touching pages.

use programs::calls::PAGE;

/// Writes a word of each of some pages from `start` on, `step` bytes apart.
#[inline(always)]
pub fn touch(start: usize, bytes: usize, step: usize) {
    for at in (start..start + bytes).step_by(step) {
        // SAFETY: callers pass mappings of their own, writable.
        unsafe { (at as *mut u64).write_volatile(at as u64) };
    }
}

/// Reads a word of each of some pages from `start` on.
#[inline(always)]
pub fn look(start: usize, bytes: usize) {
    for at in (start..start + bytes).step_by(PAGE) {
        // SAFETY: callers pass mappings of their own.
        unsafe { (at as *const u64).read_volatile() };
    }
}

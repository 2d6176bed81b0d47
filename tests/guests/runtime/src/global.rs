//! Mutable statics for a kernel with one vCPU (rule R1).

use core::cell::UnsafeCell;

/// A value in a static that one flow of control reads and writes by copy.
///
/// Copies, never references, leave this type, so that a trap handler that writes between two reads
/// invalidates nothing.
pub struct Global<T: Copy>(UnsafeCell<T>);

// SAFETY: one vCPU (R1): there is no other thread to share with.
unsafe impl<T: Copy> Sync for Global<T> {}

impl<T: Copy> Global<T> {
    /// A global that starts as `value`.
    pub const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// The present value.
    pub fn get(&self) -> T {
        // SAFETY: the cell is valid, and no reference to its inside ever exists.
        unsafe { self.0.get().read_volatile() }
    }

    /// Stores `value`.
    pub fn set(&self, value: T) {
        // SAFETY: the cell is valid, and no reference to its inside ever exists.
        unsafe { self.0.get().write_volatile(value) }
    }

    /// Where the value lies, for assembly and for hypercalls that keep an address.
    pub const fn as_ptr(&self) -> *mut T {
        self.0.get()
    }
}

//! Ring 0's heap: for boot and bounded set-up only. Nothing a guest can cause allocates here.

use crate::sync::{Lock, rank};
use linked_list_allocator::Heap;

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;

struct BootHeap(Lock<Heap, rank::Heap>);

#[global_allocator]
static HEAP: BootHeap = BootHeap(Lock::new(Heap::empty()));

// SAFETY: `linked_list_allocator` upholds the allocator's contract; the lock makes it exclusive, and interrupts
// are off in ring 0 (X1), so that no handler can meet the lock held on its own CPU.
unsafe impl GlobalAlloc for BootHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0
            .lock()
            .allocate_first_fit(layout)
            .map_or(core::ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        if let Some(ptr) = NonNull::new(ptr) {
            // SAFETY: the caller's contract: `ptr` came from `alloc` with this layout.
            unsafe { self.0.lock().deallocate(ptr, layout) };
        }
    }
}

/// Gives the heap its memory, once.
///
/// # Safety
/// `start..start+bytes` must be mapped, writable, and nobody else's.
pub unsafe fn init(start: *mut u8, bytes: usize) {
    // SAFETY: the caller's contract.
    unsafe { HEAP.0.lock().init(start, bytes) };
}

/// Bytes in use and in all.
pub fn usage() -> (usize, usize) {
    let heap = HEAP.0.lock();
    (heap.used(), heap.size())
}

//! Memory: the direct map, the frame table, the frame allocator, ring 0's small heap.

pub mod alloc;
pub mod boot_alloc;
pub mod frame_table;
pub mod heap;
pub mod m2p;
pub mod phys;

//! Memory: the direct map, the frame table, the frame allocator, ring 0's small heap; what ring 0 uses of it.

pub mod alloc;
pub mod boot_alloc;
pub mod frame_table;
pub mod heap;
pub mod m2p;
pub mod owned;
pub mod phys;
pub mod pieces;
pub mod record;
pub mod usage;

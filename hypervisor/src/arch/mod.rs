//! The x86-64 machine: registers, descriptor tables, entry and exit paths, guest memory access.

pub mod apic;
pub mod cpu;
pub mod debug;
pub mod exposed;
pub mod features;
pub mod fpu;
pub mod guest_memory;
pub mod leftovers;
pub mod paging;
pub mod pcid;
pub mod percpu;
pub mod regs;
pub mod smap;
pub mod smp;
pub mod trap;
pub mod walk_cache;

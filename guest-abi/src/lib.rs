//! The interface between a paravirtualized guest and the hypervisor: the Xen PV ABI for x86-64 as we offer it.
//!
//! Both sides compile against this crate: the hypervisor, and guests and tools of ours. It holds numbers and
//! layouts and the little arithmetic that belongs to them; what a call does is the hypervisor's business.
//!
//! Names are the public interface's, in Rust's case: `struct mmuext_op` is [`mmu::MmuextOp`], a constant keeps
//! its name, and a family of operation numbers is an enumeration ([`event::EventChannelOp`]) whose `name()`
//! gives the interface's own. Pointers are plain `u64`: a guest linear address, which proves nothing. Unions
//! are plain fields with accessors for the other readings.
//!
//! Layouts are stated once, by [`wire`]'s macro, and asserted when the crate is compiled; a test compares all
//! of them with the distribution's public headers.

#![no_std]
#![forbid(unsafe_code)]

pub mod blkif;
pub mod callback;
pub mod console;
pub mod context;
pub mod cpuid;
pub mod domctl;
pub mod domid;
pub mod elfnote;
pub mod ends;
pub mod errno;
pub mod event;
pub mod features;
pub mod frame;
pub mod grant;
pub mod hardware;
pub mod hypercall;
pub mod ledger;
pub mod memory;
pub mod mmu;
pub mod physdev;
pub mod platform;
pub mod reserve;
pub mod sched;
pub mod segment;
pub mod shared_info;
pub mod start_info;
pub mod sysctl;
pub mod usage;
pub mod usage_area;
pub mod vcpu;
pub mod version;
pub mod vga;
pub mod vm_assist;
pub mod wire;
pub mod xeno;
pub mod xenstore;

pub use domid::DomId;
pub use errno::Errno;
pub use hypercall::Hypercall;
pub use wire::Wire;

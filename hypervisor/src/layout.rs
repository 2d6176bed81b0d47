//! The hypervisor's part of the address space: root slots 256-271, reserved for it by the ABI.
//!
//! | slot | base | what | in a guest's root |
//! |---|---|---|---|
//! | 256 | `0xffff_8000_0000_0000` | machine-to-pseudophysical table | yes, read-only (kernel roots) |
//! | 257 | `0xffff_8080_0000_0000` | exposed area: entry code and stacks per CPU, descriptor tables per vCPU | yes, one L3 per domain |
//! | 258 | `0xffff_8100_0000_0000` | ring 0's image | only where roots are shared |
//! | 259 | `0xffff_8180_0000_0000` | device registers, private stacks | only where roots are shared |
//! | 260 | `0xffff_8200_0000_0000` | frame table | only where roots are shared |
//! | 261 | `0xffff_8280_0000_0000` | ring 0's view of the machine-to-pseudophysical table | only where roots are shared |
//! | 262-271 | `0xffff_8300_0000_0000` | direct map of memory, 5 TiB | only where roots are shared |
//!
//! # Invariants
//! - A1: slots 258-271 of ring 0's root name tables that exist from boot on and are never replaced, so that a
//!   copy of the entries in a guest's root stays right for ever.
//! - A2: no page of ring 0 is both writable and executable.
//! - A3: nothing of one domain is mapped below another domain's slot 257.

use core::ops::Range;

/// First root slot that belongs to the hypervisor.
pub const FIRST_SLOT: usize = 256;
/// Root slots that belong to the hypervisor alone and hold secrets.
pub const PRIVATE_SLOTS: Range<usize> = 258..272;

/// First address of a root slot of the upper half.
pub const fn slot_base(slot: usize) -> u64 {
    0xffff_0000_0000_0000 | (slot as u64) << 39
}

/// The read-only machine-to-pseudophysical table guests see.
pub const M2P_GUEST: u64 = slot_base(256);
/// The exposed area.
pub const EXPOSED: u64 = slot_base(257);
/// Where the image is linked; an address in it is this plus the physical address.
pub const IMAGE: u64 = slot_base(258);
/// Device registers.
pub const DEVICES: u64 = slot_base(259);
/// Private per-CPU areas (stacks).
pub const CPU_AREAS: u64 = slot_base(259) + (1 << 38);
/// The frame table.
pub const FRAME_TABLE: u64 = slot_base(260);
/// The writable machine-to-pseudophysical table.
pub const M2P: u64 = slot_base(261);
/// The direct map.
pub const DIRECT_MAP: u64 = slot_base(262);
/// Bytes the direct map can hold.
pub const DIRECT_MAP_SIZE: u64 = 10 << 39;

/// The range of addresses reserved for the hypervisor by the ABI.
pub const HOLE: Range<u64> = slot_base(256)..slot_base(272);

/// Bytes in a page.
pub const PAGE: u64 = 4096;

/// Bytes of the exposed area one physical CPU's block takes.
pub const EXPOSED_CPU_STRIDE: u64 = 0x40000;
/// First vCPU area: second GiB of the exposed area, below a table that is the domain's own.
pub const EXPOSED_VCPUS: u64 = EXPOSED + (1 << 30);
/// Bytes one vCPU's part takes: 16 descriptor pages, 16 local-descriptor pages, transit page, vcpu_info page.
pub const EXPOSED_VCPU_STRIDE: u64 = 0x40000;

/// Whether a guest may name `addr..addr+len`: canonical, no wrap, outside the hole.
pub const fn guest_range_ok(addr: u64, len: u64) -> bool {
    guest_abi::segment::is_guest_range(addr, len)
}

/// Whether an address is canonical and outside the hole.
pub const fn guest_address_ok(addr: u64) -> bool {
    addr < (1 << 47) || addr >= HOLE.end
}

/// Whether an address is canonical.
pub const fn is_canonical(addr: u64) -> bool {
    ((addr << 16) as i64 >> 16) as u64 == addr
}

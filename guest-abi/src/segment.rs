//! Address space and segments: the hypervisor's hole, the selectors every guest has, and segment bases.

use crate::wire::operations;

/// First address of the hole that belongs to the hypervisor: root slots 256 to 271.
pub const HYPERVISOR_VIRT_START: u64 = 0xffff_8000_0000_0000;
/// First address behind the hole.
pub const HYPERVISOR_VIRT_END: u64 = 0xffff_8800_0000_0000;
/// First address of the machine-to-physical table, which a guest kernel may read.
pub const MACH2PHYS_VIRT_START: u64 = 0xffff_8000_0000_0000;
/// First address behind the machine-to-physical table.
pub const MACH2PHYS_VIRT_END: u64 = 0xffff_8040_0000_0000;
/// Entries the machine-to-physical table has room for.
pub const MACH2PHYS_NR_ENTRIES: u64 = (MACH2PHYS_VIRT_END - MACH2PHYS_VIRT_START) >> 3;

/// First slot of a root table that belongs to the hypervisor.
pub const ROOT_TABLE_FIRST_XEN_SLOT: usize = 256;
/// Last slot of a root table that belongs to the hypervisor.
pub const ROOT_TABLE_LAST_XEN_SLOT: usize = 271;

const _: () = {
    let slot_bytes = 1u64 << 39;
    let canonical = 0xffff_0000_0000_0000;
    assert!(HYPERVISOR_VIRT_START == canonical + ROOT_TABLE_FIRST_XEN_SLOT as u64 * slot_bytes);
    assert!(HYPERVISOR_VIRT_END == canonical + (ROOT_TABLE_LAST_XEN_SLOT as u64 + 1) * slot_bytes);
};

/// Whether an address is canonical and outside the hypervisor's hole, so that a guest may have it.
#[inline]
pub const fn is_guest_address(address: u64) -> bool {
    address < 0x0000_8000_0000_0000 || address >= HYPERVISOR_VIRT_END
}

/// Whether all of `[address, address + bytes)` is a guest's to have, inside one half. An empty range is judged
/// by its start.
#[inline]
pub const fn is_guest_range(address: u64, bytes: u64) -> bool {
    if !is_guest_address(address) {
        return false;
    }
    if bytes == 0 {
        return true;
    }
    match address.checked_add(bytes - 1) {
        Some(last) => is_guest_address(last) && (address >> 63) == (last >> 63),
        None => false,
    }
}

/// First page of a descriptor table that is the hypervisor's.
pub const FIRST_RESERVED_GDT_PAGE: u64 = 14;
/// First byte of a descriptor table that is the hypervisor's.
pub const FIRST_RESERVED_GDT_BYTE: u64 = FIRST_RESERVED_GDT_PAGE * 4096;
/// First entry of a descriptor table that is the hypervisor's; a guest has those below.
pub const FIRST_RESERVED_GDT_ENTRY: u64 = FIRST_RESERVED_GDT_BYTE / 8;

/// 32-bit code at ring 3.
pub const FLAT_RING3_CS32: u16 = 0xe023;
/// 64-bit code at ring 3.
pub const FLAT_RING3_CS64: u16 = 0xe033;
/// Data at ring 3, for 32-bit code.
pub const FLAT_RING3_DS32: u16 = 0xe02b;
/// Data at ring 3, for 64-bit code: none is needed.
pub const FLAT_RING3_DS64: u16 = 0x0000;
/// Stack at ring 3, for 32-bit code.
pub const FLAT_RING3_SS32: u16 = 0xe02b;
/// Stack at ring 3, for 64-bit code.
pub const FLAT_RING3_SS64: u16 = 0xe02b;

/// Code of a guest kernel.
pub const FLAT_KERNEL_CS: u16 = FLAT_RING3_CS64;
/// Data of a guest kernel.
pub const FLAT_KERNEL_DS: u16 = FLAT_RING3_DS64;
/// Stack of a guest kernel.
pub const FLAT_KERNEL_SS: u16 = FLAT_RING3_SS64;
/// 64-bit code of guest user mode.
pub const FLAT_USER_CS64: u16 = FLAT_RING3_CS64;
/// 32-bit code of guest user mode.
pub const FLAT_USER_CS32: u16 = FLAT_RING3_CS32;
/// Data of guest user mode.
pub const FLAT_USER_DS: u16 = FLAT_RING3_DS64;
/// 32-bit data of guest user mode.
pub const FLAT_USER_DS32: u16 = FLAT_RING3_DS32;
/// Stack of guest user mode.
pub const FLAT_USER_SS: u16 = FLAT_RING3_SS64;

operations! {
    /// Which base [`Hypercall::SetSegmentBase`](crate::Hypercall::SetSegmentBase) sets. `name()` is the
    /// interface's name without `SEGBASE_`.
    pub enum SegmentBase: u32 {
        /// FS.
        Fs "FS" = 0,
        /// GS of user mode, which is the inactive one while the kernel runs.
        GsUser "GS_USER" = 1,
        /// GS of the kernel.
        GsKernel "GS_KERNEL" = 2,
        /// Loads the selector in the low 16 bits into user mode's GS.
        GsUserSel "GS_USER_SEL" = 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hole_is_nobodys() {
        assert!(is_guest_address(0x7fff_ffff_ffff));
        assert!(!is_guest_address(0x8000_0000_0000));
        assert!(!is_guest_address(HYPERVISOR_VIRT_START));
        assert!(!is_guest_address(HYPERVISOR_VIRT_END - 1));
        assert!(is_guest_address(HYPERVISOR_VIRT_END));
        assert!(is_guest_address(u64::MAX));
    }

    #[test]
    fn a_range_may_neither_reach_into_the_hole_nor_span_it_nor_wrap() {
        assert!(is_guest_range(0x7fff_ffff_f000, 0x1000));
        assert!(!is_guest_range(0x7fff_ffff_f000, 0x1001));
        assert!(!is_guest_range(0, u64::MAX));
        assert!(!is_guest_range(u64::MAX, 2));
        assert!(is_guest_range(u64::MAX, 1));
        assert!(is_guest_range(HYPERVISOR_VIRT_END, 0));
        assert!(!is_guest_range(HYPERVISOR_VIRT_START, 0));
    }
}

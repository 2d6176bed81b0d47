//! CPUID as a paravirtualized kernel asks for it: the forced-emulation prefix and the hypervisor's leaves.

/// Bytes before an instruction that ask the hypervisor to emulate it: `ud2` and "xen".
pub const XEN_EMULATE_PREFIX: [u8; 5] = [0x0f, 0x0b, b'x', b'e', b'n'];
/// The whole of the only sequence that is emulated: the prefix and `cpuid`.
pub const XEN_CPUID: [u8; 7] = [0x0f, 0x0b, b'x', b'e', b'n', 0x0f, 0xa2];

/// The first of the hypervisor's leaves.
pub const XEN_CPUID_FIRST_LEAF: u32 = 0x4000_0000;
/// Leaf 0, EBX: "XenV".
pub const XEN_CPUID_SIGNATURE_EBX: u32 = u32::from_le_bytes(*b"XenV");
/// Leaf 0, ECX: "MMXe".
pub const XEN_CPUID_SIGNATURE_ECX: u32 = u32::from_le_bytes(*b"MMXe");
/// Leaf 0, EDX: "nVMM".
pub const XEN_CPUID_SIGNATURE_EDX: u32 = u32::from_le_bytes(*b"nVMM");
/// Leaf 2, ECX: page-table updates can keep the accessed and dirty bits.
pub const XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD: u32 = 1;
/// Leaf 5, EBX: bits of a machine address. Up to 44, a guest uses version 1 grants.
pub const XEN_CPUID_MACHINE_ADDRESS_WIDTH_MASK: u32 = 0xff;

//! Features the hypervisor reports, bit numbers in the submap of
//! [`XenVersionOp::GetFeatures`](crate::version::XenVersionOp::GetFeatures).

use crate::wire::operations;

operations! {
    /// A feature bit. `name()` is the interface's name without `XENFEAT_`.
    pub enum Feature: u32 {
        /// Page tables need no write protection.
        WritablePageTables "writable_page_tables" = 0,
        /// Descriptor tables need no write protection.
        WritableDescriptorTables "writable_descriptor_tables" = 1,
        /// The hypervisor translates frame numbers.
        AutoTranslatedPhysmap "auto_translated_physmap" = 2,
        /// The kernel runs in supervisor mode.
        SupervisorModeKernel "supervisor_mode_kernel" = 3,
        /// Root tables may lie above 4 GiB.
        PaePgdirAbove4gb "pae_pgdir_above_4gb" = 4,
        /// An update can keep the accessed and dirty bits.
        MmuPtUpdatePreserveAd "mmu_pt_update_preserve_ad" = 5,
        /// The clear-page and copy-page operations exist.
        HighmemAssist "highmem_assist" = 6,
        /// A grant mapping can set the bits left to the guest.
        GnttabMapAvailBits "gnttab_map_avail_bits" = 7,
        /// Fully virtualized guests: callback vector.
        HvmCallbackVector "hvm_callback_vector" = 8,
        /// Fully virtualized guests: the clock can be used.
        HvmSafePvclock "hvm_safe_pvclock" = 9,
        /// Fully virtualized guests: physical interrupts.
        HvmPirqs "hvm_pirqs" = 10,
        /// The domain is the control domain, or its kernel could be.
        Dom0 "dom0" = 11,
        /// Memory operations know virtual nodes.
        MemoryOpVnodeSupported "memory_op_vnode_supported" = 13,
        /// Arm only.
        ArmSmcccSupported "ARM_SMCCC_supported" = 14,
        /// The ACPI root pointer may lie anywhere.
        LinuxRsdpUnrestricted "linux_rsdp_unrestricted" = 15,
        /// Guest frame numbers differ from machine frame numbers.
        NotDirectMapped "not_direct_mapped" = 16,
        /// Guest frame numbers are machine frame numbers.
        DirectMapped "direct_mapped" = 17,
    }
}

/// Submaps of 32 features that exist.
pub const XENFEAT_NR_SUBMAPS: u32 = 1;

impl Feature {
    /// The feature's bit in submap 0.
    #[inline]
    pub const fn mask(self) -> u32 {
        1 << self.number()
    }
}

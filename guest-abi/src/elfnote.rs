//! ELF notes by which a kernel says how it wants to be started.

use crate::wire::operations;

/// Owner of the notes, with the NUL an ELF note's name carries.
pub const ELFNOTE_OWNER: &[u8; 4] = b"Xen\0";

operations! {
    /// Types of the notes. `name()` is the interface's name without `XEN_ELFNOTE_`.
    pub enum ElfNote: u32 {
        /// A name=value pair.
        Info "INFO" = 0,
        /// Virtual address of the entry point.
        Entry "ENTRY" = 1,
        /// Virtual address of the page to fill with hypercall stubs.
        HypercallPage "HYPERCALL_PAGE" = 2,
        /// Virtual address of pseudo-physical 0.
        VirtBase "VIRT_BASE" = 3,
        /// What to take off a segment's physical address.
        PaddrOffset "PADDR_OFFSET" = 4,
        /// The interface, "xen-3.0".
        XenVersion "XEN_VERSION" = 5,
        /// Name of the guest.
        GuestOs "GUEST_OS" = 6,
        /// Version of the guest.
        GuestVersion "GUEST_VERSION" = 7,
        /// The loader, "generic".
        Loader "LOADER" = 8,
        /// Only meaningful at 32 bits.
        PaeMode "PAE_MODE" = 9,
        /// Features, as a string.
        Features "FEATURES" = 10,
        /// Whether the symbol table is wanted.
        BsdSymtab "BSD_SYMTAB" = 11,
        /// Lowest address the hypervisor's hole may start at.
        HvStartLow "HV_START_LOW" = 12,
        /// How to tell a page-table entry that holds a frame number.
        L1MfnValid "L1_MFN_VALID" = 13,
        /// Whether a suspend can be cancelled.
        SuspendCancel "SUSPEND_CANCEL" = 14,
        /// Virtual address for the initial list of frames.
        InitP2m "INIT_P2M" = 15,
        /// Whether the initial ramdisk may stay unmapped.
        ModStartPfn "MOD_START_PFN" = 16,
        /// Features, as bits.
        SupportedFeatures "SUPPORTED_FEATURES" = 17,
        /// Physical entry point, not for paravirtualized guests.
        Phys32Entry "PHYS32_ENTRY" = 18,
    }
}

//! Assists a guest can switch on.

use crate::wire::operations;

operations! {
    /// Commands of [`Hypercall::VmAssist`](crate::Hypercall::VmAssist).
    pub enum VmAssistCommand: u32 {
        /// Switch on.
        Enable "enable" = 0,
        /// Switch off.
        Disable "disable" = 1,
    }
}

operations! {
    /// The assists. `name()` is the interface's name without `VMASST_TYPE_`.
    pub enum VmAssistType: u32 {
        /// 32-bit guests: full segment limits.
        Segments4gb "4gb_segments" = 0,
        /// 32-bit guests: trap when the former is used.
        Segments4gbNotify "4gb_segments_notify" = 1,
        /// Writes to level 1 tables are emulated.
        WritablePagetables "writable_pagetables" = 2,
        /// 32-bit guests: root tables above 4 GiB.
        PaeExtendedCr3 "pae_extended_cr3" = 3,
        /// The virtual I/O privilege level lives in the flags.
        ArchitecturalIopl "architectural_iopl" = 4,
        /// Updates of the runstate area are marked in it.
        RunstateUpdateFlag "runstate_update_flag" = 5,
        /// The machine-to-physical table is hidden from user mode.
        M2pStrict "m2p_strict" = 32,
    }
}

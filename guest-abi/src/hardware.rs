//! The machine's less common services: machine checks, performance counters, NMIs. Numbers for the most part,
//! since we refuse what guests can do without.

use crate::wire::{operations, wire_struct};

operations! {
    /// Commands of [`Hypercall::Mca`](crate::Hypercall::Mca). `name()` is the interface's without `XEN_MC_`.
    pub enum McaCommand: u32 {
        /// Fetch recorded machine checks.
        Fetch "fetch" = 1,
        /// Tell a domain of a machine check.
        Notifydomain "notifydomain" = 2,
        /// Describe the processors.
        Physcpuinfo "physcpuinfo" = 3,
        /// Inject a register value.
        Msrinject "msrinject" = 4,
        /// Inject a machine check.
        Mceinject "mceinject" = 5,
        /// Inject, second version.
        InjectV2 "inject_v2" = 6,
    }
}

operations! {
    /// Operations of [`Hypercall::XenpmuOp`](crate::Hypercall::XenpmuOp). `name()` is the interface's without
    /// `XENPMU_`.
    pub enum XenpmuOp: u32 {
        /// Read the mode.
        ModeGet "mode_get" = 0,
        /// Set the mode.
        ModeSet "mode_set" = 1,
        /// Read the features.
        FeatureGet "feature_get" = 2,
        /// Set the features.
        FeatureSet "feature_set" = 3,
        /// Start on a vCPU.
        Init "init" = 4,
        /// End on a vCPU.
        Finish "finish" = 5,
        /// Set the local interrupt.
        LvtpcSet "lvtpc_set" = 6,
        /// Write cached values to the hardware.
        Flush "flush" = 7,
    }
}

operations! {
    /// Operations of [`Hypercall::NmiOp`](crate::Hypercall::NmiOp). `name()` is the interface's without
    /// `XENNMI_`.
    pub enum NmiOp: u32 {
        /// Set a handler. Argument: [`NmiCallback`].
        RegisterCallback "register_callback" = 0,
        /// Remove the handler.
        UnregisterCallback "unregister_callback" = 1,
    }
}

wire_struct! {
    /// Argument of [`NmiOp::RegisterCallback`].
    pub struct NmiCallback: 16 {
        /// Linear address of the handler.
        0x00 handler_address: u64,
        /// Unused.
        0x08 _pad: u64,
    }
}

/// `ArchSharedInfo::nmi_reason`: an I/O check.
pub const XEN_NMIREASON_IO_ERROR: u64 = 1 << 0;
/// `ArchSharedInfo::nmi_reason`: a PCI system error.
pub const XEN_NMIREASON_PCI_SERR: u64 = 1 << 1;
/// `ArchSharedInfo::nmi_reason`: not known.
pub const XEN_NMIREASON_UNKNOWN: u64 = 1 << 2;

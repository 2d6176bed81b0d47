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

/// The version of the machine-check interface that a guest states.
pub const XEN_MCA_INTERFACE_VERSION: u32 = 0x01ec_c003;
/// `McFetch::flags`, in: of corrected errors.
pub const XEN_MC_NONURGENT: u32 = 0x0001;
/// `McFetch::flags`, in: of errors that were not corrected.
pub const XEN_MC_URGENT: u32 = 0x0002;
/// `McFetch::flags`, in: what was fetched has been dealt with.
pub const XEN_MC_ACK: u32 = 0x0004;
/// `McFetch::flags`, out: done.
pub const XEN_MC_OK: u32 = 0x0000;
/// `McFetch::flags`, out: there was nothing to fetch.
pub const XEN_MC_NODATA: u32 = 0x0002;

wire_struct! {
    /// Argument of [`Hypercall::Mca`](crate::Hypercall::Mca).
    pub struct Mc: 152 {
        /// A number of [`McaCommand`].
        0x00 cmd: u32,
        /// [`XEN_MCA_INTERFACE_VERSION`].
        0x04 interface_version: u32,
        /// The command's own argument.
        0x08 u: [u8; 144],
    }
    /// Argument of [`McaCommand::Fetch`].
    pub struct McFetch: 24 {
        /// In: what is asked for; out: how it went.
        0x00 flags: u32,
        /// Padding.
        0x04 _pad0: u32,
        /// Out: what to name when it has been dealt with; in: what has been.
        0x08 fetch_id: u64,
        /// Address of a buffer for the record.
        0x10 data: u64,
    }
    /// Argument of [`McaCommand::Physcpuinfo`].
    pub struct McPhyscpuinfo: 16 {
        /// In: room in the list; out: processors there are.
        0x00 ncpus: u32,
        /// Padding.
        0x04 _pad0: u32,
        /// Address of the list of [`McLogicalCpu`]; null asks for the number only.
        0x08 info: u64,
    }
    /// A register's value.
    pub struct McinfoMsr: 16 {
        /// Which.
        0x00 reg: u64,
        /// What is in it.
        0x08 value: u64,
    }
    /// A processor, as machine checks name it.
    pub struct McLogicalCpu: 304 {
        /// Its number.
        0x00 mc_cpunr: u32,
        /// Its package.
        0x04 mc_chipid: u32,
        /// Its core in the package.
        0x08 mc_coreid: u16,
        /// Its thread in the core.
        0x0a mc_threadid: u16,
        /// Its local APIC.
        0x0c mc_apicid: u32,
        /// Its cluster.
        0x10 mc_clusterid: u32,
        /// Cores of the package.
        0x14 mc_ncores: u32,
        /// Those that run.
        0x18 mc_ncores_active: u32,
        /// Threads of a core.
        0x1c mc_nthreads: u32,
        /// Highest basic CPUID leaf.
        0x20 mc_cpuid_level: i32,
        /// Family.
        0x24 mc_family: u32,
        /// Vendor's number.
        0x28 mc_vendor: u32,
        /// Model.
        0x2c mc_model: u32,
        /// Stepping.
        0x30 mc_step: u32,
        /// Vendor's name.
        0x34 mc_vendorid: [u8; 16],
        /// Its own name.
        0x44 mc_brandid: [u8; 64],
        /// CPUID's words of features.
        0x84 mc_cpu_caps: [u32; 7],
        /// Cache in KiB.
        0xa0 mc_cache_size: u32,
        /// Bytes of a line.
        0xa4 mc_cache_alignment: u32,
        /// Registers that follow.
        0xa8 mc_nmsrvals: i32,
        /// Padding.
        0xac _pad0: u32,
        /// The registers.
        0xb0 mc_msrvalues: [McinfoMsr; 8],
    }
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

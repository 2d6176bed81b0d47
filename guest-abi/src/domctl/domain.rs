//! A domain as a whole: made, described, and what is told of it to all its vCPUs.

use crate::wire::wire_struct;

wire_struct! {
    /// What a domain is given of the machine beyond the paravirtualized interface.
    pub struct ArchDomainconfig: 8 {
        /// Emulated devices; none for a paravirtualized domain.
        0x0 emulation_flags: u32,
        /// `XEN_X86_MSR_RELAXED`.
        0x4 misc_flags: u32,
    }

    /// Argument of [`super::DomctlCommand::Createdomain`].
    pub struct Createdomain: 64 {
        /// Label of a security module.
        0x0 ssidref: u32,
        /// What the tool stack knows the domain by.
        0x4 handle: [u8; 16],
        /// `XEN_DOMCTL_CDF_*`.
        0x14 flags: u32,
        /// Of the I/O memory management unit.
        0x18 iommu_opts: u32,
        /// vCPUs it may have.
        0x1c max_vcpus: u32,
        /// Highest event channel it may have.
        0x20 max_evtchn_port: u32,
        /// Frames its grant table may have; below zero: as many as is usual.
        0x24 max_grant_frames: i32,
        /// Frames for its mappings of others' grants; below zero: as many as is usual.
        0x28 max_maptrack_frames: i32,
        /// Highest version of its grant table, in the low four bits.
        0x2c grant_opts: u32,
        /// Bytes for tracing each vCPU.
        0x30 vmtrace_size: u32,
        /// Pool of CPUs it runs in.
        0x34 cpupool_id: u32,
        /// The machine it is given.
        0x38 arch: ArchDomainconfig,
    }

    /// Answer of [`super::DomctlCommand::Getdomaininfo`], and element of the list of domains.
    pub struct Getdomaininfo: 112 {
        /// Its number.
        0x0 domain: u16,
        /// Padding.
        0x2 _pad1: u16,
        /// `XEN_DOMINF_*`.
        0x4 flags: u32,
        /// Frames it has.
        0x8 tot_pages: u64,
        /// Frames it may have.
        0x10 max_pages: u64,
        /// Frames claimed for it, not had yet.
        0x18 outstanding_pages: u64,
        /// Frames it shares.
        0x20 shr_pages: u64,
        /// Frames paged out.
        0x28 paged_pages: u64,
        /// Machine frame of shared_info.
        0x30 shared_info_frame: u64,
        /// Nanoseconds it ran.
        0x38 cpu_time: u64,
        /// vCPUs that are up.
        0x40 nr_online_vcpus: u32,
        /// Highest vCPU it has; [`XEN_INVALID_MAX_VCPU_ID`] for none.
        0x44 max_vcpu_id: u32,
        /// Label of a security module.
        0x48 ssidref: u32,
        /// What the tool stack knows it by.
        0x4c handle: [u8; 16],
        /// Pool of CPUs it runs in.
        0x5c cpupool: u32,
        /// Bits of an address of its memory.
        0x60 gpaddr_bits: u8,
        /// Padding.
        0x61 _pad2: [u8; 7],
        /// The machine it was given.
        0x68 arch_config: ArchDomainconfig,
    }

    /// Argument of [`super::DomctlCommand::MaxVcpus`].
    pub struct MaxVcpus: 4 {
        /// vCPUs.
        0x0 max: u32,
    }

    /// Argument of [`super::DomctlCommand::Setdomainhandle`].
    pub struct Setdomainhandle: 16 {
        /// What the tool stack knows it by.
        0x0 handle: [u8; 16],
    }

    /// Argument of [`super::DomctlCommand::SchedulerOp`].
    pub struct SchedulerOp: 24 {
        /// `XEN_SCHEDULER_*`.
        0x0 sched_id: u32,
        /// `XEN_DOMCTL_SCHEDOP_*`.
        0x4 cmd: u32,
        /// Share of the CPU, against others'.
        0x8 weight: u16,
        /// Most of a CPU in percent; 0 is no limit.
        0xa cap: u16,
        /// Of other schedulers.
        0xc _other: [u32; 3],
    }

    /// Argument of [`super::DomctlCommand::Settimeoffset`].
    pub struct Settimeoffset: 8 {
        /// Seconds by which its day differs.
        0x0 time_offset_seconds: i64,
    }

    /// Argument of [`super::DomctlCommand::Settscinfo`] and [`super::DomctlCommand::Gettscinfo`].
    pub struct TscInfo: 24 {
        /// 0 by itself, 1 always emulated, 2 never.
        0x0 tsc_mode: u32,
        /// Its rate as the guest sees it, in kHz.
        0x4 gtsc_khz: u32,
        /// How often the guest was moved.
        0x8 incarnation: u32,
        /// Padding.
        0xc _pad0: u32,
        /// Nanoseconds since the guest began.
        0x10 elapsed_nsec: u64,
    }

    /// Argument of [`super::DomctlCommand::SetAddressSize`] and [`super::DomctlCommand::GetAddressSize`].
    pub struct AddressSize: 4 {
        /// Bits.
        0x0 size: u32,
    }

    /// Argument of [`super::DomctlCommand::HypercallInit`].
    pub struct HypercallInit: 8 {
        /// Frame to fill.
        0x0 gmfn: u64,
    }
}

/// `Createdomain::flags`: a fully virtualized domain.
pub const XEN_DOMCTL_CDF_HVM: u32 = 1 << 0;
/// `Createdomain::flags`: with hardware-assisted paging.
pub const XEN_DOMCTL_CDF_HAP: u32 = 1 << 1;
/// `Createdomain::flags`: the domain that serves the store.
pub const XEN_DOMCTL_CDF_XS_DOMAIN: u32 = 1 << 4;
/// `Createdomain::flags`: may have devices behind an I/O memory management unit.
pub const XEN_DOMCTL_CDF_IOMMU: u32 = 1 << 5;
/// `Createdomain::flags`: the highest flag there is.
pub const XEN_DOMCTL_CDF_MAX: u32 = 1 << 7;
/// `Createdomain::grant_opts`: where the version is.
pub const XEN_DOMCTL_GRANT_VERSION_MASK: u32 = 0xf;
/// `ArchDomainconfig::misc_flags`: reads of unknown registers give zero instead of a fault.
pub const XEN_X86_MSR_RELAXED: u32 = 1 << 0;

/// `Getdomaininfo::flags`: it is being destroyed.
pub const XEN_DOMINF_DYING: u32 = 1 << 0;
/// `Getdomaininfo::flags`: fully virtualized.
pub const XEN_DOMINF_HVM_GUEST: u32 = 1 << 1;
/// `Getdomaininfo::flags`: it has shut down, for the reason in the bits from [`XEN_DOMINF_SHUTDOWNSHIFT`] on.
pub const XEN_DOMINF_SHUTDOWN: u32 = 1 << 2;
/// `Getdomaininfo::flags`: paused by the control domain.
pub const XEN_DOMINF_PAUSED: u32 = 1 << 3;
/// `Getdomaininfo::flags`: all its vCPUs sleep.
pub const XEN_DOMINF_BLOCKED: u32 = 1 << 4;
/// `Getdomaininfo::flags`: one of its vCPUs is on a CPU.
pub const XEN_DOMINF_RUNNING: u32 = 1 << 5;
/// `Getdomaininfo::flags`: being debugged.
pub const XEN_DOMINF_DEBUGGED: u32 = 1 << 6;
/// `Getdomaininfo::flags`: the domain that serves the store.
pub const XEN_DOMINF_XS_DOMAIN: u32 = 1 << 7;
/// `Getdomaininfo::flags`: the reason of a shutdown, shifted.
pub const XEN_DOMINF_SHUTDOWNMASK: u32 = 255;
/// `Getdomaininfo::flags`: where the reason of a shutdown is.
pub const XEN_DOMINF_SHUTDOWNSHIFT: u32 = 16;
/// `Getdomaininfo::max_vcpu_id`: the domain has no vCPUs.
pub const XEN_INVALID_MAX_VCPU_ID: u32 = !0;

/// A scheduler that goes by weights. Ours answers to its name: see `Sysctl`'s `sched_id`.
pub const XEN_SCHEDULER_CREDIT2: u32 = 6;
/// `SchedulerOp::cmd`: change.
pub const XEN_DOMCTL_SCHEDOP_PUTINFO: u32 = 0;
/// `SchedulerOp::cmd`: ask.
pub const XEN_DOMCTL_SCHEDOP_GETINFO: u32 = 1;

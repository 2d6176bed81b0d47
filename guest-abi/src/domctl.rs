//! Control of one domain: `domctl`, for the control domain alone.
//!
//! A call is one structure of fixed size: a command, a version, the domain it is about, and 128 bytes that the command
//! gives a meaning ([`Domctl::payload`]).

use crate::wire::{Wire, operations, wire_struct};

/// Version every domctl carries; another one is refused.
pub const XEN_DOMCTL_INTERFACE_VERSION: u32 = 0x15;

/// Bytes a command has for its own arguments.
pub const DOMCTL_PAYLOAD: usize = 128;

operations! {
    /// Commands of [`Hypercall::Domctl`](crate::Hypercall::Domctl) that stock tools issue.
    pub enum DomctlCommand: u32 {
        /// Create a domain.
        Createdomain "createdomain" = 1,
        /// Destroy a domain.
        Destroydomain "destroydomain" = 2,
        /// Pause a domain.
        Pausedomain "pausedomain" = 3,
        /// Let a domain run.
        Unpausedomain "unpausedomain" = 4,
        /// Describe a domain.
        Getdomaininfo "getdomaininfo" = 5,
        /// Set a vCPU's affinity.
        Setvcpuaffinity "setvcpuaffinity" = 9,
        /// Control shadow modes.
        ShadowOp "shadow_op" = 10,
        /// Set a domain's most memory.
        MaxMem "max_mem" = 11,
        /// Set a vCPU's state.
        Setvcpucontext "setvcpucontext" = 12,
        /// Read a vCPU's state.
        Getvcpucontext "getvcpucontext" = 13,
        /// Describe a vCPU.
        Getvcpuinfo "getvcpuinfo" = 14,
        /// Set a domain's vCPUs.
        MaxVcpus "max_vcpus" = 15,
        /// Scheduling parameters.
        SchedulerOp "scheduler_op" = 16,
        /// Set a domain's handle.
        Setdomainhandle "setdomainhandle" = 17,
        /// Debugging on or off.
        Setdebugging "setdebugging" = 18,
        /// Permit an interrupt.
        IrqPermission "irq_permission" = 19,
        /// Permit I/O memory.
        IomemPermission "iomem_permission" = 20,
        /// Permit I/O ports.
        IoportPermission "ioport_permission" = 21,
        /// Fill a hypercall page.
        HypercallInit "hypercall_init" = 22,
        /// Set a domain's time offset.
        Settimeoffset "settimeoffset" = 24,
        /// Read a vCPU's affinity.
        Getvcpuaffinity "getvcpuaffinity" = 25,
        /// Let a suspended domain go on.
        Resumedomain "resumedomain" = 27,
        /// Choose 32 or 64 bits.
        SetAddressSize "set_address_size" = 35,
        /// Which of the two.
        GetAddressSize "get_address_size" = 36,
        /// Set more of a vCPU's state.
        SetExtVcpucontext "set_ext_vcpucontext" = 42,
        /// Read more of a vCPU's state.
        GetExtVcpucontext "get_ext_vcpucontext" = 43,
        /// Read how the counter is presented.
        Gettscinfo "gettscinfo" = 59,
        /// Set how the counter is presented.
        Settscinfo "settscinfo" = 60,
        /// Types of frames.
        Getpageframeinfo3 "getpageframeinfo3" = 61,
        /// Set extended processor state.
        Setvcpuextstate "setvcpuextstate" = 62,
        /// Read extended processor state.
        Getvcpuextstate "getvcpuextstate" = 63,
        /// Set a domain's nodes.
        Setnodeaffinity "setnodeaffinity" = 68,
        /// Read a domain's nodes.
        Getnodeaffinity "getnodeaffinity" = 69,
        /// Read a vCPU's registers.
        GetVcpuMsrs "get_vcpu_msrs" = 72,
        /// Set a vCPU's registers.
        SetVcpuMsrs "set_vcpu_msrs" = 73,
        /// Read what CPUID shows.
        GetCpuPolicy "get_cpu_policy" = 82,
        /// Set what CPUID shows.
        SetCpuPolicy "set_cpu_policy" = 83,
    }
}

wire_struct! {
    /// Argument of [`Hypercall::Domctl`](crate::Hypercall::Domctl).
    pub struct Domctl: 144 {
        /// A [`DomctlCommand`].
        0x0 cmd: u32,
        /// [`XEN_DOMCTL_INTERFACE_VERSION`].
        0x4 interface_version: u32,
        /// The domain it is about.
        0x8 domain: u16,
        /// Padding.
        0xa _pad0: [u16; 3],
        /// What the command takes and gives.
        0x10 u: [u8; DOMCTL_PAYLOAD],
    }

    /// What a domain is given of the machine beyond the paravirtualized interface.
    pub struct ArchDomainconfig: 8 {
        /// Emulated devices; none for a paravirtualized domain.
        0x0 emulation_flags: u32,
        /// `XEN_X86_MSR_RELAXED`.
        0x4 misc_flags: u32,
    }

    /// Argument of [`DomctlCommand::Createdomain`].
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

    /// Answer of [`DomctlCommand::Getdomaininfo`], and element of the list of domains.
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

    /// A set of small numbers in the caller's memory, a bit for each.
    pub struct Bitmap: 16 {
        /// Pointer to its bytes.
        0x0 bitmap: u64,
        /// Bits there is room for.
        0x8 nr_bits: u32,
        /// Padding.
        0xc _pad0: u32,
    }

    /// Argument of [`DomctlCommand::Getpageframeinfo3`].
    pub struct Getpageframeinfo3: 16 {
        /// How many.
        0x0 num: u64,
        /// Pointer to `u64` frame numbers, replaced by `XEN_DOMCTL_PFINFO_*`.
        0x8 array: u64,
    }

    /// Argument of [`DomctlCommand::MaxMem`].
    pub struct MaxMem: 8 {
        /// KiB.
        0x0 max_memkb: u64,
    }

    /// Argument of [`DomctlCommand::Setvcpucontext`] and [`DomctlCommand::Getvcpucontext`].
    pub struct Vcpucontext: 16 {
        /// The vCPU.
        0x0 vcpu: u32,
        /// Padding.
        0x4 _pad0: u32,
        /// Pointer to a [`VcpuGuestContext`](crate::context::VcpuGuestContext).
        0x8 ctxt: u64,
    }

    /// Argument of [`DomctlCommand::Getvcpuinfo`].
    pub struct Getvcpuinfo: 24 {
        /// In: the vCPU.
        0x0 vcpu: u32,
        /// Whether it is up.
        0x4 online: u8,
        /// Whether it sleeps.
        0x5 blocked: u8,
        /// Whether it is on a CPU.
        0x6 running: u8,
        /// Padding.
        0x7 _pad0: u8,
        /// Nanoseconds it ran.
        0x8 cpu_time: u64,
        /// CPU it is on.
        0x10 cpu: u32,
        /// Padding.
        0x14 _pad1: u32,
    }

    /// Argument of [`DomctlCommand::Setnodeaffinity`] and [`DomctlCommand::Getnodeaffinity`].
    pub struct Nodeaffinity: 16 {
        /// Nodes its memory should come from.
        0x0 nodemap: Bitmap,
    }

    /// Argument of [`DomctlCommand::Setvcpuaffinity`] and [`DomctlCommand::Getvcpuaffinity`].
    pub struct Vcpuaffinity: 40 {
        /// The vCPU.
        0x0 vcpu: u32,
        /// `XEN_VCPUAFFINITY_*`: which of the two.
        0x4 flags: u32,
        /// CPUs it may run on.
        0x8 cpumap_hard: Bitmap,
        /// CPUs it should run on.
        0x18 cpumap_soft: Bitmap,
    }

    /// Argument of [`DomctlCommand::MaxVcpus`].
    pub struct MaxVcpus: 4 {
        /// vCPUs.
        0x0 max: u32,
    }

    /// Argument of [`DomctlCommand::SchedulerOp`].
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

    /// Argument of [`DomctlCommand::Setdomainhandle`].
    pub struct Setdomainhandle: 16 {
        /// What the tool stack knows it by.
        0x0 handle: [u8; 16],
    }

    /// Argument of [`DomctlCommand::IrqPermission`].
    pub struct IrqPermission: 8 {
        /// The interrupt.
        0x0 pirq: u32,
        /// Whether to permit it.
        0x4 allow_access: u8,
        /// Padding.
        0x5 _pad0: [u8; 3],
    }

    /// Argument of [`DomctlCommand::IomemPermission`].
    pub struct IomemPermission: 24 {
        /// The first frame.
        0x0 first_mfn: u64,
        /// Frames.
        0x8 nr_mfns: u64,
        /// Whether to permit them.
        0x10 allow_access: u8,
        /// Padding.
        0x11 _pad0: [u8; 7],
    }

    /// Argument of [`DomctlCommand::IoportPermission`].
    pub struct IoportPermission: 12 {
        /// The first port.
        0x0 first_port: u32,
        /// Ports.
        0x4 nr_ports: u32,
        /// Whether to permit them.
        0x8 allow_access: u8,
        /// Padding.
        0x9 _pad0: [u8; 3],
    }

    /// Argument of [`DomctlCommand::HypercallInit`].
    pub struct HypercallInit: 8 {
        /// Frame to fill.
        0x0 gmfn: u64,
    }

    /// Argument of [`DomctlCommand::Settimeoffset`].
    pub struct Settimeoffset: 8 {
        /// Seconds by which its day differs.
        0x0 time_offset_seconds: i64,
    }

    /// Argument of [`DomctlCommand::SetAddressSize`] and [`DomctlCommand::GetAddressSize`].
    pub struct AddressSize: 4 {
        /// Bits.
        0x0 size: u32,
    }

    /// Argument of [`DomctlCommand::Settscinfo`] and [`DomctlCommand::Gettscinfo`].
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

    /// Argument of [`DomctlCommand::SetExtVcpucontext`] and [`DomctlCommand::GetExtVcpucontext`].
    pub struct ExtVcpucontext: 64 {
        /// The vCPU.
        0x0 vcpu: u32,
        /// Bytes from here on that count.
        0x4 size: u32,
        /// Handler of 32-bit `syscall`.
        0x8 syscall32_callback_eip: u64,
        /// Handler of `sysenter`.
        0x10 sysenter_callback_eip: u64,
        /// Its code selector.
        0x18 syscall32_callback_cs: u16,
        /// Its code selector.
        0x1a sysenter_callback_cs: u16,
        /// Whether it masks events.
        0x1c syscall32_disables_events: u8,
        /// Whether it masks events.
        0x1d sysenter_disables_events: u8,
        /// Padding.
        0x1e _pad0: u16,
        /// Machine-check capabilities.
        0x20 mcg_cap: u64,
        /// Machine-check banks.
        0x28 _vmce: [u64; 3],
    }

    /// Argument of [`DomctlCommand::Setvcpuextstate`] and [`DomctlCommand::Getvcpuextstate`].
    pub struct Vcpuextstate: 32 {
        /// The vCPU.
        0x0 vcpu: u32,
        /// Padding.
        0x4 _pad0: u32,
        /// Parts of the state there are.
        0x8 xfeature_mask: u64,
        /// Bytes.
        0x10 size: u64,
        /// Pointer to them.
        0x18 buffer: u64,
    }

    /// Argument of [`DomctlCommand::GetVcpuMsrs`] and [`DomctlCommand::SetVcpuMsrs`].
    pub struct VcpuMsrs: 16 {
        /// The vCPU.
        0x0 vcpu: u32,
        /// Registers.
        0x4 msr_count: u32,
        /// Pointer to them.
        0x8 msrs: u64,
    }

    /// Argument of [`DomctlCommand::GetCpuPolicy`] and [`DomctlCommand::SetCpuPolicy`].
    pub struct CpuPolicy: 40 {
        /// Leaves there is room for; leaves written.
        0x0 nr_leaves: u32,
        /// Registers there is room for; registers written.
        0x4 nr_msrs: u32,
        /// Pointer to [`CpuidLeaf`]s.
        0x8 leaves: u64,
        /// Pointer to [`MsrEntry`]s.
        0x10 msrs: u64,
        /// The leaf that was refused.
        0x18 err_leaf: u32,
        /// Its subleaf.
        0x1c err_subleaf: u32,
        /// The register that was refused.
        0x20 err_msr: u32,
        /// Padding.
        0x24 _pad0: u32,
    }

    /// What CPUID says for one leaf.
    pub struct CpuidLeaf: 24 {
        /// EAX in.
        0x0 leaf: u32,
        /// ECX in, or [`XEN_CPUID_NO_SUBLEAF`].
        0x4 subleaf: u32,
        /// EAX.
        0x8 a: u32,
        /// EBX.
        0xc b: u32,
        /// ECX.
        0x10 c: u32,
        /// EDX.
        0x14 d: u32,
    }

    /// A model-specific register.
    pub struct MsrEntry: 16 {
        /// Its number.
        0x0 idx: u32,
        /// Zero.
        0x4 flags: u32,
        /// Its value.
        0x8 val: u64,
    }
}

impl Domctl {
    /// A call of this command, otherwise zero.
    pub const fn new(cmd: DomctlCommand, domain: u16) -> Self {
        Self {
            cmd: cmd.number(),
            interface_version: XEN_DOMCTL_INTERFACE_VERSION,
            domain,
            ..Self::ZERO
        }
    }

    /// What the command takes and gives, read as its own structure.
    #[inline]
    pub fn payload<T: Wire>(&self) -> T {
        const { assert!(T::SIZE <= DOMCTL_PAYLOAD) };
        T::read_from(&self.u).unwrap_or(T::ZERO)
    }

    /// Sets what the command takes and gives; bytes beyond it are kept.
    #[inline]
    pub fn set_payload<T: Wire>(&mut self, value: &T) {
        const { assert!(T::SIZE <= DOMCTL_PAYLOAD) };
        // It fits.
        let _ = value.write_to(&mut self.u);
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

/// Type of a frame, as [`DomctlCommand::Getpageframeinfo3`] tells it: no table.
pub const XEN_DOMCTL_PFINFO_NOTAB: u32 = 0;
/// A table of level 1.
pub const XEN_DOMCTL_PFINFO_L1TAB: u32 = 1 << 28;
/// A table of level 2.
pub const XEN_DOMCTL_PFINFO_L2TAB: u32 = 2 << 28;
/// A table of level 3.
pub const XEN_DOMCTL_PFINFO_L3TAB: u32 = 3 << 28;
/// A table of level 4.
pub const XEN_DOMCTL_PFINFO_L4TAB: u32 = 4 << 28;
/// A table that is pinned.
pub const XEN_DOMCTL_PFINFO_LPINTAB: u32 = 1 << 31;
/// No frame of the domain's.
pub const XEN_DOMCTL_PFINFO_XTAB: u32 = 0xf << 28;

/// `Vcpuaffinity::flags`: where it may run.
pub const XEN_VCPUAFFINITY_HARD: u32 = 1 << 0;
/// `Vcpuaffinity::flags`: where it should run.
pub const XEN_VCPUAFFINITY_SOFT: u32 = 1 << 1;
/// `Vcpuaffinity::flags`: even if it is pinned elsewhere for a while.
pub const XEN_VCPUAFFINITY_FORCE: u32 = 1 << 2;

/// A scheduler that goes by weights. Ours answers to its name: see `Sysctl`'s `sched_id`.
pub const XEN_SCHEDULER_CREDIT2: u32 = 6;
/// `SchedulerOp::cmd`: change.
pub const XEN_DOMCTL_SCHEDOP_PUTINFO: u32 = 0;
/// `SchedulerOp::cmd`: ask.
pub const XEN_DOMCTL_SCHEDOP_GETINFO: u32 = 1;

/// `CpuidLeaf::subleaf`: ECX does not matter.
pub const XEN_CPUID_NO_SUBLEAF: u32 = 0xffff_ffff;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_takes_survives_the_way_through_the_call() {
        let mut call = Domctl::new(DomctlCommand::MaxMem, 7);
        let value = MaxMem { max_memkb: 1 << 40 };
        call.set_payload(&value);
        assert_eq!(call.payload::<MaxMem>(), value);
        assert_eq!(call.u[MaxMem::SIZE..].iter().find(|byte| **byte != 0), None);
    }
}

//! Control of the machine: `sysctl`, for the control domain alone.
//!
//! A call is one structure of fixed size: a command, a version, and 128 bytes that the command gives a meaning
//! ([`Sysctl::payload`]).

use crate::domctl::Bitmap;
use crate::wire::{Wire, operations, wire_struct};

/// Version every sysctl carries; another one is refused.
pub const XEN_SYSCTL_INTERFACE_VERSION: u32 = 0x15;

/// Bytes a command has for its own arguments.
pub const SYSCTL_PAYLOAD: usize = 128;

operations! {
    /// Commands of [`Hypercall::Sysctl`](crate::Hypercall::Sysctl) that stock tools issue.
    pub enum SysctlCommand: u32 {
        /// Read the hypervisor's messages.
        Readconsole "readconsole" = 1,
        /// Control tracing.
        TbufOp "tbuf_op" = 2,
        /// Describe the machine.
        Physinfo "physinfo" = 3,
        /// Name the scheduler.
        SchedId "sched_id" = 4,
        /// Read performance counters.
        PerfcOp "perfc_op" = 5,
        /// Describe the domains.
        Getdomaininfolist "getdomaininfolist" = 6,
        /// Press a debugging key.
        DebugKeys "debug_keys" = 7,
        /// Idle times of the processors.
        Getcpuinfo "getcpuinfo" = 8,
        /// Free memory.
        Availheap "availheap" = 9,
        /// Power statistics.
        GetPmstat "get_pmstat" = 10,
        /// Processors on or off.
        CpuHotplug "cpu_hotplug" = 11,
        /// Power control.
        PmOp "pm_op" = 12,
        /// Topology of the processors.
        Cputopoinfo "cputopoinfo" = 16,
        /// Topology of the memory.
        Numainfo "numainfo" = 17,
        /// Pools of processors.
        CpupoolOp "cpupool_op" = 18,
        /// Scheduling parameters.
        SchedulerOp "scheduler_op" = 19,
        /// What CPUID can be levelled to.
        GetCpuLevellingCaps "get_cpu_levelling_caps" = 25,
        /// Sets of CPUID features.
        GetCpuFeatureset "get_cpu_featureset" = 26,
        /// What CPUID shows.
        GetCpuPolicy "get_cpu_policy" = 29,
    }
}

wire_struct! {
    /// Argument of [`Hypercall::Sysctl`](crate::Hypercall::Sysctl).
    pub struct Sysctl: 136 {
        /// A [`SysctlCommand`].
        0x0 cmd: u32,
        /// [`XEN_SYSCTL_INTERFACE_VERSION`].
        0x4 interface_version: u32,
        /// What the command takes and gives.
        0x8 u: [u8; SYSCTL_PAYLOAD],
    }

    /// Argument of [`SysctlCommand::Readconsole`].
    pub struct Readconsole: 24 {
        /// Whether to forget what was read.
        0x0 clear: u8,
        /// Whether to begin at `index`.
        0x1 incremental: u8,
        /// Padding.
        0x2 _pad0: u16,
        /// Where to begin; where the next read should.
        0x4 index: u32,
        /// Pointer to room for text.
        0x8 buffer: u64,
        /// Bytes there is room for; bytes written.
        0x10 count: u32,
        /// Padding.
        0x14 _pad1: u32,
    }

    /// Answer of [`SysctlCommand::Physinfo`].
    pub struct Physinfo: 112 {
        /// Threads of a core.
        0x0 threads_per_core: u32,
        /// Cores of a package.
        0x4 cores_per_socket: u32,
        /// CPUs that run.
        0x8 nr_cpus: u32,
        /// Highest number of a CPU.
        0xc max_cpu_id: u32,
        /// Memory nodes.
        0x10 nr_nodes: u32,
        /// Highest number of a node.
        0x14 max_node_id: u32,
        /// Rate of the time-stamp counter in kHz.
        0x18 cpu_khz: u32,
        /// `XEN_SYSCTL_PHYSCAP_*`.
        0x1c capabilities: u32,
        /// Zero on x86.
        0x20 arch_capabilities: u32,
        /// Padding.
        0x24 pad: u32,
        /// Frames of memory.
        0x28 total_pages: u64,
        /// Frames nobody has.
        0x30 free_pages: u64,
        /// Frames yet to be cleared.
        0x38 scrub_pages: u64,
        /// Frames claimed, not had yet.
        0x40 outstanding_pages: u64,
        /// Highest frame number.
        0x48 max_mfn: u64,
        /// CPUID feature words.
        0x50 hw_cap: [u32; 8],
    }

    /// Answer of [`SysctlCommand::SchedId`].
    pub struct SchedId: 4 {
        /// `XEN_SCHEDULER_*`.
        0x0 sched_id: u32,
    }

    /// Argument of [`SysctlCommand::Getdomaininfolist`].
    pub struct Getdomaininfolist: 24 {
        /// The lowest number to tell of.
        0x0 first_domain: u16,
        /// Padding.
        0x2 _pad0: u16,
        /// Elements there is room for.
        0x4 max_domains: u32,
        /// Pointer to [`Getdomaininfo`](crate::domctl::Getdomaininfo)s.
        0x8 buffer: u64,
        /// Elements written.
        0x10 num_domains: u32,
        /// Padding.
        0x14 _pad1: u32,
    }

    /// Argument of [`SysctlCommand::DebugKeys`].
    pub struct DebugKeys: 16 {
        /// Pointer to the keys.
        0x0 keys: u64,
        /// How many.
        0x8 nr_keys: u32,
        /// Padding.
        0xc _pad0: u32,
    }

    /// Element of [`SysctlCommand::Getcpuinfo`]'s list.
    pub struct Cpuinfo: 8 {
        /// Nanoseconds without work.
        0x0 idletime: u64,
    }

    /// Argument of [`SysctlCommand::Getcpuinfo`].
    pub struct Getcpuinfo: 24 {
        /// Elements there is room for.
        0x0 max_cpus: u32,
        /// Padding.
        0x4 _pad0: u32,
        /// Pointer to [`Cpuinfo`]s.
        0x8 info: u64,
        /// Elements written.
        0x10 nr_cpus: u32,
        /// Padding.
        0x14 _pad1: u32,
    }

    /// Argument of [`SysctlCommand::Availheap`].
    pub struct Availheap: 24 {
        /// Shortest addresses, 0 for any.
        0x0 min_bitwidth: u32,
        /// Longest addresses, 0 for any.
        0x4 max_bitwidth: u32,
        /// Memory node, -1 for any.
        0x8 node: i32,
        /// Padding.
        0xc _pad0: u32,
        /// Bytes free there.
        0x10 avail_bytes: u64,
    }

    /// Element of [`SysctlCommand::Cputopoinfo`]'s list.
    pub struct Cputopo: 12 {
        /// Its core.
        0x0 core: u32,
        /// Its package.
        0x4 socket: u32,
        /// Its memory node.
        0x8 node: u32,
    }

    /// Argument of [`SysctlCommand::Cputopoinfo`].
    pub struct Cputopoinfo: 16 {
        /// Elements there is room for; elements there are.
        0x0 num_cpus: u32,
        /// Padding.
        0x4 _pad0: u32,
        /// Pointer to [`Cputopo`]s, or null.
        0x8 cputopo: u64,
    }

    /// Element of [`SysctlCommand::Numainfo`]'s list.
    pub struct Meminfo: 16 {
        /// Bytes of a node.
        0x0 memsize: u64,
        /// Bytes of it nobody has.
        0x8 memfree: u64,
    }

    /// Argument of [`SysctlCommand::Numainfo`].
    pub struct Numainfo: 24 {
        /// Elements there is room for; elements there are.
        0x0 num_nodes: u32,
        /// Padding.
        0x4 _pad0: u32,
        /// Pointer to [`Meminfo`]s, or null.
        0x8 meminfo: u64,
        /// Pointer to `u32` distances, a row for each node, or null.
        0x10 distance: u64,
    }

    /// Argument of [`SysctlCommand::CpupoolOp`].
    pub struct CpupoolOp: 40 {
        /// `XEN_SYSCTL_CPUPOOL_OP_*`.
        0x0 op: u32,
        /// The pool.
        0x4 cpupool_id: u32,
        /// Its scheduler.
        0x8 sched_id: u32,
        /// A domain to move.
        0xc domid: u32,
        /// A CPU to add or take away.
        0x10 cpu: u32,
        /// Its domains.
        0x14 n_dom: u32,
        /// Its CPUs.
        0x18 cpumap: Bitmap,
    }

    /// Answer of [`SysctlCommand::GetCpuLevellingCaps`].
    pub struct CpuLevellingCaps: 4 {
        /// What can be hidden from user mode.
        0x0 caps: u32,
    }

    /// Argument of [`SysctlCommand::GetCpuFeatureset`].
    pub struct CpuFeatureset: 16 {
        /// `XEN_SYSCTL_CPU_FEATURESET_*`.
        0x0 index: u32,
        /// Words there is room for; words there are.
        0x4 nr_features: u32,
        /// Pointer to `u32` words, or null.
        0x8 features: u64,
    }

    /// Argument of [`SysctlCommand::GetCpuPolicy`].
    pub struct CpuPolicy: 32 {
        /// `XEN_SYSCTL_CPU_POLICY_*`.
        0x0 index: u32,
        /// Leaves there is room for; leaves there are.
        0x4 nr_leaves: u32,
        /// Registers there is room for; registers there are.
        0x8 nr_msrs: u32,
        /// Zero.
        0xc _rsvd: u32,
        /// Pointer to [`CpuidLeaf`](crate::domctl::CpuidLeaf)s, or null.
        0x10 leaves: u64,
        /// Pointer to [`MsrEntry`](crate::domctl::MsrEntry)s, or null.
        0x18 msrs: u64,
    }
}

impl Sysctl {
    /// A call of this command, otherwise zero.
    pub const fn new(cmd: SysctlCommand) -> Self {
        Self {
            cmd: cmd.number(),
            interface_version: XEN_SYSCTL_INTERFACE_VERSION,
            ..Self::ZERO
        }
    }

    /// What the command takes and gives, read as its own structure.
    #[inline]
    pub fn payload<T: Wire>(&self) -> T {
        const { assert!(T::SIZE <= SYSCTL_PAYLOAD) };
        T::read_from(&self.u).unwrap_or(T::ZERO)
    }

    /// Sets what the command takes and gives; bytes beyond it are kept.
    #[inline]
    pub fn set_payload<T: Wire>(&mut self, value: &T) {
        const { assert!(T::SIZE <= SYSCTL_PAYLOAD) };
        // It fits.
        let _ = value.write_to(&mut self.u);
    }
}

/// `Physinfo::capabilities`: runs paravirtualized domains.
pub const XEN_SYSCTL_PHYSCAP_PV: u32 = 1 << 1;
/// `Physinfo::capabilities`: has grant tables of version 1.
pub const XEN_SYSCTL_PHYSCAP_GNTTAB_V1: u32 = 1 << 8;

/// `Numainfo`: no such distance.
pub const XEN_INVALID_NODE_DIST: u32 = !0;

/// `CpupoolOp::op`: describe a pool, or the next there is.
pub const XEN_SYSCTL_CPUPOOL_OP_INFO: u32 = 3;
/// `CpupoolOp::op`: CPUs of no pool.
pub const XEN_SYSCTL_CPUPOOL_OP_FREEINFO: u32 = 7;
/// `CpupoolOp::cpupool_id`: any pool.
pub const XEN_SYSCTL_CPUPOOL_PAR_ANY: u32 = 0xffff_ffff;

/// `CpuFeatureset::index`: what the CPU says.
pub const XEN_SYSCTL_CPU_FEATURESET_RAW: u32 = 0;
/// `CpuFeatureset::index`: what the hypervisor uses.
pub const XEN_SYSCTL_CPU_FEATURESET_HOST: u32 = 1;
/// `CpuFeatureset::index`: what a paravirtualized domain is shown.
pub const XEN_SYSCTL_CPU_FEATURESET_PV: u32 = 2;
/// `CpuFeatureset::index`: what a paravirtualized domain can be shown.
pub const XEN_SYSCTL_CPU_FEATURESET_PV_MAX: u32 = 4;

/// `CpuPolicy::index`: what the CPU says.
pub const XEN_SYSCTL_CPU_POLICY_RAW: u32 = 0;
/// `CpuPolicy::index`: what the hypervisor uses.
pub const XEN_SYSCTL_CPU_POLICY_HOST: u32 = 1;
/// `CpuPolicy::index`: what a paravirtualized domain can be shown.
pub const XEN_SYSCTL_CPU_POLICY_PV_MAX: u32 = 2;
/// `CpuPolicy::index`: what a paravirtualized domain is shown.
pub const XEN_SYSCTL_CPU_POLICY_PV_DEFAULT: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_takes_survives_the_way_through_the_call() {
        let mut call = Sysctl::new(SysctlCommand::SchedId);
        let value = SchedId { sched_id: 6 };
        call.set_payload(&value);
        assert_eq!(call.payload::<SchedId>(), value);
        assert_eq!(
            call.u[SchedId::SIZE..].iter().find(|byte| **byte != 0),
            None
        );
    }
}

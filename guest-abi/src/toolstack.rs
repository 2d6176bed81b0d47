//! Numbers of the control interface. Its structures come with the facilities that serve them.

use crate::wire::operations;

/// Version every domctl carries.
pub const XEN_DOMCTL_INTERFACE_VERSION: u32 = 0x15;
/// Version every sysctl carries.
pub const XEN_SYSCTL_INTERFACE_VERSION: u32 = 0x15;

operations! {
    /// Commands of [`Hypercall::Domctl`](crate::Hypercall::Domctl) that stock tools issue.
    pub enum Domctl: u32 {
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

operations! {
    /// Commands of [`Hypercall::Sysctl`](crate::Hypercall::Sysctl) that stock tools issue.
    pub enum Sysctl: u32 {
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

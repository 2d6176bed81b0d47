//! The interface's numbers in the widths that hypercall arguments have here, and its structures.
//!
//! Everything is guest-abi's; the short names only save conversions in the guests.

pub use guest_abi::Wire;
pub use guest_abi::blkif;
pub use guest_abi::callback::CallbackRegister;
pub use guest_abi::console::XenconsInterface;
pub use guest_abi::context::{
    TI_MASK_EVENTS, TrapInfo, VGCF_FAILSAFE_DISABLES_EVENTS, VGCF_I387_VALID, VGCF_IN_KERNEL,
    VGCF_ONLINE, VGCF_SYSCALL_DISABLES_EVENTS, VcpuGuestContext,
};
pub use guest_abi::domctl::{self, Domctl, DomctlCommand, Getdomaininfo};
pub use guest_abi::ends;
pub use guest_abi::event;
pub use guest_abi::grant;
pub use guest_abi::hardware;
pub use guest_abi::hypercall::MulticallEntry;
pub use guest_abi::ledger;
pub use guest_abi::memory::{
    E820Entry, XenForeignMemoryMap, XenMachphysMfnList, XenMemAcquireResource, XenMemoryDomain,
    XenMemoryExchange, XenMemoryMap, XenMemoryReservation, XenVnumaTopologyInfo,
};
pub use guest_abi::mmu::{MmuUpdate, MmuextOp};
pub use guest_abi::physdev;
pub use guest_abi::platform::{
    EnterAcpiSleep, PlatformCommand, PlatformOp, XENPF_INTERFACE_VERSION,
};
pub use guest_abi::reserve;
pub use guest_abi::sched::{Poll, RemoteShutdown, ShutdownReason, Watchdog};
pub use guest_abi::segment::{
    HYPERVISOR_VIRT_END as HOLE_END, HYPERVISOR_VIRT_START as HOLE_START,
};
pub use guest_abi::segment::{
    MACH2PHYS_VIRT_START, ROOT_TABLE_FIRST_XEN_SLOT, ROOT_TABLE_LAST_XEN_SLOT,
};
pub use guest_abi::shared_info::{SharedInfo, VcpuInfo, VcpuTimeInfo};
pub use guest_abi::start_info::{SIF_INITDOMAIN, SIF_PRIVILEGED, StartInfo};
pub use guest_abi::sysctl::{self, Physinfo, Sysctl, SysctlCommand};
pub use guest_abi::usage;
pub use guest_abi::usage_area;
pub use guest_abi::vcpu::{RegisterVcpuInfo, VcpuRunstateInfo};
pub use guest_abi::xeno;
pub use guest_abi::xenstore;

/// The operations as lists, for tests that go through all of them.
pub mod operations {
    pub use guest_abi::event::EventChannelOp;
    pub use guest_abi::grant::GrantTableOp;
    pub use guest_abi::hypercall::Hypercall;
    pub use guest_abi::memory::MemoryOp;
    pub use guest_abi::physdev::PhysdevOp;
    pub use guest_abi::sched::SchedOp;
    pub use guest_abi::xeno::XenoCommand;
}

/// The domain itself, where a domain id is asked for.
pub const DOMID_SELF: u64 = guest_abi::domid::DOMID_SELF as u64;
/// No domain.
pub const DOMID_INVALID: u64 = guest_abi::domid::DOMID_INVALID as u64;

/// Virtual address of pseudo-physical page 0 as nearly all guests' notes have it; [`crate::frames::virt_base`] tells
/// it of any.
pub const VIRT_BASE: u64 = 0xffff_ffff_8000_0000;

/// 64-bit code selector the hypervisor offers, as hardware holds it.
pub const CODE64: u16 = guest_abi::segment::FLAT_RING3_CS64;
/// The same with privilege level 0: what frames of kernel mode carry.
pub const KERNEL_CODE64: u16 = CODE64 & !3;
/// Data and stack selector.
pub const DATA: u16 = guest_abi::segment::FLAT_RING3_SS64;
/// 32-bit code selector.
pub const CODE32: u16 = guest_abi::segment::FLAT_RING3_CS32;

/// Commands in the low bits of [`MmuUpdate::ptr`].
pub mod mmu {
    pub use guest_abi::mmu::{
        MMU_MACHPHYS_UPDATE as MACHPHYS, MMU_PT_UPDATE_NO_TRANSLATE as NO_TRANSLATE,
        MMU_PT_UPDATE_PRESERVE_AD as PRESERVE_AD,
    };
}

/// Gives variants of an enumeration of guest-abi names and a width.
macro_rules! numbers {
    ($(#[$doc:meta])* $module:ident: $width:ty = $family:path { $($name:ident $variant:ident,)+ }) => {
        $(#[$doc])*
        pub mod $module {
            #![allow(missing_docs)]
            use $family as Family;
            $(pub const $name: $width = Family::$variant.number() as $width;)+
        }
    };
}

numbers! {
    /// Hypercall numbers.
    nr: u64 = guest_abi::Hypercall {
        SET_TRAP_TABLE SetTrapTable,
        MMU_UPDATE MmuUpdate,
        SET_GDT SetGdt,
        STACK_SWITCH StackSwitch,
        FPU_TASKSWITCH FpuTaskswitch,
        SET_DEBUGREG SetDebugreg,
        GET_DEBUGREG GetDebugreg,
        UPDATE_DESCRIPTOR UpdateDescriptor,
        MEMORY_OP MemoryOp,
        MULTICALL Multicall,
        UPDATE_VA_MAPPING UpdateVaMapping,
        SET_TIMER_OP SetTimerOp,
        XEN_VERSION XenVersion,
        CONSOLE_IO ConsoleIo,
        GRANT_TABLE_OP GrantTableOp,
        VM_ASSIST VmAssist,
        IRET Iret,
        VCPU_OP VcpuOp,
        SET_SEGMENT_BASE SetSegmentBase,
        MMUEXT_OP MmuextOp,
        SCHED_OP SchedOp,
        CALLBACK_OP CallbackOp,
        EVENT_CHANNEL_OP EventChannelOp,
        PHYSDEV_OP PhysdevOp,
        UPDATE_VA_MAPPING_OTHERDOMAIN UpdateVaMappingOtherdomain,
        PLATFORM_OP PlatformOp,
        SYSCTL Sysctl,
        DOMCTL Domctl,
        MCA Mca,
        XENO_OP XenoOp,
    }
}

numbers! {
    /// Error numbers, positive; a hypercall returns them negated.
    errno: i64 = guest_abi::Errno {
        EPERM Perm,
        ENOENT NoEnt,
        ESRCH Srch,
        EACCES Access,
        EFAULT Fault,
        EAGAIN Again,
        EEXIST Exist,
        EXDEV XDev,
        ENODEV NoDev,
        EBUSY Busy,
        EINVAL Inval,
        ENOMEM NoMem,
        ENOSPC NoSpc,
        EDOM Dom,
        ENOSYS NoSys,
        ERANGE Range,
        EOPNOTSUPP OpNotSupp,
        EOVERFLOW Overflow,
        ENODATA NoData,
        ENOBUFS NoBufs,
        E2BIG TooBig,
    }
}

numbers! {
    /// Commands of mmuext_op.
    mmuext: u32 = guest_abi::mmu::MmuextCommand {
        PIN_L1 PinL1Table,
        PIN_L2 PinL2Table,
        PIN_L3 PinL3Table,
        PIN_L4 PinL4Table,
        UNPIN UnpinTable,
        NEW_BASEPTR NewBaseptr,
        TLB_FLUSH_LOCAL TlbFlushLocal,
        INVLPG_LOCAL InvlpgLocal,
        TLB_FLUSH_MULTI TlbFlushMulti,
        INVLPG_MULTI InvlpgMulti,
        TLB_FLUSH_ALL TlbFlushAll,
        SET_LDT SetLdt,
        NEW_USER_BASEPTR NewUserBaseptr,
        FLUSH_CACHE FlushCache,
        CLEAR_PAGE ClearPage,
        COPY_PAGE CopyPage,
    }
}

numbers! {
    /// Kinds of callbacks.
    callback: u16 = guest_abi::callback::CallbackType {
        EVENT Event,
        FAILSAFE Failsafe,
        SYSCALL Syscall,
        SYSENTER Sysenter,
        SYSCALL32 Syscall32,
    }
}

numbers! {
    /// Operations on event channels.
    evtchn: u64 = guest_abi::event::EventChannelOp {
        BIND_INTERDOMAIN BindInterdomain,
        BIND_VIRQ BindVirq,
        BIND_PIRQ BindPirq,
        CLOSE Close,
        SEND Send,
        STATUS Status,
        ALLOC_UNBOUND AllocUnbound,
        BIND_IPI BindIpi,
        BIND_VCPU BindVcpu,
        UNMASK Unmask,
        RESET Reset,
    }
}

numbers! {
    /// Operations of sched_op.
    sched: u64 = guest_abi::sched::SchedOp {
        YIELD Yield,
        BLOCK Block,
        SHUTDOWN Shutdown,
        POLL Poll,
        REMOTE_SHUTDOWN RemoteShutdown,
        SHUTDOWN_CODE ShutdownCode,
    }
}

numbers! {
    /// Operations of vcpu_op.
    vcpu: u64 = guest_abi::vcpu::VcpuOp {
        INITIALISE Initialise,
        UP Up,
        DOWN Down,
        IS_UP IsUp,
        GET_RUNSTATE_INFO GetRunstateInfo,
        REGISTER_RUNSTATE_MEMORY_AREA RegisterRunstateMemoryArea,
        SET_PERIODIC_TIMER SetPeriodicTimer,
        STOP_PERIODIC_TIMER StopPeriodicTimer,
        SET_SINGLESHOT_TIMER SetSingleshotTimer,
        STOP_SINGLESHOT_TIMER StopSingleshotTimer,
        REGISTER_VCPU_INFO RegisterVcpuInfo,
        SEND_NMI SendNmi,
    }
}

numbers! {
    /// Bases of set_segment_base.
    segment_base: u64 = guest_abi::segment::SegmentBase {
        FS Fs,
        GS_USER GsUser,
        GS_KERNEL GsKernel,
        GS_USER_SELECTOR GsUserSel,
    }
}

numbers! {
    /// Operations of memory_op.
    memory: u64 = guest_abi::memory::MemoryOp {
        INCREASE_RESERVATION IncreaseReservation,
        DECREASE_RESERVATION DecreaseReservation,
        MACHPHYS_MFN_LIST MachphysMfnList,
        MEMORY_MAP MemoryMap,
        SET_MEMORY_MAP SetMemoryMap,
        MAXIMUM_GPFN MaximumGpfn,
        CLAIM_PAGES ClaimPages,
        GET_VNUMAINFO GetVnumainfo,
        CURRENT_RESERVATION CurrentReservation,
        MAXIMUM_RESERVATION MaximumReservation,
        POPULATE_PHYSMAP PopulatePhysmap,
        ACQUIRE_RESOURCE AcquireResource,
        EXCHANGE Exchange,
    }
}

//! Families of numbers: the prefix C puts before the names of each.

use guest_abi::*;

/// An operation and its counterpart.
pub struct Operation {
    /// `module::Name` of the family.
    pub family: &'static str,
    /// The constant in C.
    pub c_name: String,
    /// The number.
    pub number: u64,
}

macro_rules! table {
    ($( $prefix:literal => $module:ident::$name:ident, )*) => {{
        let mut all = Vec::new();
        $(
            for operation in $module::$name::ALL {
                assert_eq!($module::$name::from_number(operation.number()), Some(*operation));
                all.push(Operation {
                    family: concat!(stringify!($module), "::", stringify!($name)),
                    c_name: format!(concat!($prefix, "{}"), operation.name()),
                    number: u64::from(operation.number()),
                });
            }
        )*
        all
    }};
}

/// Every operation of every family but our own hypercall, which no header knows.
pub fn operations() -> Vec<Operation> {
    let mut all = table! {
        "__HYPERVISOR_" => hypercall::Hypercall,
        "XEN_E" => errno::Errno,
        "BLKIF_OP_" => blkif::BlkifOp,
        "CALLBACKOP_" => callback::CallbackOp,
        "CALLBACKTYPE_" => callback::CallbackType,
        "CONSOLEIO_" => console::ConsoleIoOp,
        "XEN_ELFNOTE_" => elfnote::ElfNote,
        "EVTCHNOP_" => event::EventChannelOp,
        "EVTCHNSTAT_" => event::PortStatus,
        "VIRQ_" => event::Virq,
        "XENFEAT_" => features::Feature,
        "GNTTABOP_" => grant::GrantTableOp,
        "XEN_MC_" => hardware::McaCommand,
        "XENPMU_" => hardware::XenpmuOp,
        "XENNMI_" => hardware::NmiOp,
        "XENMEM_" => memory::MemoryOp,
        "MMUEXT_" => mmu::MmuextCommand,
        "PHYSDEVOP_" => physdev::PhysdevOp,
        "MAP_PIRQ_TYPE_" => physdev::MapPirqType,
        "XENPF_" => platform::PlatformCommand,
        "SCHEDOP_" => sched::SchedOp,
        "SHUTDOWN_" => sched::ShutdownReason,
        "SEGBASE_" => segment::SegmentBase,
        "XEN_DOMCTL_" => domctl::DomctlCommand,
        "XEN_SYSCTL_" => sysctl::SysctlCommand,
        "VCPUOP_" => vcpu::VcpuOp,
        "RUNSTATE_" => vcpu::Runstate,
        "XENVER_" => version::XenVersionOp,
        "VMASST_CMD_" => vm_assist::VmAssistCommand,
        "VMASST_TYPE_" => vm_assist::VmAssistType,
        "XS_" => xenstore::XsdMessage,
        "XenbusState" => xenstore::XenbusState,
    };
    let ours = format!("__HYPERVISOR_{}", Hypercall::XenoOp.name());
    all.retain(|operation| operation.c_name != ours);
    all
}

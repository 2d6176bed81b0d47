//! Constants: what C calls ours. Names that differ only in case are ours in capitals.

use guest_abi::*;

/// A constant and its counterpart.
pub struct Constant {
    /// `module::NAME` in the crate.
    pub name: &'static str,
    /// The expression in C.
    pub c_name: &'static str,
    /// The value; negative ones as 64 bits.
    pub value: u64,
}

/// Constants no header has: ours, or facts the headers tell in prose.
pub const OURS: &[&str] = &[
    "blkif::BLKIF_SECTOR_BYTES",
    "console::XENCONS_IN_BYTES",
    "console::XENCONS_OUT_BYTES",
    "context::TI_DPL_MASK",
    "context::TI_MASK_EVENTS",
    "cpuid::XEN_EMULATE_PREFIX",
    "cpuid::XEN_CPUID",
    "domid::DOMID_FIRST_END",
    "domid::DOMID_LAST_END",
    "domctl::DOMCTL_PAYLOAD",
    "elfnote::ELFNOTE_OWNER",
    "frame::VECTORS_WITH_ERROR_CODE",
    "grant::GRANT_ENTRIES_V1_PER_PAGE",
    "hypercall::HYPERCALL_PAGE_STUBS",
    "hypercall::HYPERCALL_PAGE_STUB_BYTES",
    "memory::E820_RAM",
    "memory::E820_RESERVED",
    "memory::E820_ACPI",
    "memory::E820_NVS",
    "memory::E820_UNUSABLE",
    "memory::MEMOP_CMD_MASK",
    "platform::XENPF_INTERFACE_VERSION_LINUX",
    "segment::ROOT_TABLE_FIRST_XEN_SLOT",
    "segment::ROOT_TABLE_LAST_XEN_SLOT",
    "sysctl::SYSCTL_PAYLOAD",
    "version::BUILD_ID_HEADER_BYTES",
    "vga::XEN_VGATYPE_NONE",
    "xeno::XENO_INTERFACE_VERSION",
    "ends::DOMID_ECHO",
    "xeno::MAX_END_PAGES",
    "xeno::AUDIT_TYPES",
    "xeno::AUDIT_TYPE_NAMES",
    "usage::USAGE_OF_DOMAIN",
    "usage::USAGE_BESIDES",
    "usage::USAGE_NO_CPU",
    "usage::USAGE_CAUSES",
    "usage::USAGE_CAUSE_NAMES",
    "usage::BOOKS_OF_MACHINE",
    "reserve::SCHED_ALL_VCPUS",
    "reserve::SCHED_NO_CPU",
    "reserve::SCHED_EXTRA",
    "reserve::SCHED_IN_QUANTA",
    "reserve::SCHED_FLAGS",
    "reserve::SCHED_USUAL_WEIGHT",
    "reserve::SCHED_LARGEST_WEIGHT",
    "reserve::SCHED_SET_QUANTUM",
    "reserve::SCHED_CPU_ONLINE",
    "reserve::SCHED_GRANTED",
    "reserve::SCHED_REFUSED_PERIOD",
    "reserve::SCHED_REFUSED_SLICE",
    "reserve::SCHED_REFUSED_TOO_SHORT",
    "reserve::SCHED_REFUSED_NEVER_RUNS",
    "reserve::SCHED_REFUSED_WEIGHT",
    "reserve::SCHED_REFUSED_OVERFLOW",
    "reserve::SCHED_REFUSED_FLAGS",
    "reserve::SCHED_REFUSED_NO_CPU",
    "reserve::SCHED_REFUSED_NO_ROOM",
    "reserve::SCHED_REFUSED_NOT_ALLOWED",
    "reserve::SCHED_LARGEST_RATE",
    "usage_area::USAGE_AREA_MAGIC",
    "usage_area::USAGE_AREA_VERSION",
    "usage_area::USAGE_AREA_NO_CPU",
    "usage_area::USAGE_AREA_GUARANTEED",
    "usage_area::USAGE_AREA_EXTRA",
    "usage_area::USAGE_HEAD_BYTES",
    "usage_area::USAGE_ROW_BYTES",
    "ledger::LEDGER_OF_MACHINE",
    "ledger::LEDGER_HASH",
    "ledger::LEDGER_ENDED_KEPT",
];

macro_rules! table {
    ($( $module:ident: $( $name:ident $(= $c_name:literal)? ),* ; )*) => {
        vec![ $( $( Constant {
            name: concat!(stringify!($module), "::", stringify!($name)),
            c_name: table!(@c $name $($c_name)?),
            value: $module::$name as i128 as u64,
        }, )* )* ]
    };
    (@c $name:ident) => { stringify!($name) };
    (@c $name:ident $c_name:literal) => { $c_name };
}

/// Every constant that has a counterpart.
pub fn constants() -> Vec<Constant> {
    let mut all = table! {
        blkif: BLKIF_MAX_SEGMENTS_PER_REQUEST, BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST,
            BLKIF_RING_SLOTS = "__CONST_RING_SIZE(blkif, 4096)", VDISK_READONLY, BLKIF_RSP_OKAY,
            BLKIF_RSP_ERROR, BLKIF_RSP_EOPNOTSUPP;
        callback: CALLBACKF_MASK_EVENTS = "CALLBACKF_mask_events";
        context: VGCF_I387_VALID, VGCF_IN_KERNEL,
            VGCF_FAILSAFE_DISABLES_EVENTS = "VGCF_failsafe_disables_events",
            VGCF_SYSCALL_DISABLES_EVENTS = "VGCF_syscall_disables_events",
            VGCF_ONLINE = "VGCF_online";
        cpuid: XEN_CPUID_FIRST_LEAF, XEN_CPUID_SIGNATURE_EBX, XEN_CPUID_SIGNATURE_ECX,
            XEN_CPUID_SIGNATURE_EDX, XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD,
            XEN_CPUID_MACHINE_ADDRESS_WIDTH_MASK;
        domid: DOMID_FIRST_RESERVED, DOMID_SELF, DOMID_IO, DOMID_XEN, DOMID_COW, DOMID_INVALID, DOMID_IDLE,
            DOMID_MASK;
        event: NR_VIRQS, BIND_PIRQ_WILL_SHARE = "BIND_PIRQ__WILL_SHARE", EVTCHN_2L_NR_CHANNELS,
            EVTCHN_FIFO_PRIORITY_MAX, EVTCHN_FIFO_PRIORITY_DEFAULT, EVTCHN_FIFO_PRIORITY_MIN,
            EVTCHN_FIFO_MAX_QUEUES, EVTCHN_FIFO_PENDING, EVTCHN_FIFO_MASKED, EVTCHN_FIFO_LINKED,
            EVTCHN_FIFO_BUSY, EVTCHN_FIFO_LINK_BITS, EVTCHN_FIFO_LINK_MASK, EVTCHN_FIFO_NR_CHANNELS;
        features: XENFEAT_NR_SUBMAPS;
        frame: VGCF_IN_SYSCALL;
        hardware: XEN_MCA_INTERFACE_VERSION, XEN_MC_NONURGENT, XEN_MC_URGENT, XEN_MC_ACK, XEN_MC_OK,
            XEN_MC_NODATA, XEN_NMIREASON_IO_ERROR = "XEN_NMIREASON_io_error",
            XEN_NMIREASON_PCI_SERR = "XEN_NMIREASON_pci_serr",
            XEN_NMIREASON_UNKNOWN = "XEN_NMIREASON_unknown";
        memory: XENMEMF_ADDRESS_BITS_MASK = "XENMEMF_get_address_bits(~0u)",
            XENMEMF_POPULATE_ON_DEMAND = "XENMEMF_populate_on_demand",
            XENMEMF_EXACT_NODE_REQUEST = "XENMEMF_exact_node_request", XENMEMF_VNODE = "XENMEMF_vnode",
            XENMEM_RESOURCE_IOREQ_SERVER = "XENMEM_resource_ioreq_server",
            XENMEM_RESOURCE_GRANT_TABLE = "XENMEM_resource_grant_table",
            XENMEM_RESOURCE_VMTRACE_BUF = "XENMEM_resource_vmtrace_buf",
            XENMEM_RESOURCE_GRANT_TABLE_ID_SHARED = "XENMEM_resource_grant_table_id_shared",
            XENMEM_RESOURCE_GRANT_TABLE_ID_STATUS = "XENMEM_resource_grant_table_id_status";
        mmu: MMU_NORMAL_PT_UPDATE, MMU_MACHPHYS_UPDATE, MMU_PT_UPDATE_PRESERVE_AD,
            MMU_PT_UPDATE_NO_TRANSLATE, UVMF_NONE, UVMF_TLB_FLUSH, UVMF_INVLPG, UVMF_FLUSHTYPE_MASK,
            UVMF_MULTI, UVMF_LOCAL, UVMF_ALL;
        physdev: XENIRQSTAT_NEEDS_EOI = "XENIRQSTAT_needs_eoi", XENIRQSTAT_SHARED = "XENIRQSTAT_shared",
            XEN_PCI_MMCFG_RESERVED, XEN_PCI_DEV_EXTFN, XEN_PCI_DEV_VIRTFN, XEN_PCI_DEV_PXM,
            PHYSDEVOP_DBGP_RESET_PREPARE, PHYSDEVOP_DBGP_RESET_DONE, PHYSDEVOP_DBGP_BUS_UNKNOWN,
            PHYSDEVOP_DBGP_BUS_PCI;
        platform: XENPF_INTERFACE_VERSION, XEN_FW_DISK_INFO, XEN_FW_DISK_MBR_SIGNATURE, XEN_FW_VBEDDC_INFO,
            XEN_FW_EFI_INFO, XEN_FW_KBD_SHIFT_FLAGS, XEN_FW_EFI_VERSION, XEN_FW_EFI_CONFIG_TABLE,
            XEN_FW_EFI_VENDOR, XEN_FW_EFI_MEM_INFO, XEN_FW_EFI_RT_VERSION, XEN_FW_EFI_PCI_ROM,
            XENPF_ACPI_SLEEP_EXTENDED, XEN_PCPU_FLAGS_ONLINE, XEN_PCPU_FLAGS_INVALID, XEN_PM_CX, XEN_PM_PX,
            XEN_PM_TX, XEN_PM_PDC, XEN_CORE_PARKING_SET, XEN_CORE_PARKING_GET;
        segment: HYPERVISOR_VIRT_START, HYPERVISOR_VIRT_END, MACH2PHYS_VIRT_START, MACH2PHYS_VIRT_END,
            MACH2PHYS_NR_ENTRIES, FIRST_RESERVED_GDT_PAGE, FIRST_RESERVED_GDT_BYTE,
            FIRST_RESERVED_GDT_ENTRY, FLAT_RING3_CS32, FLAT_RING3_CS64, FLAT_RING3_DS32, FLAT_RING3_DS64,
            FLAT_RING3_SS32, FLAT_RING3_SS64, FLAT_KERNEL_CS, FLAT_KERNEL_DS, FLAT_KERNEL_SS,
            FLAT_USER_CS64, FLAT_USER_CS32, FLAT_USER_DS, FLAT_USER_DS32, FLAT_USER_SS;
        shared_info: XEN_LEGACY_MAX_VCPUS, XEN_PVCLOCK_TSC_STABLE_BIT, XEN_PVCLOCK_GUEST_STOPPED;
        start_info: MAX_GUEST_CMDLINE, SIF_PRIVILEGED, SIF_INITDOMAIN, SIF_MULTIBOOT_MOD, SIF_MOD_START_PFN,
            SIF_VIRT_P2M_4TOOLS, SIF_PM_MASK;
        vcpu: XEN_RUNSTATE_UPDATE, VCPU_SSHOTTMR_FUTURE = "VCPU_SSHOTTMR_future";
        vga: XEN_VGATYPE_TEXT_MODE_3, XEN_VGATYPE_VESA_LFB, XEN_VGATYPE_EFI_LFB;
        xenstore: XENSTORE_RING_SIZE, XENSTORE_PAYLOAD_MAX, XENSTORE_ABS_PATH_MAX, XENSTORE_REL_PATH_MAX,
            XENSTORE_SERVER_FEATURE_RECONNECTION, XENSTORE_SERVER_FEATURE_ERROR, XENSTORE_CONNECTED,
            XENSTORE_RECONNECT, XENSTORE_ERROR_NONE, XENSTORE_ERROR_COMM, XENSTORE_ERROR_RINGIDX,
            XENSTORE_ERROR_PROTO;
    };
    all.extend(grants());
    all.extend(control());
    all
}

fn grants() -> Vec<Constant> {
    table! {
        grant: GNTTAB_NR_RESERVED_ENTRIES, GNTTAB_RESERVED_CONSOLE, GNTTAB_RESERVED_XENSTORE,
            GTF_INVALID = "GTF_invalid", GTF_PERMIT_ACCESS = "GTF_permit_access",
            GTF_ACCEPT_TRANSFER = "GTF_accept_transfer", GTF_TRANSITIVE = "GTF_transitive",
            GTF_TYPE_MASK = "GTF_type_mask", GTF_READONLY = "GTF_readonly", GTF_READING = "GTF_reading",
            GTF_WRITING = "GTF_writing", GTF_PWT, GTF_PCD, GTF_PAT, GTF_SUB_PAGE = "GTF_sub_page",
            GTF_TRANSFER_COMMITTED = "GTF_transfer_committed",
            GTF_TRANSFER_COMPLETED = "GTF_transfer_completed",
            GNTMAP_DEVICE_MAP = "GNTMAP_device_map", GNTMAP_HOST_MAP = "GNTMAP_host_map",
            GNTMAP_READONLY = "GNTMAP_readonly", GNTMAP_APPLICATION_MAP = "GNTMAP_application_map",
            GNTMAP_CONTAINS_PTE = "GNTMAP_contains_pte", GNTMAP_GUEST_AVAIL0_SHIFT = "_GNTMAP_guest_avail0",
            GNTMAP_GUEST_AVAIL_MASK = "GNTMAP_guest_avail_mask",
            GNTCOPY_SOURCE_GREF = "GNTCOPY_source_gref", GNTCOPY_DEST_GREF = "GNTCOPY_dest_gref",
            GNTST_OKAY = "GNTST_okay", GNTST_GENERAL_ERROR = "GNTST_general_error",
            GNTST_BAD_DOMAIN = "GNTST_bad_domain", GNTST_BAD_GNTREF = "GNTST_bad_gntref",
            GNTST_BAD_HANDLE = "GNTST_bad_handle", GNTST_BAD_VIRT_ADDR = "GNTST_bad_virt_addr",
            GNTST_BAD_DEV_ADDR = "GNTST_bad_dev_addr", GNTST_NO_DEVICE_SPACE = "GNTST_no_device_space",
            GNTST_PERMISSION_DENIED = "GNTST_permission_denied", GNTST_BAD_PAGE = "GNTST_bad_page",
            GNTST_BAD_COPY_ARG = "GNTST_bad_copy_arg", GNTST_ADDRESS_TOO_BIG = "GNTST_address_too_big",
            GNTST_EAGAIN = "GNTST_eagain", GNTST_NO_SPACE = "GNTST_no_space";
    }
}

fn control() -> Vec<Constant> {
    table! {
        domctl: XEN_DOMCTL_INTERFACE_VERSION, XEN_DOMCTL_CDF_HVM = "XEN_DOMCTL_CDF_hvm", XEN_DOMCTL_CDF_HAP = "XEN_DOMCTL_CDF_hap", XEN_DOMCTL_CDF_XS_DOMAIN = "XEN_DOMCTL_CDF_xs_domain", XEN_DOMCTL_CDF_IOMMU = "XEN_DOMCTL_CDF_iommu", XEN_DOMCTL_CDF_MAX, XEN_DOMCTL_GRANT_VERSION_MASK = "XEN_DOMCTL_GRANT_version_mask", XEN_X86_MSR_RELAXED, XEN_DOMINF_DYING = "XEN_DOMINF_dying", XEN_DOMINF_HVM_GUEST = "XEN_DOMINF_hvm_guest", XEN_DOMINF_SHUTDOWN = "XEN_DOMINF_shutdown", XEN_DOMINF_PAUSED = "XEN_DOMINF_paused", XEN_DOMINF_BLOCKED = "XEN_DOMINF_blocked", XEN_DOMINF_RUNNING = "XEN_DOMINF_running", XEN_DOMINF_DEBUGGED = "XEN_DOMINF_debugged", XEN_DOMINF_XS_DOMAIN = "XEN_DOMINF_xs_domain", XEN_DOMINF_SHUTDOWNMASK = "XEN_DOMINF_shutdownmask", XEN_DOMINF_SHUTDOWNSHIFT = "XEN_DOMINF_shutdownshift", XEN_INVALID_MAX_VCPU_ID, XEN_DOMCTL_PFINFO_NOTAB, XEN_DOMCTL_PFINFO_L1TAB, XEN_DOMCTL_PFINFO_L2TAB, XEN_DOMCTL_PFINFO_L3TAB, XEN_DOMCTL_PFINFO_L4TAB, XEN_DOMCTL_PFINFO_LPINTAB, XEN_DOMCTL_PFINFO_XTAB, XEN_VCPUAFFINITY_HARD, XEN_VCPUAFFINITY_SOFT, XEN_VCPUAFFINITY_FORCE, XEN_SCHEDULER_CREDIT2, XEN_DOMCTL_SCHEDOP_PUTINFO = "XEN_DOMCTL_SCHEDOP_putinfo", XEN_DOMCTL_SCHEDOP_GETINFO = "XEN_DOMCTL_SCHEDOP_getinfo", XEN_CPUID_NO_SUBLEAF;
        sysctl: XEN_SYSCTL_INTERFACE_VERSION, XEN_SYSCTL_PHYSCAP_PV = "XEN_SYSCTL_PHYSCAP_pv", XEN_SYSCTL_PHYSCAP_GNTTAB_V1 = "XEN_SYSCTL_PHYSCAP_gnttab_v1", XEN_INVALID_NODE_DIST, XEN_SYSCTL_CPUPOOL_OP_INFO, XEN_SYSCTL_CPUPOOL_OP_FREEINFO, XEN_SYSCTL_CPUPOOL_PAR_ANY, XEN_SYSCTL_CPU_FEATURESET_RAW = "XEN_SYSCTL_cpu_featureset_raw", XEN_SYSCTL_CPU_FEATURESET_HOST = "XEN_SYSCTL_cpu_featureset_host", XEN_SYSCTL_CPU_FEATURESET_PV = "XEN_SYSCTL_cpu_featureset_pv", XEN_SYSCTL_CPU_FEATURESET_PV_MAX = "XEN_SYSCTL_cpu_featureset_pv_max", XEN_SYSCTL_CPU_POLICY_RAW = "XEN_SYSCTL_cpu_policy_raw", XEN_SYSCTL_CPU_POLICY_HOST = "XEN_SYSCTL_cpu_policy_host", XEN_SYSCTL_CPU_POLICY_PV_MAX = "XEN_SYSCTL_cpu_policy_pv_max", XEN_SYSCTL_CPU_POLICY_PV_DEFAULT = "XEN_SYSCTL_cpu_policy_pv_default";
    }
}

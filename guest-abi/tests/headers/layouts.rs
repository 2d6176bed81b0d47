//! Structures: what C calls ours, and the fields that have another name there.

use guest_abi::wire::{Field, Wire};
use guest_abi::*;

/// A structure and its counterpart in the headers.
pub struct Layout {
    /// `module::Name` in the crate.
    pub name: &'static str,
    /// The type in C.
    pub c_type: &'static str,
    /// Bytes.
    pub size: usize,
    /// The fields.
    pub fields: &'static [Field],
    /// Reads and writes a value of bytes that all differ.
    pub round_trip: fn(),
    renamed: &'static [(&'static str, &'static str)],
}

impl Layout {
    /// What C calls a field.
    pub fn c_field(&self, field: &'static str) -> &'static str {
        self.renamed
            .iter()
            .find(|(ours, _)| *ours == field)
            .map_or(field, |(_, theirs)| theirs)
    }
}

/// Structures no header has: the format of an entry of the memory map is the BIOS's, and stack frames are
/// told in prose.
pub const OURS: &[&str] = &[
    "memory::E820Entry",
    "frame::BounceFrame",
    "frame::BounceFrameWithError",
    "frame::FailsafeFrame",
    "xeno::Audit",
    "xeno::AttachEnd",
    "xeno::DetachEnd",
    "usage::Usage",
    "usage::Books",
    "reserve::SchedTerms",
    "reserve::SchedRules",
    "reserve::SchedGet",
    "reserve::SchedSet",
    "reserve::SchedCpu",
    "reserve::SchedAllow",
    "usage::UsageFrame",
    "usage_area::UsageHeld",
    "usage_area::UsageBesides",
    "usage_area::UsageTraffic",
    "usage_area::UsageHead",
    "usage_area::UsageRow",
    "ledger::LedgerHead",
    "ledger::LedgerEnded",
];

/// Structures of which we read only the start, so that their size is not that of their counterpart.
pub const PREFIXES: &[&str] = &["blkif::BlkifSring", "platform::SetProcessorPminfo"];

fn round_trip<T: Wire>() {
    let bytes: Vec<u8> = (0..T::SIZE).map(|i| (i * 7 + i / 256 + 1) as u8).collect();
    let mut written = vec![0; T::SIZE];
    let value = T::read_from(&bytes).expect("the buffer is long enough");
    value
        .write_to(&mut written)
        .expect("the buffer is long enough");
    assert_eq!(bytes, written, "{}", std::any::type_name::<T>());
    assert!(T::read_from(&bytes[1..]).is_none());
    T::ZERO
        .write_to(&mut written)
        .expect("the buffer is long enough");
    assert!(
        written.iter().all(|byte| *byte == 0),
        "{}",
        std::any::type_name::<T>()
    );
}

macro_rules! table {
    ($( $c_type:literal => $module:ident::$name:ident $({ $($ours:ident: $theirs:literal),* })?, )*) => {
        vec![ $( Layout {
            name: concat!(stringify!($module), "::", stringify!($name)),
            c_type: $c_type,
            size: size_of::<$module::$name>(),
            fields: <$module::$name as Wire>::FIELDS,
            round_trip: round_trip::<$module::$name>,
            renamed: &[ $( $( (stringify!($ours), $theirs), )* )? ],
        }, )* ]
    };
}

/// Every structure that has a counterpart.
pub fn layouts() -> Vec<Layout> {
    let mut all = table! {
        "struct multicall_entry" => hypercall::MulticallEntry,
        "struct mmu_update" => mmu::MmuUpdate,
        "struct mmuext_op" => mmu::MmuextOp,
        "struct callback_register" => callback::CallbackRegister { kind: "type" },
        "struct callback_unregister" => callback::CallbackUnregister { kind: "type" },
        "struct xencons_interface" => console::XenconsInterface { input: "in" },
        "struct trap_info" => context::TrapInfo,
        "struct cpu_user_regs" => context::CpuUserRegs,
        "struct vcpu_guest_context" => context::VcpuGuestContext,
        "struct iret_context" => frame::XenIretFrame,
        "struct xennmi_callback" => hardware::NmiCallback,
        "struct sched_shutdown" => sched::Shutdown,
        "struct sched_poll" => sched::Poll,
        "struct sched_remote_shutdown" => sched::RemoteShutdown,
        "struct sched_watchdog" => sched::Watchdog,
        "struct sched_pin_override" => sched::PinOverride,
        "struct arch_vcpu_info" => shared_info::ArchVcpuInfo,
        "struct vcpu_time_info" => shared_info::VcpuTimeInfo,
        "struct vcpu_info" => shared_info::VcpuInfo,
        "struct arch_shared_info" => shared_info::ArchSharedInfo,
        "struct shared_info" => shared_info::SharedInfo,
        "struct start_info" => start_info::StartInfo {
            console_mfn: "console.domU.mfn", console_evtchn: "console.domU.evtchn"
        },
        "struct xen_multiboot_mod_list" => start_info::MultibootModList,
        "struct dom0_vga_console_info" => vga::Dom0VgaConsoleInfo,
        "__typeof__(((struct dom0_vga_console_info *)0)->u.text_mode_3)" => vga::TextMode3,
        "__typeof__(((struct dom0_vga_console_info *)0)->u.vesa_lfb)" => vga::VesaLfb,
        "struct vcpu_runstate_info" => vcpu::VcpuRunstateInfo,
        "struct vcpu_register_runstate_memory_area" => vcpu::RegisterMemoryArea,
        "struct vcpu_register_time_memory_area" => vcpu::RegisterMemoryArea,
        "struct vcpu_set_periodic_timer" => vcpu::SetPeriodicTimer,
        "struct vcpu_set_singleshot_timer" => vcpu::SetSingleshotTimer,
        "struct vcpu_register_vcpu_info" => vcpu::RegisterVcpuInfo,
        "struct vcpu_get_physid" => vcpu::GetPhysid,
        "struct xen_compile_info" => version::CompileInfo,
        "struct xen_platform_parameters" => version::PlatformParameters,
        "struct xen_feature_info" => version::FeatureInfo,
        "struct xenstore_domain_interface" => xenstore::XenstoreDomainInterface,
        "struct blkif_sring" => blkif::BlkifSring,
        "struct blkif_request_segment" => blkif::BlkifRequestSegment,
        "struct blkif_request" => blkif::BlkifRequest,
        "struct blkif_request_discard" => blkif::BlkifRequestDiscard,
        "struct blkif_request_indirect" => blkif::BlkifRequestIndirect,
        "struct blkif_response" => blkif::BlkifResponse,
        "struct xsd_sockmsg" => xenstore::XsdSockmsg { kind: "type" },
    };
    all.extend(events_and_grants());
    all.extend(memory_and_machine());
    all.extend(control());
    all
}

fn events_and_grants() -> Vec<Layout> {
    table! {
        "struct evtchn_alloc_unbound" => event::AllocUnbound,
        "struct evtchn_bind_interdomain" => event::BindInterdomain,
        "struct evtchn_bind_virq" => event::BindVirq,
        "struct evtchn_bind_pirq" => event::BindPirq,
        "struct evtchn_bind_ipi" => event::BindIpi,
        "struct evtchn_close" => event::Close,
        "struct evtchn_send" => event::Send,
        "struct evtchn_status" => event::Status { peer: "u.pirq", peer_port: "u.interdomain.port" },
        "struct evtchn_bind_vcpu" => event::BindVcpu,
        "struct evtchn_unmask" => event::Unmask,
        "struct evtchn_reset" => event::Reset,
        "struct evtchn_init_control" => event::InitControl,
        "struct evtchn_expand_array" => event::ExpandArray,
        "struct evtchn_set_priority" => event::SetPriority,
        "struct evtchn_fifo_control_block" => event::FifoControlBlock,
        "struct grant_entry_v1" => grant::GrantEntryV1,
        "struct gnttab_map_grant_ref" => grant::MapGrantRef { gref: "ref" },
        "struct gnttab_unmap_grant_ref" => grant::UnmapGrantRef,
        "struct gnttab_setup_table" => grant::SetupTable,
        "struct gnttab_dump_table" => grant::DumpTable,
        "struct gnttab_transfer" => grant::Transfer { gref: "ref" },
        "struct gnttab_copy_ptr" => grant::CopyPtr,
        "struct gnttab_copy" => grant::Copy,
        "struct gnttab_query_size" => grant::QuerySize,
        "struct gnttab_unmap_and_replace" => grant::UnmapAndReplace,
        "struct gnttab_set_version" => grant::SetVersion,
        "struct gnttab_get_status_frames" => grant::GetStatusFrames,
        "struct gnttab_get_version" => grant::GetVersion,
        "struct gnttab_swap_grant_ref" => grant::SwapGrantRef,
        "struct gnttab_cache_flush" => grant::CacheFlush,
    }
}

fn memory_and_machine() -> Vec<Layout> {
    table! {
        "struct xen_memory_reservation" => memory::XenMemoryReservation,
        "struct xen_memory_exchange" => memory::XenMemoryExchange { give: "in", get: "out" },
        "struct xen_memory_domain" => memory::XenMemoryDomain,
        "struct xen_machphys_mfn_list" => memory::XenMachphysMfnList,
        "struct xen_machphys_mapping" => memory::XenMachphysMapping,
        "struct xen_add_to_physmap" => memory::XenAddToPhysmap,
        "struct xen_memory_map" => memory::XenMemoryMap,
        "struct xen_foreign_memory_map" => memory::XenForeignMemoryMap,
        "struct xen_mem_acquire_resource" => memory::XenMemAcquireResource { kind: "type" },
        "struct xen_vmemrange" => memory::XenVmemrange,
        "struct xen_vnuma_topology_info" => memory::XenVnumaTopologyInfo,
        "struct xen_mc" => hardware::Mc,
        "struct xen_mc_fetch" => hardware::McFetch,
        "struct xen_mc_physcpuinfo" => hardware::McPhyscpuinfo,
        "struct mcinfo_msr" => hardware::McinfoMsr,
        "struct mcinfo_logical_cpu" => hardware::McLogicalCpu,
        "struct physdev_eoi" => physdev::Eoi,
        "struct physdev_pirq_eoi_gmfn" => physdev::PirqEoiGmfn,
        "struct physdev_irq_status_query" => physdev::IrqStatusQuery,
        "struct physdev_set_iopl" => physdev::SetIopl,
        "struct physdev_set_iobitmap" => physdev::SetIobitmap,
        "struct physdev_apic" => physdev::Apic,
        "struct physdev_irq" => physdev::Irq,
        "struct physdev_map_pirq" => physdev::MapPirq { kind: "type" },
        "struct physdev_unmap_pirq" => physdev::UnmapPirq,
        "struct physdev_manage_pci" => physdev::ManagePci,
        "struct physdev_restore_msi" => physdev::ManagePci,
        "struct physdev_manage_pci_ext" => physdev::ManagePciExt {
            physfn_bus: "physfn.bus", physfn_devfn: "physfn.devfn"
        },
        "struct physdev_setup_gsi" => physdev::SetupGsi,
        "struct physdev_get_free_pirq" => physdev::GetFreePirq { kind: "type" },
        "struct physdev_pci_mmcfg_reserved" => physdev::PciMmcfgReserved,
        "struct physdev_pci_device_add" => physdev::PciDeviceAdd {
            physfn_bus: "physfn.bus", physfn_devfn: "physfn.devfn"
        },
        "struct physdev_pci_device" => physdev::PciDevice,
        "struct physdev_dbgp_op" => physdev::DbgpOp { pci: "u.pci" },
        "struct xen_platform_op" => platform::PlatformOp { u: "u.pad" },
        "struct xenpf_settime32" => platform::Settime32,
        "struct xenpf_settime64" => platform::Settime64,
        "struct xenpf_firmware_info" => platform::FirmwareInfo { kind: "type" },
        "__typeof__(((struct xenpf_firmware_info *)0)->u.disk_info)" => platform::DiskInfo,
        "__typeof__(((struct xenpf_firmware_info *)0)->u.disk_mbr_signature)" => platform::DiskMbrSignature,
        "__typeof__(((struct xenpf_firmware_info *)0)->u.efi_info.cfg)" => platform::EfiConfigTable,
        "__typeof__(((struct xenpf_firmware_info *)0)->u.efi_info.vendor)" => platform::EfiVendor,
        "__typeof__(((struct xenpf_firmware_info *)0)->u.efi_info.mem)" => platform::EfiMemInfo {
            kind: "type"
        },
        "struct xenpf_enter_acpi_sleep" => platform::EnterAcpiSleep,
        "struct xenpf_set_processor_pminfo" => platform::SetProcessorPminfo { kind: "type", pdc: "u.pdc" },
        "struct xenpf_pcpuinfo" => platform::Pcpuinfo,
        "struct xenpf_pcpu_version" => platform::PcpuVersion,
        "struct xenpf_cpu_ol" => platform::CpuOl,
        "struct xenpf_core_parking" => platform::CoreParking { kind: "type" },
    }
}

fn control() -> Vec<Layout> {
    table! {
        "struct xen_domctl" => domctl::Domctl { u: "u.pad" },
        "struct xen_arch_domainconfig" => domctl::ArchDomainconfig,
        "struct xen_domctl_createdomain" => domctl::Createdomain,
        "struct xen_domctl_getdomaininfo" => domctl::Getdomaininfo,
        "struct xenctl_bitmap" => domctl::Bitmap,
        "struct xen_domctl_getpageframeinfo3" => domctl::Getpageframeinfo3,
        "struct xen_domctl_max_mem" => domctl::MaxMem,
        "struct xen_domctl_vcpucontext" => domctl::Vcpucontext,
        "struct xen_domctl_getvcpuinfo" => domctl::Getvcpuinfo,
        "struct xen_domctl_nodeaffinity" => domctl::Nodeaffinity,
        "struct xen_domctl_vcpuaffinity" => domctl::Vcpuaffinity,
        "struct xen_domctl_max_vcpus" => domctl::MaxVcpus,
        "struct xen_domctl_scheduler_op" => domctl::SchedulerOp { weight: "u.credit2.weight", cap: "u.credit2.cap" },
        "struct xen_domctl_setdomainhandle" => domctl::Setdomainhandle,
        "struct xen_domctl_irq_permission" => domctl::IrqPermission,
        "struct xen_domctl_iomem_permission" => domctl::IomemPermission,
        "struct xen_domctl_ioport_permission" => domctl::IoportPermission,
        "struct xen_domctl_hypercall_init" => domctl::HypercallInit,
        "struct xen_domctl_settimeoffset" => domctl::Settimeoffset,
        "struct xen_domctl_address_size" => domctl::AddressSize,
        "struct xen_domctl_tsc_info" => domctl::TscInfo,
        "struct xen_domctl_ext_vcpucontext" => domctl::ExtVcpucontext,
        "struct xen_domctl_vcpuextstate" => domctl::Vcpuextstate,
        "struct xen_domctl_vcpu_msrs" => domctl::VcpuMsrs,
        "struct xen_domctl_cpu_policy" => domctl::CpuPolicy,
        "xen_cpuid_leaf_t" => domctl::CpuidLeaf,
        "xen_msr_entry_t" => domctl::MsrEntry,
        "struct xen_sysctl" => sysctl::Sysctl { u: "u.pad" },
        "struct xen_sysctl_readconsole" => sysctl::Readconsole,
        "struct xen_sysctl_physinfo" => sysctl::Physinfo,
        "struct xen_sysctl_sched_id" => sysctl::SchedId,
        "struct xen_sysctl_getdomaininfolist" => sysctl::Getdomaininfolist,
        "struct xen_sysctl_debug_keys" => sysctl::DebugKeys,
        "struct xen_sysctl_cpuinfo" => sysctl::Cpuinfo,
        "struct xen_sysctl_getcpuinfo" => sysctl::Getcpuinfo,
        "struct xen_sysctl_availheap" => sysctl::Availheap,
        "struct xen_sysctl_cputopo" => sysctl::Cputopo,
        "struct xen_sysctl_cputopoinfo" => sysctl::Cputopoinfo,
        "struct xen_sysctl_meminfo" => sysctl::Meminfo,
        "struct xen_sysctl_numainfo" => sysctl::Numainfo,
        "struct xen_sysctl_cpupool_op" => sysctl::CpupoolOp,
        "struct xen_sysctl_cpu_levelling_caps" => sysctl::CpuLevellingCaps,
        "struct xen_sysctl_cpu_featureset" => sysctl::CpuFeatureset,
        "struct xen_sysctl_cpu_policy" => sysctl::CpuPolicy,
    }
}

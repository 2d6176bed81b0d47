//! Memory operations: reservations, maps, exchange of frames.

use crate::wire::{operations, wire_struct};

operations! {
    /// Operations of [`Hypercall::MemoryOp`](crate::Hypercall::MemoryOp).
    ///
    /// The register may carry a continuation in its upper bits; see [`MEMOP_CMD_MASK`].
    pub enum MemoryOp: u32 {
        /// Add frames. Argument: [`XenMemoryReservation`].
        IncreaseReservation "increase_reservation" = 0,
        /// Give frames back. Argument: [`XenMemoryReservation`].
        DecreaseReservation "decrease_reservation" = 1,
        /// Result: the highest frame of RAM.
        MaximumRamPage "maximum_ram_page" = 2,
        /// Result: pages a domain has. Argument: [`XenMemoryDomain`].
        CurrentReservation "current_reservation" = 3,
        /// Result: pages a domain may have. Argument: [`XenMemoryDomain`].
        MaximumReservation "maximum_reservation" = 4,
        /// Frames of the machine-to-physical table. Argument: [`XenMachphysMfnList`].
        MachphysMfnList "machphys_mfn_list" = 5,
        /// Add frames at given places. Argument: [`XenMemoryReservation`].
        PopulatePhysmap "populate_physmap" = 6,
        /// Translated guests only. Argument: [`XenAddToPhysmap`].
        AddToPhysmap "add_to_physmap" = 7,
        /// The domain's memory map. Argument: [`XenMemoryMap`].
        MemoryMap "memory_map" = 9,
        /// The machine's memory map. Argument: [`XenMemoryMap`].
        MachineMemoryMap "machine_memory_map" = 10,
        /// Trade frames for others. Argument: [`XenMemoryExchange`].
        Exchange "exchange" = 11,
        /// Where the machine-to-physical table lies. Argument: [`XenMachphysMapping`].
        MachphysMapping "machphys_mapping" = 12,
        /// Set a domain's memory map. Argument: [`XenForeignMemoryMap`].
        SetMemoryMap "set_memory_map" = 13,
        /// Result: a domain's highest pfn. Argument: [`XenMemoryDomain`].
        MaximumGpfn "maximum_gpfn" = 14,
        /// Translated guests only.
        RemoveFromPhysmap "remove_from_physmap" = 15,
        /// Populate on demand: not offered.
        SetPodTarget "set_pod_target" = 16,
        /// Populate on demand: not offered.
        GetPodTarget "get_pod_target" = 17,
        /// Result: frames saved by sharing.
        GetSharingFreedPages "get_sharing_freed_pages" = 18,
        /// Result: frames that are shared.
        GetSharingSharedPages "get_sharing_shared_pages" = 19,
        /// Paging: not offered.
        PagingOp "paging_op" = 20,
        /// Access control of pages: not offered.
        AccessOp "access_op" = 21,
        /// Sharing: not offered.
        SharingOp "sharing_op" = 22,
        /// Translated guests only.
        AddToPhysmapBatch "add_to_physmap_batch" = 23,
        /// Set memory aside for a domain. Argument: [`XenMemoryReservation`].
        ClaimPages "claim_pages" = 24,
        /// 32-bit guests only.
        MachphysCompatMfnList "machphys_compat_mfn_list" = 25,
        /// Virtual nodes of a domain. Argument: [`XenVnumaTopologyInfo`].
        GetVnumainfo "get_vnumainfo" = 26,
        /// Memory devices have reserved.
        ReservedDeviceMemoryMap "reserved_device_memory_map" = 27,
        /// Frames of a domain's resource. Argument: [`XenMemAcquireResource`].
        AcquireResource "acquire_resource" = 28,
    }
}

/// Bits of the operation's register that hold the operation; what lies above is where a continued call
/// resumes.
pub const MEMOP_CMD_MASK: u64 = 0x3f;

/// `mem_flags`: bits an address of the memory may have at most, 0 for any.
pub const XENMEMF_ADDRESS_BITS_MASK: u32 = 0xff;
/// `mem_flags`: populate on demand.
pub const XENMEMF_POPULATE_ON_DEMAND: u32 = 1 << 16;
/// `mem_flags`: only from the node named.
pub const XENMEMF_EXACT_NODE_REQUEST: u32 = 1 << 17;
/// `mem_flags`: the node named is a virtual one.
pub const XENMEMF_VNODE: u32 = 1 << 18;

wire_struct! {
    /// Extents of memory, and whose.
    pub struct XenMemoryReservation: 32 {
        /// Address of the list of first frames, `u64` each.
        0x00 extent_start: u64,
        /// Extents in the list.
        0x08 nr_extents: u64,
        /// Pages of an extent, as a power of two.
        0x10 extent_order: u32,
        /// `XENMEMF_*`.
        0x14 mem_flags: u32,
        /// The domain.
        0x18 domid: u16,
        /// Padding.
        0x1a _pad0: [u16; 3],
    }
    /// Argument of [`MemoryOp::Exchange`].
    pub struct XenMemoryExchange: 72 {
        /// What the domain gives.
        0x00 give: XenMemoryReservation,
        /// What it gets. Its list holds pfns, and mfns afterwards.
        0x20 get: XenMemoryReservation,
        /// In: zero. Out: extents of `give` that were traded.
        0x40 nr_exchanged: u64,
    }
    /// Names a domain.
    pub struct XenMemoryDomain: 2 {
        /// The domain.
        0x00 domid: u16,
    }
    /// Argument of [`MemoryOp::MachphysMfnList`].
    pub struct XenMachphysMfnList: 24 {
        /// Room of the list.
        0x00 max_extents: u32,
        /// Padding.
        0x04 _pad0: u32,
        /// Address of the list: the first frame of each 2 MiB of the table.
        0x08 extent_start: u64,
        /// Out: entries written.
        0x10 nr_extents: u32,
        /// Padding.
        0x14 _pad1: u32,
    }
    /// Argument of [`MemoryOp::MachphysMapping`], all of it out.
    pub struct XenMachphysMapping: 24 {
        /// First address of the table.
        0x00 v_start: u64,
        /// First address behind it.
        0x08 v_end: u64,
        /// Highest frame that can be looked up.
        0x10 max_mfn: u64,
    }
    /// Argument of [`MemoryOp::AddToPhysmap`].
    pub struct XenAddToPhysmap: 24 {
        /// The domain.
        0x00 domid: u16,
        /// Pages of a range.
        0x02 size: u16,
        /// Kind of frames.
        0x04 space: u32,
        /// Which of them.
        0x08 idx: u64,
        /// Where they go.
        0x10 gpfn: u64,
    }
    /// Argument of [`MemoryOp::MemoryMap`] and [`MemoryOp::MachineMemoryMap`].
    pub struct XenMemoryMap: 16 {
        /// In: room of the buffer. Out: entries written.
        0x00 nr_entries: u32,
        /// Padding.
        0x04 _pad0: u32,
        /// Address of the buffer, [`E820Entry`] each.
        0x08 buffer: u64,
    }
    /// Argument of [`MemoryOp::SetMemoryMap`].
    pub struct XenForeignMemoryMap: 24 {
        /// The domain.
        0x00 domid: u16,
        /// Padding.
        0x02 _pad0: [u16; 3],
        /// Its map.
        0x08 map: XenMemoryMap,
    }
    /// One entry of a memory map: 20 bytes, without the padding its alignment would ask for.
    #[repr(packed(4))]
    pub struct E820Entry: 20 {
        /// First byte.
        0x00 addr: u64,
        /// Bytes.
        0x08 size: u64,
        /// `E820_*`.
        0x10 kind: u32,
    }
    /// Argument of [`MemoryOp::AcquireResource`].
    pub struct XenMemAcquireResource: 32 {
        /// The domain.
        0x00 domid: u16,
        /// `XENMEM_RESOURCE_*`.
        0x02 kind: u16,
        /// Which one of the kind.
        0x04 id: u32,
        /// Frames wanted; 0 asks how many there are.
        0x08 nr_frames: u32,
        /// Zero.
        0x0c _pad: u32,
        /// The first one wanted.
        0x10 frame: u64,
        /// Address of the list of frames, `u64` each.
        0x18 frame_list: u64,
    }
    /// A range of memory of a virtual node.
    pub struct XenVmemrange: 24 {
        /// First byte.
        0x00 start: u64,
        /// First byte behind.
        0x08 end: u64,
        /// Zero.
        0x10 flags: u32,
        /// The node.
        0x14 nid: u32,
    }
    /// Argument of [`MemoryOp::GetVnumainfo`].
    pub struct XenVnumaTopologyInfo: 40 {
        /// The domain.
        0x00 domid: u16,
        /// Zero.
        0x02 _pad: u16,
        /// Nodes.
        0x04 nr_vnodes: u32,
        /// Virtual processors.
        0x08 nr_vcpus: u32,
        /// Ranges.
        0x0c nr_vmemranges: u32,
        /// Address of the distances, `u32` each.
        0x10 vdistance: u64,
        /// Address of the node of each vCPU, `u32` each.
        0x18 vcpu_to_vnode: u64,
        /// Address of the ranges, [`XenVmemrange`] each.
        0x20 vmemrange: u64,
    }
}

impl XenMemoryReservation {
    /// Bits an address of the memory may have at most; 0 for any.
    #[inline]
    pub const fn address_bits(&self) -> u32 {
        self.mem_flags & XENMEMF_ADDRESS_BITS_MASK
    }
}

/// `E820Entry::kind`: memory.
pub const E820_RAM: u32 = 1;
/// `E820Entry::kind`: not to be used.
pub const E820_RESERVED: u32 = 2;
/// `E820Entry::kind`: ACPI tables, memory once they are read.
pub const E820_ACPI: u32 = 3;
/// `E820Entry::kind`: ACPI's own storage.
pub const E820_NVS: u32 = 4;
/// `E820Entry::kind`: faulty memory.
pub const E820_UNUSABLE: u32 = 5;

/// `XenMemAcquireResource::kind`: I/O request pages.
pub const XENMEM_RESOURCE_IOREQ_SERVER: u16 = 0;
/// `XenMemAcquireResource::kind`: the grant table.
pub const XENMEM_RESOURCE_GRANT_TABLE: u16 = 1;
/// `XenMemAcquireResource::kind`: a trace buffer.
pub const XENMEM_RESOURCE_VMTRACE_BUF: u16 = 2;
/// `XenMemAcquireResource::id` of a grant table: its entries.
pub const XENMEM_RESOURCE_GRANT_TABLE_ID_SHARED: u32 = 0;
/// `XenMemAcquireResource::id` of a grant table: its status words.
pub const XENMEM_RESOURCE_GRANT_TABLE_ID_STATUS: u32 = 1;

//! Physical devices: interrupts, I/O privilege, PCI.

use crate::wire::{operations, wire_struct};

operations! {
    /// Operations of [`Hypercall::PhysdevOp`](crate::Hypercall::PhysdevOp).
    pub enum PhysdevOp: u32 {
        /// What an interrupt needs. Argument: [`IrqStatusQuery`].
        IrqStatusQuery "irq_status_query" = 5,
        /// Set the virtual I/O privilege level. Argument: [`SetIopl`].
        SetIopl "set_iopl" = 6,
        /// Set the map of ports user mode may use. Argument: [`SetIobitmap`].
        SetIobitmap "set_iobitmap" = 7,
        /// Read a register of an I/O APIC. Argument: [`Apic`].
        ApicRead "apic_read" = 8,
        /// Write a register of an I/O APIC. Argument: [`Apic`].
        ApicWrite "apic_write" = 9,
        /// Get a vector for an interrupt. Argument: [`Irq`].
        AllocIrqVector "alloc_irq_vector" = 10,
        /// Give the vector back. Argument: [`Irq`].
        FreeIrqVector "free_irq_vector" = 11,
        /// The interrupt was handled. Argument: [`Eoi`].
        Eoi "eoi" = 12,
        /// Make a pirq of a hardware interrupt. Argument: [`MapPirq`].
        MapPirq "map_pirq" = 13,
        /// Undo that. Argument: [`UnmapPirq`].
        UnmapPirq "unmap_pirq" = 14,
        /// A PCI device is there, old form. Argument: [`ManagePci`].
        ManagePciAdd "manage_pci_add" = 15,
        /// A PCI device is gone, old form. Argument: [`ManagePci`].
        ManagePciRemove "manage_pci_remove" = 16,
        /// A page with a bit for each pirq that needs an end, old form. Argument: [`PirqEoiGmfn`].
        PirqEoiGmfnV1 "pirq_eoi_gmfn_v1" = 17,
        /// Restore a device's messages, old form. Argument: [`ManagePci`].
        RestoreMsi "restore_msi" = 19,
        /// A PCI function is there, old form. Argument: [`ManagePciExt`].
        ManagePciAddExt "manage_pci_add_ext" = 20,
        /// Trigger and polarity of a line. Argument: [`SetupGsi`].
        SetupGsi "setup_gsi" = 21,
        /// Ask for a pirq that is free. Argument: [`GetFreePirq`].
        GetFreePirq "get_free_pirq" = 23,
        /// Where PCI configuration space is mapped. Argument: [`PciMmcfgReserved`].
        PciMmcfgReserved "pci_mmcfg_reserved" = 24,
        /// A PCI device is there. Argument: [`PciDeviceAdd`].
        PciDeviceAdd "pci_device_add" = 25,
        /// A PCI device is gone. Argument: [`PciDevice`].
        PciDeviceRemove "pci_device_remove" = 26,
        /// Restore a device's messages. Argument: [`PciDevice`].
        RestoreMsiExt "restore_msi_ext" = 27,
        /// A page with a bit for each pirq that needs an end. Argument: [`PirqEoiGmfn`].
        PirqEoiGmfnV2 "pirq_eoi_gmfn_v2" = 28,
        /// A debug port is being reset. Argument: [`DbgpOp`].
        DbgpOp "dbgp_op" = 29,
        /// A device's message table must stay. Argument: [`PciDevice`].
        PrepareMsix "prepare_msix" = 30,
        /// It need not any more. Argument: [`PciDevice`].
        ReleaseMsix "release_msix" = 31,
    }
}

operations! {
    /// What [`MapPirq`] maps. `name()` is the interface's name without `MAP_PIRQ_TYPE_`.
    pub enum MapPirqType: u32 {
        /// A message, segment 0.
        Msi "MSI" = 0,
        /// A line, by its global number.
        Gsi "GSI" = 1,
        /// Not known.
        Unknown "UNKNOWN" = 2,
        /// A message; the segment is in `bus`.
        MsiSeg "MSI_SEG" = 3,
        /// Several messages in a row.
        MultiMsi "MULTI_MSI" = 4,
    }
}

/// `IrqStatusQuery::flags`: the guest must say when it is done.
pub const XENIRQSTAT_NEEDS_EOI: u32 = 1 << 0;
/// `IrqStatusQuery::flags`: other domains have it too.
pub const XENIRQSTAT_SHARED: u32 = 1 << 1;
/// `PciMmcfgReserved::flags`: the space is reserved in the memory map.
pub const XEN_PCI_MMCFG_RESERVED: u32 = 1;
/// `PciDeviceAdd::flags`: an extended function.
pub const XEN_PCI_DEV_EXTFN: u32 = 1;
/// `PciDeviceAdd::flags`: a virtual function.
pub const XEN_PCI_DEV_VIRTFN: u32 = 2;
/// `PciDeviceAdd::flags`: a proximity domain follows.
pub const XEN_PCI_DEV_PXM: u32 = 4;
/// `DbgpOp::op`: before a reset.
pub const PHYSDEVOP_DBGP_RESET_PREPARE: u8 = 1;
/// `DbgpOp::op`: after a reset.
pub const PHYSDEVOP_DBGP_RESET_DONE: u8 = 2;
/// `DbgpOp::bus`: not known.
pub const PHYSDEVOP_DBGP_BUS_UNKNOWN: u8 = 0;
/// `DbgpOp::bus`: PCI.
pub const PHYSDEVOP_DBGP_BUS_PCI: u8 = 1;

wire_struct! {
    /// Argument of [`PhysdevOp::Eoi`].
    pub struct Eoi: 4 {
        /// The pirq.
        0x00 irq: u32,
    }
    /// Argument of [`PhysdevOp::PirqEoiGmfnV2`].
    pub struct PirqEoiGmfn: 8 {
        /// The frame.
        0x00 gmfn: u64,
    }
    /// Argument of [`PhysdevOp::IrqStatusQuery`].
    pub struct IrqStatusQuery: 8 {
        /// The pirq.
        0x00 irq: u32,
        /// Out: `XENIRQSTAT_*`.
        0x04 flags: u32,
    }
    /// Argument of [`PhysdevOp::SetIopl`].
    pub struct SetIopl: 4 {
        /// The level, 0 to 3.
        0x00 iopl: u32,
    }
    /// Argument of [`PhysdevOp::SetIobitmap`].
    pub struct SetIobitmap: 16 {
        /// Address of the map, a set bit forbids; 0 takes it away.
        0x00 bitmap: u64,
        /// Ports it covers.
        0x08 nr_ports: u32,
        /// Padding.
        0x0c _pad0: u32,
    }
    /// Argument of [`PhysdevOp::ApicRead`] and [`PhysdevOp::ApicWrite`].
    pub struct Apic: 16 {
        /// Physical address of the I/O APIC.
        0x00 apic_physbase: u64,
        /// The register.
        0x08 reg: u32,
        /// Its value.
        0x0c value: u32,
    }
    /// Argument of [`PhysdevOp::AllocIrqVector`] and [`PhysdevOp::FreeIrqVector`].
    pub struct Irq: 8 {
        /// The interrupt.
        0x00 irq: u32,
        /// Its vector.
        0x04 vector: u32,
    }
    /// Argument of [`PhysdevOp::MapPirq`].
    pub struct MapPirq: 40 {
        /// The domain.
        0x00 domid: u16,
        /// Padding.
        0x02 _pad0: u16,
        /// A number of [`MapPirqType`].
        0x04 kind: i32,
        /// The line; -1 for a message.
        0x08 index: i32,
        /// In: the pirq wanted, -1 for any. Out: the pirq.
        0x0c pirq: i32,
        /// Bus, and the segment above it.
        0x10 bus: i32,
        /// Device and function.
        0x14 devfn: i32,
        /// Entry of the message table, or number of messages.
        0x18 entry_nr: i32,
        /// Padding.
        0x1c _pad1: u32,
        /// Address of the message table; 0 if the device has the short form.
        0x20 table_base: u64,
    }
    /// Argument of [`PhysdevOp::UnmapPirq`].
    pub struct UnmapPirq: 8 {
        /// The domain.
        0x00 domid: u16,
        /// Padding.
        0x02 _pad0: u16,
        /// The pirq.
        0x04 pirq: i32,
    }
    /// Argument of [`PhysdevOp::ManagePciAdd`], [`PhysdevOp::ManagePciRemove`] and
    /// [`PhysdevOp::RestoreMsi`].
    pub struct ManagePci: 2 {
        /// The bus.
        0x00 bus: u8,
        /// Device and function.
        0x01 devfn: u8,
    }
    /// Argument of [`PhysdevOp::ManagePciAddExt`].
    pub struct ManagePciExt: 16 {
        /// The bus.
        0x00 bus: u8,
        /// Device and function.
        0x01 devfn: u8,
        /// Padding.
        0x02 _pad0: u16,
        /// An extended function.
        0x04 is_extfn: u32,
        /// A virtual function.
        0x08 is_virtfn: u32,
        /// Bus of the physical function.
        0x0c physfn_bus: u8,
        /// Device and function of the physical function.
        0x0d physfn_devfn: u8,
        /// Padding.
        0x0e _pad1: u16,
    }
    /// Argument of [`PhysdevOp::SetupGsi`].
    pub struct SetupGsi: 8 {
        /// The line.
        0x00 gsi: i32,
        /// 0 edge, 1 level.
        0x04 triggering: u8,
        /// 0 active high, 1 active low.
        0x05 polarity: u8,
        /// Padding.
        0x06 _pad0: u16,
    }
    /// Argument of [`PhysdevOp::GetFreePirq`].
    pub struct GetFreePirq: 8 {
        /// A number of [`MapPirqType`].
        0x00 kind: i32,
        /// Out: the pirq.
        0x04 pirq: u32,
    }
    /// Argument of [`PhysdevOp::PciMmcfgReserved`].
    pub struct PciMmcfgReserved: 16 {
        /// Physical address of the space.
        0x00 address: u64,
        /// The segment.
        0x08 segment: u16,
        /// First bus.
        0x0a start_bus: u8,
        /// Last bus.
        0x0b end_bus: u8,
        /// [`XEN_PCI_MMCFG_RESERVED`] or 0.
        0x0c flags: u32,
    }
    /// Argument of [`PhysdevOp::PciDeviceAdd`]. With [`XEN_PCI_DEV_PXM`] a `u32` follows, the proximity
    /// domain.
    pub struct PciDeviceAdd: 12 {
        /// The segment.
        0x00 seg: u16,
        /// The bus.
        0x02 bus: u8,
        /// Device and function.
        0x03 devfn: u8,
        /// `XEN_PCI_DEV_*`.
        0x04 flags: u32,
        /// Bus of the physical function.
        0x08 physfn_bus: u8,
        /// Device and function of the physical function.
        0x09 physfn_devfn: u8,
        /// Padding.
        0x0a _pad0: u16,
    }
    /// Names a PCI device.
    pub struct PciDevice: 4 {
        /// The segment.
        0x00 seg: u16,
        /// The bus.
        0x02 bus: u8,
        /// Device and function.
        0x03 devfn: u8,
    }
    /// Argument of [`PhysdevOp::DbgpOp`].
    pub struct DbgpOp: 6 {
        /// `PHYSDEVOP_DBGP_RESET_*`.
        0x00 op: u8,
        /// `PHYSDEVOP_DBGP_BUS_*`.
        0x01 bus: u8,
        /// The device, if the bus is PCI.
        0x02 pci: PciDevice,
    }
}

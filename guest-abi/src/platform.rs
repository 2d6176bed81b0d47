//! Operations on the machine, for the control domain: clock, firmware, sleep, processors.

use crate::wire::{Wire, operations, wire_struct};

/// The version of the interface a guest states; older ones are the same to us.
pub const XENPF_INTERFACE_VERSION: u32 = 0x0300_0001;
/// The version the interface had before, which Linux states.
pub const XENPF_INTERFACE_VERSION_LINUX: u32 = 0x0300_0000;

operations! {
    /// Commands of [`Hypercall::PlatformOp`](crate::Hypercall::PlatformOp).
    pub enum PlatformCommand: u32 {
        /// Set the wall clock, old form. Argument: [`Settime32`].
        Settime32 "settime32" = 17,
        /// Add a memory type.
        AddMemtype "add_memtype" = 31,
        /// Remove a memory type.
        DelMemtype "del_memtype" = 32,
        /// Read a memory type.
        ReadMemtype "read_memtype" = 33,
        /// Load microcode.
        MicrocodeUpdate "microcode_update" = 35,
        /// Tell of a quirk.
        PlatformQuirk "platform_quirk" = 39,
        /// Describe a processor's make. Argument: [`PcpuVersion`].
        GetCpuVersion "get_cpu_version" = 48,
        /// Call the firmware.
        EfiRuntimeCall "efi_runtime_call" = 49,
        /// What the firmware knows. Argument: [`FirmwareInfo`].
        FirmwareInfo "firmware_info" = 50,
        /// Put the machine to sleep. Argument: [`EnterAcpiSleep`].
        EnterAcpiSleep "enter_acpi_sleep" = 51,
        /// Change a processor's frequency.
        ChangeFreq "change_freq" = 52,
        /// Idle times of the processors.
        Getidletime "getidletime" = 53,
        /// Power tables of a processor. Argument: [`SetProcessorPminfo`].
        SetProcessorPminfo "set_processor_pminfo" = 54,
        /// Describe a processor. Argument: [`Pcpuinfo`].
        GetCpuinfo "get_cpuinfo" = 55,
        /// Start a processor. Argument: [`CpuOl`].
        CpuOnline "cpu_online" = 56,
        /// Stop a processor. Argument: [`CpuOl`].
        CpuOffline "cpu_offline" = 57,
        /// A processor was added.
        CpuHotadd "cpu_hotadd" = 58,
        /// Memory was added.
        MemHotadd "mem_hotadd" = 59,
        /// Park processors. Argument: [`CoreParking`].
        CoreParking "core_parking" = 60,
        /// Access registers of a processor.
        ResourceOp "resource_op" = 61,
        /// Set the wall clock. Argument: [`Settime64`].
        Settime64 "settime64" = 62,
        /// Read a symbol of the hypervisor.
        GetSymbol "get_symbol" = 63,
    }
}

/// `FirmwareInfo::kind`: a disk of the BIOS.
pub const XEN_FW_DISK_INFO: u32 = 1;
/// `FirmwareInfo::kind`: a disk's signature.
pub const XEN_FW_DISK_MBR_SIGNATURE: u32 = 2;
/// `FirmwareInfo::kind`: the monitor's data.
pub const XEN_FW_VBEDDC_INFO: u32 = 3;
/// `FirmwareInfo::kind`: EFI. An error here is how a guest knows that the firmware is a BIOS.
pub const XEN_FW_EFI_INFO: u32 = 4;
/// `FirmwareInfo::kind`: the keyboard's shift keys.
pub const XEN_FW_KBD_SHIFT_FLAGS: u32 = 5;
/// `FirmwareInfo::index` of EFI: version.
pub const XEN_FW_EFI_VERSION: u32 = 0;
/// `FirmwareInfo::index` of EFI: configuration table.
pub const XEN_FW_EFI_CONFIG_TABLE: u32 = 1;
/// `FirmwareInfo::index` of EFI: vendor.
pub const XEN_FW_EFI_VENDOR: u32 = 2;
/// `FirmwareInfo::index` of EFI: memory at an address.
pub const XEN_FW_EFI_MEM_INFO: u32 = 3;
/// `FirmwareInfo::index` of EFI: version of the runtime services.
pub const XEN_FW_EFI_RT_VERSION: u32 = 4;
/// `FirmwareInfo::index` of EFI: a device's ROM.
pub const XEN_FW_EFI_PCI_ROM: u32 = 5;
/// `EnterAcpiSleep::flags`: the values are for the extended registers.
pub const XENPF_ACPI_SLEEP_EXTENDED: u32 = 1;
/// `Pcpuinfo::flags`: it runs.
pub const XEN_PCPU_FLAGS_ONLINE: u32 = 1;
/// `Pcpuinfo::flags`: there is no such.
pub const XEN_PCPU_FLAGS_INVALID: u32 = 2;
/// `SetProcessorPminfo::kind`: idle states.
pub const XEN_PM_CX: u32 = 0;
/// `SetProcessorPminfo::kind`: performance states.
pub const XEN_PM_PX: u32 = 1;
/// `SetProcessorPminfo::kind`: throttling states.
pub const XEN_PM_TX: u32 = 2;
/// `SetProcessorPminfo::kind`: capabilities of the driver.
pub const XEN_PM_PDC: u32 = 3;
/// `CoreParking::kind`: set.
pub const XEN_CORE_PARKING_SET: u32 = 1;
/// `CoreParking::kind`: read.
pub const XEN_CORE_PARKING_GET: u32 = 2;

wire_struct! {
    /// Argument of [`Hypercall::PlatformOp`](crate::Hypercall::PlatformOp).
    pub struct PlatformOp: 136 {
        /// A number of [`PlatformCommand`].
        0x00 cmd: u32,
        /// [`XENPF_INTERFACE_VERSION`] or an older one.
        0x04 interface_version: u32,
        /// The command's own argument, see [`PlatformOp::argument`].
        0x08 u: [u8; 128],
    }
    /// Argument of [`PlatformCommand::Settime32`]: it was this time when system time was that.
    pub struct Settime32: 16 {
        /// Seconds since 1970.
        0x00 secs: u32,
        /// Nanoseconds.
        0x04 nsecs: u32,
        /// System time in nanoseconds.
        0x08 system_time: u64,
    }
    /// Argument of [`PlatformCommand::Settime64`]: it was this time when system time was that.
    pub struct Settime64: 24 {
        /// Seconds since 1970.
        0x00 secs: u64,
        /// Nanoseconds.
        0x08 nsecs: u32,
        /// Zero.
        0x0c mbz: u32,
        /// System time in nanoseconds.
        0x10 system_time: u64,
    }
    /// Argument of [`PlatformCommand::FirmwareInfo`].
    pub struct FirmwareInfo: 40 {
        /// `XEN_FW_*`.
        0x00 kind: u32,
        /// Which one of the kind.
        0x04 index: u32,
        /// Out, by kind: [`DiskInfo`], [`DiskMbrSignature`], the shift keys in the first byte, or EFI's.
        0x08 u: [u8; 32],
    }
    /// The answer of [`XEN_FW_DISK_INFO`].
    pub struct DiskInfo: 16 {
        /// Number of the device.
        0x00 device: u8,
        /// Version of the extensions.
        0x01 version: u8,
        /// Extensions it has.
        0x02 interface_support: u16,
        /// Highest cylinder of the old geometry.
        0x04 legacy_max_cylinder: u16,
        /// Highest head.
        0x06 legacy_max_head: u8,
        /// Sectors of a track.
        0x07 legacy_sectors_per_track: u8,
        /// Address of a buffer for the parameters.
        0x08 edd_params: u64,
    }
    /// The answer of [`XEN_FW_DISK_MBR_SIGNATURE`].
    pub struct DiskMbrSignature: 8 {
        /// Number of the device.
        0x00 device: u8,
        /// Padding.
        0x01 _pad0: [u8; 3],
        /// The signature.
        0x04 mbr_signature: u32,
    }
    /// The answer of [`XEN_FW_EFI_CONFIG_TABLE`].
    pub struct EfiConfigTable: 16 {
        /// Physical address.
        0x00 addr: u64,
        /// Entries.
        0x08 nent: u32,
        /// Padding.
        0x0c _pad0: u32,
    }
    /// The answer of [`XEN_FW_EFI_VENDOR`].
    pub struct EfiVendor: 16 {
        /// Revision of the firmware.
        0x00 revision: u32,
        /// In: bytes of the buffer.
        0x04 bufsz: u32,
        /// Address of the buffer for the name, UCS-2.
        0x08 name: u64,
    }
    /// The answer of [`XEN_FW_EFI_MEM_INFO`].
    pub struct EfiMemInfo: 32 {
        /// First byte.
        0x00 addr: u64,
        /// Bytes.
        0x08 size: u64,
        /// Attributes.
        0x10 attr: u64,
        /// Type.
        0x18 kind: u32,
        /// Padding.
        0x1c _pad0: u32,
    }
    /// Argument of [`PlatformCommand::EnterAcpiSleep`].
    pub struct EnterAcpiSleep: 12 {
        /// For the first control register.
        0x00 val_a: u16,
        /// For the second.
        0x02 val_b: u16,
        /// The state, 1 to 5.
        0x04 sleep_state: u32,
        /// [`XENPF_ACPI_SLEEP_EXTENDED`] or 0.
        0x08 flags: u32,
    }
    /// Argument of [`PlatformCommand::SetProcessorPminfo`] as far as we read it.
    pub struct SetProcessorPminfo: 16 {
        /// ACPI id of the processor.
        0x00 id: u32,
        /// `XEN_PM_*`.
        0x04 kind: u32,
        /// For [`XEN_PM_PDC`]: address of the capabilities.
        0x08 pdc: u64,
    }
    /// Argument of [`PlatformCommand::GetCpuinfo`].
    pub struct Pcpuinfo: 20 {
        /// In: the processor.
        0x00 xen_cpuid: u32,
        /// Out: the highest processor there is.
        0x04 max_present: u32,
        /// Out: `XEN_PCPU_FLAGS_*`.
        0x08 flags: u32,
        /// Out: local APIC id.
        0x0c apic_id: u32,
        /// Out: ACPI id.
        0x10 acpi_id: u32,
    }
    /// Argument of [`PlatformCommand::GetCpuVersion`].
    pub struct PcpuVersion: 32 {
        /// In: the processor.
        0x00 xen_cpuid: u32,
        /// Out: the highest processor there is.
        0x04 max_present: u32,
        /// Out: the vendor.
        0x08 vendor_id: [u8; 12],
        /// Out: the family.
        0x14 family: u32,
        /// Out: the model.
        0x18 model: u32,
        /// Out: the stepping.
        0x1c stepping: u32,
    }
    /// Argument of [`PlatformCommand::CpuOnline`] and [`PlatformCommand::CpuOffline`].
    pub struct CpuOl: 4 {
        /// The processor.
        0x00 cpuid: u32,
    }
    /// Argument of [`PlatformCommand::CoreParking`].
    pub struct CoreParking: 8 {
        /// `XEN_CORE_PARKING_*`.
        0x00 kind: u32,
        /// Processors idle.
        0x04 idle_nums: u32,
    }
}

impl PlatformOp {
    /// The command's own argument. `None` only for a type that is larger than any argument.
    #[inline]
    pub fn argument<T: Wire>(&self) -> Option<T> {
        T::read_from(&self.u)
    }

    /// Puts the command's own argument back, for the guest to read. `None` as above.
    #[inline]
    pub fn set_argument<T: Wire>(&mut self, argument: &T) -> Option<()> {
        argument.write_to(&mut self.u)
    }
}

impl FirmwareInfo {
    /// Puts the answer in. `None` only for a type that is larger than any answer.
    #[inline]
    pub fn set_answer<T: Wire>(&mut self, answer: &T) -> Option<()> {
        answer.write_to(&mut self.u)
    }

    /// The answer, read as the kind has it. `None` as above.
    #[inline]
    pub fn answer<T: Wire>(&self) -> Option<T> {
        T::read_from(&self.u)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_is_read_back_as_it_was_put() {
        let mut op = PlatformOp::ZERO;
        let sleep = EnterAcpiSleep {
            val_a: 7,
            val_b: 0,
            sleep_state: 5,
            flags: 0,
        };
        assert_eq!(op.set_argument(&sleep), Some(()));
        assert_eq!(op.argument(), Some(sleep));
    }
}

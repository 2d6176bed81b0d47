//! What UEFI firmware left behind, for the control domain: where its configuration tables are (ACPI's root among them)
//! and which version it is. Ring 0 itself calls no firmware.

use crate::boot;
use crate::device::Registers;
use crate::{info, warn};
use spin::Once;

/// Facts of the system table.
#[derive(Clone, Copy, Debug)]
pub struct Efi {
    /// Physical address of the configuration tables.
    pub config_tables: u64,
    /// How many there are.
    pub count: u32,
    /// The firmware's own revision.
    pub firmware_revision: u32,
    /// The revision of its runtime services.
    pub runtime_revision: u32,
}

/// "IBI SYST".
const SIGNATURE: u64 = 0x5453_5953_2049_4249;
/// Offsets in the 64-bit system table and in every table's header, as the UEFI specification has them.
mod at {
    pub const REVISION: u64 = 8;
    pub const FIRMWARE_REVISION: u64 = 32;
    pub const RUNTIME_SERVICES: u64 = 88;
    pub const COUNT: u64 = 104;
    pub const CONFIG_TABLES: u64 = 112;
    pub const END: u64 = 120;
}
/// More tables than any firmware has: a lie.
const MAX_TABLES: u64 = 1024;

static EFI: Once<Option<Efi>> = Once::new();

/// Reads the system table, if the loader told of one.
pub fn init() {
    let found = boot::boot_info()
        .efi
        .as_ref()
        .filter(|efi| efi.is_64_bit)
        .and_then(|efi| read(efi.system_table));
    if let Some(efi) = found {
        info!(
            "EFI: {} configuration tables at {:#x}",
            efi.count, efi.config_tables
        );
    }
    EFI.call_once(|| found);
}

/// What was found; `None` on a BIOS machine.
pub fn facts() -> Option<Efi> {
    EFI.get().copied().flatten()
}

fn read(system_table: u64) -> Option<Efi> {
    let usable = system_table.is_multiple_of(8) && system_table != 0;
    let table =
        Registers::map(system_table, at::END).filter(|t| usable && t.read64(0) == SIGNATURE);
    let Some(table) = table else {
        warn!(
            "EFI: the system table at {system_table:#x} is not one; the control domain is told of a BIOS"
        );
        return None;
    };
    let (config_tables, count) = (table.read64(at::CONFIG_TABLES), table.read64(at::COUNT));
    if config_tables == 0 || count == 0 || count > MAX_TABLES {
        warn!(
            "EFI: {count} configuration tables at {config_tables:#x} cannot be; the control domain is told of a BIOS"
        );
        return None;
    }
    let services = table.read64(at::RUNTIME_SERVICES);
    let runtime_revision = Registers::map(services, 16)
        .filter(|_| services.is_multiple_of(8) && services != 0)
        .map_or(0, |s| s.read32(at::REVISION));
    Some(Efi {
        config_tables,
        count: count as u32,
        firmware_revision: table.read32(at::FIRMWARE_REVISION),
        runtime_revision,
    })
}

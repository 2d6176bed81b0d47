//! Power control, the power-management timer, ACPI's interrupt: table `FACP`.

use crate::tables::Table;
use crate::view::view;
use crate::{Platform, PmTimer, Register, Warn};
use acpi::AcpiResult;
use acpi::address::{AddressSpace, GenericAddress};
use acpi::fadt::Fadt;
use boot_info::PhysReader;

const SIZE: usize = size_of::<Fadt>();
/// ACPI 1.0's table, which everything needed here but the reset register is part of.
const SHORTEST: u64 = 116;
/// Where the lengths of the register blocks stand, in bytes, and the most each may be: the crate multiplies them
/// by eight in a byte.
const BLOCK_LENGTHS: core::ops::Range<usize> = 88..94;
const LONGEST_BLOCK: u8 = 31;

/// Reads the table into `platform`; answers the DSDT's address.
pub(crate) fn read(
    table: &Table,
    memory: &dyn PhysReader,
    platform: &mut Platform,
    warn: Warn<'_>,
) -> Option<u64> {
    if table.len() < SHORTEST {
        warn(format_args!("ACPI: table FACP is too short; ignored"));
        return None;
    }
    // What the table is too short for is zero, which all its fields take for "none".
    let mut bytes = [0; SIZE];
    let len = table.len().min(SIZE as u64) as usize;
    if !table.read(0, bytes.get_mut(..len)?, memory) {
        return None;
    }
    for byte in bytes.get_mut(BLOCK_LENGTHS)? {
        if *byte > LONGEST_BLOCK {
            warn(format_args!(
                "ACPI: table FACP claims a register block of {byte} bytes"
            ));
            *byte = LONGEST_BLOCK;
        }
    }
    let fadt = view::<Fadt>(&bytes)?;
    let flags = fadt.flags;
    platform.pm_timer = fadt.pm_timer_block().ok().flatten().and_then(|block| {
        Some(PmTimer {
            port: port(block)?,
            bits: if flags.pm_timer_is_32_bit() { 32 } else { 24 },
        })
    });
    platform.sci = non_zero(fadt.sci_interrupt);
    platform.century = (fadt.century != 0 && fadt.century < 0x80).then_some(fadt.century);
    let power = &mut platform.power;
    power.pm1a_control = fadt.pm1a_control_block().ok().and_then(port);
    power.pm1b_control = optional_port(fadt.pm1b_control_block());
    power.pm1a_event = fadt.pm1a_event_block().ok().and_then(port);
    power.pm1b_event = optional_port(fadt.pm1b_event_block());
    power.enable = u16::try_from(fadt.smi_cmd_port)
        .ok()
        .and_then(non_zero)
        .filter(|_| fadt.acpi_enable != 0)
        .map(|port| (port, fadt.acpi_enable));
    if flags.supports_system_reset_via_fadt() {
        power.reset = fadt
            .reset_register()
            .ok()
            .and_then(register)
            .map(|register| (register, fadt.reset_value));
    }
    if flags.system_is_hw_reduced_acpi() {
        power.sleep_control = fadt
            .sleep_control_register()
            .ok()
            .flatten()
            .and_then(register);
    }
    fadt.dsdt_address().ok().map(|address| address as u64)
}

fn non_zero(value: u16) -> Option<u16> {
    (value != 0).then_some(value)
}

/// The I/O port of a register block, if it is one.
fn port(block: GenericAddress) -> Option<u16> {
    match register(block)? {
        Register::Port(port) => Some(port),
        _ => None,
    }
}

fn optional_port(block: AcpiResult<Option<GenericAddress>>) -> Option<u16> {
    block.ok().flatten().and_then(port)
}

/// Where an address points, for the kinds of register that power control may have.
fn register(address: GenericAddress) -> Option<Register> {
    if address.address == 0 {
        return None;
    }
    match address.address_space {
        AddressSpace::SystemIo => Some(Register::Port(u16::try_from(address.address).ok()?)),
        AddressSpace::SystemMemory => Some(Register::Memory(address.address)),
        AddressSpace::PciConfigSpace => Some(Register::Pci {
            device: u8::try_from(address.address >> 32 & 0xffff)
                .ok()
                .filter(|&device| device < 32)?,
            function: u8::try_from(address.address >> 16 & 0xffff)
                .ok()
                .filter(|&function| function < 8)?,
            offset: u8::try_from(address.address & 0xffff).ok()?,
        }),
        _ => None,
    }
}

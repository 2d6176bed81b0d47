//! What the firmware's ACPI tables say of the machine, as one plain value: [`Platform`].
//!
//! The layouts are crate `acpi`'s; the distrust is ours. That crate's own walk over the tables takes lengths and
//! counts at their word (an entry of length zero never ends), so tables are found, bounded and summed here, copied,
//! and only then looked at through its structures.
//!
//! # Invariants
//! - F1: whatever lies in memory, [`discover`] ends, never panics, and never reads but through its [`PhysReader`].
//! - F2: a table that lies (checksum, length, count) costs one warning; what the other tables say is still used.
//! - F3: every port and address in a [`Platform`] is non-zero and fits its type.
#![no_std]
#![deny(unsafe_code)]

mod fadt;
mod madt;
mod sleep;
mod tables;
mod view;

use arrayvec::ArrayVec;
use boot_info::{PhysReader, RsdpSource};
use core::fmt;

pub use sleep::{SleepType, find_s5};

/// Most CPUs kept.
pub const MAX_CPUS: usize = 256;
/// Most IO-APICs kept.
pub const MAX_IO_APICS: usize = 16;
/// Most interrupt overrides kept: one for each ISA interrupt.
pub const MAX_OVERRIDES: usize = 16;
/// Most lines kept that carry NMIs.
pub const MAX_NMIS: usize = 16;

/// A CPU the firmware knows of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processor {
    /// Id of its local APIC.
    pub apic_id: u32,
    /// The id that ACPI's other tables use for it.
    pub acpi_id: u32,
    /// Whether it can be started now. Others are sockets that could be filled.
    pub enabled: bool,
}

/// An IO-APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoApic {
    /// Its id.
    pub id: u8,
    /// Physical address of its registers.
    pub address: u64,
    /// Number of its first pin among all pins of the machine.
    pub gsi_base: u32,
}

/// How an interrupt line signals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signal {
    /// Level-triggered; else edge-triggered.
    pub level: bool,
    /// Active low; else active high.
    pub low: bool,
}

/// An ISA interrupt that is not wired as tradition has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Override {
    /// ISA interrupt, 0 to 15.
    pub irq: u8,
    /// The pin it arrives at.
    pub gsi: u32,
    /// How it signals.
    pub signal: Signal,
}

/// A local APIC input that carries NMIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalNmi {
    /// ACPI id of the CPU, `None` for all.
    pub acpi_id: Option<u32>,
    /// Input 0 or 1.
    pub line: u8,
    /// How it signals.
    pub signal: Signal,
}

/// Where a register lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// At an I/O port.
    Port(u16),
    /// At a physical address.
    Memory(u64),
    /// In the configuration space of a device of bus 0.
    Pci {
        /// Device number.
        device: u8,
        /// Function number.
        function: u8,
        /// Offset in its configuration space.
        offset: u8,
    },
}

/// The power-management timer: 3 579 545 Hz.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PmTimer {
    /// Its port.
    pub port: u16,
    /// Bits it counts in: 24 or 32.
    pub bits: u32,
}

/// Registers that put the machine to sleep and restart it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Power {
    /// First power-management control register's port.
    pub pm1a_control: Option<u16>,
    /// Second one's, on machines that have it.
    pub pm1b_control: Option<u16>,
    /// First power-management event (status) register's port.
    pub pm1a_event: Option<u16>,
    /// Second one's.
    pub pm1b_event: Option<u16>,
    /// Port by which the firmware is asked to hand over these registers, and the value that asks.
    pub enable: Option<(u16, u8)>,
    /// Register and value that restart the machine.
    pub reset: Option<(Register, u8)>,
    /// The sleep register of machines without the ones above ("hardware-reduced").
    pub sleep_control: Option<Register>,
    /// What the sleep registers want for "off".
    pub s5: Option<SleepType>,
}

/// All we know of the machine from ACPI.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Platform {
    /// CPUs, in the firmware's order.
    pub cpus: ArrayVec<Processor, MAX_CPUS>,
    /// Physical address of the local APICs' registers, where told.
    pub local_apic: Option<u64>,
    /// Whether there is a pair of 8259 interrupt controllers as well.
    pub has_8259: bool,
    /// IO-APICs.
    pub io_apics: ArrayVec<IoApic, MAX_IO_APICS>,
    /// ISA interrupts wired in other ways.
    pub overrides: ArrayVec<Override, MAX_OVERRIDES>,
    /// Local APIC inputs that carry NMIs.
    pub local_nmis: ArrayVec<LocalNmi, MAX_NMIS>,
    /// IO-APIC pins that carry NMIs.
    pub gsi_nmis: ArrayVec<(u32, Signal), MAX_NMIS>,
    /// Power control.
    pub power: Power,
    /// The power-management timer.
    pub pm_timer: Option<PmTimer>,
    /// The pin of ACPI's own interrupt.
    pub sci: Option<u16>,
    /// The register of the real-time clock that holds the century.
    pub century: Option<u8>,
    /// Physical address of the high-precision event timer.
    pub hpet: Option<u64>,
    /// Entries there was no room for.
    pub dropped: u32,
}

impl Platform {
    /// The pin an ISA interrupt arrives at and how it signals there.
    pub fn isa(&self, irq: u8) -> (u32, Signal) {
        self.overrides
            .iter()
            .find(|o| o.irq == irq)
            .map_or((u32::from(irq), Signal::default()), |o| (o.gsi, o.signal))
    }
}

/// Receives warnings, each one sentence.
pub type Warn<'a> = &'a mut dyn FnMut(fmt::Arguments<'_>);

/// Reads everything. What cannot be read or believed is warned of and left out.
pub fn discover(source: &RsdpSource, memory: &dyn PhysReader, warn: Warn<'_>) -> Platform {
    let mut platform = Platform::default();
    let Some(root) = tables::Root::find(source, memory, warn) else {
        warn(format_args!(
            "ACPI: no usable root table; interrupts and power control are left to tradition"
        ));
        return platform;
    };
    let mut dsdt = None;
    let mut seen = [false; 3];
    for index in 0..root.count() {
        let Some(table) = root.table(index, memory, warn) else {
            continue;
        };
        match &table.signature() {
            b"APIC" if !core::mem::replace(&mut seen[0], true) => {
                madt::read(&table, memory, &mut platform, warn);
            }
            b"FACP" if !core::mem::replace(&mut seen[1], true) => {
                dsdt = fadt::read(&table, memory, &mut platform, warn);
            }
            b"HPET" if !core::mem::replace(&mut seen[2], true) => {
                platform.hpet = hpet(&table, memory);
            }
            _ => {}
        }
    }
    platform.power.s5 = s5(&root, dsdt, memory, warn);
    if platform.dropped > 0 {
        warn(format_args!(
            "ACPI: {} entries did not fit and are ignored",
            platform.dropped
        ));
    }
    platform
}

/// Address of the HPET's registers, if they are in memory.
fn hpet(table: &tables::Table, memory: &dyn PhysReader) -> Option<u64> {
    let space: [u8; 1] = table.bytes(40, memory)?;
    let address = u64::from_le_bytes(table.bytes(44, memory)?);
    (space == [0] && address != 0).then_some(address)
}

/// The sleep type for "off", from the DSDT or else from an SSDT.
fn s5(
    root: &tables::Root,
    dsdt: Option<u64>,
    memory: &dyn PhysReader,
    warn: Warn<'_>,
) -> Option<SleepType> {
    if let Some(phys) = dsdt
        && let Some(table) = tables::Table::open(phys, memory, warn)
        && table.signature() == *b"DSDT"
        && let Some(found) = find_s5(&mut |offset, buf| table.read(offset, buf, memory))
    {
        return Some(found);
    }
    (0..root.count()).find_map(|index| {
        let table = root.table(index, memory, &mut |_| {})?;
        if table.signature() != *b"SSDT" {
            return None;
        }
        find_s5(&mut |offset, buf| table.read(offset, buf, memory))
    })
}

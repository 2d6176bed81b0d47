//! The interrupt controllers and CPUs: table `APIC`.

use crate::tables::Table;
use crate::view::view;
use crate::{IoApic, LocalNmi, Override, Platform, Processor, Signal, Warn};
use acpi::madt::{
    InterruptSourceOverrideEntry, IoApicEntry, LocalApicAddressOverrideEntry, LocalApicEntry,
    LocalApicNmiEntry, LocalX2ApicEntry, NmiSourceEntry, X2ApicNmiEntry,
};
use arrayvec::ArrayVec;
use boot_info::PhysReader;

/// Bytes before the first entry.
const FIXED: u64 = 44;
/// Bit of the flags word: there is a pair of 8259s.
const PCAT_COMPAT: u32 = 1;
/// Bit of a CPU's flags: it can be started.
const ENABLED: u32 = 1;
/// Bit of a CPU's flags: it could be, once plugged in.
const ONLINE_CAPABLE: u32 = 2;
/// An entry is at most this long: its length is one byte.
const LONGEST: usize = 255;

/// Reads the table into `platform`.
pub(crate) fn read(
    table: &Table,
    memory: &dyn PhysReader,
    platform: &mut Platform,
    warn: Warn<'_>,
) {
    let Some(address) = table.bytes(36, memory).map(u32::from_le_bytes) else {
        warn(format_args!("ACPI: table APIC is too short; ignored"));
        return;
    };
    let flags = table.bytes(40, memory).map_or(0, u32::from_le_bytes);
    platform.local_apic = non_zero(u64::from(address));
    platform.has_8259 = flags & PCAT_COMPAT != 0;
    let mut at = FIXED;
    while at < table.len() {
        let Some([kind, len]) = table.bytes(at, memory) else {
            warn(format_args!(
                "ACPI: table APIC ends inside an entry; the rest is ignored"
            ));
            return;
        };
        let mut bytes = [0; LONGEST];
        let entry = bytes.get_mut(..usize::from(len)).unwrap_or_default();
        // An entry holds its own two bytes at least: shorter, and the walk would not move.
        if len < 2 || !table.read(at, entry, memory) {
            warn(format_args!(
                "ACPI: table APIC has an entry of {len} bytes at offset {at}; the rest is ignored"
            ));
            return;
        }
        if take(kind, entry, platform).is_none() {
            warn(format_args!(
                "ACPI: table APIC's entry at offset {at} (kind {kind}) is malformed; ignored"
            ));
        }
        at = at.saturating_add(u64::from(len));
    }
}

fn non_zero(address: u64) -> Option<u64> {
    (address != 0).then_some(address)
}

/// Puts one entry in its place; `None` if it is too short or says something impossible.
fn take(kind: u8, entry: &[u8], platform: &mut Platform) -> Option<()> {
    match kind {
        0 => {
            let e = view::<LocalApicEntry>(entry)?;
            processor(
                platform,
                u32::from(e.apic_id),
                u32::from(e.processor_id),
                e.flags,
                0xff,
            );
        }
        1 => {
            let e = view::<IoApicEntry>(entry)?;
            let apic = IoApic {
                id: e.io_apic_id,
                address: non_zero(u64::from(e.io_apic_address))?,
                gsi_base: e.global_system_interrupt_base,
            };
            keep(&mut platform.io_apics, apic, &mut platform.dropped);
        }
        2 => {
            let e = view::<InterruptSourceOverrideEntry>(entry)?;
            if e.bus != 0 || e.irq > 15 {
                return None;
            }
            let new = Override {
                irq: e.irq,
                gsi: e.global_system_interrupt,
                signal: signal(e.flags, Signal::default())?,
            };
            keep(&mut platform.overrides, new, &mut platform.dropped);
        }
        3 => {
            let e = view::<NmiSourceEntry>(entry)?;
            let new = (
                e.global_system_interrupt,
                signal(e.flags, Signal::default())?,
            );
            keep(&mut platform.gsi_nmis, new, &mut platform.dropped);
        }
        4 => {
            let e = view::<LocalApicNmiEntry>(entry)?;
            let who = (e.processor_id != 0xff).then_some(u32::from(e.processor_id));
            local_nmi(platform, who, e.nmi_line, e.flags)?;
        }
        5 => {
            let e = view::<LocalApicAddressOverrideEntry>(entry)?;
            platform.local_apic = Some(non_zero(e.local_apic_address)?);
        }
        9 => {
            let e = view::<LocalX2ApicEntry>(entry)?;
            processor(platform, e.x2apic_id, e.processor_uid, e.flags, u32::MAX);
        }
        10 => {
            let e = view::<X2ApicNmiEntry>(entry)?;
            let who = (e.processor_uid != u32::MAX).then_some(e.processor_uid);
            local_nmi(platform, who, e.nmi_line, e.flags)?;
        }
        // Other kinds belong to other machines, or to nobody yet.
        _ => {}
    }
    Some(())
}

/// Keeps a CPU, unless the entry is a place holder or names a CPU already kept.
fn processor(platform: &mut Platform, apic_id: u32, acpi_id: u32, flags: u32, nobody: u32) {
    let known = platform.cpus.iter().any(|cpu| cpu.apic_id == apic_id);
    if apic_id == nobody || known || flags & (ENABLED | ONLINE_CAPABLE) == 0 {
        return;
    }
    let new = Processor {
        apic_id,
        acpi_id,
        enabled: flags & ENABLED != 0,
    };
    keep(&mut platform.cpus, new, &mut platform.dropped);
}

fn local_nmi(platform: &mut Platform, acpi_id: Option<u32>, line: u8, flags: u16) -> Option<()> {
    if line > 1 {
        return None;
    }
    let new = LocalNmi {
        acpi_id,
        line,
        signal: signal(flags, Signal::default())?,
    };
    keep(&mut platform.local_nmis, new, &mut platform.dropped);
    Some(())
}

/// Polarity and trigger mode, two bits each: 0 for the bus's own, 1 high or edge, 3 low or level, 2 reserved.
fn signal(flags: u16, bus: Signal) -> Option<Signal> {
    let choose = |bits, own| match bits & 3 {
        0 => Some(own),
        1 => Some(false),
        3 => Some(true),
        _ => None,
    };
    Some(Signal {
        low: choose(flags, bus.low)?,
        level: choose(flags >> 2, bus.level)?,
    })
}

fn keep<T, const N: usize>(list: &mut ArrayVec<T, N>, item: T, dropped: &mut u32) {
    if list.try_push(item).is_err() {
        *dropped = dropped.saturating_add(1);
    }
}

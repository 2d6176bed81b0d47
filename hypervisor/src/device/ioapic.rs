//! The IO-APICs: from a device's interrupt line to a vector on a CPU.
//!
//! # Invariants
//! - I1: every pin is masked until somebody unmasks it; [`route`] leaves it masked.
//! - I2: an entry's two halves are written while it is masked, so that no interrupt goes to a mixture of two routes.
//! - I3: the index and data registers are a pair: used under the lock only.

use crate::arch::apic;
use crate::device::{Registers, acpi};
use crate::layout::PAGE;
use crate::memory::frame_table;
use crate::sync::{Lock, rank};
use crate::{debug, info, warn};
use firmware::{MAX_IO_APICS, Platform, Signal};
use frames::{Class, Mfn};

/// Index and data registers.
const SELECT: u64 = 0x00;
const WINDOW: u64 = 0x10;
/// Bytes of registers.
const BYTES: u64 = 0x20;
/// Registers reached through them.
const ID: u32 = 0;
const VERSION: u32 = 1;
const ENTRIES: u32 = 0x10;

const MASKED: u32 = 1 << 16;
const LEVEL: u32 = 1 << 15;
const LOW: u32 = 1 << 13;
const DELIVER_NMI: u32 = 4 << 8;

#[derive(Clone, Copy)]
struct IoApic {
    registers: Registers,
    phys: u64,
    gsi_base: u32,
    pins: u32,
    id: u32,
    version: u32,
}

struct IoApics {
    list: [Option<IoApic>; MAX_IO_APICS],
    /// One more than the highest pin number of controllers that firmware tells of and that are not there.
    missing: u32,
}

static IO_APICS: Lock<IoApics, rank::IoApic> = Lock::new(IoApics {
    list: [None; MAX_IO_APICS],
    missing: 0,
});

/// Pins of a controller of which nothing is known: what most have, and what kernels assume.
const USUAL_PINS: u32 = 24;

impl IoApic {
    fn read(&self, register: u32) -> u32 {
        self.registers.write32(SELECT, register);
        self.registers.read32(WINDOW)
    }

    /// Whether the index register keeps what is written to it, as that of a controller does.
    fn selects(&self, register: u32) -> bool {
        self.registers.write32(SELECT, register);
        self.registers.read32(SELECT) & 0xff == register
    }

    fn write(&self, register: u32, value: u32) {
        self.registers.write32(SELECT, register);
        self.registers.write32(WINDOW, value);
    }

    fn low(&self, pin: u32) -> u32 {
        self.read(ENTRIES + 2 * pin)
    }

    fn set_low(&self, pin: u32, value: u32) {
        self.write(ENTRIES + 2 * pin, value);
    }

    /// Writes a whole entry, masked in between (I2).
    fn set(&self, pin: u32, low: u32, destination: u32) {
        self.set_low(pin, MASKED);
        self.write(ENTRIES + 2 * pin + 1, destination << 24);
        self.set_low(pin, low);
    }
}

impl IoApics {
    /// The controller and pin of a global number.
    fn find(&self, gsi: u32) -> Option<(&IoApic, u32)> {
        self.list.iter().flatten().find_map(|io_apic| {
            let pin = gsi.checked_sub(io_apic.gsi_base)?;
            (pin < io_apic.pins).then_some((io_apic, pin))
        })
    }
}

/// The controller firmware tells of, if it is one: firmware has been seen to give addresses where none is.
fn meet(found: &firmware::IoApic) -> Result<IoApic, &'static str> {
    let frame = Mfn(found.address / PAGE);
    if matches!(frame_table::class(frame), Class::Ram(_)) {
        return Err("is in the middle of memory");
    }
    if frame.0 == apic::phys_base() / PAGE {
        return Err("is where the local APIC is");
    }
    let registers = Registers::map(found.address, BYTES).ok_or("cannot be mapped")?;
    let mut io_apic = IoApic {
        registers,
        phys: found.address,
        gsi_base: found.gsi_base,
        pins: 0,
        id: 0,
        version: 0,
    };
    if !io_apic.selects(VERSION) || !io_apic.selects(ID) {
        return Err("does not answer");
    }
    io_apic.id = io_apic.read(ID);
    io_apic.version = io_apic.read(VERSION);
    if io_apic.version == u32::MAX || io_apic.version as u8 == 0 {
        return Err("does not answer like one");
    }
    io_apic.pins = (io_apic.version >> 16 & 0xff) + 1;
    if found.gsi_base.checked_add(io_apic.pins).is_none() {
        return Err("has pins beyond all numbers");
    }
    Ok(io_apic)
}

/// Maps the controllers, reads what they are and masks every pin.
pub fn init(platform: &Platform) {
    let mut missing = 0;
    // Mapped with nothing locked: that takes frames.
    for (number, found) in (0..MAX_IO_APICS).zip(&platform.io_apics) {
        let io_apic = match meet(found) {
            Ok(io_apic) => io_apic,
            Err(why) => {
                warn!(
                    "IO-APIC {} at {:#x} {why}; its interrupts stay off",
                    found.id, found.address
                );
                missing = missing.max(found.gsi_base.saturating_add(USUAL_PINS));
                continue;
            }
        };
        for pin in 0..io_apic.pins {
            io_apic.set(pin, MASKED, 0);
        }
        info!(
            "IO-APIC {} at {:#x}: interrupts {}-{}",
            found.id,
            found.address,
            io_apic.gsi_base,
            io_apic.gsi_base + io_apic.pins - 1
        );
        IO_APICS.lock().list[number] = Some(io_apic);
    }
    let mut all = IO_APICS.lock();
    all.missing = missing;
    if all.list.iter().flatten().next().is_none() {
        warn!("there is no IO-APIC: devices interrupt by messages or not at all");
    }
    for &(gsi, signal) in &platform.gsi_nmis {
        if let Some((io_apic, pin)) = all.find(gsi) {
            io_apic.set(pin, DELIVER_NMI | bits(signal), apic::id());
            debug!("interrupt {gsi} delivers NMIs");
        }
    }
}

fn bits(signal: Signal) -> u32 {
    (if signal.level { LEVEL } else { 0 }) | (if signal.low { LOW } else { 0 })
}

/// Routes a pin to a vector of a CPU, given its local APIC's id (below 255: the entry holds eight bits). The pin is
/// left masked (I1). False if there is no such pin or CPU.
pub fn route(gsi: u32, vector: u8, level: bool, low: bool, dest_apic_id: u32) -> bool {
    let all = IO_APICS.lock();
    match all.find(gsi) {
        Some((io_apic, pin)) if dest_apic_id < 0xff => {
            let entry = u32::from(vector) | bits(Signal { level, low }) | MASKED;
            io_apic.set(pin, entry, dest_apic_id);
            true
        }
        _ => false,
    }
}

/// Masks a pin. False if there is no such pin.
pub fn mask(gsi: u32) -> bool {
    change(gsi, |entry| entry | MASKED)
}

/// Unmasks a pin that has been routed. False if there is no such pin.
pub fn unmask(gsi: u32) -> bool {
    change(gsi, |entry| entry & !MASKED)
}

fn change(gsi: u32, how: impl FnOnce(u32) -> u32) -> bool {
    let all = IO_APICS.lock();
    let Some((io_apic, pin)) = all.find(gsi) else {
        return false;
    };
    let old = io_apic.low(pin);
    let new = how(old);
    if new != old {
        io_apic.set_low(pin, new);
    }
    true
}

/// The pin an ISA interrupt arrives at, and how it signals there.
pub fn isa_route(irq: u8) -> (u32, Signal) {
    acpi::platform().map_or((u32::from(irq), Signal::default()), |p| p.isa(irq))
}

/// One more than the highest pin number there is, or that firmware says there is. Pins of controllers that are not there
/// can be had and stay silent: a kernel does not enable a device whose line it cannot have, even if the device would
/// interrupt by messages.
pub fn nr_gsis() -> u32 {
    let all = IO_APICS.lock();
    all.list
        .iter()
        .flatten()
        .map(|io_apic| io_apic.gsi_base.saturating_add(io_apic.pins))
        .max()
        .unwrap_or(0)
        .max(all.missing)
}

/// What a domain that asks reads from register 0 (id) or 1 (version and number of pins) of the controller at `phys`.
/// `None` for other registers and places.
pub fn guest_read(phys: u64, register: u32) -> Option<u32> {
    let all = IO_APICS.lock();
    let io_apic = all
        .list
        .iter()
        .flatten()
        .find(|io_apic| io_apic.phys == phys)?;
    match register {
        ID => Some(io_apic.id),
        VERSION => Some(io_apic.version),
        _ => None,
    }
}

/// Whether a physical address lies in a page with a controller's registers, which no guest may map.
pub fn owns(phys: u64) -> bool {
    let all = IO_APICS.lock();
    all.list
        .iter()
        .flatten()
        .any(|io_apic| io_apic.phys >> 12 == phys >> 12)
}

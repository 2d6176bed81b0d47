//! Physical interrupts that belong to the control domain: lines, by their global number, and messages.
//!
//! A number is bound to an event channel by the guest. An edge or a message is acknowledged at once and made pending. A
//! level interrupt is masked at the controller until the guest says that it has dealt with the device.
//!
//! # Invariants
//! - R1: a vector belongs to one number at a time; an interrupt on a vector that is nobody's is acknowledged and
//!   forgotten (its source was masked a moment too late).
//! - R2: no source keeps the CPU to itself. A line that stays asserted interrupts once for each end of interrupt the
//!   guest tells; any other source that storms (crate `interrupts`, N2) is held back until its window is over, and its
//!   listener is told once more then, because edges may have been lost meanwhile.
//! - R3: numbers below [`LINES`] are lines, the rest messages.
//!
//! Lock: `ALL`, then the controllers' (`ioapic`, `msi`, `pci`); nothing is told to the guest while it is held.

mod messages;

pub use messages::{
    free_line, free_message, function_added, function_removed, map_message, owns_register, restore,
    unmap,
};

use crate::account::{self, Cause};
use crate::arch::{apic, trap};
use crate::boot;
use crate::device::msi::Source;
use crate::device::{ioapic, timer};
use crate::domain;
use crate::event;
use crate::sync::{Lock, rank};
use crate::{schedule, warn};
use bitflags::bitflags;
use core::sync::atomic::{AtomicU32, Ordering};
use interrupts::{Meter, NoMessages, Vectors, Verdict};

/// Numbers for lines.
pub const LINES: u32 = 256;
/// Numbers for messages: as many as there are vectors.
const MESSAGES: u32 = 192;
/// Numbers there are.
pub const MAX: u32 = LINES + MESSAGES;
/// Device vectors that are taken: guests may raise the old system call's themselves (`int 0x80`), and the console's.
const NOT_FOR_DEVICES: [u8; 2] = [0x80, trap::CONSOLE_VECTOR];

bitflags! {
    /// What is known of an interrupt and where it is.
    #[derive(Clone, Copy)]
    struct State: u8 {
        /// The guest set trigger and polarity up.
        const KNOWN = 1 << 0;
        /// By level, not by edge.
        const LEVEL = 1 << 1;
        /// Active low.
        const LOW = 1 << 2;
        /// Bound to an event channel.
        const BOUND = 1 << 3;
        /// Masked until the guest has dealt with the device.
        const MASKED = 1 << 4;
        /// Held back because it storms.
        const HELD = 1 << 5;
        /// That was said.
        const TOLD = 1 << 6;
    }
}

/// A number.
struct Pirq {
    state: State,
    /// 0 for none.
    vector: u8,
    meter: Meter,
    /// What sends it, if it is a message that is mapped.
    source: Option<Source>,
}

impl Pirq {
    const NEW: Pirq = Pirq {
        state: State::empty(),
        vector: 0,
        meter: Meter::NEW,
        source: None,
    };
}

struct Pirqs {
    list: [Pirq; MAX as usize],
    vectors: Vectors,
    /// The number each vector belongs to (R1).
    owners: [Option<u16>; 256],
}

static ALL: Lock<Pirqs, rank::Pirq> = Lock::new(Pirqs {
    list: [const { Pirq::NEW }; MAX as usize],
    vectors: Vectors::new(apic::DEVICE_VECTORS, &NOT_FOR_DEVICES),
    owners: [None; 256],
});

/// The local APIC all device interrupts go to, and the interrupt ring 0 keeps for its console plus one (0 for none).
static TARGET: AtomicU32 = AtomicU32::new(0);
static RING0S: AtomicU32 = AtomicU32::new(0);

/// Device interrupts go to the CPU this runs on.
pub fn init() {
    TARGET.store(apic::id(), Ordering::Relaxed);
}

/// Says that ring 0 uses a line itself.
pub fn keep(gsi: u32) {
    RING0S.store(gsi.saturating_add(1), Ordering::Relaxed);
}

/// Whether ring 0 uses a line itself, so that no domain may bind it.
pub fn is_ring0s(gsi: u32) -> bool {
    RING0S.load(Ordering::Relaxed) == gsi.saturating_add(1)
}

/// Whether a number names a line of this machine that a domain may have.
pub fn is_line(gsi: u32) -> bool {
    gsi < ioapic::nr_gsis().min(LINES)
}

impl Pirqs {
    fn get(&mut self, pirq: u32) -> Option<&mut Pirq> {
        self.list.get_mut(pirq as usize)
    }

    /// The vector of a number, taken for it if it has none.
    fn vector_for(&mut self, pirq: u32) -> Option<u8> {
        let known = self.get(pirq)?.vector;
        if known != 0 {
            return Some(known);
        }
        let vector = self.vectors.take()?;
        self.get(pirq)?.vector = vector;
        self.owners[usize::from(vector)] = Some(pirq as u16);
        Some(vector)
    }

    fn give_vector(&mut self, pirq: u32) {
        if let Some(p) = self.get(pirq)
            && p.vector != 0
        {
            let vector = core::mem::take(&mut p.vector);
            self.owners[usize::from(vector)] = None;
            self.vectors.give(vector);
        }
    }

    /// Sends a bound line to its vector and opens it.
    fn route(&mut self, gsi: u32) {
        let Some(vector) = self.vector_for(gsi) else {
            warn!("interrupt {gsi} stays off: all vectors are taken");
            return;
        };
        let target = TARGET.load(Ordering::Relaxed);
        let Some(p) = self.get(gsi) else { return };
        let (level, low) = (p.state.contains(State::LEVEL), p.state.contains(State::LOW));
        if ioapic::route(gsi, vector, level, low, target) {
            p.state.remove(State::MASKED | State::HELD);
            ioapic::unmask(gsi);
        } else {
            // A line that is not there (see `ioapic::nr_gsis`).
            self.give_vector(gsi);
        }
    }

    /// Opens or closes a source.
    fn mask(&mut self, pirq: u32, masked: bool) {
        let Some(p) = self.get(pirq) else { return };
        match &mut p.source {
            Some(source) => source.mask(masked),
            None if masked => drop(ioapic::mask(pirq)),
            None => drop(ioapic::unmask(pirq)),
        }
    }
}

/// Why an interrupt cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No such number, or nothing is mapped to it.
    NoSuch,
    /// Ring 0 has it, or the domain was not given it.
    NotYours,
    /// It is in use.
    InUse,
    /// All numbers or vectors are taken.
    Full,
    /// The function has no such message.
    Messages(NoMessages),
}

/// Sets trigger and polarity of a line; true if they were set before.
pub fn set_up(gsi: u32, level: bool, low: bool) -> bool {
    let mut all = ALL.lock();
    let Some(p) = all.get(gsi).filter(|_| !is_ring0s(gsi)) else {
        return true;
    };
    if p.state.contains(State::KNOWN) {
        return true;
    }
    // What firmware's default was gives way to what the guest's own reading of firmware says.
    p.state.set(State::LEVEL, level);
    p.state.set(State::LOW, low);
    p.state.insert(State::KNOWN);
    if p.state.contains(State::BOUND) {
        all.route(gsi);
    }
    false
}

/// Whether a number can be bound to an event channel.
pub fn may_bind(pirq: u32) -> Result<(), Refused> {
    if pirq >= MAX {
        return Err(Refused::NoSuch);
    }
    let mapped = |pirq| ALL.lock().get(pirq).is_some_and(|p| p.source.is_some());
    if !is_ring0s(pirq) && (is_line(pirq) || mapped(pirq)) {
        Ok(())
    } else {
        Err(Refused::NotYours)
    }
}

/// The guest listens to a number that [`may_bind`].
pub fn bound(pirq: u32) {
    let mut all = ALL.lock();
    let Some(p) = all.get(pirq) else { return };
    p.state.insert(State::BOUND);
    p.state.remove(State::HELD);
    if p.source.is_some() {
        return all.mask(pirq, false);
    }
    if !p.state.contains(State::KNOWN) && pirq < 16 {
        // Interrupts of the old bus keep the signal firmware tells of, unless the guest says otherwise.
        let (gsi, signal) = ioapic::isa_route(pirq as u8);
        if gsi == pirq {
            p.state.set(State::LEVEL, signal.level);
            p.state.set(State::LOW, signal.low);
        }
    }
    all.route(pirq);
}

/// It no longer does.
pub fn unbound(pirq: u32) {
    let mut all = ALL.lock();
    let Some(p) = all.get(pirq) else { return };
    p.state.remove(State::BOUND | State::MASKED | State::HELD);
    let is_message = p.source.is_some();
    all.mask(pirq, true);
    if !is_message {
        all.give_vector(pirq);
    }
}

/// Nobody listens to anything any more: messages are unmapped, and every number is as after start-up, and masked, but
/// for the one ring 0 keeps.
pub fn forget_all() {
    for pirq in (0..MAX).filter(|pirq| !is_ring0s(*pirq)) {
        if unmap(pirq).is_err() {
            // Nothing was mapped to it: it is a number without a source.
            continue;
        }
        unbound(pirq);
        let mut all = ALL.lock();
        if let Some(p) = all.get(pirq) {
            p.state = State::empty();
            p.meter = Meter::NEW;
        }
    }
    crate::device::msi::forget_all();
}

/// Whether the guest must say when it has dealt with the number.
pub fn needs_eoi(pirq: u32) -> bool {
    let mut all = ALL.lock();
    all.get(pirq)
        .is_some_and(|p| p.state.contains(State::LEVEL))
}

/// The guest has dealt with the device.
pub fn end_of_interrupt(pirq: u32) {
    let mut all = ALL.lock();
    if let Some(p) = all.get(pirq)
        && p.state.contains(State::MASKED)
    {
        p.state.remove(State::MASKED);
        all.mask(pirq, false);
    }
}

/// A device interrupt arrived.
pub fn interrupt(vector: u8) {
    let arrived = arrived(vector);
    apic::eoi();
    let Some((pirq, storm)) = arrived else {
        return account::is_for_nobody();
    };
    account::is_for_control(Cause::Device);
    if let Some(control) = domain::control() {
        event::raise_pirq(control, pirq);
    }
    if let Some(until_ns) = storm {
        schedule::set_device_timer(until_ns);
    }
}

/// Whose the interrupt is, and until when the source is held back if it storms (R2).
fn arrived(vector: u8) -> Option<(u16, Option<u64>)> {
    let limit = boot::params().irq_ratelimit;
    let mut all = ALL.lock();
    let number = all.owners[usize::from(vector)]?;
    let pirq = u32::from(number);
    let p = all.get(pirq)?;
    if p.state.contains(State::LEVEL) {
        p.state.insert(State::MASKED);
        all.mask(pirq, true);
        return Some((number, None));
    }
    let Verdict::Storm { until_ns } = p.meter.arrived(timer::now_ns(), limit) else {
        return Some((number, None));
    };
    let told = p.state.contains(State::TOLD);
    p.state.insert(State::HELD | State::TOLD);
    all.mask(pirq, true);
    drop(all);
    if !told {
        warn!("interrupt {pirq} storms; it is held back as often as it does");
    }
    Some((number, Some(until_ns)))
}

/// Lets go what was held back, and tells its listeners.
pub fn release_held() {
    for pirq in 0..MAX {
        let mut all = ALL.lock();
        let Some(p) = all.get(pirq).filter(|p| p.state.contains(State::HELD)) else {
            continue;
        };
        p.state.remove(State::HELD);
        all.mask(pirq, false);
        drop(all);
        if let Some(control) = domain::control() {
            event::raise_pirq(control, pirq as u16);
        }
    }
}

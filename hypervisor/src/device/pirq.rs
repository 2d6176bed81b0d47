//! Physical interrupts that belong to the control domain: wired ones, by their global number.
//!
//! A number is bound to an event channel by the guest. An edge interrupt is acknowledged at once and made pending. A
//! level interrupt is masked at the controller until the guest says that it has dealt with the device.

use crate::arch::apic;
use crate::device::ioapic;
use crate::domain;
use crate::event;
use bitflags::bitflags;
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// Numbers there are.
pub const MAX: u32 = 256;
/// Device vectors that are taken: the old system call's and the console's.
const NOT_FOR_DEVICES: [u8; 2] = [0x80, crate::arch::trap::CONSOLE_VECTOR];

bitflags! {
    /// What is known of a wired interrupt and where it is.
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
    }
}

/// The states of all numbers. Changed by the control domain's calls and by interrupts, on any CPU.
struct States([AtomicU8; MAX as usize]);

impl States {
    fn get(&self, gsi: u32) -> State {
        let bits = self
            .0
            .get(gsi as usize)
            .map_or(0, |s| s.load(Ordering::Relaxed));
        State::from_bits_retain(bits)
    }

    /// Sets flags; what was set before.
    fn set(&self, gsi: u32, flags: State) -> State {
        let old = self
            .0
            .get(gsi as usize)
            .map_or(0, |s| s.fetch_or(flags.bits(), Ordering::Relaxed));
        State::from_bits_retain(old)
    }

    /// Clears flags; what was set before.
    fn clear(&self, gsi: u32, flags: State) -> State {
        let old = self
            .0
            .get(gsi as usize)
            .map_or(0, |s| s.fetch_and(!flags.bits(), Ordering::Relaxed));
        State::from_bits_retain(old)
    }
}

static STATES: States = States([const { AtomicU8::new(0) }; MAX as usize]);

/// Vector of a wired interrupt: the device vectors in order.
fn vector_of(gsi: u32) -> Option<u8> {
    let first = *apic::DEVICE_VECTORS.start();
    let vector = u32::from(first).checked_add(gsi)?;
    // Guests may raise 0x80 themselves (`int 0x80`), and the last is the console's.
    u8::try_from(vector)
        .ok()
        .filter(|v| apic::DEVICE_VECTORS.contains(v) && !NOT_FOR_DEVICES.contains(v))
}

/// Whether a number names a wired interrupt of this machine that a domain may have.
pub fn exists(gsi: u32) -> bool {
    gsi < ioapic::nr_gsis().min(MAX) && vector_of(gsi).is_some()
}

/// The interrupt ring 0 keeps for its console, plus one; 0 for none.
static RING0S: AtomicU32 = AtomicU32::new(0);

/// Says that ring 0 uses an interrupt itself.
pub fn keep(gsi: u32) {
    RING0S.store(gsi.saturating_add(1), Ordering::Relaxed);
}

/// Whether ring 0 uses an interrupt itself, so that no domain may bind it.
pub fn is_ring0s(gsi: u32) -> bool {
    RING0S.load(Ordering::Relaxed) == gsi.saturating_add(1)
}

/// Sets trigger and polarity; true if they were set before.
pub fn set_up(gsi: u32, level: bool, low: bool) -> bool {
    let mut flags = State::KNOWN;
    flags.set(State::LEVEL, level);
    flags.set(State::LOW, low);
    if is_ring0s(gsi) || STATES.get(gsi).contains(State::KNOWN) {
        return true;
    }
    // What firmware's default was gives way to what the guest's own reading of firmware says.
    STATES.clear(gsi, State::LEVEL | State::LOW);
    if STATES.set(gsi, flags).contains(State::BOUND) {
        route(gsi);
    }
    false
}

fn route(gsi: u32) {
    let state = STATES.get(gsi);
    let (level, low) = (state.contains(State::LEVEL), state.contains(State::LOW));
    if let Some(vector) = vector_of(gsi)
        && ioapic::route(gsi, vector, level, low, apic::id())
    {
        STATES.clear(gsi, State::MASKED);
        ioapic::unmask(gsi);
    }
}

/// The guest listens to a number.
pub fn bound(pirq: u32) {
    if !exists(pirq) {
        return;
    }
    let old = STATES.set(pirq, State::BOUND);
    if !old.contains(State::KNOWN) && pirq < 16 {
        // Interrupts of the old bus keep the signal firmware tells of, unless the guest says otherwise.
        let (gsi, signal) = ioapic::isa_route(pirq as u8);
        if gsi == pirq {
            let mut flags = State::empty();
            flags.set(State::LEVEL, signal.level);
            flags.set(State::LOW, signal.low);
            STATES.set(pirq, flags);
        }
    }
    route(pirq);
}

/// It no longer does.
pub fn unbound(pirq: u32) {
    if exists(pirq) {
        STATES.clear(pirq, State::BOUND);
        ioapic::mask(pirq);
    }
}

/// Whether the guest must say when it has dealt with the number.
pub fn needs_eoi(pirq: u32) -> bool {
    STATES.get(pirq).contains(State::LEVEL)
}

/// The guest has dealt with the device.
pub fn end_of_interrupt(pirq: u32) {
    if STATES.clear(pirq, State::MASKED).contains(State::MASKED) {
        ioapic::unmask(pirq);
    }
}

/// A device interrupt arrived.
pub fn interrupt(vector: u8) {
    let gsi = u32::from(vector.saturating_sub(*apic::DEVICE_VECTORS.start()));
    if STATES.get(gsi).contains(State::LEVEL) {
        ioapic::mask(gsi);
        STATES.set(gsi, State::MASKED);
    }
    apic::eoi();
    if let Some(control) = domain::control() {
        event::raise_pirq(control, gsi as u16);
    }
}

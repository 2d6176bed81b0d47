//! Physical interrupts that belong to the control domain: wired ones, by their global number.
//!
//! A number is bound to an event channel by the guest. An edge interrupt is acknowledged at once and made pending. A
//! level interrupt is masked at the controller until the guest says that it has dealt with the device.

use crate::arch::apic;
use crate::device::ioapic;
use crate::domain;
use crate::event;
use core::sync::atomic::{AtomicU8, Ordering};

/// Numbers there are.
pub const MAX: u32 = 256;

/// What the guest set a wired interrupt up as.
mod state {
    pub const KNOWN: u8 = 1 << 0;
    pub const LEVEL: u8 = 1 << 1;
    pub const LOW: u8 = 1 << 2;
    pub const BOUND: u8 = 1 << 3;
    pub const MASKED: u8 = 1 << 4;
    pub const ROUTED: u8 = 1 << 5;
}

static STATE: [AtomicU8; MAX as usize] = [const { AtomicU8::new(0) }; MAX as usize];

/// Vector of a wired interrupt: the device vectors in order.
fn vector_of(gsi: u32) -> Option<u8> {
    let first = *apic::DEVICE_VECTORS.start();
    let vector = u32::from(first).checked_add(gsi)?;
    // Guests may raise 0x80 themselves (`int 0x80`).
    u8::try_from(vector)
        .ok()
        .filter(|v| apic::DEVICE_VECTORS.contains(v) && *v != 0x80)
}

fn state(gsi: u32) -> Option<&'static AtomicU8> {
    STATE.get(gsi as usize)
}

/// Whether a number names a wired interrupt of this machine that a domain may have.
pub fn exists(gsi: u32) -> bool {
    gsi < ioapic::nr_gsis().min(MAX) && vector_of(gsi).is_some()
}

/// Sets trigger and polarity; true if they were set before.
pub fn set_up(gsi: u32, level: bool, low: bool) -> bool {
    let Some(s) = state(gsi) else { return false };
    let old = s.load(Ordering::Relaxed);
    if old & state::KNOWN != 0 {
        return true;
    }
    let mut new = old | state::KNOWN;
    if level {
        new |= state::LEVEL;
    }
    if low {
        new |= state::LOW;
    }
    s.store(new, Ordering::Relaxed);
    if new & state::BOUND != 0 {
        route(gsi, new);
    }
    false
}

fn route(gsi: u32, flags: u8) {
    let (level, low) = (flags & state::LEVEL != 0, flags & state::LOW != 0);
    if let (Some(vector), Some(s)) = (vector_of(gsi), state(gsi))
        && ioapic::route(gsi, vector, level, low, apic::id())
    {
        s.fetch_or(state::ROUTED, Ordering::Relaxed);
        s.fetch_and(!state::MASKED, Ordering::Relaxed);
        ioapic::unmask(gsi);
    }
}

/// The guest listens to a number.
pub fn bound(pirq: u32) {
    if !exists(pirq) {
        return;
    }
    let Some(s) = state(pirq) else { return };
    let flags = s.fetch_or(state::BOUND, Ordering::Relaxed) | state::BOUND;
    if flags & state::KNOWN == 0 && pirq < 16 {
        // Interrupts of the old bus keep the signal firmware tells of, unless the guest says otherwise.
        let (gsi, signal) = ioapic::isa_route(pirq as u8);
        if gsi == pirq {
            if signal.level {
                s.fetch_or(state::LEVEL, Ordering::Relaxed);
            }
            if signal.low {
                s.fetch_or(state::LOW, Ordering::Relaxed);
            }
        }
    }
    route(pirq, s.load(Ordering::Relaxed));
}

/// It no longer does.
pub fn unbound(pirq: u32) {
    if let Some(s) = state(pirq) {
        s.fetch_and(!(state::BOUND | state::ROUTED), Ordering::Relaxed);
        ioapic::mask(pirq);
    }
}

/// Whether the guest must say when it has dealt with the number.
pub fn needs_eoi(pirq: u32) -> bool {
    state(pirq).is_some_and(|s| s.load(Ordering::Relaxed) & state::LEVEL != 0)
}

/// The guest has dealt with the device.
pub fn end_of_interrupt(pirq: u32) {
    if let Some(s) = state(pirq)
        && s.fetch_and(!state::MASKED, Ordering::Relaxed) & state::MASKED != 0
    {
        ioapic::unmask(pirq);
    }
}

/// A device interrupt arrived.
pub fn interrupt(vector: u8) {
    let gsi = u32::from(vector - *apic::DEVICE_VECTORS.start());
    let flags = state(gsi).map_or(0, |s| s.load(Ordering::Relaxed));
    if flags & state::LEVEL != 0 {
        ioapic::mask(gsi);
        if let Some(s) = state(gsi) {
            s.fetch_or(state::MASKED, Ordering::Relaxed);
        }
    }
    apic::eoi();
    if let Some(control) = domain::control() {
        event::raise_pirq(control, gsi as u16);
    }
}

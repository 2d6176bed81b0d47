//! Time: the TSC and the local APIC's timer, measured against a timer whose rate is known.
//!
//! # Invariants
//! - T1: no wait is without bound: a reference that stands still is given up after [`LONGEST_WAIT`] TSC ticks.
//! - T2: the clock's parameters are set once and never change, so that guests may hold copies.
//! - T3: all references together measure for at most 60 ms.
//! - T4: a CPU whose time-stamp counter is off by a known offset reads the same time as all others: only [`now_ns`], [`ns_at`],
//!   [`set_deadline`] and [`time_page`] know of counts and offsets, everything else of nanoseconds.

use crate::arch::{apic, cpu, percpu};
use crate::device::Registers;
use crate::{debug, info, warn};
use clock::{
    Calibration, Clock, Countdown, CounterReading, Frequency, NS_PER_SECOND, NearClock, Offset,
    PvClock, TscScale, best, hz_from_period_fs,
};
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use firmware::Platform;
use spin::Once;

/// Samples taken against one reference, each this long.
const SAMPLES: usize = 3;
const SAMPLE_MS: u64 = 15;
/// A reference that has not moved on by then never will: at 1 GHz a second, at 5 GHz a fifth of one.
const LONGEST_WAIT: u64 = 1 << 30;
/// Tries for a reading with a narrow bracket.
const TRIES: usize = 8;
const PM_TIMER_HZ: u64 = 3_579_545;
const PIT_HZ: u64 = 1_193_182;

/// What [`init`] measured.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// From TSC ticks to nanoseconds since boot.
    pub clock: Clock,
    countdown: Countdown,
}

static TIMING: Once<Timing> = Once::new();
/// Nanoseconds since 1970 when the clock read zero.
static WALL_BASE_NS: AtomicU64 = AtomicU64::new(0);

/// There is nothing to tell time by.
#[derive(Clone, Copy, Debug)]
pub struct NoTimer;

impl fmt::Display for NoTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "no timer of known rate was found (HPET, ACPI PM timer or 8254); enable one in the firmware set-up",
        )
    }
}

/// A counter of known rate.
enum Reference {
    Hpet {
        registers: Registers,
        hz: u64,
        bits: u32,
    },
    Pm {
        port: u16,
        bits: u32,
    },
    Pit,
}

mod hpet {
    pub const BYTES: u64 = 0x400;
    pub const CAPABILITIES: u64 = 0x00;
    pub const CONFIGURATION: u64 = 0x10;
    pub const COUNTER: u64 = 0xf0;
    pub const ENABLE: u64 = 1 << 0;
    pub const COUNTER_IS_64_BITS: u64 = 1 << 13;
}

mod pit {
    pub const CHANNEL0: u16 = 0x40;
    pub const CHANNEL2: u16 = 0x42;
    pub const COMMAND: u16 = 0x43;
    /// Gate of channel 2 (bit 0) and speaker (bit 1).
    pub const CONTROL: u16 = 0x61;
    /// Channel 2, both bytes, count down once.
    pub const CHANNEL2_ONCE: u8 = 0xb0;
    pub const LATCH_CHANNEL2: u8 = 0x80;
    /// Channel 0, both bytes, count down once.
    pub const CHANNEL0_ONCE: u8 = 0x30;
}

impl Reference {
    fn hpet(phys: u64) -> Option<Reference> {
        let registers = Registers::map(phys, hpet::BYTES)?;
        let capabilities = registers.read64(hpet::CAPABILITIES);
        let hz = hz_from_period_fs(capabilities >> 32)?;
        let bits = if capabilities & hpet::COUNTER_IS_64_BITS != 0 {
            64
        } else {
            32
        };
        Some(Reference::Hpet {
            registers,
            hz,
            bits,
        })
    }

    fn name(&self) -> &'static str {
        match self {
            Reference::Hpet { .. } => "HPET",
            Reference::Pm { .. } => "PM timer",
            Reference::Pit => "8254",
        }
    }

    fn rate(&self) -> (u64, u32) {
        match *self {
            Reference::Hpet { hz, bits, .. } => (hz, bits),
            Reference::Pm { bits, .. } => (PM_TIMER_HZ, bits),
            Reference::Pit => (PIT_HZ, 16),
        }
    }

    fn start(&self) {
        match self {
            Reference::Hpet { registers, .. } => {
                let old = registers.read64(hpet::CONFIGURATION);
                registers.write64(hpet::CONFIGURATION, old | hpet::ENABLE);
            }
            Reference::Pm { .. } => {}
            Reference::Pit => {
                cpu::outb(pit::CONTROL, cpu::inb(pit::CONTROL) & !2 | 1);
                cpu::outb(pit::COMMAND, pit::CHANNEL2_ONCE);
                cpu::outb(pit::CHANNEL2, 0xff);
                cpu::outb(pit::CHANNEL2, 0xff);
            }
        }
    }

    fn stop(&self) {
        if let Reference::Pit = self {
            cpu::outb(pit::CONTROL, cpu::inb(pit::CONTROL) & !3);
        }
    }

    /// The counter now, counting up.
    fn read(&self) -> u64 {
        match self {
            Reference::Hpet {
                registers,
                bits: 64,
                ..
            } => registers.read64(hpet::COUNTER),
            Reference::Hpet { registers, .. } => u64::from(registers.read32(hpet::COUNTER)),
            Reference::Pm { port, .. } => u64::from(cpu::inl(*port)),
            Reference::Pit => {
                cpu::outb(pit::COMMAND, pit::LATCH_CHANNEL2);
                let low = cpu::inb(pit::CHANNEL2);
                let high = cpu::inb(pit::CHANNEL2);
                u64::from(!u16::from_le_bytes([low, high]))
            }
        }
    }
}

/// Reads a counter between two readings of the TSC, as narrow as a few tries make it.
fn bracket(read: impl Fn() -> u64) -> CounterReading {
    let once = || CounterReading {
        tsc_before: cpu::rdtsc(),
        reference: read(),
        tsc_after: cpu::rdtsc(),
    };
    let width = |r: &CounterReading| r.tsc_after.wrapping_sub(r.tsc_before);
    let mut narrowest = once();
    for _ in 1..TRIES {
        let next = once();
        if width(&next) < width(&narrowest) {
            narrowest = next;
        }
    }
    narrowest
}

/// One sample; `None` if the reference stands still (T1).
fn sample(reference: &Reference) -> Option<Calibration> {
    let (hz, bits) = reference.rate();
    let mask = u64::MAX >> (64 - bits);
    let wanted = hz * SAMPLE_MS / 1000;
    let start = bracket(|| reference.read());
    loop {
        let gone = reference.read().wrapping_sub(start.reference) & mask;
        if gone >= wanted {
            break;
        }
        if cpu::rdtsc().wrapping_sub(start.tsc_before) > LONGEST_WAIT {
            return None;
        }
        core::hint::spin_loop();
    }
    let end = bracket(|| reference.read());
    Calibration::between(&start, &end, hz, bits)
}

/// The TSC's rate by the best of several samples, and the APIC timer's over all of them.
fn measure(reference: &Reference) -> Option<(Frequency, u64)> {
    reference.start();
    apic::start_counting();
    let apic_start = bracket(|| u64::from(apic::counted()));
    let mut samples = [const { None }; SAMPLES];
    for place in &mut samples {
        *place = sample(reference);
        if place.is_none() {
            break;
        }
    }
    let apic_end = bracket(|| u64::from(apic::counted()));
    apic::stop_counting();
    reference.stop();
    let tsc = best(samples.into_iter().flatten())?;
    // Turned around: the TSC is known by now, and the APIC's counter is what is measured.
    let apic = Calibration::between(&apic_start, &apic_end, 1, 32)?;
    let hz = u128::from(apic.ref_ticks) * u128::from(tsc.hz) / u128::from(apic.tsc_ticks.max(1));
    Some((tsc, u64::try_from(hz).unwrap_or(u64::MAX)))
}

/// Measures, sets the clock going from zero, and turns the 8254 off.
pub fn init(platform: &Platform) -> Result<(), NoTimer> {
    let candidates = [
        platform.hpet.and_then(Reference::hpet),
        platform.pm_timer.map(|timer| Reference::Pm {
            port: timer.port,
            bits: timer.bits,
        }),
        Some(Reference::Pit),
    ];
    let mut measured = None;
    for reference in candidates.into_iter().flatten() {
        measured = measure(&reference).map(|(tsc, apic_hz)| (reference.name(), tsc, apic_hz));
        if measured.is_some() {
            break;
        }
        warn!(
            "the {} stands still; trying another timer",
            reference.name()
        );
    }
    silence_pit();
    let (name, tsc, apic_hz) = measured.ok_or(NoTimer)?;
    let scale = TscScale::from_hz(tsc.hz).ok_or(NoTimer)?;
    let countdown = match Countdown::from_hz(apic_hz) {
        Some(countdown) => countdown,
        // In deadline mode the countdown may be absent.
        None if apic::deadline_mode() => Countdown::NONE,
        None => return Err(NoTimer),
    };
    TIMING.call_once(|| Timing {
        clock: Clock::new(cpu::rdtsc(), 0, scale),
        countdown,
    });
    begin_here(Offset::NONE);
    info!(
        "TSC: {}.{:06} MHz by the {}, off by at most {} ppm; local APIC timer: {}.{:03} MHz",
        tsc.hz / 1_000_000,
        tsc.hz % 1_000_000,
        name,
        tsc.error_ppm(),
        apic_hz / 1_000_000,
        apic_hz / 1000 % 1000
    );
    debug!("clock: {:?}", scale);
    Ok(())
}

/// Stops the periodic interrupt that firmware leaves running: counts down once more and is silent.
fn silence_pit() {
    cpu::outb(pit::COMMAND, pit::CHANNEL0_ONCE);
    cpu::outb(pit::CHANNEL0, 0);
    cpu::outb(pit::CHANNEL0, 0);
}

/// The machine's clock, which counts by CPU 0's counter. Before [`init`] it stands for one tick a nanosecond.
#[inline]
pub fn clock() -> Clock {
    match TIMING.get() {
        Some(timing) => timing.clock,
        None => Clock::new(0, 0, TscScale::NANOSECONDS),
    }
}

/// Nanoseconds since boot; 0 before [`init`].
#[inline]
pub fn now_ns() -> u64 {
    TIMING
        .get()
        .map_or(0, |timing| timing.clock.now_ns(counter()))
}

/// CPU 0's counter, as this CPU's own shows it (T4): readings of different CPUs are compared as this. After [`init`], which
/// runs on a stack of CPU 0's area.
#[inline]
pub fn counter() -> u64 {
    offset().machine(cpu::rdtsc())
}

/// How far this CPU's counter is ahead of CPU 0's.
#[inline]
pub fn offset() -> Offset {
    percpu::current().tsc_offset.get()
}

/// Has this CPU read the clock by its own counter, which is ahead of CPU 0's by so much.
pub fn begin_here(offset: Offset) {
    let this = percpu::current();
    this.tsc_offset.set(offset);
    this.clock.set(NearClock::on(&clock(), offset));
}

/// What the clock shows when this CPU's counter is at `counter`. On a CPU that has begun to read it.
#[inline]
pub fn ns_at(counter: u64) -> u64 {
    percpu::current().clock.get().ns_at(counter)
}

/// As [`now_ns`], on a CPU that has begun to read the clock.
#[inline]
pub fn now_here() -> u64 {
    ns_at(cpu::rdtsc())
}

/// Nanoseconds that so many ticks last. On a CPU that has begun to read the clock.
#[inline]
pub fn ns_from_ticks(ticks: u64) -> u64 {
    percpu::current().clock.get().ns_from_ticks(ticks)
}

/// What this CPU's counter shows when the clock is at `ns`.
#[inline]
pub fn counter_at(ns: u64) -> u64 {
    offset().here(clock().tsc_at(ns))
}

/// What a guest on this CPU is to read its time from.
pub fn time_page(flags: u8, version: u32) -> PvClock {
    PvClock::on(&clock(), offset(), flags, version)
}

/// Makes this CPU's timer interrupt when the clock has reached `ns`, at once if it has. Outside deadline mode the
/// interrupt may come early, by the measurement's error (millionths of the wait) or because the deadline lies beyond
/// the counter's reach (seconds): whoever handles it looks at the clock and asks again.
#[inline]
pub fn set_deadline(ns: u64) {
    let Some(timing) = TIMING.get() else {
        return;
    };
    if apic::deadline_mode() {
        let at = offset().deadline(timing.clock.tsc_at(ns), cpu::rdtsc());
        apic::arm_deadline(at);
        return;
    }
    let left = ns.saturating_sub(ns_at(cpu::rdtsc()));
    apic::arm(timing.countdown.ticks(left));
}

/// Says that it is `seconds` since 1970 now.
pub fn set_wall_clock(seconds: u64) {
    let base = seconds
        .saturating_mul(NS_PER_SECOND)
        .saturating_sub(now_ns());
    WALL_BASE_NS.store(base, Ordering::Release);
}

/// The wall-clock time at which the clock read zero, in nanoseconds since 1970.
pub fn wall_base_ns() -> u64 {
    WALL_BASE_NS.load(Ordering::Acquire)
}

/// Says when the clock read zero, in nanoseconds since 1970: a domain that is trusted with the time has set it.
pub fn set_wall_base_ns(base: u64) {
    WALL_BASE_NS.store(base, Ordering::Release);
}

/// Does nothing for about so many milliseconds. Works at any time, before the clock only roughly.
pub fn stall_ms(ms: u64) {
    match TIMING.get() {
        Some(timing) => {
            let start = cpu::rdtsc();
            let ticks = timing
                .clock
                .scale
                .ticks_from_ns(ms.saturating_mul(1_000_000));
            while cpu::rdtsc().wrapping_sub(start) < ticks {
                core::hint::spin_loop();
            }
        }
        None => {
            // A write to the diagnostic port takes about a microsecond.
            for _ in 0..ms.saturating_mul(1000) {
                cpu::outb(0x80, 0);
            }
        }
    }
}

/// Does nothing for about so many microseconds.
pub fn wait_us(us: u64) {
    let until = now_ns().saturating_add(us.saturating_mul(1000));
    while now_ns() < until {
        core::hint::spin_loop();
    }
}

/// Waits until `done`, for about so many milliseconds at most; says whether it came to that.
pub fn wait_ms(ms: u64, mut done: impl FnMut() -> bool) -> bool {
    let start = cpu::rdtsc();
    // Before the clock goes, as if the counter had 1 GHz.
    let ticks = TIMING
        .get()
        .map_or(TscScale::NANOSECONDS, |timing| timing.clock.scale)
        .ticks_from_ns(ms.saturating_mul(1_000_000));
    loop {
        if done() {
            return true;
        }
        if cpu::rdtsc().wrapping_sub(start) >= ticks {
            return false;
        }
        core::hint::spin_loop();
    }
}

//! The local APIC: each CPU's own interrupt controller and timer, through memory (xAPIC) or, where the CPU can,
//! through model-specific registers (x2APIC).
//!
//! # Invariants
//! - V1: vectors in use are those named here, plus [`DEVICE_VECTORS`]; nothing else is ever programmed.
//! - V2: a CPU touches its own APIC only, with interrupts off.

use crate::arch::cpu::{self, msr};
use crate::device::Registers;
use crate::{info, warn};
use core::arch::asm;
use core::ops::RangeInclusive;
use core::sync::atomic::{AtomicBool, Ordering};
use firmware::Platform;
use spin::Once;

/// Vectors that devices may be given.
pub const DEVICE_VECTORS: RangeInclusive<u8> = 0x30..=0xef;
/// The timer.
pub const TIMER: u8 = 0xf0;
/// Another CPU asks for a flush.
pub const IPI_FLUSH: u8 = 0xf1;
/// Another CPU asks for a scheduling decision.
pub const IPI_RESCHEDULE: u8 = 0xf2;
/// Another CPU asks for something rare (`smp::call`).
pub const IPI_CALL: u8 = 0xf3;
/// The APIC met an error.
pub const ERROR: u8 = 0xfe;
/// An interrupt went away before it was delivered. Wants no acknowledgement.
pub const SPURIOUS: u8 = 0xff;

/// Registers, by their offset in memory; in x2APIC mode they are 0x800 plus a sixteenth of it.
mod register {
    pub const ID: u32 = 0x20;
    pub const VERSION: u32 = 0x30;
    pub const TASK_PRIORITY: u32 = 0x80;
    pub const EOI: u32 = 0xb0;
    pub const SPURIOUS: u32 = 0xf0;
    pub const IN_SERVICE: u32 = 0x100;
    pub const ERROR_STATUS: u32 = 0x280;
    pub const LVT_CMCI: u32 = 0x2f0;
    pub const COMMAND_LOW: u32 = 0x300;
    pub const COMMAND_HIGH: u32 = 0x310;
    pub const LVT_TIMER: u32 = 0x320;
    pub const LVT_THERMAL: u32 = 0x330;
    pub const LVT_COUNTERS: u32 = 0x340;
    pub const LVT_LINT0: u32 = 0x350;
    pub const LVT_LINT1: u32 = 0x360;
    pub const LVT_ERROR: u32 = 0x370;
    pub const TIMER_INITIAL: u32 = 0x380;
    pub const TIMER_CURRENT: u32 = 0x390;
    pub const TIMER_DIVIDE: u32 = 0x3e0;
}

const BASE_ENABLED: u64 = 1 << 11;
const BASE_X2APIC: u64 = 1 << 10;
const BASE_ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const X2APIC_MSRS: u32 = 0x800;
const X2APIC_COMMAND: u32 = 0x830;
const TSC_DEADLINE_MSR: u32 = 0x6e0;

const MASKED: u32 = 1 << 16;
const LEVEL: u32 = 1 << 15;
const ACTIVE_LOW: u32 = 1 << 13;
const SOFTWARE_ENABLE: u32 = 1 << 8;
const TSC_DEADLINE: u32 = 2 << 17;
const DELIVER_NMI: u32 = 4 << 8;
const DELIVER_INIT: u32 = 5 << 8;
const DELIVER_STARTUP: u32 = 6 << 8;
const ASSERT: u32 = 1 << 14;
const PENDING: u32 = 1 << 12;
/// Divide by one.
const DIVIDE_BY_1: u32 = 0b1011;

/// How the registers are reached: the same on every CPU. `None` in it: by model-specific registers.
static ACCESS: Once<Option<Registers>> = Once::new();
static DEADLINE_MODE: AtomicBool = AtomicBool::new(false);

fn access() -> &'static Option<Registers> {
    ACCESS.get().expect("the local APIC is used after init_bsp")
}

#[inline]
fn read(register: u32) -> u32 {
    match access() {
        Some(registers) => registers.read32(u64::from(register)),
        None => cpu::rdmsr(X2APIC_MSRS + (register >> 4)) as u32,
    }
}

#[inline]
fn write(register: u32, value: u32) {
    match access() {
        Some(registers) => registers.write32(u64::from(register), value),
        // SAFETY: only this module's registers, none of which changes how ring 0 runs: interrupts are off (V2), and
        // vectors are those of V1, which the descriptor table has handlers for.
        None => unsafe { cpu::wrmsr(X2APIC_MSRS + (register >> 4), u64::from(value)) },
    }
}

/// Sets up the boot CPU's APIC, and decides for all CPUs how theirs are reached.
pub fn init_bsp(platform: &Platform) {
    let features = cpu::cpuid(1, 0);
    let base = cpu::rdmsr(msr::APIC_BASE);
    let x2apic = features.ecx >> 21 & 1 == 1;
    ACCESS.call_once(|| {
        if x2apic {
            return None;
        }
        let address = base & BASE_ADDRESS;
        if platform.local_apic.is_some_and(|told| told != address) {
            warn!(
                "ACPI places the local APIC at {:#x}, the CPU at {address:#x}; using the CPU's",
                platform.local_apic.unwrap_or(0)
            );
        }
        let registers = Registers::map(address, 0x1000);
        assert!(registers.is_some(), "no memory to map the local APIC");
        registers
    });
    DEADLINE_MODE.store(features.ecx >> 24 & 1 == 1, Ordering::Relaxed);
    init_this_cpu(platform);
    info!(
        "local APIC: id {}, version {:#x}, {}, {} timer",
        id(),
        read(register::VERSION) & 0xff,
        if x2apic { "x2APIC" } else { "xAPIC" },
        if deadline_mode() {
            "TSC-deadline"
        } else {
            "one-shot"
        },
    );
}

/// Sets up the APIC of the CPU this runs on.
pub fn init_this_cpu(platform: &Platform) {
    let base = cpu::rdmsr(msr::APIC_BASE);
    // From "off" to x2APIC mode the way leads through xAPIC mode, and from there none leads back.
    let steps = [
        BASE_ENABLED,
        BASE_ENABLED | if is_x2apic() { BASE_X2APIC } else { 0 },
    ];
    for step in steps.map(|bits| base | bits) {
        if cpu::rdmsr(msr::APIC_BASE) != step {
            // SAFETY: turns the APIC on where it is; interrupts are off and every source is masked below.
            unsafe { cpu::wrmsr(msr::APIC_BASE, step) };
        }
    }
    let highest_lvt = read(register::VERSION) >> 16 & 0xff;
    for (needed, lvt) in [
        (0, register::LVT_TIMER),
        (0, register::LVT_LINT0),
        (0, register::LVT_LINT1),
        (3, register::LVT_ERROR),
        (4, register::LVT_COUNTERS),
        (5, register::LVT_THERMAL),
        (6, register::LVT_CMCI),
    ] {
        if highest_lvt >= needed {
            write(lvt, MASKED);
        }
    }
    write(register::SPURIOUS, SOFTWARE_ENABLE | u32::from(SPURIOUS));
    write(register::TASK_PRIORITY, 0);
    acknowledge_leftovers();
    set_up_nmi_lines(platform);
    write(register::LVT_ERROR, u32::from(ERROR));
    let _ = read_error();
    set_up_timer();
}

/// Firmware may leave an interrupt unacknowledged, which would hold back all of its priority and below.
fn acknowledge_leftovers() {
    // 256 vectors at most can be in service.
    for _ in 0..256 {
        let in_service = (0..8).any(|i| read(register::IN_SERVICE + 0x10 * i) != 0);
        if !in_service {
            return;
        }
        eoi();
    }
}

fn set_up_nmi_lines(platform: &Platform) {
    let this = id();
    let acpi_id = platform
        .cpus
        .iter()
        .find(|cpu| cpu.apic_id == this)
        .map(|cpu| cpu.acpi_id);
    for nmi in &platform.local_nmis {
        // An entry without an id is for every CPU.
        if nmi.acpi_id.is_some() && nmi.acpi_id != acpi_id {
            continue;
        }
        let lvt = if nmi.line == 0 {
            register::LVT_LINT0
        } else {
            register::LVT_LINT1
        };
        // NMIs are edge-triggered whatever the table says.
        write(
            lvt,
            DELIVER_NMI | if nmi.signal.low { ACTIVE_LOW } else { 0 },
        );
    }
}

fn set_up_timer() {
    write(register::TIMER_INITIAL, 0);
    write(register::TIMER_DIVIDE, DIVIDE_BY_1);
    if deadline_mode() {
        write(register::LVT_TIMER, TSC_DEADLINE | u32::from(TIMER));
        // The mode must be in force before the first deadline: writes to memory and to model-specific registers are
        // not ordered among each other (manual volume 3, local APIC, TSC-deadline mode).
        // SAFETY: orders memory accesses.
        unsafe { asm!("mfence", options(nostack, preserves_flags)) };
    } else {
        write(register::LVT_TIMER, u32::from(TIMER));
    }
}

/// Acknowledges the interrupt being handled.
#[inline]
pub fn eoi() {
    write(register::EOI, 0);
}

/// Whether the registers are reached in x2APIC mode: ids have 32 bits then.
pub fn is_x2apic() -> bool {
    access().is_none()
}

/// This CPU's APIC id.
pub fn id() -> u32 {
    match access() {
        Some(_) => read(register::ID) >> 24,
        None => read(register::ID),
    }
}

/// Physical address of the page of registers, which no guest may map.
pub fn phys_base() -> u64 {
    cpu::rdmsr(msr::APIC_BASE) & BASE_ADDRESS
}

/// The errors since this was last asked: bits of the error status register.
pub fn read_error() -> u32 {
    // A write makes the register show what was gathered.
    write(register::ERROR_STATUS, 0);
    read(register::ERROR_STATUS)
}

/// Whether the timer compares with the time-stamp counter ([`arm_deadline`]); else it counts down ([`arm`]).
#[inline]
pub fn deadline_mode() -> bool {
    DEADLINE_MODE.load(Ordering::Relaxed)
}

/// Makes the timer interrupt once, after `ticks` of its own clock (at least one).
#[inline]
pub fn arm(ticks: u32) {
    write(register::TIMER_INITIAL, ticks.max(1));
}

/// Makes the timer interrupt once, when the time-stamp counter reaches `tsc`. In [`deadline_mode`] only.
#[inline]
pub fn arm_deadline(tsc: u64) {
    // Zero would disarm.
    // SAFETY: the register exists in deadline mode; an interrupt of V1 is all it causes.
    unsafe { cpu::wrmsr(TSC_DEADLINE_MSR, tsc.max(1)) };
}

/// Lets the timer count down from its maximum without interrupting, so that its rate can be measured.
pub fn start_counting() {
    write(register::LVT_TIMER, MASKED | u32::from(TIMER));
    write(register::TIMER_INITIAL, u32::MAX);
}

/// Ticks since [`start_counting`].
pub fn counted() -> u32 {
    u32::MAX - read(register::TIMER_CURRENT)
}

/// Ends [`start_counting`].
pub fn stop_counting() {
    set_up_timer();
}

/// Interrupts another CPU.
pub fn send_ipi(apic_id: u32, vector: u8) {
    command(apic_id, ASSERT | u32::from(vector));
}

/// Interrupts another CPU whatever it does. Before APICs are set up there is none to interrupt.
pub fn send_nmi(apic_id: u32) {
    if ACCESS.is_completed() {
        command(apic_id, DELIVER_NMI | ASSERT);
    }
}

/// Resets another CPU. To be followed, 10 ms later, by [`send_startup`].
pub fn send_init(apic_id: u32) {
    command(apic_id, DELIVER_INIT | LEVEL | ASSERT);
    if access().is_some() {
        // Only the oldest want it taken back, and x2APIC mode does not know how.
        command(apic_id, DELIVER_INIT | LEVEL);
    }
}

/// Starts a CPU that was reset, in real mode at page `page` (below 0xa0) of memory.
pub fn send_startup(apic_id: u32, page: u8) {
    command(apic_id, DELIVER_STARTUP | ASSERT | u32::from(page));
}

fn command(apic_id: u32, low: u32) {
    if access().is_none() {
        // What was written before the interrupt must be seen by who receives it: this register is not ordered.
        // SAFETY: orders memory accesses; the write sends an interrupt of V1, or (re)starts a CPU the caller owns.
        unsafe {
            asm!("mfence", "lfence", options(nostack, preserves_flags));
            cpu::wrmsr(X2APIC_COMMAND, u64::from(apic_id) << 32 | u64::from(low));
        }
        return;
    }
    write(register::COMMAND_HIGH, apic_id << 24);
    write(register::COMMAND_LOW, low);
    // Microseconds at most; a CPU that never takes it must not hold us.
    for _ in 0..100_000 {
        if read(register::COMMAND_LOW) & PENDING == 0 {
            return;
        }
        core::hint::spin_loop();
    }
}

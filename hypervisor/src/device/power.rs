//! How the machine ends: off, restarted, or stopped after a failure.
//!
//! # Invariants
//! - E1: every function here works at any time, from any state: the crash report ends in it. What needs preparing
//!   (mappings) is prepared by [`prepare`] while all is well. The other CPUs are stopped first (a report has done so),
//!   and the console's lock is taken only where no crash is being reported.
//! - E2: each wait is bounded, and each way that fails leads to the next; the last is to halt.
//! - E3: a failure never ends like a success: the status QEMU exits with is [`FAILURE_STATUS`], and without an exit
//!   port the machine stays halted or restarts.

use crate::arch::cpu;
use crate::arch::smp::stop;
use crate::debug::{console, log};
use crate::device::{Registers, acpi, timer};
use boot_info::Params;
use core::arch::asm;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use firmware::{Platform, Register};
use spin::Once;

/// What is written to QEMU's exit device after a failure. The device makes QEMU exit with twice that plus one: 67.
const FAILURE_VALUE: u8 = 0x21;
/// How long a message stays before a machine restarts after a failure.
const BEFORE_RESTART_MS: u64 = 5000;
/// How long each way of ending is given to work. An emulator on a busy machine has been seen to take a tenth of a second.
const EACH_WAY_MS: u64 = 1000;

/// Bits of a power-management control register.
mod pm1 {
    /// ACPI mode: the registers are the operating system's.
    pub const SCI_ENABLED: u16 = 1 << 0;
    pub const TYPE_SHIFT: u32 = 10;
    pub const TYPE: u16 = 7 << TYPE_SHIFT;
    pub const ENABLE: u16 = 1 << 13;
    /// What a domain may ask to be written besides: ACPI mode, bus-master reload.
    pub const OTHERS: u16 = 0b11;
}

/// Power event register: woken up. Cleared by writing one; a set bit would wake the machine at once.
const WAKE_STATUS: u16 = 1 << 15;

static EXIT_PORT: AtomicU16 = AtomicU16::new(0);
static NO_REBOOT: AtomicBool = AtomicBool::new(false);
static MAPPED: Once<Mapped> = Once::new();

/// Registers of power control that lie in memory, mapped ahead (E1).
struct Mapped {
    reset: Option<Registers>,
    sleep: Option<Registers>,
}

/// Takes what the command line says of endings.
pub fn configure(params: &Params) {
    EXIT_PORT.store(params.exit_port.unwrap_or(0), Ordering::Release);
    NO_REBOOT.store(params.noreboot, Ordering::Release);
}

/// Prepares for what the firmware says of endings.
pub fn prepare(platform: &Platform) {
    let map = |register| match register {
        Some(Register::Memory(phys)) => Registers::map(phys, 1),
        _ => None,
    };
    MAPPED.call_once(|| Mapped {
        reset: map(platform.power.reset.map(|(register, _)| register)),
        sleep: map(platform.power.sleep_control),
    });
}

fn say(text: &str) {
    log::write_report(format_args!("(xeno) {text}\n"));
}

/// Turns the machine off.
pub fn power_off() -> ! {
    stop::others();
    console::flush();
    if let Some(platform) = acpi::platform()
        && let Some(sleep) = platform.power.s5
    {
        take_registers(platform);
        let in_place = |kind: u8| u16::from(kind) << pm1::TYPE_SHIFT;
        write_sleep(platform, in_place(sleep.a), in_place(sleep.b));
        reduced_sleep(platform, sleep.a);
    }
    say("this machine cannot be turned off by software; turn it off by hand");
    console::flush();
    leave_emulator();
    cpu::halt_for_ever()
}

/// Asks the firmware to hand the power registers over, if it still has them.
fn take_registers(platform: &Platform) {
    let (Some(control), Some((port, value))) = (platform.power.pm1a_control, platform.power.enable)
    else {
        return;
    };
    if cpu::inw(control) & pm1::SCI_ENABLED != 0 {
        return;
    }
    cpu::outb(port, value);
    // Firmware may take its time; three seconds is what other systems grant.
    for _ in 0..300 {
        if cpu::inw(control) & pm1::SCI_ENABLED != 0 {
            return;
        }
        timer::stall_ms(10);
    }
}

/// Writes sleep types (in place) to the control registers, then again with the bit that starts it.
fn write_sleep(platform: &Platform, a: u16, b: u16) {
    let Some(pm1a) = platform.power.pm1a_control else {
        return;
    };
    for event in [platform.power.pm1a_event, platform.power.pm1b_event]
        .into_iter()
        .flatten()
    {
        cpu::outw(event, WAKE_STATUS);
    }
    let kept_a = cpu::inw(pm1a) & !(pm1::TYPE | pm1::ENABLE);
    let pm1b = platform.power.pm1b_control.map(|port| {
        let kept = cpu::inw(port) & !(pm1::TYPE | pm1::ENABLE);
        (port, kept | b & pm1::TYPE)
    });
    for start in [0, pm1::ENABLE] {
        cpu::outw(pm1a, kept_a | a & pm1::TYPE | start);
        if let Some((port, value)) = pm1b {
            cpu::outw(port, value | start);
        }
    }
    timer::stall_ms(EACH_WAY_MS);
}

/// The same on machines that have one sleep register instead.
fn reduced_sleep(platform: &Platform, kind: u8) {
    const ENABLE: u8 = 1 << 5;
    const TYPE_SHIFT: u32 = 2;
    let value = kind << TYPE_SHIFT | ENABLE;
    match platform.power.sleep_control {
        Some(Register::Port(port)) => cpu::outb(port, value),
        Some(Register::Memory(_)) => {
            if let Some(register) = MAPPED.get().and_then(|mapped| mapped.sleep) {
                register.write8(0, value);
            }
        }
        _ => return,
    }
    timer::stall_ms(EACH_WAY_MS);
}

/// Why a domain's request to put the machine to sleep was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SleepRefused {
    /// Only "off" (state 5) is offered.
    State,
    /// A value has bits that sleeping does not need, or lacks the bit that starts it.
    Value,
    /// This machine has no such registers, or did not go to sleep.
    Unable,
}

impl fmt::Display for SleepRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SleepRefused::State => "only state 5 (off) is offered",
            SleepRefused::Value => "the register values have bits that are not sleep's",
            SleepRefused::Unable => "the machine has no sleep registers that work",
        })
    }
}

/// What the control domain wants its own ACPI interpreter's values to do, and nothing is left to be refused.
pub struct Sleep {
    platform: &'static Platform,
    pm1a: u16,
    pm1b: u16,
}

/// Whether the machine can be put to sleep with these register values.
pub fn may_sleep(pm1a: u16, pm1b: u16, state: u32) -> Result<Sleep, SleepRefused> {
    const S5: u32 = 5;
    let allowed = pm1::TYPE | pm1::ENABLE | pm1::OTHERS;
    if state != S5 {
        return Err(SleepRefused::State);
    }
    if pm1a & pm1::ENABLE == 0 || (pm1a | pm1b) & !allowed != 0 {
        return Err(SleepRefused::Value);
    }
    let platform = acpi::platform().ok_or(SleepRefused::Unable)?;
    Ok(Sleep {
        platform,
        pm1a,
        pm1b,
    })
}

/// Puts the machine to sleep. Does not return if that works; if not, this CPU goes on alone.
pub fn sleep(how: &Sleep) -> SleepRefused {
    stop::others();
    console::flush();
    write_sleep(how.platform, how.pm1a, how.pm1b);
    SleepRefused::Unable
}

/// As [`halt`] after a failure, on a command line that says `noreboot`.
pub fn stay_halted() -> ! {
    NO_REBOOT.store(true, Ordering::Release);
    halt(true)
}

/// Restarts the machine.
pub fn reboot() -> ! {
    stop::others();
    console::flush();
    let reset = acpi::platform().and_then(|platform| platform.power.reset);
    if let Some((register, value)) = reset {
        match register {
            Register::Port(port) => cpu::outb(port, value),
            Register::Memory(_) => {
                if let Some(register) = MAPPED.get().and_then(|mapped| mapped.reset) {
                    register.write8(0, value);
                }
            }
            Register::Pci {
                device,
                function,
                offset,
            } => {
                let address = 1 << 31
                    | u32::from(device) << 11
                    | u32::from(function) << 8
                    | u32::from(offset & 0xfc);
                cpu::outl(0xcf8, address);
                cpu::outb(0xcfc + u16::from(offset & 3), value);
            }
        }
        timer::stall_ms(EACH_WAY_MS);
    }
    // The chipset's reset control: first what kind of reset, then do it.
    cpu::outb(0xcf9, 0x02);
    cpu::outb(0xcf9, 0x06);
    timer::stall_ms(EACH_WAY_MS);
    // The keyboard controller's reset line, once it takes a command.
    for _ in 0..100_000 {
        if cpu::inb(0x64) & 2 == 0 {
            break;
        }
    }
    cpu::outb(0x64, 0xfe);
    timer::stall_ms(EACH_WAY_MS);
    triple_fault()
}

/// An exception with no descriptor table to deliver it by: the CPU shuts down, and the board restarts it.
fn triple_fault() -> ! {
    #[repr(C, packed)]
    struct Nothing(u16, u64);
    let nothing = Nothing(0, 0);
    // SAFETY: the machine is meant to end here; nothing runs after it.
    unsafe {
        asm!("lidt [{}]", "int3", "2: hlt", "jmp 2b", in(reg) &raw const nothing, options(noreturn, readonly, nostack));
    }
}

/// Leaves QEMU with a failing status, where the command line names the port for it.
fn leave_emulator() {
    match EXIT_PORT.load(Ordering::Acquire) {
        0 => {}
        port => cpu::outb(port, FAILURE_VALUE),
    }
}

/// The end after something has been said. After a failure QEMU is left with [`FAILURE_STATUS`] if the command line
/// gives the port; otherwise, and on a real machine, it stays halted if the command line says `noreboot`, else it
/// restarts in five seconds. Without a failure it stays halted.
pub fn halt(failing: bool) -> ! {
    stop::others();
    console::flush();
    if !failing {
        cpu::halt_for_ever();
    }
    leave_emulator();
    if NO_REBOOT.load(Ordering::Acquire) {
        say("halted; restart the machine by hand");
        console::flush();
        cpu::halt_for_ever();
    }
    say("restarting in five seconds");
    timer::stall_ms(BEFORE_RESTART_MS);
    reboot()
}

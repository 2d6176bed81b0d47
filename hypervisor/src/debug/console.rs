//! The serial console: a 16550 at one of the PC's ports, both ways.
//!
//! Works from the first instruction on: it needs ports only, no memory and no per-CPU data.
//!
//! # Invariants
//! - S1: no wait is without bound. A port where nothing answers is found out at [`init`] and left alone; a
//!   transmitter that never drains loses bytes instead of holding ring 0 ([`Port::patience`]).
//! - S2: while a crash is reported the lock is not taken: its holder may be the code that crashed. The report
//!   drives the port directly ([`write_directly`]) and shares no memory with the holder.

use crate::arch::cpu;
use crate::debug::crash;
use crate::sync::{Lock, rank};
use boot_info::Params;
use boot_info::params::{self, Console as Chosen, Serial};
use core::ops::Range;
use core::sync::atomic::{AtomicU16, Ordering};
use uart_16550::backend::Backend;
use uart_16550::spec::NUM_REGISTERS;
use uart_16550::spec::registers::{FifoTriggerLevel, IER, LSR, Parity, WordLength, offsets};
use uart_16550::{BaudRate, Config, Uart16550};

/// Status reads to wait for a full FIFO to drain at 115200 baud: 1.4 ms of work, with a wide margin.
const PATIENCE: u32 = 100_000;

/// Transmitter ready for a FIFO's worth, and all sent.
const SENT: u8 = LSR::THR_EMPTY.bits() | LSR::TRANSMITTER_EMPTY.bits();

/// The registers, through ring 0's own port instructions, so that waiting ends (S1).
struct Port {
    base: u16,
    /// Status reads allowed for draining, by the line's rate.
    patience: u32,
    /// Status reads left before the transmitter is called ready whatever it says.
    left: u32,
}

impl Backend for Port {
    unsafe fn read(&mut self, register: u8) -> u8 {
        let value = cpu::inb(self.base.wrapping_add(u16::from(register)));
        if usize::from(register) != offsets::LSR {
            return value;
        }
        if value & SENT == SENT {
            self.left = self.patience;
            return value;
        }
        self.left = self.left.saturating_sub(1);
        if self.left == 0 { value | SENT } else { value }
    }

    unsafe fn write(&mut self, register: u8, value: u8) {
        if usize::from(register) == offsets::DATA {
            self.left = self.patience;
        }
        cpu::outb(self.base.wrapping_add(u16::from(register)), value);
    }
}

struct Console {
    uart: Option<Uart16550<Port>>,
    irq: Option<u8>,
    input: Input,
}

/// What was typed and not read yet. The port's own queue is short and interrupts by edges: it is emptied on each.
struct Input {
    bytes: [u8; INPUT_BYTES],
    /// Bytes ever put in and taken out; their difference is at most the size.
    put: usize,
    taken: usize,
}

/// A pasted page; what comes while it is full is lost, as on any terminal.
const INPUT_BYTES: usize = 4096;

static CONSOLE: Lock<Console, rank::Console> = Lock::new(Console {
    uart: None,
    irq: None,
    input: Input {
        bytes: [0; INPUT_BYTES],
        put: 0,
        taken: 0,
    },
});

/// The port in use, 0 for none: all that a crash report needs (S2).
static BASE: AtomicU16 = AtomicU16::new(0);

/// Sets up the serial port that the command line names. Without a port that answers, everything below does
/// nothing; the log ring still keeps what is said.
pub fn init(params: &Params) {
    let (serial, irq) = match params.console {
        Chosen::None => return,
        Chosen::Com1 => (&params.com1, 4),
        Chosen::Com2 => (&params.com2, 3),
    };
    let port = Port {
        base: serial.port,
        patience: PATIENCE.saturating_mul(u32::from(serial.divisor().max(1))),
        left: PATIENCE,
    };
    // SAFETY: the port is the one the machine's administrator named as a serial port, and port accesses do not touch
    // memory; nobody else in ring 0 drives it.
    let mut uart = unsafe { Uart16550::new_with_backend(port) };
    if uart.init(config(serial)).is_err() {
        return;
    }
    let mut console = CONSOLE.lock();
    console.uart = Some(uart);
    console.irq = Some(irq);
    BASE.store(serial.port, Ordering::Release);
}

fn config(serial: &Serial) -> Config {
    Config {
        baud_rate: BaudRate::from_integer(serial.baud),
        data_bits: WordLength::from_integer(serial.data_bits),
        extra_stop_bits: serial.stop_bits == 2,
        parity: match serial.parity {
            params::Parity::None => Parity::Disabled,
            params::Parity::Odd => Parity::Odd,
            params::Parity::Even => Parity::Even,
            params::Parity::Mark => Parity::Forced1,
            params::Parity::Space => Parity::Forced0,
        },
        // A person types one key at a time and wants to see it.
        fifo_trigger_level: Some(FifoTriggerLevel::One),
        ..Config::DEFAULT
    }
}

/// Writes bytes, a line feed as carriage return and line feed.
pub fn write_bytes(bytes: &[u8]) {
    if crash::in_progress() {
        return write_directly(bytes);
    }
    let mut console = CONSOLE.lock();
    let Some(uart) = &mut console.uart else {
        return;
    };
    let mut returned = false;
    for (i, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        if i > 0 {
            // Terminals of guests send the carriage return themselves.
            uart.send_bytes_exact(if returned { b"\n" } else { b"\r\n" });
        }
        uart.send_bytes_exact(line);
        returned = line.ends_with(b"\r");
    }
}

/// Writes past the lock (S2), with waits as bounded as elsewhere.
fn write_directly(bytes: &[u8]) {
    let base = BASE.load(Ordering::Acquire);
    if base == 0 {
        return;
    }
    for &byte in bytes {
        if byte == b'\n' {
            send_directly(base, b'\r');
        }
        send_directly(base, byte);
    }
}

fn send_directly(base: u16, byte: u8) {
    wait_for(base, LSR::THR_EMPTY);
    cpu::outb(base, byte);
}

fn wait_for(base: u16, what: LSR) {
    // Slow lines included: a report is worth a second.
    for _ in 0..PATIENCE * 10 {
        let status = cpu::inb(base.wrapping_add(offsets::LSR as u16));
        if LSR::from_bits_retain(status).contains(what) {
            return;
        }
    }
}

/// Waits until everything written has left the machine.
pub fn flush() {
    let base = BASE.load(Ordering::Acquire);
    if base != 0 {
        wait_for(base, LSR::TRANSMITTER_EMPTY);
    }
}

/// Empties the port's queue into ours. On the port's interrupt. Says whether there was something.
pub fn take_input() -> bool {
    let mut console = CONSOLE.lock();
    let Console { uart, input, .. } = &mut *console;
    // Bounded: a port that never runs dry is broken.
    for count in 0..INPUT_BYTES {
        let Some(Ok(byte)) = uart.as_mut().map(Uart16550::try_receive_byte) else {
            return count > 0;
        };
        if input.put.wrapping_sub(input.taken) < INPUT_BYTES {
            input.bytes[input.put % INPUT_BYTES] = byte;
            input.put = input.put.wrapping_add(1);
        }
    }
    true
}

/// A byte somebody typed, if there is one.
pub fn try_read() -> Option<u8> {
    let input = &mut CONSOLE.lock().input;
    if input.put == input.taken {
        return None;
    }
    let byte = input.bytes[input.taken % INPUT_BYTES];
    input.taken = input.taken.wrapping_add(1);
    Some(byte)
}

/// Makes the port interrupt when a byte arrives.
pub fn enable_receive_interrupt() {
    if let Some(uart) = &mut CONSOLE.lock().uart {
        uart.enable_interrupts(IER::DATA_READY);
    }
}

/// The ISA interrupt of the port in use.
pub fn irq() -> Option<u8> {
    CONSOLE.lock().irq
}

/// The I/O ports that are the console's, so that they can be kept from a guest. Empty without a console.
pub fn ports() -> Range<u16> {
    match BASE.load(Ordering::Acquire) {
        0 => 0..0,
        base => base..base.saturating_add(NUM_REGISTERS as u16),
    }
}

//! Makes devices that a domain drove let go of memory, before that memory is given to somebody else.
//!
//! Without an IOMMU ring 0 cannot keep a device from memory: it can only tell it to stop. What is done: every interrupt
//! line is masked, and every function of PCI that is no bridge loses the right to be bus master, by which it reads and
//! writes memory and sends message-signalled interrupts; the messages are switched off as well. A read after each
//! write waits for what the function had on its way.
//!
//! # What may still touch memory
//! A device that ignores its bus-master bit; one that is not on PCI or is driven by firmware (system-management mode);
//! functions that configuration by ports does not reach (further segments). `docs/security.md` says so.

use crate::debug;
use crate::device::{pci, pirq};
use interrupts::{Config, Function};

/// Registers of a function's configuration.
mod register {
    pub const VENDOR: u8 = 0x00;
    pub const COMMAND: u8 = 0x04;
    pub const STATUS: u8 = 0x06;
    pub const CLASS: u8 = 0x0a;
    pub const HEADER: u8 = 0x0e;
    pub const CAPABILITIES: u8 = 0x34;
}

const BUS_MASTER: u16 = 1 << 2;
const HAS_CAPABILITIES: u16 = 1 << 4;
const CLASS_BRIDGE: u16 = 0x06;
const SEVERAL_FUNCTIONS: u16 = 1 << 7;
/// Capabilities that send messages: number, and the bit of the control word behind it that switches them on.
const MESSAGES: [(u16, u16); 2] = [(0x05, 1 << 0), (0x11, 1 << 15)];
/// Capabilities looked at: more do not fit into the registers.
const MOST_CAPABILITIES: usize = 48;

/// Quiesces every device that a domain may have driven.
pub fn all() {
    pirq::forget_all();
    let mut stopped = 0u32;
    for bus in 0..=255 {
        // A bus at a time: configuration space is used under a lock.
        stopped += pci::with(|config| quiesce_bus(config, bus));
    }
    debug!("devices: {stopped} functions were bus masters and are not any more");
}

/// How many functions of a bus lost the right to memory.
fn quiesce_bus(config: &mut dyn Config, bus: u8) -> u32 {
    let mut stopped = 0;
    for device in 0..32 {
        let first = Function::new(bus, device << 3);
        if !exists(config, first) {
            continue;
        }
        let several = config.read16(first, register::HEADER) & SEVERAL_FUNCTIONS != 0;
        for number in 0..if several { 8 } else { 1 } {
            let function = Function::new(bus, device << 3 | number);
            if exists(config, function) && stop(config, function) {
                stopped += 1;
            }
        }
    }
    stopped
}

fn exists(config: &mut dyn Config, function: Function) -> bool {
    config.read16(function, register::VENDOR) != 0xffff
}

/// Takes a function's right to memory. True if it had it.
fn stop(config: &mut dyn Config, function: Function) -> bool {
    if config.read16(function, register::CLASS) >> 8 == CLASS_BRIDGE {
        // What lies behind would no longer be reached, and it moves nothing of its own.
        return false;
    }
    let command = config.read16(function, register::COMMAND);
    let was_master = command & BUS_MASTER != 0;
    if was_master {
        config.write16(function, register::COMMAND, command & !BUS_MASTER);
    }
    if config.read16(function, register::STATUS) & HAS_CAPABILITIES != 0 {
        stop_messages(config, function);
    }
    // The answer comes behind everything the function sent before.
    config.read16(function, register::COMMAND);
    was_master
}

fn stop_messages(config: &mut dyn Config, function: Function) {
    let mut at = config.read16(function, register::CAPABILITIES) as u8 & 0xfc;
    for _ in 0..MOST_CAPABILITIES {
        if at < 0x40 {
            break;
        }
        let head = config.read16(function, at);
        let control = config.read16(function, at + 2);
        for (id, enable) in MESSAGES {
            if head & 0xff == id && control & enable != 0 {
                config.write16(function, at + 2, control & !enable);
            }
        }
        at = (head >> 8) as u8 & 0xfc;
    }
}

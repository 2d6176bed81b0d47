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

use crate::arch::cpu;
use crate::debug;
use crate::device::pirq;

const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;

/// Registers of a function's configuration.
mod register {
    pub const IDS: u8 = 0x00;
    pub const COMMAND: u8 = 0x04;
    pub const CLASS: u8 = 0x08;
    pub const HEADER: u8 = 0x0c;
    pub const CAPABILITIES: u8 = 0x34;
}

const BUS_MASTER: u32 = 1 << 2;
/// In the status half of the command register: there is a list of capabilities.
const HAS_CAPABILITIES: u32 = 1 << 20;
const CLASS_BRIDGE: u32 = 0x06;
const SEVERAL_FUNCTIONS: u32 = 1 << 23;
/// Capabilities and the bits of their first word that switch messages on.
const MSI: (u32, u32) = (0x05, 1 << 16);
const MSI_X: (u32, u32) = (0x11, 1 << 31);
/// Capabilities looked at: more do not fit into the registers.
const MOST_CAPABILITIES: u32 = 48;

/// A function by bus, device and number.
#[derive(Clone, Copy)]
struct Function(u32);

impl Function {
    fn at(bus: u32, device: u32, function: u32) -> Function {
        Function(1 << 31 | bus << 16 | device << 11 | function << 8)
    }

    fn read(self, register: u8) -> u32 {
        cpu::outl(ADDRESS, self.0 | u32::from(register & 0xfc));
        cpu::inl(DATA)
    }

    fn write(self, register: u8, value: u32) {
        cpu::outl(ADDRESS, self.0 | u32::from(register & 0xfc));
        cpu::outl(DATA, value);
    }

    fn exists(self) -> bool {
        self.read(register::IDS) & 0xffff != 0xffff
    }

    /// Takes its right to memory. True if it had it.
    fn stop(self) -> bool {
        let class = self.read(register::CLASS) >> 24;
        if class == CLASS_BRIDGE {
            // What lies behind would no longer be reached, and it moves nothing of its own.
            return false;
        }
        let command = self.read(register::COMMAND);
        let was_master = command & BUS_MASTER != 0;
        if was_master {
            // Status bits are cleared by writing ones: none is written.
            self.write(register::COMMAND, command & 0xffff & !BUS_MASTER);
        }
        if command & HAS_CAPABILITIES != 0 {
            self.stop_messages();
        }
        // The answer comes behind everything the function sent before.
        self.read(register::COMMAND);
        was_master
    }

    fn stop_messages(self) {
        let mut next = (self.read(register::CAPABILITIES) & 0xfc) as u8;
        for _ in 0..MOST_CAPABILITIES {
            if next < 0x40 {
                break;
            }
            let word = self.read(next);
            for (id, enable) in [MSI, MSI_X] {
                if word & 0xff == id && word & enable != 0 {
                    self.write(next, word & !enable);
                }
            }
            next = (word >> 8 & 0xfc) as u8;
        }
    }
}

/// Quiesces every device that a domain may have driven.
pub fn all() {
    pirq::forget_all();
    let mut stopped = 0u32;
    for bus in 0..256 {
        for device in 0..32 {
            let first = Function::at(bus, device, 0);
            if !first.exists() {
                continue;
            }
            let several = first.read(register::HEADER) & SEVERAL_FUNCTIONS != 0;
            for function in 0..if several { 8 } else { 1 } {
                let function = Function::at(bus, device, function);
                if function.exists() && function.stop() {
                    stopped += 1;
                }
            }
        }
    }
    debug!("devices: {stopped} functions were bus masters and are not any more");
}

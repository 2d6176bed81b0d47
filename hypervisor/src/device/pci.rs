//! PCI configuration space through its two ports, which ring 0 and the control domain share.
//!
//! # Invariants
//! - C1: the address port and the data port are a pair: used under the lock only, the guest's accesses included.
//! - C2: registers that say what a function sends as an interrupt are ring 0's; the guest's writes to them are dropped
//!   once it has had the function's messages mapped.

use crate::arch::cpu;
use crate::device::pirq;
use crate::policy::ports::Width;
use crate::sync::{Lock, rank};
use interrupts::{Config, Function};

const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;

/// The pair of ports. Reached through [`with`] only.
struct Ports;

static PORTS: Lock<Ports, rank::Ports> = Lock::new(Ports);

impl Config for Ports {
    fn read32(&mut self, function: Function, offset: u8) -> u32 {
        cpu::outl(ADDRESS, function.address(offset));
        cpu::inl(DATA)
    }

    fn read16(&mut self, function: Function, offset: u8) -> u16 {
        cpu::outl(ADDRESS, function.address(offset));
        cpu::inw(DATA + u16::from(offset & 2))
    }

    fn write32(&mut self, function: Function, offset: u8, value: u32) {
        cpu::outl(ADDRESS, function.address(offset));
        cpu::outl(DATA, value);
    }

    fn write16(&mut self, function: Function, offset: u8, value: u16) {
        cpu::outl(ADDRESS, function.address(offset));
        cpu::outw(DATA + u16::from(offset & 2), value);
    }
}

/// Uses configuration space. Nothing that locks may be called inside: this lock is innermost (C1).
pub fn with<T>(act: impl FnOnce(&mut dyn Config) -> T) -> T {
    act(&mut *PORTS.lock())
}

/// Reads the data port for the guest, whose address latch holds `address`.
pub fn guest_read(address: u32, port: u16, width: Width) -> u32 {
    let _ports = PORTS.lock();
    cpu::outl(ADDRESS, address);
    match width {
        Width::Byte => u32::from(cpu::inb(port)),
        Width::Word => u32::from(cpu::inw(port)),
        Width::Long => cpu::inl(port),
    }
}

/// Writes the data port for the guest, unless the register is ring 0's (C2).
pub fn guest_write(address: u32, port: u16, width: Width, value: u32) {
    if let Some((function, offset)) = Function::of_address(address) {
        let offset = offset | (port & 3) as u8;
        if pirq::owns_register(function, offset, width.bytes() as u8) {
            return;
        }
    }
    let _ports = PORTS.lock();
    cpu::outl(ADDRESS, address);
    match width {
        Width::Byte => cpu::outb(port, value as u8),
        Width::Word => cpu::outw(port, value as u16),
        Width::Long => cpu::outl(port, value),
    }
}

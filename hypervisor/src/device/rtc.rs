//! The battery-backed real-time clock, read once at boot, and the memory it is part of, which the control domain reads and
//! writes through the same two ports.
//!
//! # Invariants
//! - C1: the index port and the data port are a pair: used under the lock only, the guest's accesses included, so that of
//!   two vCPUs neither gets the register of the other.
//! - C2: bit 7 of the index would mask NMIs for the machine: it stays clear.

use crate::arch::cpu;
use crate::sync::{Lock, rank};
use clock::RtcRegisters;

const INDEX: u16 = 0x70;
const DATA: u16 = 0x71;
/// In the index: no NMIs (C2).
const NMI_OFF: u8 = 0x80;
const STATUS_A: u8 = 10;
const STATUS_B: u8 = 11;
/// Status A: the clock is about to change its registers.
const UPDATING: u8 = 0x80;
/// Status reads to wait for an update to end: it takes 2 ms, a read about a microsecond.
const PATIENCE: u32 = 100_000;
/// Readings to try for two that agree.
const TRIES: usize = 5;

/// The pair of ports (C1).
static PORTS: Lock<(), rank::Ports> = Lock::new(());

/// Seconds since 1970, the clock taken for UTC. `century` is the register firmware names for the century. `None`
/// if there is no clock, or it shows no date.
pub fn read(century: Option<u8>) -> Option<u64> {
    let mut last = read_once(century);
    for _ in 0..TRIES {
        let again = read_once(century);
        if again == last {
            return last?.unix_seconds().ok();
        }
        last = again;
    }
    None
}

fn read_once(century: Option<u8>) -> Option<RtcRegisters> {
    (0..PATIENCE).find(|_| register(STATUS_A) & UPDATING == 0)?;
    Some(RtcRegisters {
        second: register(0),
        minute: register(2),
        hour: register(4),
        day: register(7),
        month: register(8),
        year: register(9),
        century: century.map(register),
        status_b: register(STATUS_B),
    })
}

/// Reads a register.
pub fn register(index: u8) -> u8 {
    let _ports = PORTS.lock();
    cpu::outb(INDEX, index & !NMI_OFF);
    cpu::inb(DATA)
}

/// Writes a register.
pub fn set_register(index: u8, value: u8) {
    let _ports = PORTS.lock();
    cpu::outb(INDEX, index & !NMI_OFF);
    cpu::outb(DATA, value);
}

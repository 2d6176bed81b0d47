//! The battery-backed real-time clock: read once at boot.

use crate::arch::cpu;
use clock::RtcRegisters;

const INDEX: u16 = 0x70;
const DATA: u16 = 0x71;
const STATUS_A: u8 = 10;
const STATUS_B: u8 = 11;
/// Status A: the clock is about to change its registers.
const UPDATING: u8 = 0x80;
/// Status reads to wait for an update to end: it takes 2 ms, a read about a microsecond.
const PATIENCE: u32 = 100_000;
/// Readings to try for two that agree.
const TRIES: usize = 5;

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

/// Bit 7 of the index would mask NMIs: it stays clear.
fn register(index: u8) -> u8 {
    cpu::outb(INDEX, index & 0x7f);
    cpu::inb(DATA)
}

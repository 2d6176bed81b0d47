//! The pair of 8259 interrupt controllers: moved out of the exceptions' way, masked, never used.

use crate::arch::cpu;
use core::ops::RangeInclusive;

const MASTER: u16 = 0x20;
const SLAVE: u16 = 0xa0;
/// First vectors, master's and slave's: below every vector in use.
const MASTER_VECTOR: u8 = 0x20;
const SLAVE_VECTOR: u8 = 0x28;
/// Where a spurious interrupt of the pair would arrive. It wants no acknowledgement and no handler: return.
pub const VECTORS: RangeInclusive<u8> = MASTER_VECTOR..=SLAVE_VECTOR + 7;

/// Initialization: edge-triggered, cascaded, fourth word follows.
const INIT: u8 = 0x11;
/// 8086 mode, explicit end of interrupt.
const MODE: u8 = 0x01;

/// Masks everything. The vectors are moved first: even masked, a controller may deliver its spurious interrupt.
pub fn disable() {
    let sequence = [
        (MASTER, INIT),
        (SLAVE, INIT),
        (MASTER + 1, MASTER_VECTOR),
        (SLAVE + 1, SLAVE_VECTOR),
        // The slave hangs at input 2 of the master.
        (MASTER + 1, 1 << 2),
        (SLAVE + 1, 2),
        (MASTER + 1, MODE),
        (SLAVE + 1, MODE),
        (MASTER + 1, 0xff),
        (SLAVE + 1, 0xff),
    ];
    for (port, value) in sequence {
        cpu::outb(port, value);
        // Old controllers want a pause; a write to the diagnostic port takes about a microsecond.
        cpu::outb(0x80, 0);
    }
}

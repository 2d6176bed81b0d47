//! Debug registers of the CPU.

use core::arch::asm;

/// Writes DR0-3, 6 or 7. The value was checked: addresses outside the hypervisor's, no general detect.
pub fn write(number: u8, value: u64) {
    // SAFETY: a breakpoint only raises #DB, which has a stack of its own and is handled wherever it comes from.
    unsafe {
        match number {
            0 => asm!("mov dr0, {}", in(reg) value, options(nostack, preserves_flags)),
            1 => asm!("mov dr1, {}", in(reg) value, options(nostack, preserves_flags)),
            2 => asm!("mov dr2, {}", in(reg) value, options(nostack, preserves_flags)),
            3 => asm!("mov dr3, {}", in(reg) value, options(nostack, preserves_flags)),
            6 => asm!("mov dr6, {}", in(reg) value, options(nostack, preserves_flags)),
            _ => asm!("mov dr7, {}", in(reg) value, options(nostack, preserves_flags)),
        }
    }
}

/// Reads DR6 and clears what it reported.
pub fn take_dr6() -> u64 {
    let value: u64;
    // SAFETY: reads and resets the status register.
    unsafe {
        asm!("mov {}, dr6", out(reg) value, options(nomem, nostack, preserves_flags));
    }
    write(6, 0xffff_0ff0);
    value
}

//! The guest's debug registers.

use crate::arch::debug;
use crate::domain::Guest;
use crate::hypercall::{Args, Outcome};
use crate::layout::guest_address_ok;
use guest_abi::Errno;

/// DR6 bits that read as one.
const DR6_ONES: u64 = 0xffff_0ff0;
/// DR7 bits a guest may set: enables, conditions, lengths, LE/GE. Not GD.
const DR7_ALLOWED: u64 = 0xffff_03ff;
const DR7_ONE: u64 = 1 << 10;

/// `set_debugreg(number, value)`.
pub fn set(g: &mut Guest<'_>, args: Args) -> Outcome {
    let [number, value, ..] = args;
    match number {
        0..=3 => {
            if !guest_address_ok(value) {
                return Err(Errno::Perm.into());
            }
            g.local.debug[number as usize] = value;
            debug::write(number as u8, value);
        }
        4 | 6 => {
            g.local.debug[6] = value & 0xe00f | DR6_ONES;
            debug::write(6, g.local.debug[6]);
        }
        5 | 7 => {
            if value & 1 << 13 != 0 || value >> 32 != 0 {
                return Err(Errno::Perm.into());
            }
            // A breakpoint on ports would fire on ring 0's own port accesses.
            for slot in 0..4 {
                let enabled = value >> (slot * 2) & 3 != 0;
                let condition = value >> (16 + slot * 4) & 3;
                let length = value >> (18 + slot * 4) & 3;
                if enabled && (condition == 2 || (condition == 0 && length != 0)) {
                    return Err(Errno::Perm.into());
                }
            }
            g.local.debug[7] = value & DR7_ALLOWED | DR7_ONE;
            debug::write(7, g.local.debug[7]);
        }
        _ => return Err(Errno::Inval.into()),
    }
    Ok(0)
}

/// `get_debugreg(number)`.
pub fn get(g: &mut Guest<'_>, args: Args) -> Outcome {
    match args[0] {
        n @ 0..=3 => Ok(g.local.debug[n as usize]),
        4 | 6 => Ok(g.local.debug[6]),
        5 | 7 => Ok(g.local.debug[7]),
        _ => Err(Errno::Inval.into()),
    }
}

/// Loads a vCPU's debug registers.
pub fn load(g: &Guest<'_>) {
    for n in [0, 1, 2, 3, 6, 7] {
        debug::write(n, g.local.debug[usize::from(n)]);
    }
}

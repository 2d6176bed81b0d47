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
/// DR7: any access to a debug register traps, ring 0's too.
const GENERAL_DETECT: u64 = 1 << 13;

/// `set_debugreg(number, value)`.
pub fn set(g: &mut Guest<'_>, args: Args) -> Outcome {
    // Register numbers have 32 bits.
    let (number, value) = accepted(args[0] & 0xffff_ffff, args[1])?;
    g.local.debug[usize::from(number)] = value;
    debug::write(number, value);
    Ok(0)
}

/// What a guest's value for a debug register comes to: the register's number, and what it holds then.
pub fn accepted(number: u64, value: u64) -> Result<(u8, u64), Errno> {
    match number {
        0..=3 => {
            if !guest_address_ok(value) {
                return Err(Errno::Perm);
            }
            Ok((number as u8, value))
        }
        4..=7 if value >> 32 != 0 => Err(Errno::Inval),
        4 | 6 => Ok((6, value & 0xe00f | DR6_ONES)),
        5 | 7 => {
            // A breakpoint on ports would fire on ring 0's own port accesses.
            let watches_ports = |slot: u32| {
                let enabled = value >> (slot * 2) & 3 != 0;
                enabled && value >> (16 + slot * 4) & 3 == 2
            };
            if value & GENERAL_DETECT != 0 || (0..4).any(watches_ports) {
                return Err(Errno::Perm);
            }
            Ok((7, value & DR7_ALLOWED | DR7_ONE))
        }
        _ => Err(Errno::NoDev),
    }
}

/// `get_debugreg(number)`.
pub fn get(g: &mut Guest<'_>, args: Args) -> Outcome {
    match args[0] as u32 {
        n @ 0..=3 => Ok(g.local.debug[n as usize]),
        4 | 6 => Ok(g.local.debug[6]),
        5 | 7 => Ok(g.local.debug[7]),
        _ => Err(Errno::NoDev.into()),
    }
}

/// Loads a vCPU's debug registers. None is armed while another's addresses are still there.
pub fn load(g: &Guest<'_>) {
    debug::write(7, DR7_ONE);
    for n in [0, 1, 2, 3, 6, 7] {
        debug::write(n, g.local.debug[usize::from(n)]);
    }
}

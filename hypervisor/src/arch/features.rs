//! What each CPU turns on of what it has: the same on all, because whatever CPU 0 has is asked of the others.

use crate::arch::cpu::{self, cr0, cr4};
use crate::arch::{pcid, smap};
use ::cpus::features::Features;

/// What this CPU can do.
pub fn of_this_cpu() -> Features {
    Features::read(|leaf, sub| {
        let answer = cpu::cpuid(leaf, sub);
        [answer.eax, answer.ebx, answer.ecx, answer.edx]
    })
}

/// Turns on what this CPU has and ring 0 wants. Answers CR4.
pub fn turn_on() -> u64 {
    let leaf1 = cpu::cpuid(1, 0);
    let leaf7_ebx = if cpu::cpuid(0, 0).eax >= 7 {
        cpu::cpuid(7, 0).ebx
    } else {
        0
    };
    let mut value = cr4::PAE | cr4::OSFXSR | cr4::OSXMMEXCPT | cr4::MCE;
    if leaf1.ecx >> 26 & 1 == 1 {
        value |= cr4::OSXSAVE;
    }
    if leaf7_ebx >> 7 & 1 == 1 {
        value |= cr4::SMEP;
    }
    value |= smap::cr4_bit() | pcid::cr4_bit();
    // SAFETY: PAE stays on; the others only add protection or make instructions available. Ring 0 executes no user
    // page (SMEP): guests' pages are never executed at privilege level 0. Its few accesses to them are told to the CPU
    // (SMAP, M1). The root in force has identifier 0 (PCIDE).
    unsafe { cpu::write_cr4(value) };
    // x87 errors as exceptions, and FPU instructions for all: guests find them so on any machine.
    // SAFETY: paging, protection and write protection stay on; EM and TS only concern the FPU.
    unsafe { cpu::write_cr0(cpu::read_cr0() & !cr0::EM | cr0::NE | cr0::MP) };
    value
}

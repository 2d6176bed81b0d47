//! Control registers as a guest's kernel sees them.

use crate::arch::cpu::{self, cr4};
use crate::arch::fpu;
use crate::domain::{Guest, Local};

/// CR4 bits a guest may turn on and that then are on in the CPU while it runs.
const GUEST_CR4: u64 = cr4::TSD | cr4::DE;
/// CR4 bits it sees set whatever it does.
const SHOWN_CR4: u64 = cr4::PAE | cr4::MCE | cr4::OSFXSR | cr4::OSXMMEXCPT;
const CR0_TS: u64 = 8;

/// Reads a control register; `None` is a general protection fault.
pub fn read(g: &Guest<'_>, number: u8) -> Option<u64> {
    match number {
        0 => {
            let ts = if g.local.task_switched { CR0_TS } else { 0 };
            Some(cpu::read_cr0() & !CR0_TS | ts)
        }
        2 => Some(g.local.cr2),
        3 => Some(g.local.kernel_root.0 * crate::layout::PAGE),
        4 => Some(g.local.cr4 | SHOWN_CR4),
        _ => None,
    }
}

/// Writes a control register; false is a general protection fault. Bits that are not the guest's are left alone.
pub fn write(g: &mut Guest<'_>, number: u8, value: u64) -> bool {
    match number {
        0 => {
            let others = (value ^ cpu::read_cr0()) & !CR0_TS;
            if others != 0 {
                return false;
            }
            g.local.task_switched = value & CR0_TS != 0;
            cpu::set_task_switched(g.local.task_switched);
        }
        2 => {
            g.local.cr2 = value;
            g.vcpu.put_cr2(value);
        }
        4 => {
            g.local.cr4 = guest_cr4(value);
            load_cr4(g);
        }
        _ => return false,
    }
    true
}

/// Control registers of a vCPU that is given a state: task-switched, the fault address, and the guest's part of CR4.
pub fn set_initial(local: &mut Local, registers: &[u64; 8]) {
    local.task_switched = registers[0] & CR0_TS != 0;
    local.cr2 = registers[2];
    local.cr4 = guest_cr4(registers[4]);
}

/// The bits of CR4 that are the guest's.
fn guest_cr4(value: u64) -> u64 {
    let xsave = if fpu::offered() != 0 { cr4::OSXSAVE } else { 0 };
    value & (GUEST_CR4 | xsave)
}

/// Puts the guest's part of CR4 in force.
pub fn load_cr4(g: &Guest<'_>) {
    let value = cpu::read_cr4() & !GUEST_CR4 | g.local.cr4 & GUEST_CR4;
    if value != cpu::read_cr4() {
        // SAFETY: only time-stamp disable and debugging extensions change; ring 0 reads the counter at level 0.
        unsafe { cpu::write_cr4(value) };
    }
}

//! Privileged instructions a guest's kernel executes although it is not privileged: they fault, and the few that stock
//! kernels use are carried out here by the policy of this folder. Everything else is reflected to the guest.

use crate::arch::cpu;
use crate::arch::fpu;
use crate::arch::regs::flags;
use crate::domain::Guest;
use crate::hypercall::trap;
use crate::policy::ports::{self, Width};
use crate::policy::{control, cpuid, msr};
use guest_abi::cpuid::XEN_CPUID;
use guest_abi::segment::FLAT_KERNEL_CS;

/// Longest instruction.
const MAX: usize = 15;

/// Instruction bytes, read once.
struct Code {
    bytes: [u8; MAX],
    len: usize,
    at: usize,
}

impl Code {
    /// Fetches at RIP; short where the next page is not mapped.
    fn fetch(g: &Guest<'_>) -> Code {
        let mut code = Code {
            bytes: [0; MAX],
            len: 0,
            at: 0,
        };
        let rip = g.regs.rip;
        let on_page = (4096 - (rip & 4095)) as usize;
        let memory = g.memory();
        if memory.read(rip, &mut code.bytes).is_ok() {
            code.len = MAX;
        } else if on_page < MAX && memory.read(rip, &mut code.bytes[..on_page]).is_ok() {
            code.len = on_page;
        }
        code
    }

    fn next(&mut self) -> Option<u8> {
        let byte = *self.bytes[..self.len].get(self.at)?;
        self.at += 1;
        Some(byte)
    }
}

/// Prefixes that matter.
#[derive(Default)]
struct Prefixes {
    operand16: bool,
    address32: bool,
    repeat: bool,
    rex: u8,
}

impl Prefixes {
    fn parse(code: &mut Code) -> Option<(Prefixes, u8)> {
        let mut p = Prefixes::default();
        loop {
            let byte = code.next()?;
            match byte {
                0x66 => p.operand16 = true,
                0x67 => p.address32 = true,
                0xf2 | 0xf3 => p.repeat = true,
                0x2e | 0x36 | 0x3e | 0x26 | 0x64 | 0x65 => {}
                0x40..=0x4f => {
                    p.rex = byte;
                    return Some((p, code.next()?));
                }
                _ => return Some((p, byte)),
            }
        }
    }

    fn reg_extension(&self) -> u8 {
        (self.rex & 4) << 1
    }

    fn rm_extension(&self) -> u8 {
        (self.rex & 1) << 3
    }
}

/// What came of an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Emulated {
    /// Done; RIP is behind the instruction.
    Done,
    /// Done in part (a repeated transfer): RIP still names it.
    Again,
    /// Not one of ours, or refused: the fault is the guest's.
    No,
}

/// A general protection fault with error code 0.
pub fn general_protection(g: &mut Guest<'_>) -> Emulated {
    // Code segments with a base or of 16 bits are no kernel's of ours; user mode may only do ports, from flat code.
    if g.is_user() && !matches!(g.regs.cs & 0xffff, 0x33 | 0x23 | 0xe033 | 0xe023) {
        return Emulated::No;
    }
    let mut code = Code::fetch(g);
    let Some((prefixes, opcode)) = Prefixes::parse(&mut code) else {
        return Emulated::No;
    };
    let outcome = match opcode {
        0xe4..=0xe7 | 0xec..=0xef => port(g, &mut code, &prefixes, opcode),
        0x6c..=0x6f => string_port(g, &prefixes, opcode),
        0xfa | 0xfb => interrupt_flag(g),
        0x0f if !g.is_user() => match code.next() {
            Some(second) => two_byte(g, &mut code, &prefixes, second),
            None => Emulated::No,
        },
        _ => Emulated::No,
    };
    if outcome == Emulated::Done {
        advance(g, code.at);
    }
    outcome
}

/// RIP behind an instruction of `len` bytes; resume flag off, as the CPU would.
pub fn advance(g: &mut Guest<'_>, len: usize) {
    g.regs.rip = g.regs.rip.wrapping_add(len as u64);
    g.regs.rflags &= !flags::RF;
}

/// An invalid opcode: perhaps a CPUID behind the interface's prefix.
pub fn invalid_opcode(g: &mut Guest<'_>) -> Emulated {
    let mut bytes = [0u8; XEN_CPUID.len()];
    if g.memory().read(g.regs.rip, &mut bytes).is_err() || bytes != XEN_CPUID {
        return Emulated::No;
    }
    answer_cpuid(g);
    advance(g, XEN_CPUID.len());
    Emulated::Done
}

fn answer_cpuid(g: &mut Guest<'_>) {
    let answer = cpuid::answer(g.regs.rax as u32, g.regs.rcx as u32);
    g.regs.rax = u64::from(answer.eax);
    g.regs.rbx = u64::from(answer.ebx);
    g.regs.rcx = u64::from(answer.ecx);
    g.regs.rdx = u64::from(answer.edx);
}

/// CLI and STI: with enough virtual I/O privilege they do nothing (the event mask is not theirs).
fn interrupt_flag(g: &mut Guest<'_>) -> Emulated {
    done_if(trap::may_do_io(g))
}

fn edx_eax(g: &Guest<'_>) -> u64 {
    g.regs.rdx << 32 | g.regs.rax & 0xffff_ffff
}

fn set_edx_eax(g: &mut Guest<'_>, value: u64) {
    g.regs.rax = value & 0xffff_ffff;
    g.regs.rdx = value >> 32;
}

fn done_if(good: bool) -> Emulated {
    if good { Emulated::Done } else { Emulated::No }
}

fn two_byte(g: &mut Guest<'_>, code: &mut Code, prefixes: &Prefixes, second: u8) -> Emulated {
    match second {
        0x30 => {
            let (register, value) = (g.regs.rcx as u32, edx_eax(g));
            done_if(msr::write(g, register, value))
        }
        0x32 => match msr::read(g, g.regs.rcx as u32) {
            Some(value) => {
                set_edx_eax(g, value);
                Emulated::Done
            }
            None => Emulated::No,
        },
        0x31 => {
            set_edx_eax(g, cpu::rdtsc());
            Emulated::Done
        }
        0x06 => {
            g.local.task_switched = false;
            cpu::set_task_switched(false);
            Emulated::Done
        }
        0x09 => {
            if g.dom.privileged {
                cpu::write_back_caches();
            }
            Emulated::Done
        }
        0xa2 => {
            answer_cpuid(g);
            Emulated::Done
        }
        0x01 => match code.next() {
            Some(0xd1) => set_xcr0(g),
            Some(0xf9) => {
                set_edx_eax(g, cpu::rdtsc());
                g.regs.rcx = g.local.tsc_aux;
                Emulated::Done
            }
            _ => Emulated::No,
        },
        0x20 | 0x22 => control_register(g, code, prefixes, second == 0x22),
        _ => Emulated::No,
    }
}

fn set_xcr0(g: &mut Guest<'_>) -> Emulated {
    let (number, value) = (g.regs.rcx as u32, edx_eax(g));
    const AVX: u64 = 4;
    const AVX512: u64 = 0xe0;
    let consistent = value & 1 == 1
        && (value & AVX == 0 || value & 2 != 0)
        && (value & AVX512 == 0 || (value & AVX512 == AVX512 && value & AVX != 0));
    if number != 0 || value & !fpu::offered() != 0 || !consistent {
        return Emulated::No;
    }
    g.local.fpu.xcr0 = value;
    fpu::set_xcr0(value);
    Emulated::Done
}

fn control_register(
    g: &mut Guest<'_>,
    code: &mut Code,
    prefixes: &Prefixes,
    write: bool,
) -> Emulated {
    let Some(modrm) = code.next() else {
        return Emulated::No;
    };
    // The CPU takes any mod field for a register here.
    let number = (modrm >> 3 & 7) | prefixes.reg_extension();
    let general = (modrm & 7) | prefixes.rm_extension();
    if write {
        let value = g.regs.general(general);
        return done_if(control::write(g, number, value));
    }
    match control::read(g, number) {
        Some(value) => {
            *g.regs.general_mut(general) = value;
            Emulated::Done
        }
        None => Emulated::No,
    }
}

fn width(prefixes: &Prefixes, opcode: u8) -> Width {
    match (opcode & 1, prefixes.operand16) {
        (0, _) => Width::Byte,
        (_, true) => Width::Word,
        (_, false) => Width::Long,
    }
}

fn port(g: &mut Guest<'_>, code: &mut Code, prefixes: &Prefixes, opcode: u8) -> Emulated {
    let width = width(prefixes, opcode);
    let port = if opcode & 8 == 0 {
        match code.next() {
            Some(immediate) => u16::from(immediate),
            None => return Emulated::No,
        }
    } else {
        g.regs.rdx as u16
    };
    if !ports::may_access(g, port, width) {
        return Emulated::No;
    }
    if opcode & 2 == 0 {
        let value = ports::read(g, port, width);
        g.regs.rax = match width {
            Width::Byte => g.regs.rax & !0xff | u64::from(value & 0xff),
            Width::Word => g.regs.rax & !0xffff | u64::from(value & 0xffff),
            Width::Long => u64::from(value),
        };
    } else {
        let value = g.regs.rax as u32 & width.ones();
        ports::write(g, port, width, value);
    }
    Emulated::Done
}

/// Elements a repeated transfer moves before it lets interrupts in.
const STRING_BURST: u64 = 64;

/// INS and OUTS, of 64-bit code.
fn string_port(g: &mut Guest<'_>, prefixes: &Prefixes, opcode: u8) -> Emulated {
    let flat = g.regs.cs & 0xffff == u64::from(FLAT_KERNEL_CS) || g.regs.cs & 0xfffc == 0x30;
    if prefixes.address32 || !flat {
        return Emulated::No;
    }
    let width = width(prefixes, opcode);
    let (port, bytes) = (g.regs.rdx as u16, u64::from(width.bytes()));
    if !ports::may_access(g, port, width) {
        return Emulated::No;
    }
    let step = if g.regs.rflags & flags::DF != 0 {
        bytes.wrapping_neg()
    } else {
        bytes
    };
    let wanted = if prefixes.repeat { g.regs.rcx } else { 1 };
    let burst = wanted.min(STRING_BURST);
    let input = opcode & 2 == 0;
    for done in 0..burst {
        let address = if input { g.regs.rdi } else { g.regs.rsi };
        let mut data = [0u8; 4];
        let data = &mut data[..bytes as usize];
        let moved = if input {
            // Where the result cannot go, the device is not asked.
            g.memory()
                .check_writable(address, data.len())
                .and_then(|()| {
                    let value = ports::read(g, port, width).to_le_bytes();
                    g.memory().write(address, &value[..bytes as usize])
                })
        } else {
            g.memory().read(address, data)
        };
        if let Err(fault) = moved {
            let error = u64::from(fault.present) | u64::from(fault.write) << 1;
            crate::domain::inject::page_fault(g, fault.address, error);
            return Emulated::Again;
        }
        if input {
            g.regs.rdi = address.wrapping_add(step);
        } else {
            let mut value = [0u8; 4];
            value[..bytes as usize].copy_from_slice(data);
            ports::write(g, port, width, u32::from_le_bytes(value));
            g.regs.rsi = address.wrapping_add(step);
        }
        if prefixes.repeat {
            g.regs.rcx = wanted - done - 1;
        }
    }
    if prefixes.repeat && g.regs.rcx != 0 {
        Emulated::Again
    } else {
        Emulated::Done
    }
}

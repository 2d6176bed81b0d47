//! One draw: a call, a list of calls, a store, an instruction, or a return.

use crate::calls;
use crate::draw::Draw;
use guest_runtime::abi::{CODE32, CODE64, DATA, mmuext, nr, sched};
use guest_runtime::context::Context;
use guest_runtime::{hypercall, instructions, trap, user};
use guests::code::{code_nop, code_syscall, code_ud2};
use guests::expect::Mode;

/// An NMI that was drawn comes whenever it comes, and changes nothing.
pub fn takes_nmi(trap: &mut trap::Trap) -> bool {
    trap.vector == 2
}

/// Draws once.
pub fn one(draw: &mut Draw) {
    match draw.below(16) {
        0..=10 => {
            let (number, arguments) = calls::any(draw);
            calls::make(draw, number, arguments);
        }
        11 => list(draw),
        12 | 13 => draw.touch(),
        14 => instruction(draw),
        _ => enter(draw),
    }
}

/// A list of calls. It is nowhere else: what a call changed of it could be a call that ends this guest.
fn list(draw: &mut Draw) {
    let count = draw.below(6);
    let mut words = [0u64; 48];
    for entry in words.chunks_exact_mut(8).take(count as usize) {
        let (number, mut arguments) = calls::any(draw);
        // Other calls' arguments may lie over these: a poll would last for ever, a handler be nobody's.
        match number {
            nr::SCHED_OP => arguments[0] = sched::YIELD,
            nr::SET_TRAP_TABLE => arguments[0] = 0x1000,
            _ => {}
        }
        entry[0] = number;
        entry[2..7].copy_from_slice(&arguments);
    }
    for (index, word) in words.iter().enumerate() {
        draw.list.write(index, *word);
    }
    draw.make(nr::MULTICALL, [draw.list.va(), count, 0, 0, 0]);
}

/// A privileged instruction; its fault comes back.
fn instruction(draw: &mut Draw) {
    const REGISTERS: [u32; 12] = [
        0x1b,
        0x1a0,
        0x277,
        0xc000_0080,
        0xc000_0081,
        0xc000_0082,
        0xc000_0100,
        0xc000_0101,
        0xc000_0102,
        0xc000_0103,
        0x174,
        0x48,
    ];
    let value = draw.value();
    let register = if draw.once_in(4) {
        draw.next() as u32
    } else {
        draw.of(&REGISTERS)
    };
    let (leaf, sub) = (draw.next() as u32, draw.below(70) as u32);
    let leaf = draw.of(&[
        leaf,
        leaf & 31,
        0x8000_0000 | (leaf & 31),
        0x4000_0000 | (leaf & 7),
    ]);
    let which = draw.below(6);
    let _ = trap::catch(|| match which {
        0 => instructions::wrmsr(register, value),
        1 => drop(instructions::rdmsr(register)),
        2 => instructions::write_cr4(value),
        3 => instructions::write_cr0(value),
        4 => drop(instructions::cpuid(leaf, sub)),
        _ => load_segment(value as u16),
    });
}

fn load_segment(selector: u16) {
    // SAFETY: nothing here uses the data segments' bases; a fault comes back to `catch`.
    unsafe {
        core::arch::asm!("mov ds, {0:e}", "mov es, {0:e}", "mov fs, {0:e}", "mov gs, {0:e}", in(reg) u32::from(selector));
    }
}

/// Addresses where nobody's code is, on both sides of every border.
const NOWHERE: [u64; 8] = [
    0x10,
    0x7fff_ffff_fffe,
    0x7fff_ffff_ffff,
    0x8000_0000_0000,
    0xffff_7fff_ffff_ffff,
    0xffff_8000_0000_0000,
    0xffff_8080_0000_0000,
    0xffff_8800_0000_0000,
];

/// Enters a context with selectors and flags that may be wrong; whatever comes of it ends in a trap.
fn enter(draw: &mut Draw) {
    // What a return to user mode and back needs, however it was changed.
    hypercall::stack_switch(trap::trap_stack_top());
    hypercall::mmuext(mmuext::NEW_USER_BASEPTR, user::root().mfn(), 0);
    let code = draw.of(&[code_ud2(), code_nop(), code_syscall()]);
    let mode = draw.of(&Mode::BOTH);
    let good = mode.context(code);
    let stack_selector = match draw.below(4) {
        0 => draw.below(1 << 16),
        1 => 0,
        _ => u64::from(DATA),
    };
    // Code selectors of tables that were drawn could run for ever: only ours, and those beyond the table.
    let beyond = 0xf000 | draw.below(0x1000);
    let code_selector = draw.of(&[
        good.cs,
        good.cs,
        u64::from(CODE64),
        u64::from(CODE32),
        u64::from(DATA),
        0,
        3,
        0xe008,
        0xe00b,
        0xe040,
        0xe050,
        beyond,
    ]);
    let code_selector = match mode {
        Mode::User => code_selector | 3,
        // 32-bit code would cut off the kernel's stack pointer, on which its own fault is to be told.
        Mode::Kernel if code_selector == u64::from(CODE32) => good.cs,
        Mode::Kernel => code_selector & !3,
    };
    let rflags = if draw.once_in(2) {
        draw.next()
    } else {
        good.rflags
    };
    let rip = match (mode, draw.below(8)) {
        (_, 0) => draw.of(&NOWHERE),
        _ => good.rip,
    };
    let rsp = match (mode, draw.below(4)) {
        (Mode::User, 0) => draw.pointer(),
        _ => good.rsp,
    };
    // A hypercall from the context would be one of nobody's choosing: number and arguments that do nothing.
    trap::run(&Context {
        rax: if mode == Mode::Kernel {
            nr::XEN_VERSION
        } else {
            draw.value()
        },
        rdi: 0,
        rip,
        cs: code_selector,
        rflags,
        rsp,
        ss: stack_selector,
        ..good
    });
}

//! 32-bit user code: entered by iret with a 32-bit selector, and what its traps and system calls look like.

use guest_runtime::abi::{CODE32, callback};
use guest_runtime::context::{Context, flags};
use guest_runtime::hypercall::register_callback;
use guest_runtime::trap::{self, SYSCALL32, SYSENTER, stub};
use guest_runtime::{check, check_eq, skip};
use guests::code;
use guests::code::{code_syscall, code_ud2};
use guests::expect::{Expected, Mode, compare, compare_state};

code! {
    /// In 64-bit code one instruction with a prefix; in 32-bit code `dec eax; mov ebx, eax`.
    code_dec_eax: ".byte 0x48, 0x89, 0xc3";
    code_int_80: "int 0x80";
    code_into: ".byte 0xce";
    code_sysenter: "sysenter";
    code_far_load: ".byte 0x8b, 0x1d, 0x00, 0x00, 0x60, 0x00";
}

pub fn all() {
    decoding();
    traps();
    sysenter();
    syscall32();
}

/// A 32-bit context: registers fit in 32 bits.
fn context(code: u64) -> Context {
    let wide = Mode::User.context(code);
    let mut narrow = Context {
        cs: u64::from(CODE32),
        ..wide
    };
    for register in [
        &mut narrow.rax,
        &mut narrow.rbx,
        &mut narrow.rcx,
        &mut narrow.rdx,
        &mut narrow.rsi,
        &mut narrow.rdi,
        &mut narrow.rbp,
    ] {
        *register &= 0xffff_ffff;
    }
    narrow
}

fn decoding() {
    let context = Context {
        rax: 0x100,
        ..context(code_dec_eax())
    };
    let trap = trap::run(&context);
    check_eq!(
        "code is decoded as 32-bit",
        (trap.vector, trap.context.rax, trap.context.rbx),
        (6, 0xff, 0xff)
    );
    check_eq!(
        "its code selector",
        trap.context.cs & 0xffff,
        u64::from(CODE32)
    );
}

fn traps() {
    let ud2 = context(code_ud2());
    // The upper halves of R8 to R15 may or may not survive in 32-bit code; what it can see is compared.
    let trap = trap::run(&ud2);
    check_eq!(
        "ud2 in 32-bit code",
        (trap.vector, trap.context.rip),
        (6, ud2.rip)
    );
    compare_state("ud2 in 32-bit code", &ud2, &trap);
    let system = context(code_int_80());
    let trap = trap::run(&system);
    check_eq!(
        "int 0x80 in 32-bit code",
        (trap.vector, trap.context.rip),
        (0x80, system.rip + 2)
    );
    compare_state("int 0x80 in 32-bit code", &system, &trap);
    check_eq!("its number", trap.context.rax, system.rax);
    let mut overflow = context(code_into());
    overflow.rflags |= flags::OF;
    let trap = trap::run(&overflow);
    compare(
        "into",
        &Context {
            r8: trap.context.r8,
            ..overflow
        },
        &trap,
        Expected::after(4, 1),
    );
    let load = context(code_far_load());
    let trap = trap::run(&load);
    let got = (trap.vector, trap.error, trap.cr2, trap.context.rip);
    check_eq!(
        "a page fault in 32-bit code",
        got,
        (14, Some(4), 0x60_0000, load.rip)
    );
}

/// Where the processor has it, `sysenter` reaches its callback; without one it is #GP.
fn sysenter() {
    if register_callback(callback::SYSENTER, stub(SYSENTER)) != 0 {
        return skip!("no sysenter callback here");
    }
    for context in [
        context(code_sysenter()),
        Mode::User.context(code_sysenter()),
    ] {
        let trap = trap::run(&context);
        if matches!(trap.vector, 6 | 13) {
            skip!("this processor has no sysenter in this mode");
            continue;
        }
        check_eq!("sysenter", trap.vector, SYSENTER);
        check!(trap.from_user(), "sysenter is from user mode");
        check_eq!(
            "sysenter: event mask",
            (trap.mask, trap.context.cs >> 32),
            (1, 0)
        );
        check_eq!(
            "sysenter: where the frame ends",
            trap.frame + 8 * trap.words,
            trap::trap_stack_top()
        );
        check_eq!("sysenter: RAX", trap.context.rax, context.rax);
        // NT must not stay on: the next return would be a task switch.
        let trap = trap::run(&Context {
            rflags: context.rflags | flags::NT,
            ..context
        });
        check_eq!(
            "sysenter with NT",
            (trap.vector, trap.handler_flags & flags::NT),
            (SYSENTER, 0)
        );
    }
    register_callback(callback::SYSENTER, 0);
    let trap = trap::run(&context(code_sysenter()));
    check!(
        matches!((trap.vector, trap.error), (13, Some(0)) | (6, None)),
        "sysenter nobody takes"
    );
    register_callback(callback::SYSENTER, stub(SYSENTER));
}

/// 32-bit `syscall` exists on some processors only.
fn syscall32() {
    let context = context(code_syscall());
    let trap = trap::run(&context);
    match trap.vector {
        SYSCALL32 => {
            check_eq!("32-bit syscall: rip", trap.context.rip, context.rip + 2);
            check!(trap.from_user(), "32-bit syscall is from user mode");
        }
        vector => {
            check_eq!(
                "32-bit syscall without the feature",
                (vector, trap.context.rip),
                (6, context.rip)
            );
            skip!("this processor has no 32-bit syscall");
        }
    }
}

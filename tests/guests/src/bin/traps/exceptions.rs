//! Exceptions raised by what an instruction does: one case a kind, each in both modes.

use guest_runtime::abi::nr;
use guest_runtime::context::{Context, flags};
use guest_runtime::{check_eq, hypercall, skip, trap};
use guests::code;
use guests::code::{code_nop, code_ud2};
use guests::expect::{Expected, Mode, run_and_compare};

code! {
    code_div: "div ecx";
    code_icebp: ".byte 0xf1";
    code_push_es: ".byte 0x06";
    code_lock_nop: ".byte 0xf0, 0x90";
    code_fninit: "fninit";
    code_hlt: "hlt";
    code_lgdt: "lgdt [rsp]";
    code_lidt: "lidt [rsp]";
    code_lldt: "lldt ax";
    code_ltr: "ltr ax";
    code_invlpg: "invlpg [rsp]";
    code_swapgs: "swapgs";
    code_sysret: ".byte 0x48, 0x0f, 0x07";
    code_sysexit: ".byte 0x0f, 0x35";
    code_invd: "invd";
    code_lmsw: "lmsw ax";
    code_mov_cr8: "mov rax, cr8";
    code_rdmsr: "rdmsr";
    code_load_ds: "mov ds, eax";
    code_load_ss: "mov ss, eax";
    code_load_fs: "mov fs, eax";
    code_read: "mov rbx, [rax]";
    code_push: "push rax";
    code_iretq: "iretq";
    code_misaligned: "mov eax, [rsp + 1]";
    code_fpu_error: "fninit", "fldcw [rsp]", "fld1", "fldz", "fdivp", "fwait";
    code_simd_error: "ldmxcsr [rsp]", "divss xmm0, xmm1";
    code_fpu_clean: "fninit", "ldmxcsr [rsp]";
}

type Case = (&'static str, fn() -> u64, fn(&mut Context), Expected);

const GP0: Expected = Expected::fault_code(13, 0);
const UD: Expected = Expected::fault(6);
/// Far beyond every limit in the GDT; its error code is itself without the privilege level.
const BAD_SELECTOR: u64 = 0xfff3;
const GP_BAD_SELECTOR: Expected = Expected::fault_code(13, 0xfff0);
const NON_CANONICAL: u64 = 0x0000_8000_0000_0000;

fn nothing(_: &mut Context) {}

const CASES: &[Case] = &[
    (
        "div by zero",
        code_div,
        |c| (c.rcx, c.rdx) = (0, 0),
        Expected::fault(0),
    ),
    (
        "single step",
        code_nop,
        |c| c.rflags |= flags::TF,
        Expected::after(1, 1),
    ),
    ("ud2", code_ud2, nothing, UD),
    ("push es", code_push_es, nothing, UD),
    ("lock nop", code_lock_nop, nothing, UD),
    ("hlt", code_hlt, nothing, GP0),
    ("lgdt", code_lgdt, nothing, GP0),
    ("lidt", code_lidt, nothing, GP0),
    ("lldt", code_lldt, |c| c.rax = 0, GP0),
    ("ltr", code_ltr, |c| c.rax = 0, GP0),
    ("invlpg", code_invlpg, nothing, GP0),
    ("swapgs", code_swapgs, nothing, GP0),
    ("sysret", code_sysret, nothing, GP0),
    ("lmsw", code_lmsw, nothing, GP0),
    ("mov from cr8", code_mov_cr8, nothing, GP0),
    (
        "rdmsr of an unknown register",
        code_rdmsr,
        |c| c.rcx = 0x0bad_c0de,
        GP0,
    ),
    (
        "ds beyond the table",
        code_load_ds,
        |c| c.rax = BAD_SELECTOR,
        GP_BAD_SELECTOR,
    ),
    (
        "ss beyond the table",
        code_load_ss,
        |c| c.rax = BAD_SELECTOR,
        GP_BAD_SELECTOR,
    ),
    (
        "fs beyond the table",
        code_load_fs,
        |c| c.rax = BAD_SELECTOR,
        GP_BAD_SELECTOR,
    ),
    ("null ss", code_load_ss, |c| c.rax = 0, GP0),
    (
        "ss of level 0",
        code_load_ss,
        |c| c.rax = 0xe028,
        Expected::fault_code(13, 0xe028),
    ),
    (
        "non-canonical read",
        code_read,
        |c| c.rax = NON_CANONICAL,
        GP0,
    ),
];

pub fn all() {
    for &(what, code, change, expected) in CASES {
        for mode in Mode::BOTH {
            let mut context = mode.context(code());
            change(&mut context);
            run_and_compare(what, &context, expected);
        }
    }
    odd_stacks();
    odd_flags();
    non_canonical_push();
    device_not_available();
    sysexit();
    invd();
    icebp();
    alignment();
    floating_point();
    outward_iret();
    native_iret();
}

/// The frame is aligned down to 16 bytes from any stack pointer, and the saved RSP is exact.
fn odd_stacks() {
    for offset in [0, 1, 7, 8, 9, 15, 16, 24] {
        for mode in Mode::BOTH {
            let mut context = mode.context(code_ud2());
            context.rsp -= offset;
            run_and_compare("odd stack pointer", &context, UD);
            context.rip = mode.context(code_hlt()).rip;
            run_and_compare("odd stack pointer with error code", &context, GP0);
        }
    }
}

/// Flags reach the frame unchanged; direction reaches the handler too, alignment check and nested task do not.
fn odd_flags() {
    for set in [
        flags::CF,
        flags::ZF | flags::OF,
        flags::DF,
        flags::AC,
        flags::NT,
        flags::ID,
        flags::IF,
    ] {
        for mode in Mode::BOTH {
            let mut context = mode.context(code_ud2());
            context.rflags |= set;
            let trap = run_and_compare("odd flags", &context, UD);
            check_eq!(
                "DF in the handler",
                trap.handler_flags & flags::DF,
                set & flags::DF
            );
        }
    }
}

/// #SS by the manual; some emulators raise #GP.
fn non_canonical_push() {
    for mode in Mode::BOTH {
        if mode == Mode::Kernel {
            continue; // The frame itself would have nowhere to go: see bad_stack_crashes.
        }
        let mut context = mode.context(code_push());
        context.rsp = NON_CANONICAL + 0x1000;
        let trap = trap::run(&context);
        let vector = if trap.vector == 13 { 13 } else { 12 };
        guests::expect::compare(
            "push to a non-canonical stack",
            &context,
            &trap,
            Expected::fault_code(vector, 0),
        );
    }
}

/// The virtual TS flag makes every use of the FPU raise #NM, until it is cleared.
fn device_not_available() {
    for mode in Mode::BOTH {
        check_eq!(
            "fpu_taskswitch(1)",
            hypercall::call(nr::FPU_TASKSWITCH, [1, 0, 0, 0, 0]),
            0
        );
        run_and_compare(
            "fninit with TS set",
            &mode.context(code_fninit()),
            Expected::fault(7),
        );
        check_eq!(
            "fpu_taskswitch(0)",
            hypercall::call(nr::FPU_TASKSWITCH, [0; 5]),
            0
        );
        run_and_compare(
            "fninit with TS clear",
            &mode.context(code_fninit()),
            Expected { advance: 2, ..UD },
        );
    }
}

/// #GP, or #UD on processors that know it outside long mode only.
fn sysexit() {
    for mode in Mode::BOTH {
        let context = mode.context(code_sysexit());
        let trap = trap::run(&context);
        let expected = if trap.vector == 6 { UD } else { GP0 };
        guests::expect::compare("sysexit", &context, &trap, expected);
    }
}

/// Some emulators execute it in ring 3, where it does nothing.
fn invd() {
    for mode in Mode::BOTH {
        let context = mode.context(code_invd());
        let trap = trap::run(&context);
        if trap.vector == 6 {
            skip!("this processor executes invd in ring 3 ({mode:?})");
        } else {
            guests::expect::compare("invd", &context, &trap, GP0);
        }
    }
}

/// The one-byte debug trap. Emulators may not have it.
fn icebp() {
    for mode in Mode::BOTH {
        let context = mode.context(code_icebp());
        let trap = trap::run(&context);
        if trap.vector == 6 {
            skip!("this processor has no icebp ({mode:?})");
        } else {
            guests::expect::compare("icebp", &context, &trap, Expected::after(1, 1));
        }
    }
}

/// Alignment checks work in both modes, as both are ring 3. Emulators may not check.
fn alignment() {
    for mode in Mode::BOTH {
        let mut context = mode.context(code_misaligned());
        context.rflags |= flags::AC;
        let trap = trap::run(&context);
        if trap.vector == 6 {
            skip!("this processor makes no alignment checks ({mode:?})");
            continue;
        }
        guests::expect::compare(
            "misaligned read",
            &context,
            &trap,
            Expected::fault_code(17, 0),
        );
    }
}

/// Unmasked floating point errors: #MF at the next waiting instruction, #XF at once.
fn floating_point() {
    for mode in Mode::BOTH {
        // x87: all unmasked. The control word lies on the stack of the piece.
        let mut context = mode.context(code_fpu_error());
        put_word(&mut context, 0x0340);
        let trap = trap::run(&context);
        check_eq!("x87 error: vector", trap.vector, 16);
        guests::expect::compare_state("x87 error", &context, &trap);
        // SIMD: division by zero unmasked. XMM1 is zero from the start.
        let mut context = mode.context(code_simd_error());
        put_word(&mut context, 0x1f80 & !(0x3f << 7));
        let trap = trap::run(&context);
        if trap.vector == 6 {
            skip!("this processor raises no SIMD errors ({mode:?})");
        } else {
            check_eq!("SIMD error: vector", trap.vector, 19);
            guests::expect::compare_state("SIMD error", &context, &trap);
        }
        let mut context = mode.context(code_fpu_clean());
        put_word(&mut context, 0x1f80);
        check_eq!("FPU is usable again", trap::run(&context).vector, 6);
    }
}

/// Puts a word at the top of the context's stack.
fn put_word(context: &mut Context, value: u64) {
    context.rsp -= 64;
    // SAFETY: the context's stack is memory kept for this; both roots map user data for the kernel as well.
    unsafe { (context.rsp as *mut u64).write_volatile(value) };
}

/// IRETQ cannot go inwards, to ring 0.
fn outward_iret() {
    for mode in Mode::BOTH {
        let mut context = mode.context(code_iretq());
        context.rsp -= 128;
        let words = [context.rip, 0xe008, 2, context.rsp, 0];
        for (index, word) in words.into_iter().enumerate() {
            // SAFETY: as put_word.
            unsafe { (context.rsp as *mut u64).add(index).write_volatile(word) };
        }
        run_and_compare(
            "iretq to ring 0",
            &context,
            Expected::fault_code(13, 0xe008),
        );
    }
}

/// IRETQ to the same ring needs no hypervisor: kernels use it to serialise.
fn native_iret() {
    for mode in Mode::BOTH {
        let mut context = mode.context(code_iretq());
        context.rsp -= 128;
        let target = mode.context(code_ud2()).rip;
        let words = [target, 0xe033, flags::ALWAYS, context.rsp + 64, 0xe02b];
        for (index, word) in words.into_iter().enumerate() {
            // SAFETY: as put_word.
            unsafe { (context.rsp as *mut u64).add(index).write_volatile(word) };
        }
        let trap = trap::run(&context);
        let landed = (trap.vector, trap.context.rip, trap.context.rsp);
        check_eq!(
            "iretq to the same ring",
            landed,
            (6, target, context.rsp + 64)
        );
    }
}

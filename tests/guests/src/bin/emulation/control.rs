//! Control registers, XCR0, and the small privileged instructions.

use guest_runtime::context::{Context, flags};
use guest_runtime::instructions::{cpuid, read_cr0, read_cr4, write_cr0, write_cr4};
use guest_runtime::trap::{self, catch};
use guest_runtime::{check, check_eq, skip};
use guests::code;
use guests::expect::{Expected, Mode, run_and_compare};

code! {
    code_read_cr0: "mov rax, cr0";
    code_read_cr2: "mov rax, cr2";
    code_read_cr3: "mov rax, cr3";
    code_read_cr4: "mov rax, cr4";
    code_write_cr0: "mov cr0, rax";
    code_write_cr3: "mov cr3, rax";
    code_write_cr4: "mov cr4, rax";
    code_read_cr4_r13: "mov r13, cr4";
    code_clts: "clts";
    code_wbinvd: "wbinvd";
    code_fninit: "fninit";
    code_xgetbv: "xgetbv";
    code_xsetbv: "xsetbv";
    code_read_dr7: "mov rax, dr7";
    code_rdtsc: "rdtsc";
    code_rdpmc: "rdpmc";
    code_rdfsbase: "rdfsbase rax";
    code_rdgsbase: "rdgsbase rax";
    code_wrfsbase: "wrfsbase rax";
    code_wrgsbase: "wrgsbase rax";
}

const GP0: Expected = Expected::fault_code(13, 0);
const TS: u64 = 8;

pub fn all() {
    cr0();
    cr4();
    wide_registers();
    xcr0();
    small_ones();
    base_instructions();
    user_mode();
}

/// Only TS can change in CR0; it works, and `clts` clears it.
fn cr0() {
    let value = read_cr0();
    check_eq!(
        "CR0: protection and paging",
        value & 0x8000_0001,
        0x8000_0001
    );
    check_eq!("CR0: TS at the start", value & TS, 0);
    write_cr0(value | TS);
    check_eq!("CR0 with TS", read_cr0(), value | TS);
    run_and_compare(
        "FPU use with TS",
        &Mode::Kernel.context(code_fninit()),
        Expected::fault(7),
    );
    write_cr0(value | TS);
    run_and_compare(
        "clts",
        &Mode::Kernel.context(code_clts()),
        Expected {
            advance: 2,
            ..Expected::fault(6)
        },
    );
    check_eq!("CR0 after clts", read_cr0(), value);
    // Anything else is refused, or does nothing.
    for bit in [0, 16, 18, 29, 30, 31] {
        let _ = catch(|| write_cr0(value ^ 1 << bit));
        check_eq!("CR0 after an attack", read_cr0(), value);
    }
}

/// The instructions that read and write segment bases are not shown, their bit in CR4 does not stick, and they are
/// invalid opcodes in both modes, whatever the CPU has.
fn base_instructions() {
    const FSGSBASE: u64 = 1 << 16;
    if cpuid(7, 0).ebx & 1 != 0 {
        skip!("this hypervisor shows FSGSBASE");
        return;
    }
    let value = read_cr4();
    let refused = catch(|| write_cr4(value | FSGSBASE)).is_err();
    check!(
        refused || read_cr4() == value,
        "CR4.FSGSBASE is refused or dropped"
    );
    for mode in [Mode::Kernel, Mode::User] {
        for code in [
            code_rdfsbase(),
            code_rdgsbase(),
            code_wrfsbase(),
            code_wrgsbase(),
        ] {
            run_and_compare("a segment base", &mode.context(code), Expected::fault(6));
        }
    }
}

/// CR4 shows the guest's view; bits that are not the guest's do not stick.
fn cr4() {
    const VISIBLE: u64 = 0x660;
    let value = read_cr4();
    check_eq!("CR4: what every kernel finds", value & VISIBLE, VISIBLE);
    for bit in [0, 1, 4, 7, 11, 12, 13, 16, 17, 20, 21, 22, 23] {
        let _ = catch(|| write_cr4(value | 1 << bit));
        check_eq!("CR4 after an attack", read_cr4() & !(value | 1 << 18), 0);
    }
    const TSD: u64 = 4;
    const DE: u64 = 8;
    for bit in [TSD, DE] {
        check!(
            catch(|| write_cr4(value | bit)).is_ok(),
            "a CR4 bit of the guest's"
        );
        check_eq!("CR4 with it", read_cr4(), value | bit);
        if bit == TSD {
            run_and_compare(
                "rdtsc in user mode with TSD",
                &Mode::User.context(code_rdtsc()),
                GP0,
            );
            check!(
                catch(guest_runtime::instructions::rdtsc).is_ok(),
                "rdtsc in kernel mode with TSD"
            );
        }
        write_cr4(value);
    }
    check_eq!("CR4 at the end", read_cr4(), value);
    check_eq!(
        "rdtsc in user mode",
        trap::run(&Mode::User.context(code_rdtsc())).vector,
        6
    );
}

/// Registers beyond the first eight are decoded too.
fn wide_registers() {
    let context = Mode::Kernel.context(code_read_cr4_r13());
    let trap = trap::run(&context);
    let wanted = Context {
        r13: read_cr4(),
        ..context
    };
    guests::expect::compare(
        "mov r13, cr4",
        &wanted,
        &trap,
        Expected {
            advance: 4,
            ..Expected::fault(6)
        },
    );
    let mut step = Mode::Kernel.context(code_read_cr4());
    step.rflags |= flags::TF;
    let trap = trap::run(&step);
    check_eq!(
        "a single step over an emulated instruction",
        (trap.vector, trap.context.rip),
        (1, step.rip + 3)
    );
}

/// XCR0: subsets of what CPUID offers with x87 in it; everything else is #GP.
fn xcr0() {
    if cpuid(1, 0).ecx >> 26 & 1 == 0 {
        skip!("this processor has no XSAVE");
        return;
    }
    let offered = u64::from(cpuid(0xd, 0).edx) << 32 | u64::from(cpuid(0xd, 0).eax);
    let _ = catch(|| write_cr4(read_cr4() | 1 << 18));
    check_eq!("OSXSAVE sticks", read_cr4() >> 18 & 1, 1);
    let set = |index: u64, value: u64| {
        let context = Context {
            rcx: index,
            rax: value & 0xffff_ffff,
            rdx: value >> 32,
            ..Mode::Kernel.context(code_xsetbv())
        };
        trap::run(&context)
    };
    let get = || {
        let trap = trap::run(&Context {
            rcx: 0,
            ..Mode::Kernel.context(code_xgetbv())
        });
        trap.context.rdx << 32 | trap.context.rax
    };
    for value in [1u64, 3, 7] {
        let trap = set(0, value);
        if value & !offered == 0 {
            check_eq!("xsetbv", trap.vector, 6);
            check_eq!("xgetbv", get(), value);
        } else {
            check_eq!(
                "xsetbv of what is not offered",
                (trap.vector, trap.error),
                (13, Some(0))
            );
        }
    }
    let before = get();
    for (index, value) in [
        (0u64, 0u64),
        (0, 2),
        (0, 5),
        (0, 1 << 63 | 3),
        (0, !offered | 3),
        (1, 3),
        (5, 1),
    ] {
        let trap = set(index, value);
        check_eq!("a wrong xsetbv", (trap.vector, trap.error), (13, Some(0)));
        check_eq!("XCR0 after it", get(), before);
    }
    let context = Context {
        rcx: 0,
        rax: 1,
        rdx: 0,
        ..Mode::User.context(code_xsetbv())
    };
    run_and_compare("xsetbv in user mode", &context, GP0);
    check_eq!(
        "the size CPUID gives follows XCR0",
        cpuid(0xd, 0).ebx > 0,
        true
    );
}

fn small_ones() {
    let next = |advance| Expected {
        advance,
        ..Expected::fault(6)
    };
    run_and_compare("wbinvd", &Mode::Kernel.context(code_wbinvd()), next(2));
    // CR3 and DR7 are read by hypercalls and pages of their own; the instruction may be emulated or refused.
    for code in [code_read_cr3(), code_read_dr7()] {
        let trap = trap::run(&Mode::Kernel.context(code));
        check!(
            trap.vector == 6 || (trap.vector == 13 && trap.error == Some(0)),
            "emulated or refused"
        );
    }
    // A root that is none.
    let context = Context {
        rax: 0x1000,
        ..Mode::Kernel.context(code_write_cr3())
    };
    run_and_compare("mov to cr3 of what is no root", &context, GP0);
    let trap = trap::run(&Context {
        rcx: 0xffff,
        ..Mode::Kernel.context(code_rdpmc())
    });
    check_eq!("rdpmc of what does not exist", trap.vector, 13);
}

/// None of it works in user mode.
fn user_mode() {
    let cases = [
        ("read of CR0", code_read_cr0()),
        ("read of CR2", code_read_cr2()),
        ("read of CR3", code_read_cr3()),
        ("read of CR4", code_read_cr4()),
        ("write of CR0", code_write_cr0()),
        ("write of CR3", code_write_cr3()),
        ("write of CR4", code_write_cr4()),
        ("clts", code_clts()),
        ("read of DR7", code_read_dr7()),
    ];
    for (what, code) in cases {
        run_and_compare(what, &Mode::User.context(code), GP0);
    }
    // Some emulators execute it in ring 3, where it does nothing.
    let context = Mode::User.context(code_wbinvd());
    let trap = trap::run(&context);
    if trap.vector == 6 {
        skip!("this processor executes wbinvd in ring 3");
    } else {
        guests::expect::compare("wbinvd", &context, &trap, GP0);
    }
}

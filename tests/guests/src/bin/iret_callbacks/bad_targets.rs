//! Returns that fault: the exception is the guest's own, and its frame describes where the return wanted to go.

use guest_runtime::context::Context;
use guest_runtime::trap::{self, Trap};
use guest_runtime::{check, check_eq};
use guests::code::code_ud2;
use guests::expect::{Expected, Mode, run_and_compare};

pub fn all() {
    user_selectors();
    kernel_selectors();
    user_addresses();
    kernel_addresses();
    run_and_compare(
        "iret after all that",
        &Mode::User.context(code_ud2()),
        Expected::fault(6),
    );
}

/// The trap is #GP, #NP or #SS with this error code and the wanted RIP, RSP and selectors.
fn faulted(what: &str, context: &Context, trap: &Trap, error: u64) {
    check!(matches!(trap.vector, 10..=13), what);
    check_eq!(what, trap.error, Some(error));
    check_eq!("the address it wanted", trap.context.rip, context.rip);
    check_eq!("the stack it wanted", trap.context.rsp, context.rsp);
    check_eq!(
        "the code selector it wanted",
        trap.context.cs & 0xfffc,
        context.cs & 0xfffc
    );
    check_eq!(
        "the stack selector it wanted",
        trap.context.ss & 0xfffc,
        context.ss & 0xfffc
    );
    check_eq!("events are masked in the handler", trap.mask, 1);
    check_eq!(
        "the frame is aligned",
        (trap.frame + 8 * trap.words) % 16,
        0
    );
}

fn user_selectors() {
    let good = Mode::User.context(code_ud2());
    for (what, cs, error) in [
        ("user CS null", 3u64, 0u64),
        ("user CS beyond the table", 0xfff3, 0xfff0),
        ("user CS is data", 0xe02b, 0xe028),
        ("user CS beyond the local table", 0xfff7, 0xfff4),
    ] {
        let context = Context { cs, ..good };
        let trap = trap::run(&context);
        faulted(what, &context, &trap, error);
        check_eq!("it counts as user mode", trap.from_user(), true);
        check_eq!(
            "the frame is on the kernel's stack",
            trap.frame + 8 * trap.words,
            trap::trap_stack_top()
        );
    }
    for (what, ss, error) in [
        ("user SS null", 3u64, 0u64),
        ("user SS beyond the table", 0xfff3, 0xfff0),
        ("user SS is code", 0xe033, 0xe030),
    ] {
        let context = Context { ss, ..good };
        faulted(what, &context, &trap::run(&context), error);
    }
}

/// The same for kernel mode: the frame is on the stack the return wanted.
fn kernel_selectors() {
    let good = Mode::Kernel.context(code_ud2());
    for (what, cs, error) in [
        ("kernel CS beyond the table", 0xfff0u64, 0xfff0u64),
        ("kernel CS is data", 0xe028, 0xe028),
        ("kernel CS null", 0, 0),
    ] {
        let context = Context { cs, ..good };
        let trap = trap::run(&context);
        faulted(what, &context, &trap, error);
        check_eq!("it counts as kernel mode", trap.from_user(), false);
        check_eq!(
            "the frame is on that stack",
            trap.frame + 8 * trap.words,
            context.rsp & !15
        );
    }
}

/// Addresses that are not canonical: #GP, from the return itself or from the fetch after it. Emulators that do not
/// know canonical addresses report a page fault.
fn user_addresses() {
    for rip in [
        0x8000_0000_0000u64,
        0x7fff_ffff_ffff + 2,
        1 << 63,
        0xffff_7fff_ffff_ffff,
    ] {
        let context = Context {
            rip,
            ..Mode::User.context(code_ud2())
        };
        address_fault("a user address that is not canonical", &context);
    }
    for rip in [0u64, 0x7fff_ffff_f000, 0xffff_ffff_8010_0000] {
        let context = Context {
            rip,
            ..Mode::User.context(code_ud2())
        };
        let trap = trap::run(&context);
        let got = (trap.vector, trap.error, trap.context.rip, trap.cr2);
        check_eq!(
            "a user address that is not mapped",
            got,
            (14, Some(0x14), rip, rip)
        );
    }
}

fn kernel_addresses() {
    for rip in [0x8000_0000_0000u64, 1 << 63, 0xffff_7fff_ffff_ffff] {
        let context = Context {
            rip,
            ..Mode::Kernel.context(code_ud2())
        };
        address_fault("a kernel address that is not canonical", &context);
    }
    let context = Context {
        rip: 0xffff_8080_0000_0000,
        ..Mode::Kernel.context(code_ud2())
    };
    let trap = trap::run(&context);
    check_eq!(
        "a kernel address in the hypervisor",
        (trap.vector, trap.context.rip),
        (14, context.rip)
    );
}

fn address_fault(what: &str, context: &Context) {
    let trap = trap::run(context);
    match trap.vector {
        13 => faulted(what, context, &trap, 0),
        vector => {
            check_eq!(what, (vector, trap.context.rip), (14, context.rip));
        }
    }
}

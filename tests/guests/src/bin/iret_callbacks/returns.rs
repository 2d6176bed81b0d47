//! What the iret hypercall takes from its frame: everything, except what is not the guest's to set.

use guest_runtime::abi::{CODE64, DATA, KERNEL_CODE64};
use guest_runtime::context::{Context, flags};
use guest_runtime::{check, check_eq, events, trap};
use guests::code::{code_nop, code_ud2};
use guests::expect::{Expected, Mode, compare, run_and_compare};

const UD: Expected = Expected::fault(6);

pub fn all() {
    plain();
    forbidden_flags();
    selectors();
    event_mask();
    in_syscall_flag();
    stacks();
}

fn plain() {
    for mode in Mode::BOTH {
        run_and_compare("iret", &mode.context(code_ud2()), UD);
    }
}

/// IOPL, VM, IF and the reserved bits are not taken from the frame; TF, AC, DF, ID and the arithmetic flags are.
fn forbidden_flags() {
    const KEPT: u64 =
        flags::CF | 4 | 16 | flags::ZF | 128 | flags::DF | flags::OF | flags::AC | flags::ID;
    for mode in Mode::BOTH {
        let plain = mode.context(code_ud2());
        for bit in 0..64 {
            if 1 << bit & (flags::TF | flags::IF) != 0 {
                continue; // Single steps are tested in `traps`, the mask below.
            }
            let attacked = Context {
                rflags: plain.rflags | 1 << bit,
                ..plain
            };
            let trap = trap::run(&attacked);
            let wanted = Context {
                rflags: plain.rflags | (1 << bit & KEPT),
                ..plain
            };
            let tolerated = flags::RF | flags::NT | flags::VIF | flags::VIP;
            check_eq!(
                "flags after iret",
                trap.context.rflags & !tolerated,
                wanted.rflags
            );
            check_eq!("vector after iret", trap.vector, 6);
            check_eq!("address after iret", trap.context.rip, plain.rip);
        }
        let mut nested = plain;
        nested.rflags |= flags::NT;
        let trap = trap::run(&nested);
        check_eq!(
            "nested task: handler flags",
            trap.handler_flags & flags::NT,
            0
        );
    }
}

/// Selectors: 16 bits count; the level in hardware is 3, whatever the frame says.
fn selectors() {
    let kernel = Mode::Kernel.context(code_ud2());
    for cs in [
        0xe030u64,
        0xdead_0001_0000_e030,
        0x1_0000_e030,
        0xffff_ffff_ffff_e030,
    ] {
        let trap = trap::run(&Context { cs, ..kernel });
        compare("iret with a dirty CS", &kernel, &trap, UD);
    }
    for ss in [0xe02bu64, 0xe028, 0xe029, 0xffff_0000_0000_e02b, 0xe02a] {
        for mode in Mode::BOTH {
            let context = mode.context(code_ud2());
            let trap = trap::run(&Context { ss, ..context });
            let wanted = Context {
                ss: u64::from(DATA),
                ..context
            };
            compare("iret with another SS", &wanted, &trap, UD);
        }
    }
    let user = Mode::User.context(code_ud2());
    let dirty = Context {
        cs: 0x0000_0001_0000_0000 | u64::from(CODE64),
        ..user
    };
    compare(
        "iret with the saved mask in CS",
        &user,
        &trap::run(&dirty),
        UD,
    );
    check_eq!("levels differ in the frame only", KERNEL_CODE64 | 3, CODE64);
}

/// The event mask becomes the inverse of IF, in either mode, and is saved inverted.
fn event_mask() {
    events::clear_all();
    for mode in Mode::BOTH {
        for set in [0, flags::IF] {
            let mut context = mode.context(code_ud2());
            context.rflags = flags::ALWAYS | set;
            let trap = run_and_compare("iret and the event mask", &context, UD);
            check_eq!("the saved mask", trap.context.cs >> 32, u64::from(set == 0));
        }
    }
    check_eq!("the mask is as it was", events::mask(), 1);
}

/// VGCF_in_syscall allows the fast way back, which loses RCX and R11 and nothing else.
fn in_syscall_flag() {
    for mode in Mode::BOTH {
        let context = Context {
            iret_flags: 1 << 8,
            ..mode.context(code_nop())
        };
        let trap = trap::run(&context);
        check_eq!(
            "iret as from a system call",
            (trap.vector, trap.context.rip),
            (6, context.rip + 1)
        );
        let rcx = trap.context.rcx;
        check!(rcx == context.rcx || rcx == context.rip, "its RCX");
        let r11 = trap.context.r11;
        check!(
            r11 == context.r11 || r11 & !flags::IF == context.rflags & !flags::IF,
            "its R11"
        );
        check_eq!("its RSP", trap.context.rsp, context.rsp);
        check_eq!("its R10", trap.context.r10, context.r10);
        check_eq!("its code selector", trap.context.cs & 3, context.cs & 3);
    }
}

/// User mode may have any stack pointer, as long as it does not use it.
fn stacks() {
    for rsp in [
        0,
        1,
        7,
        0x8000_0000_0000,
        0xffff_8000_0000_0000,
        0xffff_ffff_8010_0001,
        u64::MAX,
    ] {
        let context = Context {
            rsp,
            ..Mode::User.context(code_ud2())
        };
        run_and_compare("user mode with a strange stack pointer", &context, UD);
    }
}

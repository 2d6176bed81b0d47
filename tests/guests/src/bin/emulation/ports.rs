//! I/O ports and the interrupt flag, under the virtual I/O privilege level and the I/O bitmap.

use guest_runtime::abi::nr;
use guest_runtime::context::{Context, flags};
use guest_runtime::{check, check_eq, events, hypercall, trap};
use guests::code;
use guests::expect::{Expected, Mode, compare, run_and_compare};
use guests::{accepted, refused};

code! {
    code_cli: "cli";
    code_sti: "sti";
    code_in_byte: "in al, dx";
    code_in_word: "in ax, dx";
    code_in_long: "in eax, dx";
    code_in_fixed: "in al, 0x61";
    code_out_byte: "out dx, al";
    code_out_word: "out dx, ax";
    code_out_long: "out dx, eax";
    code_out_fixed: "out 0x80, al";
    code_insb: "insb";
    code_outsb: "outsb";
}

const GP0: Expected = Expected::fault_code(13, 0);
/// The delay port: nothing listens, writes are harmless.
const DELAY_PORT: u64 = 0x80;

fn done(advance: u64) -> Expected {
    Expected {
        advance,
        ..Expected::fault(6)
    }
}

fn set_iopl(level: u32) -> i64 {
    let argument = level;
    hypercall::call(nr::PHYSDEV_OP, [6, &raw const argument as u64, 0, 0, 0])
}

pub fn all() {
    without_privilege();
    refused("I/O privilege level 4", set_iopl(4));
    accepted("I/O privilege level 1", set_iopl(1));
    interrupt_flag();
    with_privilege();
    widths();
    user_bitmap();
    accepted("I/O privilege level 0", set_iopl(0));
    without_privilege();
    level_in_the_flags();
    without_privilege();
}

/// A kernel may ask for the level to be where the CPU has it: frames show it, `iret` sets it, and its own kernel mode
/// counts as level 0.
fn level_in_the_flags() {
    const ARCHITECTURAL_IOPL: u64 = 4;
    const ENABLE: u64 = 0;
    const DISABLE: u64 = 1;
    let assist = |command| hypercall::call(nr::VM_ASSIST, [command, ARCHITECTURAL_IOPL, 0, 0, 0]);
    let input = |mode: Mode, level: u64| {
        let mut context = Context {
            rdx: DELAY_PORT,
            rax: 0xff,
            ..mode.context(code_in_byte())
        };
        context.rflags |= level << 12;
        context
    };
    accepted("the assist", assist(ENABLE));
    // As `run_and_compare`, which takes for granted that frames show no level.
    let run = |what: &str, context: &Context, level: u64, wanted: Expected| {
        let mut trap = trap::run(context);
        check_eq!("the level in a frame", trap.context.rflags >> 12 & 3, level);
        trap.context.rflags &= !(3 << 12);
        let context = Context {
            rflags: context.rflags & !(3 << 12),
            ..*context
        };
        compare(what, &context, &trap, wanted);
    };
    for level in [3, 0, 2, 3, 1] {
        let kernel = input(Mode::Kernel, level);
        run("input of a kernel, level by iret", &kernel, level, done(1));
        let user = input(Mode::User, level);
        let wanted = if level == 3 { done(1) } else { GP0 };
        run("input of user mode, level by iret", &user, level, wanted);
        let mut cli = Mode::User.context(code_cli());
        cli.rflags |= level << 12;
        run("cli of user mode, level by iret", &cli, level, wanted);
        // A system call's frame has it too.
        let mut call = Mode::User.context(guests::code::code_syscall());
        call.rflags |= level << 12;
        let trap = trap::run(&call);
        check_eq!(
            "the level in a system call's frame",
            trap.context.rflags >> 12 & 3,
            level
        );
    }
    accepted("the assist off", assist(DISABLE));
    accepted("I/O privilege level 2", set_iopl(2));
    // Frames do not show it now, and no more does iret set it.
    let mut context = input(Mode::Kernel, 0);
    run_and_compare("input of a kernel at level 2", &context, done(1));
    context.rflags |= 3 << 12;
    let trap = trap::run(&context);
    check_eq!(
        "the level in a frame without the assist",
        trap.context.rflags >> 12 & 3,
        0
    );
    run_and_compare("input of user mode", &input(Mode::User, 3), GP0);
    accepted("I/O privilege level 0", set_iopl(0));
}

/// At level 0, neither mode does I/O or touches the interrupt flag.
fn without_privilege() {
    for mode in Mode::BOTH {
        for code in [
            code_cli(),
            code_sti(),
            code_in_byte(),
            code_in_long(),
            code_in_fixed(),
            code_out_byte(),
            code_out_fixed(),
        ] {
            let context = Context {
                rdx: DELAY_PORT,
                ..mode.context(code)
            };
            run_and_compare("I/O without privilege", &context, GP0);
        }
    }
}

/// `cli` and `sti` do nothing at all: the event mask is not theirs.
fn interrupt_flag() {
    for set in [0, flags::IF] {
        for code in [code_cli(), code_sti()] {
            let mut context = Mode::Kernel.context(code);
            context.rflags |= set;
            run_and_compare("cli or sti", &context, done(1));
        }
    }
    check_eq!("the event mask", events::mask(), 1);
    for code in [code_cli(), code_sti()] {
        run_and_compare("cli or sti in user mode", &Mode::User.context(code), GP0);
    }
}

fn with_privilege() {
    for (code, length) in [
        (code_out_byte(), 1),
        (code_out_word(), 2),
        (code_out_long(), 1),
        (code_out_fixed(), 2),
    ] {
        let context = Context {
            rdx: DELAY_PORT,
            rax: 0,
            ..Mode::Kernel.context(code)
        };
        run_and_compare("out", &context, done(length));
    }
    for code in [code_in_byte(), code_out_byte()] {
        let context = Context {
            rdx: DELAY_PORT,
            ..Mode::User.context(code)
        };
        run_and_compare("user mode has no privilege", &context, GP0);
    }
    // The counter of the timer must not be seen stuck at all ones: kernels would calibrate with it for ever.
    let trap = trap::run(&Context {
        rdx: 0x42,
        ..Mode::Kernel.context(code_in_byte())
    });
    check_eq!("timer port: vector", trap.vector, 6);
    // String forms may be emulated or refused, but nothing else.
    let mut buffer = [0u8; 8];
    let at = buffer.as_mut_ptr() as u64;
    for code in [code_insb(), code_outsb()] {
        let trap = trap::run(&Context {
            rdx: DELAY_PORT,
            rsi: at,
            rdi: at,
            ..Mode::Kernel.context(code)
        });
        check!(
            trap.vector == 6 || (trap.vector == 13 && trap.error == Some(0)),
            "string I/O is emulated or refused"
        );
    }
}

/// Narrow reads leave the rest of RAX; 32-bit reads clear its upper half.
fn widths() {
    for (code, length, kept) in [
        (code_in_byte(), 1, !0xffu64),
        (code_in_word(), 2, !0xffff),
        (code_in_long(), 1, 0),
        (code_in_fixed(), 2, !0xff),
    ] {
        let context = Context {
            rdx: DELAY_PORT,
            ..Mode::Kernel.context(code)
        };
        let trap = trap::run(&context);
        check_eq!(
            "the part of RAX that is kept",
            trap.context.rax & kept,
            context.rax & kept
        );
        check_eq!(
            "the upper half after a 32-bit read",
            kept != 0 || trap.context.rax >> 32 == 0,
            true
        );
        let wanted = Context {
            rax: trap.context.rax,
            ..context
        };
        compare("in", &wanted, &trap, done(length));
    }
    let mut step = Context {
        rdx: DELAY_PORT,
        ..Mode::Kernel.context(code_in_byte())
    };
    step.rflags |= flags::TF;
    let trap = trap::run(&step);
    if trap.vector == 6 {
        guest_runtime::skip!("this hypervisor forgets the single step over an emulated `in`");
    } else {
        check_eq!(
            "a single step over `in`",
            (trap.vector, trap.context.rip),
            (1, step.rip + 1)
        );
    }
}

/// The I/O bitmap opens single ports to user mode. It is in kernel memory, which user mode's root does not map.
fn user_bitmap() {
    static BITMAP: guest_runtime::Global<[u8; 8192]> = guest_runtime::Global::new([0xff; 8192]);
    let mut bitmap = [0xff; 8192];
    bitmap[DELAY_PORT as usize / 8] &= !(1 << (DELAY_PORT % 8));
    BITMAP.set(bitmap);
    let set = |at: u64, ports: u64| {
        let argument = [at, ports];
        hypercall::call(nr::PHYSDEV_OP, [7, argument.as_ptr() as u64, 0, 0, 0])
    };
    let result = set(BITMAP.as_ptr() as u64, 65536);
    if result == -guest_runtime::abi::errno::ENOSYS {
        guest_runtime::skip!("no I/O bitmap here");
        return;
    }
    accepted("an I/O bitmap", result);
    let user = |code: u64, port: u64| Context {
        rdx: port,
        rax: 0,
        ..Mode::User.context(code)
    };
    run_and_compare(
        "out to an open port",
        &user(code_out_byte(), DELAY_PORT),
        done(1),
    );
    run_and_compare(
        "out across its end",
        &user(code_out_word(), DELAY_PORT),
        GP0,
    );
    run_and_compare(
        "out to a closed port",
        &user(code_out_byte(), DELAY_PORT + 1),
        GP0,
    );
    run_and_compare("out beside it", &user(code_out_byte(), DELAY_PORT - 1), GP0);
    check_eq!(
        "a map of too many ports",
        set(BITMAP.as_ptr() as u64, 65537),
        -guest_runtime::abi::errno::EINVAL
    );
    accepted("a short map", set(BITMAP.as_ptr() as u64, DELAY_PORT));
    run_and_compare(
        "out beyond a short map",
        &user(code_out_byte(), DELAY_PORT),
        GP0,
    );
    if set(0xffff_ffff_ffff_f000, 65536) == 0 {
        run_and_compare(
            "a map that is not there",
            &user(code_out_byte(), DELAY_PORT),
            GP0,
        );
    }
    accepted("no map", set(0, 0));
    run_and_compare("out without a map", &user(code_out_byte(), DELAY_PORT), GP0);
}

//! System calls from user mode and the callbacks that take them.

use guest_runtime::abi::{CallbackRegister, callback, nr};
use guest_runtime::context::{Context, flags};
use guest_runtime::hypercall::{call, register_callback, stack_switch};
use guest_runtime::trap::{self, SYSCALL, Trap, stub};
use guest_runtime::{check, check_eq, skip};
use guests::code;
use guests::code::{code_nop, code_syscall, code_ud2};
use guests::expect::{Expected, Mode, run_and_compare};
use guests::{accepted, refused};

code! {
    code_syscall_after_nops: "nop", "nop", "syscall";
}

pub fn all() {
    frames();
    unmasking();
    missing();
    refused_addresses();
    kernel_stacks();
}

fn register(kind: u16, flags: u16, address: u64) -> i64 {
    let request = CallbackRegister {
        kind,
        flags,
        address,
        ..Default::default()
    };
    call(nr::CALLBACK_OP, [0, &raw const request as u64, 0, 0, 0])
}

/// RCX and R11 are what the instruction makes them, everything else is the user's; the frame is like others.
fn system_call(context: &Context) -> Trap {
    let trap = trap::run(context);
    if !check_eq!("a system call's callback", trap.vector, SYSCALL) {
        return trap;
    }
    let next = context.rip + 2;
    check_eq!("rip of a system call", trap.context.rip, next);
    check_eq!("rcx of a system call", trap.context.rcx, next);
    check_eq!(
        "r11 of a system call",
        trap.context.r11 & !flags::RF,
        context.rflags | flags::IF
    );
    let wanted = Context {
        rip: next,
        rcx: trap.context.rcx,
        r11: trap.context.r11,
        ..*context
    };
    guests::expect::compare_state("system call", &wanted, &trap);
    for ((name, got), (_, wanted)) in trap.context.general().into_iter().zip(wanted.general()) {
        check_eq!(name, got, wanted);
    }
    check_eq!("words of the frame", trap.words, 7);
    trap
}

fn frames() {
    let context = Mode::User.context(code_syscall());
    for set in [0, flags::CF | flags::OF, flags::AC, flags::NT, flags::ID] {
        system_call(&Context {
            rflags: context.rflags | set,
            ..context
        });
    }
    let backwards = system_call(&Context {
        rflags: context.rflags | flags::DF,
        ..context
    });
    if backwards.handler_flags & flags::DF != 0 {
        skip!("this hypervisor leaves DF set for the system call callback");
    }
    for rsp in [
        context.rsp - 1,
        context.rsp - 8,
        0,
        0x8000_0000_0000,
        u64::MAX,
    ] {
        system_call(&Context { rsp, ..context });
    }
    for number in [0, 17, 23, u64::MAX] {
        system_call(&Context {
            rax: number,
            ..context
        });
    }
}

/// Without the masking flag the event mask is left as user mode had it.
fn unmasking() {
    accepted(
        "a system call callback that does not mask",
        register(callback::SYSCALL, 0, stub(SYSCALL)),
    );
    let trap = trap::run(&Mode::User.context(code_syscall()));
    check_eq!(
        "a system call that does not mask",
        (trap.vector, trap.mask),
        (SYSCALL, 0)
    );
    guest_runtime::events::disable();
    accepted(
        "and one that does",
        register_callback(callback::SYSCALL, stub(SYSCALL)),
    );
    system_call(&Mode::User.context(code_syscall()));
}

/// Nobody to take it: it is as if the instruction did not exist.
fn missing() {
    accepted(
        "no system call callback",
        register_callback(callback::SYSCALL, 0),
    );
    let context = Mode::User.context(code_syscall());
    let trap = trap::run(&context);
    check_eq!(
        "a system call nobody takes",
        (trap.vector, trap.context.rip),
        (6, context.rip)
    );
    accepted(
        "a callback again",
        register_callback(callback::SYSCALL, stub(SYSCALL)),
    );
    system_call(&context);
}

/// Addresses that are not canonical are refused and the old callback stays.
fn refused_addresses() {
    for kind in [callback::EVENT, callback::FAILSAFE, callback::SYSCALL] {
        for address in [
            0x8000_0000_0000u64,
            1 << 63,
            0xffff_7fff_ffff_ffff,
            0x7fff_ffff_ffff + 1,
        ] {
            refused(
                "a callback that is not canonical",
                register_callback(kind, address),
            );
        }
    }
    for kind in [3u16, 6, 8, 99, u16::MAX] {
        refused(
            "a kind of callback that does not exist",
            register_callback(kind, stub(SYSCALL)),
        );
    }
    system_call(&Mode::User.context(code_syscall()));
}

/// The stack of stack_switch counts at once, and is aligned down.
fn kernel_stacks() {
    let top = trap::trap_stack_top();
    for offset in [0u64, 1, 8, 15, 16, 100, 4096] {
        accepted("stack_switch", stack_switch(top - offset));
        let trap = trap::run(&Mode::User.context(code_ud2()));
        check_eq!(
            "where the frame ends",
            trap.frame + 8 * trap.words,
            (top - offset) & !15
        );
        let trap = trap::run(&Mode::User.context(code_syscall_after_nops()));
        check_eq!(
            "where a system call's frame ends",
            trap.frame + 8 * trap.words,
            (top - offset) & !15
        );
    }
    accepted("stack_switch", stack_switch(top));
    let context = Mode::User.context(code_nop());
    run_and_compare(
        "the stack at the end",
        &context,
        Expected {
            advance: 1,
            ..Expected::fault(6)
        },
    );
    check!(trap::run(&context).from_user(), "from user mode");
}

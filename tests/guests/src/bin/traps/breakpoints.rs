//! Hardware breakpoints: they work in both modes, DR6 says which it was, and one on the stack where the hypervisor
//! itself writes a frame hurts nobody.

use guest_runtime::abi::nr;
use guest_runtime::context::{Context, flags};
use guest_runtime::hypercall::call;
use guest_runtime::trap::{self, trap_stack_top};
use guest_runtime::{check_eq, user};
use guests::accepted;
use guests::code;
use guests::code::{code_nop, code_ud2};
use guests::expect::{Expected, Mode, compare, run_and_compare};

code! {
    code_watched_store: "mov [rdi], rsi";
    code_watched_load: "mov rsi, [rdi]";
}

const ENABLE: u64 = 1;
const ON_WRITE: u64 = 1 << 16;
const ON_ACCESS: u64 = 3 << 16;
const EIGHT_BYTES: u64 = 2 << 18;
const SINGLE_STEP: u64 = 1 << 14;

fn set(register: u64, value: u64) -> i64 {
    call(nr::SET_DEBUGREG, [register, value, 0, 0, 0])
}

fn get(register: u64) -> u64 {
    call(nr::GET_DEBUGREG, [register, 0, 0, 0, 0]) as u64
}

fn arm(address: u64, kind: u64) {
    accepted("breakpoint address", set(0, address));
    accepted("DR6", set(6, 0xffff_0ff0));
    accepted("breakpoint kind", set(7, kind | ENABLE | 1 << 10));
}

fn disarm() {
    accepted("no breakpoints", set(7, 1 << 10));
    accepted("no address", set(0, 0));
}

pub fn all() {
    for mode in Mode::BOTH {
        on_execution(mode);
        on_data(mode);
        single_step_in_dr6(mode);
    }
    on_the_kernel_stack();
    on_arguments();
}

/// Before the instruction runs; the frame points at it.
fn on_execution(mode: Mode) {
    let context = mode.context(code_nop());
    arm(context.rip, 0);
    let trap = run_and_compare("breakpoint on an instruction", &context, Expected::fault(1));
    check_eq!("DR6 after it", get(6) & 0xf, 1);
    // With RF the same instruction runs.
    let resumed = Context {
        rflags: context.rflags | flags::RF,
        ..context
    };
    let after = trap::run(&resumed);
    check_eq!(
        "resumed with RF",
        (after.vector, after.context.rip),
        (6, context.rip + 1)
    );
    disarm();
    let _ = trap;
    let after = trap::run(&context);
    check_eq!(
        "without a breakpoint",
        (after.vector, after.context.rip),
        (6, context.rip + 1)
    );
}

/// After the instruction that touched the data.
fn on_data(mode: Mode) {
    let word = user::DATA + 0x808;
    let store = Context {
        rdi: word,
        ..mode.context(code_watched_store())
    };
    arm(word, ON_WRITE | EIGHT_BYTES);
    run_and_compare("watchpoint on a write", &store, Expected::after(1, 3));
    check_eq!("DR6 after it", get(6) & 0xf, 1);
    let load = Context {
        rdi: word,
        ..mode.context(code_watched_load())
    };
    let after = trap::run(&load);
    check_eq!(
        "a read does not hit it",
        (after.vector, after.context.rip),
        (6, load.rip + 3)
    );
    arm(word, ON_ACCESS | EIGHT_BYTES);
    let hit = trap::run(&load);
    let wanted = Context {
        rsi: store.rsi,
        ..load
    };
    compare("watchpoint on a read", &wanted, &hit, Expected::after(1, 3));
    disarm();
}

fn single_step_in_dr6(mode: Mode) {
    accepted("DR6", set(6, 0xffff_0ff0));
    let mut context = mode.context(code_nop());
    context.rflags |= flags::TF;
    run_and_compare("single step", &context, Expected::after(1, 1));
    check_eq!("DR6 after a step", get(6) & SINGLE_STEP, SINGLE_STEP);
}

/// The hypervisor writes the frame, not the guest: the watchpoint does not turn it into another trap.
fn on_the_kernel_stack() {
    for word in 1..=7 {
        arm(trap_stack_top() - 8 * word, ON_WRITE | EIGHT_BYTES);
        let trap = trap::run(&Mode::User.context(code_ud2()));
        disarm();
        check_eq!("a trap whose frame is watched", trap.vector, 6);
        check_eq!(
            "its address",
            trap.context.rip,
            Mode::User.context(code_ud2()).rip
        );
    }
}

/// The same for what a hypercall reads and writes.
fn on_arguments() {
    let mut text = [0u64; 4];
    arm(&raw const text as u64, ON_ACCESS | EIGHT_BYTES);
    let result = call(nr::XEN_VERSION, [1, text.as_mut_ptr() as u64, 0, 0, 0]);
    disarm();
    check_eq!("a hypercall whose argument is watched", result, 0);
}

//! Events and returns: what is pending when a return unmasks comes before the target's first instruction, and what
//! comes while it runs interrupts it exactly.

use guest_runtime::abi::vcpu;
use guest_runtime::context::{Context, flags};
use guest_runtime::hypercall::vcpu_op;
use guest_runtime::trap::{self, EVENT, Trap};
use guest_runtime::{Global, check, check_eq, events};
use guests::channels::{VIRQ_TIMER, bind_ipi, bind_virq, close, notify};
use guests::code;
use guests::code::{code_nop, code_spin, code_ud2};
use guests::expect::{Expected, Mode, compare, run_and_compare};
use guests::{accepted, expect};

code! {
    code_count: "2:", "inc rbx", "jmp 2b";
}

/// The first event's frame, as the hook saw it.
static SEEN: Global<Option<Trap>> = Global::new(None);

/// Notes the event and lets the guest end there: `run` returns it like any other trap.
fn note(trap: &mut Trap) -> bool {
    if trap.vector == EVENT {
        SEEN.set(Some(*trap));
    }
    false
}

pub fn all() {
    let Ok(port) = bind_ipi(0) else {
        return guest_runtime::check::fail(format_args!("bind_ipi"));
    };
    events::set_port_mask(port, false);
    trap::set_hook(Some(note));
    before_the_first_instruction(port);
    not_while_masked(port);
    with_single_step(port);
    trap::set_hook(None);
    accepted("close", close(port));
    interrupting();
}

fn raise(port: u32) {
    events::disable();
    events::clear_all();
    events::reset_counts();
    SEEN.set(None);
    accepted("send", notify(port));
}

fn before_the_first_instruction(port: u32) {
    for mode in Mode::BOTH {
        for extra in [0, flags::DF | flags::CF, flags::AC] {
            raise(port);
            let mut context = mode.context(code_ud2());
            context.rflags |= flags::IF | extra;
            // The event first, then, resumed, the instruction that was to run.
            let trap = trap::run(&context);
            let Some(event) = SEEN.get() else {
                guest_runtime::check::fail(format_args!(
                    "a pending event did not come with iret ({mode:?})"
                ));
                continue;
            };
            compare(
                "event at iret",
                &context,
                &event,
                Expected {
                    vector: EVENT,
                    error: None,
                    advance: 0,
                },
            );
            compare(
                "what ran after the event",
                &context,
                &trap,
                Expected::fault(6),
            );
            check_eq!("the event was handled once", events::count(port), 1);
        }
    }
}

fn not_while_masked(port: u32) {
    for mode in Mode::BOTH {
        raise(port);
        let mut context = mode.context(code_ud2());
        context.rflags = flags::ALWAYS;
        run_and_compare("iret that masks", &context, Expected::fault(6));
        check!(SEEN.get().is_none(), "no event came");
    }
}

/// An event and a single step at once: the event first, the step after the instruction.
fn with_single_step(port: u32) {
    for mode in Mode::BOTH {
        raise(port);
        let mut context = mode.context(code_nop());
        context.rflags |= flags::IF | flags::TF;
        let trap = trap::run(&context);
        let event = SEEN.get();
        check_eq!(
            "the event is at the start",
            event.map(|event| event.context.rip),
            Some(context.rip)
        );
        check_eq!(
            "TF is clear in its handler",
            event.map(|event| event.handler_flags & flags::TF),
            Some(0)
        );
        check_eq!(
            "the step is after it",
            (trap.vector, trap.context.rip),
            (1, context.rip + 1)
        );
    }
    events::clear_all();
}

/// A timer interrupts a loop that never enters the hypervisor.
fn interrupting() {
    let Ok(timer) = bind_virq(VIRQ_TIMER, 0) else {
        return guest_runtime::check::fail(format_args!("bind_virq"));
    };
    events::set_port_mask(timer, false);
    for mode in Mode::BOTH {
        for code in [code_spin(), code_count()] {
            trap::set_hook(Some(end_at_event));
            events::disable();
            events::clear_all();
            let mut context = Context {
                rbx: 0,
                ..mode.context(code)
            };
            context.rflags |= flags::IF;
            let mut at = [events::now_ns() + 2_000_000, 0];
            accepted("set", vcpu_op(vcpu::SET_SINGLESHOT_TIMER, 0, &mut at));
            trap::run(&context);
            let Some(event) = SEEN.get() else { continue };
            check_eq!("a loop is interrupted by the event", event.vector, EVENT);
            check!(
                (code_size(code)).contains(&(event.context.rip - context.rip)),
                "it was in the loop"
            );
            let arithmetic = 0x8d5;
            let mut running = context;
            running.rflags |= event.context.rflags & arithmetic;
            expect::compare_state("a loop interrupted", &running, &event);
            check!(events::port_pending(timer), "the timer is pending");
        }
    }
    trap::set_hook(None);
    events::disable();
    events::clear_all();
    events::set_port_mask(timer, true);
    accepted("close", close(timer));
}

fn code_size(code: u64) -> core::ops::Range<u64> {
    if code == code_spin() { 0..4 } else { 0..5 }
}

/// Notes the event and moves the interrupted flow to an instruction that ends it.
fn end_at_event(trap: &mut Trap) -> bool {
    if trap.vector != EVENT {
        return false;
    }
    SEEN.set(Some(*trap));
    let user = trap.from_user();
    trap.context.rip = if user {
        guest_runtime::user::address(code_ud2())
    } else {
        code_ud2()
    };
    trap.context.rflags &= !flags::IF;
    true
}

//! Children that crash: every way that ends an initial domain (the guests `*_crashes`) ends an ordinary one alone.

use guest_runtime::abi::{ShutdownReason, TrapInfo, nr};
use guest_runtime::builder::{self, Plan};
use guest_runtime::context::Context;
use guest_runtime::link::Step;
use guest_runtime::{check_eq, frames, hypercall, page_table, trap, user};
use guests::code::{code_nop, code_ud2};
use guests::expect::Mode;

use crate::with_child;

/// Each crash, and that its parent and a sibling go on.
pub fn all() {
    let steps: [(&str, Step); 8] = [
        ("it asks for it", |_| {
            hypercall::shutdown(ShutdownReason::Crash)
        }),
        ("an exception without a handler", no_handler),
        ("a handler that is nowhere", bad_handler),
        ("a stack that is nowhere", bad_stack),
        ("a stack in the hypervisor", hypervisor_stack),
        ("a stack in a page table", table_stack),
        ("a return frame that is nowhere", bad_frame),
        ("a return to a user mode that has no root", no_user_root),
    ];
    with_child(Plan::SMALL, |sibling| {
        for (what, step) in steps {
            with_child(Plan::SMALL, |child| {
                child.start(step, [0; 5]);
                check_eq!(
                    what,
                    child.wait_shutdown(),
                    builder::reason(ShutdownReason::Crash)
                );
            });
            check_eq!("the sibling answers", sibling.call(|_| 5, [0; 5]), 5);
        }
    });
}

fn no_handler(_: [u64; 5]) -> i64 {
    hypercall::call(nr::SET_TRAP_TABLE, [0; 5]);
    ud2()
}

fn ud2() -> ! {
    // SAFETY: raises an exception, which is what is wanted.
    unsafe { core::arch::asm!("ud2", options(noreturn)) }
}

fn bad_handler(_: [u64; 5]) -> i64 {
    let table = [
        TrapInfo {
            address: 0xffff_ffff_f000_0000,
            ..trap::entry(6, 0)
        },
        TrapInfo::default(),
    ];
    // Nor is there one for the fault that it raises.
    hypercall::call(nr::SET_TRAP_TABLE, [0; 5]);
    hypercall::set_trap_table(&table);
    ud2()
}

/// Runs `ud2` in user mode with this stack for its exception.
fn user_fault(stack: u64) -> i64 {
    user::enable();
    hypercall::stack_switch(stack);
    trap::run(&Mode::User.context(code_ud2()));
    0
}

fn bad_stack(_: [u64; 5]) -> i64 {
    user_fault(0x7777_7777_7000)
}

fn hypervisor_stack(_: [u64; 5]) -> i64 {
    user_fault(guest_runtime::abi::HOLE_START + 0x10_0000)
}

fn table_stack(_: [u64; 5]) -> i64 {
    user_fault(page_table::root().va() + 4096)
}

fn bad_frame(_: [u64; 5]) -> i64 {
    let page = frames::allocate();
    page_table::hide(page);
    // SAFETY: the call reads its frame from a page that is not mapped: this domain ends here.
    unsafe {
        core::arch::asm!("mov rsp, {0}", "mov eax, 23", "syscall", "ud2", in(reg) page.va() + 8, options(noreturn))
    }
}

fn no_user_root(_: [u64; 5]) -> i64 {
    let context = Context::user(user::CODE, user::STACK_TOP - 64);
    trap::run(&Context {
        rip: code_nop(),
        ..context
    });
    0
}

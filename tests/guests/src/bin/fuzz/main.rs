//! Attacks with what nobody thought of: hypercalls, page-table stores, privileged instructions and returns with
//! arguments drawn at random, plausible and wild, over and over. What they answer does not matter; the hypervisor must
//! stay up, this guest's own memory must stay its own, and afterwards everything must still work.
//!
//! `seed=` on the command line starts the sequence, `count=` is how many draws are made. Nothing is drawn that would
//! rightly end this guest: shutdown, sleeping without a timer, another kernel root, losing its own stack.
//!
//! xtask: append=seed=1 count=40000
#![cfg_attr(target_os = "none", no_std, no_main)]

mod calls;
mod draw;
mod machine;

use draw::Draw;
use guest_runtime::abi::{callback, mmuext, nr};
use guest_runtime::entry::number;
use guest_runtime::hypercall::{self, call};
use guest_runtime::page_table;
use guest_runtime::{check_eq, events, frames, guest, instructions, say, trap, user};

guest!(fuzz, main);

fn main() {
    let (seed, count) = (number("seed=", 1), number("count=", 40_000));
    say!("fuzz: seed={seed} count={count}");
    user::enable();
    trap::set_hook(Some(machine::takes_nmi));
    let mut draw = Draw::new(seed);
    for done in 0..count {
        if done % 10_000 == 0 {
            say!("fuzz: {done} draws, {} calls accepted", draw.accepted);
        }
        machine::one(&mut draw);
        if done % 64 == 0 {
            draw.mend();
        }
    }
    say!("fuzz: {count} draws, {} calls accepted", draw.accepted);
    still_works();
}

/// Undoes what was drawn of this vCPU's own state, and checks that an ordinary kernel could go on.
fn still_works() {
    call(nr::SET_DEBUGREG, [7, 0, 0, 0, 0]);
    instructions::write_cr4(0);
    check_eq!("the trap table", trap::install(), 0);
    for (kind, stub) in [
        (callback::EVENT, trap::EVENT),
        (callback::SYSCALL, trap::SYSCALL),
    ] {
        check_eq!(
            "a callback",
            hypercall::register_callback(kind, trap::stub(stub)),
            0
        );
    }
    check_eq!(
        "the stack",
        hypercall::stack_switch(trap::trap_stack_top()),
        0
    );
    let root = user::root().mfn();
    check_eq!(
        "the user root",
        hypercall::mmuext(mmuext::NEW_USER_BASEPTR, root, 0),
        0
    );
    let table = page_table::new_table();
    for level in [mmuext::PIN_L1, mmuext::PIN_L4] {
        check_eq!("a pin", hypercall::mmuext(level, table.mfn(), 0), 0);
        check_eq!(
            "its end",
            hypercall::mmuext(mmuext::UNPIN, table.mfn(), 0),
            0
        );
    }
    page_table::release_table(table);
    let page = frames::allocate();
    check_eq!(
        "a store by call",
        hypercall::mmu_update(page.entry_maddr(7), 77),
        0
    );
    check_eq!("what was stored", page.read(7), 77);
    let before = events::now_ns();
    check_eq!("time goes on", events::now_ns() >= before, true);
    check_eq!("the version", hypercall::version(), 4 << 16 | 17);
}

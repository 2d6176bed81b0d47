//! Attacks the hypercall interface by numbers, pointers, counts and registers that a kernel would never use, and
//! proves that each family still answers right: errors are errors and nothing else happens. Goes through the
//! hypercall page where a call goes by the runtime, and by `syscall` where registers are compared.
#![cfg_attr(target_os = "none", no_std, no_main)]

mod answers;
mod counts;
mod mca;
mod multicalls;
mod numbers;
mod pointers;
mod registers;

use guest_runtime::{check, check_eq, guest, hypercall, user};

guest!(hypercalls, main, hypercall_page);

fn main() {
    check!(hypercall::page() != 0, "there is a hypercall page");
    check_eq!(
        "a call by syscall",
        hypercall::by_syscall(17, [0; 5]),
        hypercall::version()
    );
    user::enable();
    numbers::all();
    answers::all();
    pointers::all();
    counts::all();
    mca::all();
    multicalls::all();
    registers::all();
}

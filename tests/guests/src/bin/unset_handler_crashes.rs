//! Attacks by an exception for which there is no handler: the domain must be crashed, not entered at address 0.
#![cfg_attr(target_os = "none", no_std, no_main)]

use guest_runtime::abi::nr;
use guest_runtime::{check, check_eq, guest, hypercall, trap};
use guests::code::code_ud2;
use guests::expect::Mode;

guest!(unset_handler_crashes, main);

fn main() {
    check_eq!(
        "an empty trap table",
        hypercall::call(nr::SET_TRAP_TABLE, [0; 5]),
        0
    );
    check::expect_crash();
    trap::run(&Mode::Kernel.context(code_ud2()));
    check::survived("an exception without a handler");
}

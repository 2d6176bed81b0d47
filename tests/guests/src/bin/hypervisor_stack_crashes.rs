//! Attacks by a kernel stack inside the hypervisor's own address range, given for traps from user mode: no frame may
//! be written there. The domain must be crashed (or the stack refused when it is given, and then it crashes itself).
#![cfg_attr(target_os = "none", no_std, no_main)]

use guest_runtime::abi::HOLE_START;
use guest_runtime::{check, guest, hypercall, trap, user};
use guests::code::code_ud2;
use guests::expect::Mode;

guest!(hypervisor_stack_crashes, main);

fn main() {
    user::enable();
    check::expect_crash();
    if hypercall::stack_switch(HOLE_START + (1 << 39) + 0x1000) != 0 {
        hypercall::shutdown(hypercall::ShutdownReason::Crash);
    }
    trap::run(&Mode::User.context(code_ud2()));
    check::survived("a frame on a stack in the hypervisor");
}

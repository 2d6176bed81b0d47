//! Attacks by a fault in kernel mode whose stack cannot take the frame: an address that is not canonical. The
//! domain must be crashed; nothing may be written elsewhere.
#![cfg_attr(target_os = "none", no_std, no_main)]

use guest_runtime::context::Context;
use guest_runtime::{check, guest, trap};
use guests::code::code_ud2;
use guests::expect::Mode;

guest!(bad_stack_crashes, main);

fn main() {
    check::expect_crash();
    trap::run(&Context {
        rsp: 0x8000_0000_1000,
        ..Mode::Kernel.context(code_ud2())
    });
    check::survived("a frame on a stack that is not canonical");
}

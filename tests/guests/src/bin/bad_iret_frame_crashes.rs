//! Attacks by an iret hypercall whose frame is not there. The domain must be crashed.
#![cfg_attr(target_os = "none", no_std, no_main)]

use guest_runtime::abi::nr;
use guest_runtime::context::Context;
use guest_runtime::{check, guest, trap};
use guests::code::code_syscall;
use guests::expect::Mode;

guest!(bad_iret_frame_crashes, main);

fn main() {
    check::expect_crash();
    trap::run(&Context {
        rax: nr::IRET,
        rsp: 0x1000,
        ..Mode::Kernel.context(code_syscall())
    });
    check::survived("an iret without a frame");
}

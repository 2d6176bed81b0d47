//! Attacks by a kernel stack in the guest's own root table: the frame of a fault must not be written there, where it
//! would be entries. The domain must be crashed.
#![cfg_attr(target_os = "none", no_std, no_main)]

use guest_runtime::context::Context;
use guest_runtime::{check, guest, page_table, trap};
use guests::code::code_ud2;
use guests::expect::Mode;

guest!(table_stack_crashes, main);

fn main() {
    check::expect_crash();
    trap::run(&Context {
        rsp: page_table::root().va() + 0x800,
        ..Mode::Kernel.context(code_ud2())
    });
    check::survived("a frame in a page table");
}

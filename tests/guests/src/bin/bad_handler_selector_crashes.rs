//! Attacks by an exception handler on a selector that cannot be loaded: the return that delivers an exception faults,
//! which is an exception, which is delivered one frame deeper. The stack beneath is half a tebibyte of one page, so
//! that only a hypervisor that sees the loop ends it. The domain must be crashed.
#![cfg_attr(target_os = "none", no_std, no_main)]

use guest_runtime::abi::TrapInfo;
use guest_runtime::page_table::{self, bits};
use guest_runtime::{check, frames, guest, hypercall, trap};
use guests::code::code_ud2;
use guests::expect::Mode;

guest!(bad_handler_selector_crashes, main);

/// Root slot of the stack.
const SLOT: u64 = 2;
const GENERAL_PROTECTION: u8 = 13;
const INVALID_OPCODE: u8 = 6;

/// A table whose every entry is this one.
fn full_of(entry: u64) -> u64 {
    let page = frames::allocate();
    (0..512).for_each(|index| page.write(index, entry));
    assert_eq!(page_table::protect(page), 0);
    page.maddr() | bits::TABLE
}

/// Maps one page everywhere in a root slot; the last address of it.
fn endless_stack() -> u64 {
    let leaf = frames::allocate().maddr() | bits::KERNEL_RW | bits::NX;
    let l3 = full_of(full_of(full_of(leaf)));
    let root = page_table::slot_under(page_table::root(), SLOT << 39, 4).expect("roots have slots");
    assert_eq!(root.set(l3), 0);
    (SLOT + 1) << 39
}

fn main() {
    let top = endless_stack();
    let unloadable = |vector| TrapInfo {
        cs: 0,
        ..trap::entry(vector, 0)
    };
    let handlers = [
        unloadable(INVALID_OPCODE),
        unloadable(GENERAL_PROTECTION),
        TrapInfo::default(),
    ];
    assert_eq!(hypercall::set_trap_table(&handlers), 0);
    check::expect_crash();
    trap::run(&guest_runtime::context::Context {
        rsp: top - 64,
        ..Mode::Kernel.context(code_ud2())
    });
    check::survived("a handler that cannot be entered");
}

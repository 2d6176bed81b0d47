//! The local table: set by address, checked when it is set or when it is first used.

use guest_runtime::abi::mmuext;
use guest_runtime::context::Context;
use guest_runtime::frames::{self, Page};
use guest_runtime::hypercall::mmuext as op;
use guest_runtime::page_table;
use guest_runtime::{check, check_eq, trap};
use guests::code;
use guests::expect::{Expected, Mode, run_and_compare};
use guests::{accepted, refused};

use crate::descriptor::{DATA, ORDINARY};
use crate::gdt::update;

code! {
    code_local_es: "mov es, eax";
    code_local_clear: "xor eax, eax", "mov es, eax";
}

/// A selector of the local table.
const fn selector(index: u64) -> u64 {
    index << 3 | 7
}

pub fn all() {
    without();
    bad_arguments();
    let page = frames::allocate();
    page.write(1, DATA);
    page.write(2, DATA & !ORDINARY & !(0xf << 40) | 2 << 40);
    writable(page);
    page.write(2, 0);
    with(page);
    taken_away(page);
    frames::release(page);
}

fn set(address: u64, entries: u64) -> i64 {
    op(mmuext::SET_LDT, address, entries)
}

fn load(mode: Mode, index: u64) -> trap::Trap {
    let trap = trap::run(&Context {
        rax: selector(index),
        ..mode.context(code_local_es())
    });
    if trap.vector == 6 {
        trap::run(&mode.context(code_local_clear()));
    }
    trap
}

fn without() {
    accepted("no local table", set(0, 0));
    for mode in Mode::BOTH {
        let context = Context {
            rax: selector(1),
            ..mode.context(code_local_es())
        };
        run_and_compare(
            "a local selector without a table",
            &context,
            Expected::fault_code(13, 1 << 3 | 4),
        );
    }
}

fn bad_arguments() {
    let page = frames::allocate();
    for (address, entries) in [
        (page.va() + 8, 4u64),
        (page.va() + 1, 4),
        (page.va(), 8193),
        (page.va(), u64::MAX),
    ] {
        refused("a bad local table", set(address, entries));
    }
    // Where nothing is: refused now, or when it is used.
    for address in [0x7000_0000_0000u64, 0x8000_0000_0000, 0xffff_8080_0000_0000] {
        if set(address, 4) == 0 {
            let trap = load(Mode::Kernel, 1);
            check!(
                matches!(trap.vector, 13 | 14),
                "a local table that is not there"
            );
        }
        accepted("no local table", set(0, 0));
    }
    frames::release(page);
}

/// A table that the guest can write, or with a system descriptor in it, is not used.
fn writable(page: Page) {
    for read_only in [false, true] {
        if read_only {
            accepted("read-only", page_table::protect(page));
        }
        if set(page.va(), 4) == 0 {
            let trap = load(Mode::Kernel, 1);
            let there = trap.vector == 14 && trap.cr2 == page.va() + 8;
            check!(
                there || (trap.vector == 13 && trap.error == Some(0xc)),
                "a local table that is no good"
            );
        }
        accepted("no local table", set(0, 0));
    }
    accepted("writable: it was never taken", page_table::unprotect(page));
}

fn with(page: Page) {
    accepted("read-only", page_table::protect(page));
    accepted("a local table", set(page.va(), 4));
    for mode in Mode::BOTH {
        check_eq!("a local selector", load(mode, 1).vector, 6);
        let trap = load(mode, 2);
        check_eq!(
            "an empty local descriptor",
            (trap.vector, trap.error),
            (13, Some(2 << 3 | 4))
        );
        let trap = load(mode, 4);
        check_eq!(
            "beyond the local table",
            (trap.vector, trap.error),
            (13, Some(4 << 3 | 4))
        );
    }
    refused(
        "a writable mapping of the local table",
        page_table::unprotect(page),
    );
    accepted(
        "a descriptor in the live local table",
        update(page, 2, DATA),
    );
    check_eq!("it is used", load(Mode::User, 2).vector, 6);
    refused(
        "a system descriptor in it",
        update(page, 3, DATA & !ORDINARY & !(0xf << 40) | 2 << 40),
    );
}

/// After the table is taken away it is memory again.
fn taken_away(page: Page) {
    accepted("no local table", set(0, 0));
    let trap = load(Mode::User, 1);
    check_eq!(
        "a local selector without a table",
        (trap.vector, trap.error),
        (13, Some(1 << 3 | 4))
    );
    accepted("writable again", page_table::unprotect(page));
    page.clear();
}

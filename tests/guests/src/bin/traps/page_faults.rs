//! Page faults: error code and address for each way an access can fail, from both modes.

use guest_runtime::abi::{HOLE_END, HOLE_START, VIRT_BASE};
use guest_runtime::context::Context;
use guest_runtime::page_table::{self, bits};
use guest_runtime::{check, check_eq, frames, instructions, user};
use guests::code;
use guests::expect::{Expected, Mode, run_and_compare};

code! {
    code_load: "mov rbx, [rax]";
    code_store: "mov [rax], rbx";
    code_jump: "jmp rax";
    code_add: "lock add [rax], rbx";
}

const P: u64 = 1;
const W: u64 = 2;
const US: u64 = 4;
const FETCH: u64 = 16;

/// Never mapped by anybody here, inside the window that both roots share.
const UNMAPPED: u64 = user::DATA + 0x10_0000;
const READ_ONLY: u64 = user::DATA + 0x20_0000;
const NO_EXECUTE: u64 = user::DATA;

pub fn all() {
    let page = frames::allocate();
    let mapped = page_table::map(
        READ_ONLY,
        page.maddr() | bits::PRESENT | bits::USER | bits::NX,
    );
    check_eq!("mapping a read-only user page", mapped, 0);
    for mode in Mode::BOTH {
        let user = if mode == Mode::User { US } else { 0 };
        access(
            "read of an unmapped page",
            mode,
            code_load(),
            UNMAPPED,
            user,
        );
        access(
            "write to an unmapped page",
            mode,
            code_store(),
            UNMAPPED + 8,
            W | user,
        );
        access(
            "write to a read-only page",
            mode,
            code_store(),
            READ_ONLY + 0x7f8,
            P | W | user,
        );
        access(
            "locked write to a read-only page",
            mode,
            code_add(),
            READ_ONLY,
            P | W | user,
        );
        access(
            "unmapped across a page's end",
            mode,
            code_load(),
            user::STACK_TOP - 4,
            user,
        );
        jump(
            "jump to an unmapped page",
            mode,
            UNMAPPED + 0x123,
            FETCH | user,
        );
        jump(
            "jump to a no-execute page",
            mode,
            NO_EXECUTE + 0x21,
            P | FETCH | user,
        );
        hypervisor_range(mode);
    }
    // The user root does not map the kernel at all: for user mode its pages are not present.
    access(
        "user read of a kernel page",
        Mode::User,
        code_load(),
        VIRT_BASE + 0x10_0000,
        US,
    );
    access(
        "user write to a kernel page",
        Mode::User,
        code_store(),
        VIRT_BASE + 0x10_0000,
        US | W,
    );
    jump(
        "user jump into the kernel",
        Mode::User,
        VIRT_BASE + 0x10_0000,
        US | FETCH,
    );
    // The kernel's own text is writable by the initial mapping; a table is not.
    let root = page_table::root();
    access(
        "write to the root table",
        Mode::Kernel,
        code_store(),
        root.va() + 0xff8,
        P | W,
    );
}

fn access(what: &str, mode: Mode, code: u64, address: u64, error: u64) {
    let context = Context {
        rax: address,
        ..mode.context(code)
    };
    let trap = run_and_compare(what, &context, Expected::fault_code(14, error));
    // An access across a page's end faults at the first byte that is not there.
    let fault = if address & 0xfff > 0xff8 {
        (address | 0xfff) + 1
    } else {
        address
    };
    check_eq!("cr2 in vcpu_info", trap.cr2, fault);
    check_eq!("cr2 as read", instructions::read_cr2(), fault);
}

fn jump(what: &str, mode: Mode, address: u64, error: u64) {
    let context = Context {
        rax: address,
        ..mode.context(code_jump())
    };
    let landed = Context {
        rip: address,
        ..context
    };
    let trap = guest_runtime::trap::run(&context);
    guests::expect::compare(what, &landed, &trap, Expected::fault_code(14, error));
    check_eq!("cr2 of a jump", trap.cr2, address);
}

/// The hypervisor's part of the address space: faults, reported as page faults with the right address; only the
/// first slot may be readable.
fn hypervisor_range(mode: Mode) {
    let user = if mode == Mode::User { US } else { 0 };
    for address in [
        HOLE_START + (1 << 39),
        HOLE_START + (5 << 39) + 0x1230,
        HOLE_END - 8,
    ] {
        for (code, write) in [(code_load(), 0), (code_store(), W)] {
            let context = Context {
                rax: address,
                ..mode.context(code)
            };
            let trap = guest_runtime::trap::run(&context);
            check_eq!("hypervisor range: vector", trap.vector, 14);
            check_eq!("hypervisor range: cr2", trap.cr2, address);
            let error = trap.error.unwrap_or(u64::MAX);
            // Whether something is there is the hypervisor's business.
            check_eq!("hypervisor range: error code", error & !P, write | user);
        }
    }
    let context = Context {
        rax: HOLE_START,
        ..mode.context(code_store())
    };
    let trap = guest_runtime::trap::run(&context);
    check!(
        trap.vector == 14 && trap.cr2 == HOLE_START,
        "the machine-to-physical list is not writable"
    );
}

//! Segment bases: each mode has its own GS base, both share FS, none may be non-canonical.

use guest_runtime::abi::{errno, segment_base};
use guest_runtime::frames;
use guest_runtime::hypercall::{mmuext, set_segment_base};
use guest_runtime::page_table;
use guest_runtime::trap;
use guest_runtime::{check, check_eq, user};
use guests::code;
use guests::expect::Mode;
use guests::{accepted, refused};

use crate::gdt::{index, table};

code! {
    code_read_gs: "mov rbx, gs:[0x10]";
    code_read_fs: "mov rbx, fs:[0x10]";
    code_selector_gs: "mov ebx, gs";
}

pub fn all() {
    per_mode();
    canonical();
    user_selector();
    give_back();
}

fn put(page: u64, value: u64) -> u64 {
    user::data_page(page).write(2, value);
    user::DATA + 4096 * page
}

fn per_mode() {
    let (kernel, user, thread) = (put(0, 0xaaaa), put(1, 0xbbbb), put(2, 0xcccc));
    accepted(
        "GS base of kernel mode",
        set_segment_base(segment_base::GS_KERNEL, kernel),
    );
    accepted(
        "GS base of user mode",
        set_segment_base(segment_base::GS_USER, user),
    );
    accepted("FS base", set_segment_base(segment_base::FS, thread));
    for _ in 0..3 {
        check_eq!(
            "GS in kernel mode",
            read(Mode::Kernel, code_read_gs()),
            Some(0xaaaa)
        );
        check_eq!(
            "GS in user mode",
            read(Mode::User, code_read_gs()),
            Some(0xbbbb)
        );
        check_eq!(
            "FS in kernel mode",
            read(Mode::Kernel, code_read_fs()),
            Some(0xcccc)
        );
        check_eq!(
            "FS in user mode",
            read(Mode::User, code_read_fs()),
            Some(0xcccc)
        );
    }
    accepted(
        "another GS base of user mode",
        set_segment_base(segment_base::GS_USER, thread),
    );
    check_eq!(
        "GS in kernel mode stays",
        read(Mode::Kernel, code_read_gs()),
        Some(0xaaaa)
    );
    check_eq!(
        "GS in user mode changed",
        read(Mode::User, code_read_gs()),
        Some(0xcccc)
    );
    accepted(
        "another GS base of kernel mode",
        set_segment_base(segment_base::GS_KERNEL, user),
    );
    check_eq!(
        "GS in kernel mode changed",
        read(Mode::Kernel, code_read_gs()),
        Some(0xbbbb)
    );
    check_eq!(
        "GS in user mode stays",
        read(Mode::User, code_read_gs()),
        Some(0xcccc)
    );
}

fn read(mode: Mode, code: u64) -> Option<u64> {
    let trap = trap::run(&mode.context(code));
    (trap.vector == 6).then_some(trap.context.rbx)
}

fn canonical() {
    for which in [
        segment_base::FS,
        segment_base::GS_USER,
        segment_base::GS_KERNEL,
    ] {
        for base in [
            0x8000_0000_0000u64,
            1 << 63,
            0xffff_7fff_ffff_ffff,
            0x1234_5678_9abc_def0,
        ] {
            check_eq!(
                "a base that is not canonical",
                set_segment_base(which, base),
                -errno::EINVAL
            );
        }
    }
    check_eq!(
        "bases after refusals",
        read(Mode::User, code_read_gs()),
        Some(0xcccc)
    );
    for which in [4u64, 99, 0x7fff_ffff] {
        refused("a base that does not exist", set_segment_base(which, 0));
    }
    // In the hypervisor's range: the base is only an address; using it faults.
    if set_segment_base(segment_base::GS_USER, 0xffff_8080_0000_0000) == 0 {
        let trap = trap::run(&Mode::User.context(code_read_gs()));
        check_eq!(
            "a load from the hypervisor's range",
            (trap.vector, trap.cr2),
            (14, 0xffff_8080_0000_0010)
        );
    }
    accepted(
        "GS base of user mode",
        set_segment_base(segment_base::GS_USER, 0),
    );
    accepted(
        "GS base of kernel mode",
        set_segment_base(segment_base::GS_KERNEL, 0),
    );
    accepted("FS base", set_segment_base(segment_base::FS, 0));
}

/// User mode's GS selector: one that faults becomes the null selector, and the call succeeds.
fn user_selector() {
    let selector = || {
        trap::run(&Mode::User.context(code_selector_gs()))
            .context
            .rbx
            & 0xffff
    };
    let good = index::DATA << 3 | 3;
    accepted(
        "a selector for user mode",
        set_segment_base(segment_base::GS_USER_SELECTOR, good),
    );
    check_eq!("GS in user mode", selector(), good);
    for bad in [index::ABSENT << 3 | 3, 9 << 3 | 3, 0xfff3, 0xe008] {
        accepted(
            "a selector that faults",
            set_segment_base(segment_base::GS_USER_SELECTOR, bad),
        );
        check!(selector() <= 3, "GS is null");
    }
    accepted(
        "a null selector",
        set_segment_base(segment_base::GS_USER_SELECTOR, 0),
    );
    check_eq!("GS is null", selector(), 0);
}

/// At the end the table is memory again: no reference was lost on the way.
fn give_back() {
    accepted("no table", guest_runtime::hypercall::call(2, [0; 5]));
    accepted(
        "no local table",
        mmuext(guest_runtime::abi::mmuext::SET_LDT, 0, 0),
    );
    let page = table();
    accepted("memory again", page_table::unprotect(page));
    page.clear();
    frames::release(page);
}

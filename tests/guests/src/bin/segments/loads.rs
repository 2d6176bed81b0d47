//! Loading the guest's own selectors, in both modes: those that work, and the exact fault of those that do not.

use guest_runtime::context::Context;
use guest_runtime::trap;
use guest_runtime::{check, check_eq, user};
use guests::accepted;
use guests::code;
use guests::code::code_ud2;
use guests::expect::{Expected, Mode, compare, run_and_compare};

use crate::descriptor::data_at;
use crate::gdt::{self, index};

code! {
    code_load_ds: "mov ds, eax";
    code_load_es: "mov es, eax";
    code_load_ss: "mov ss, eax";
    code_load_fs: "mov fs, eax";
    code_load_gs: "mov gs, eax";
    code_fs_base: "mov fs, eax", "mov rbx, fs:[rdx]", "xor eax, eax", "mov fs, eax";
    code_clear: "xor eax, eax", "mov ds, eax", "mov es, eax", "mov fs, eax", "mov gs, eax";
    code_read_selectors: "mov ebx, ds", "mov ebp, fs";
}

const fn selector(index: u64) -> u64 {
    index << 3 | 3
}

pub fn all() {
    good();
    bad();
    returning();
    based();
    live_update();
    kept();
    clear();
}

fn clear() {
    for mode in Mode::BOTH {
        check_eq!(
            "null selectors",
            trap::run(&mode.context(code_clear())).vector,
            6
        );
    }
}

fn good() {
    for mode in Mode::BOTH {
        for index in [index::DATA, index::READ_ONLY, index::CODE64, index::THREAD] {
            for (what, code) in [
                ("ds", code_load_ds()),
                ("es", code_load_es()),
                ("fs", code_load_fs()),
                ("gs", code_load_gs()),
            ] {
                let context = Context {
                    rax: selector(index),
                    ..mode.context(code)
                };
                run_and_compare(
                    what,
                    &context,
                    Expected {
                        advance: 2,
                        ..Expected::fault(6)
                    },
                );
            }
        }
        let context = Context {
            rax: selector(index::DATA),
            ..mode.context(code_load_ss())
        };
        let trap = trap::run(&context);
        let wanted = Context {
            ss: context.rax,
            ..context
        };
        compare(
            "ss",
            &wanted,
            &trap,
            Expected {
                advance: 2,
                ..Expected::fault(6)
            },
        );
    }
}

/// Not present is #NP, for the stack #SS; a wrong kind or beyond the table is #GP; each names the selector.
fn bad() {
    for mode in Mode::BOTH {
        for (what, code, index, vector) in [
            ("ds that is absent", code_load_ds(), index::ABSENT, 11),
            ("gs that is absent", code_load_gs(), index::ABSENT, 11),
            ("ss that is absent", code_load_ss(), index::ABSENT, 12),
            ("ds that is empty", code_load_ds(), 9, 13),
            ("fs beyond the table", code_load_fs(), 4000, 13),
            ("ss that is code", code_load_ss(), index::CODE64, 13),
            ("ss that is read-only", code_load_ss(), index::READ_ONLY, 13),
            ("ss that is empty", code_load_ss(), 9, 13),
        ] {
            let context = Context {
                rax: selector(index),
                ..mode.context(code)
            };
            run_and_compare(what, &context, Expected::fault_code(vector, index << 3));
        }
    }
}

/// The iret hypercall takes the guest's own code and stack selectors; kernel frames show level 0 as they were given.
fn returning() {
    let kernel = Context {
        cs: index::CODE64 << 3,
        ss: selector(index::DATA),
        ..Mode::Kernel.context(code_ud2())
    };
    let trap = trap::run(&kernel);
    check_eq!(
        "kernel mode by our own selector",
        (trap.vector, trap.context.rip),
        (6, kernel.rip)
    );
    check_eq!(
        "its selectors",
        (trap.context.cs & 0xffff, trap.context.ss),
        (kernel.cs, kernel.ss)
    );
    for (index, what) in [(index::USER_CODE64, "64-bit"), (index::CODE32, "32-bit")] {
        let user = Context {
            cs: selector(index),
            ss: selector(index::DATA),
            ..Mode::User.context(code_ud2())
        };
        let trap = trap::run(&user);
        check_eq!(what, (trap.vector, trap.context.rip), (6, user.rip));
        check_eq!(
            "its selectors",
            (trap.context.cs & 0xffff, trap.context.ss),
            (user.cs, user.ss)
        );
    }
    for (what, cs, vector) in [
        ("absent code", index::ABSENT, 13),
        ("data as code", index::DATA, 13),
        ("nothing as code", 9, 13),
    ] {
        let user = Context {
            cs: selector(cs),
            ..Mode::User.context(code_ud2())
        };
        let trap = trap::run(&user);
        check_eq!(what, (trap.vector, trap.error), (vector, Some(cs << 3)));
    }
    let user = Context {
        ss: selector(index::ABSENT),
        ..Mode::User.context(code_ud2())
    };
    let trap = trap::run(&user);
    // #SS by the manual; some emulators raise #NP.
    check!(matches!(trap.vector, 11 | 12), "an absent stack");
    check_eq!(
        "an absent stack: error code",
        trap.error,
        Some(index::ABSENT << 3)
    );
}

/// A descriptor's base counts for fs and gs.
fn based() {
    let base = user::DATA;
    accepted(
        "a descriptor with a base",
        gdt::update(gdt::table(), index::THREAD, data_at(base)),
    );
    user::data_page(0).write(2, 0x7eb1_e55e);
    for mode in Mode::BOTH {
        let context = Context {
            rax: selector(index::THREAD),
            rdx: 16,
            ..mode.context(code_fs_base())
        };
        let trap = trap::run(&context);
        check_eq!(
            "a load by a descriptor's base",
            (trap.vector, trap.context.rbx),
            (6, 0x7eb1_e55e)
        );
    }
}

/// A change to the live table counts for the next load.
fn live_update() {
    accepted(
        "another base",
        gdt::update(gdt::table(), index::THREAD, data_at(user::DATA + 4096)),
    );
    user::data_page(1).write(2, 0x0dd);
    let context = Context {
        rax: selector(index::THREAD),
        rdx: 16,
        ..Mode::User.context(code_fs_base())
    };
    check_eq!(
        "a load by the new base",
        trap::run(&context).context.rbx,
        0x0dd
    );
    accepted("no descriptor", gdt::update(gdt::table(), index::THREAD, 0));
    let trap = trap::run(&context);
    check_eq!(
        "a load of what is gone",
        (trap.vector, trap.error),
        (13, Some(index::THREAD << 3))
    );
}

/// Data selectors survive traps and hypercalls.
fn kept() {
    let load = Context {
        rax: selector(index::DATA),
        ..Mode::User.context(code_load_ds())
    };
    trap::run(&load);
    let load = Context {
        rax: selector(index::READ_ONLY),
        ..Mode::User.context(code_load_fs())
    };
    trap::run(&load);
    guest_runtime::hypercall::version();
    let trap = trap::run(&Mode::User.context(code_read_selectors()));
    let got = (trap.context.rbx & 0xffff, trap.context.rbp & 0xffff);
    check_eq!(
        "ds and fs after traps",
        got,
        (selector(index::DATA), selector(index::READ_ONLY))
    );
}

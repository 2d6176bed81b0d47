//! The trap table: merging, clearing, the event-mask flag and the forced privilege level.

use guest_runtime::abi::{KERNEL_CODE64, TrapInfo, errno, nr};
use guest_runtime::context::flags;
use guest_runtime::{check_eq, hypercall, trap};
use guests::code::code_ud2;
use guests::expect::{Expected, Mode, run_and_compare};

pub fn all() {
    merged();
    unmasking_entry();
    forced_level();
    cleared_and_set_again();
    bad_address();
}

/// Setting one entry leaves the others.
fn merged() {
    let other = [
        TrapInfo {
            address: trap::stub(0x99),
            ..trap::entry(6, 0)
        },
        TrapInfo::default(),
    ];
    check_eq!(
        "set_trap_table of one",
        hypercall::set_trap_table(&other),
        0
    );
    let trap = trap::run(&Mode::Kernel.context(code_ud2()));
    check_eq!("the new handler is used", trap.vector, 0x99);
    check_eq!("set_trap_table again", trap::install(), 0);
    run_and_compare(
        "ud2 after reinstalling",
        &Mode::Kernel.context(code_ud2()),
        Expected::fault(6),
    );
}

/// Without flag bit 2 the event mask stays as it was.
fn unmasking_entry() {
    let entry = TrapInfo {
        flags: 0,
        ..trap::entry(6, 0)
    };
    check_eq!(
        "set_trap_table without masking",
        hypercall::set_trap_table(&[entry, TrapInfo::default()]),
        0
    );
    for mode in Mode::BOTH {
        for (set, wanted) in [(flags::IF, 0), (0, 1)] {
            let mut context = mode.context(code_ud2());
            context.rflags = flags::ALWAYS | set;
            let trap = trap::run(&context);
            check_eq!("event mask in a handler that leaves it", trap.mask, wanted);
            check_eq!("saved event mask", trap.context.cs >> 32, u64::from(wanted));
            check_eq!("IF in the frame", trap.context.rflags & flags::IF, set);
        }
    }
    check_eq!("set_trap_table again", trap::install(), 0);
}

/// A handler's selector runs in ring 3 whatever level it asks for.
fn forced_level() {
    let entry = TrapInfo {
        cs: KERNEL_CODE64,
        ..trap::entry(6, 0)
    };
    check_eq!(
        "set_trap_table with level 0",
        hypercall::set_trap_table(&[entry, TrapInfo::default()]),
        0
    );
    run_and_compare(
        "ud2 by an entry of level 0",
        &Mode::Kernel.context(code_ud2()),
        Expected::fault(6),
    );
    check_eq!("set_trap_table again", trap::install(), 0);
}

/// A null pointer clears every entry.
fn cleared_and_set_again() {
    check_eq!(
        "set_trap_table(NULL)",
        hypercall::call(nr::SET_TRAP_TABLE, [0; 5]),
        0
    );
    check_eq!("set_trap_table again", trap::install(), 0);
    run_and_compare(
        "ud2 after clearing",
        &Mode::User.context(code_ud2()),
        Expected::fault(6),
    );
}

/// A handler that is not canonical is refused, and nothing changes.
fn bad_address() {
    let entry = TrapInfo {
        address: 0x8000_0000_0000_0000,
        ..trap::entry(6, 0)
    };
    let result = hypercall::set_trap_table(&[entry, TrapInfo::default()]);
    check_eq!(
        "set_trap_table with a non-canonical handler",
        result,
        -errno::EINVAL
    );
    run_and_compare(
        "ud2 after a refused entry",
        &Mode::Kernel.context(code_ud2()),
        Expected::fault(6),
    );
}

//! Numbers and sub-operations that do not exist: -ENOSYS, whatever the arguments.

use guest_runtime::abi::{errno, nr};
use guest_runtime::hypercall::by_syscall;
use guest_runtime::{check_eq, hypercall};

/// Arguments that would crash a careless handler.
const ARGUMENTS: [[u64; 5]; 4] = [
    [0; 5],
    [u64::MAX; 5],
    [0xffff_8000_0000_0000; 5],
    [0x8000_0000_0000, 1, 0x1000, 3, 7],
];

pub fn all() {
    let unknown = [
        11,
        27,
        43,
        45,
        47,
        57,
        60,
        63,
        100,
        127,
        128,
        255,
        256,
        1 << 16,
        1 << 31,
        1 << 32 | 17,
        1 << 63,
        u64::MAX,
    ];
    for number in unknown {
        for arguments in ARGUMENTS {
            check_eq!(
                "an unknown hypercall",
                by_syscall(number, arguments),
                -errno::ENOSYS
            );
        }
    }
    let families = [
        ("xen_version", nr::XEN_VERSION),
        ("console_io", nr::CONSOLE_IO),
        ("sched_op", nr::SCHED_OP),
        ("event_channel_op", nr::EVENT_CHANNEL_OP),
        ("physdev_op", nr::PHYSDEV_OP),
        ("callback_op", nr::CALLBACK_OP),
        ("vm_assist", nr::VM_ASSIST),
    ];
    for (what, number) in families {
        for operation in [99u64, 0x7fff_ffff] {
            check_eq!(
                what,
                hypercall::call(number, [operation, 0, 0, 0, 0]),
                -errno::ENOSYS
            );
        }
    }
    check_eq!(
        "vcpu_op",
        hypercall::call(nr::VCPU_OP, [99, 0, 0, 0, 0]),
        -errno::ENOSYS
    );
    check_eq!(
        "memory_op",
        hypercall::call(nr::MEMORY_OP, [63, 0, 0, 0, 0]),
        -errno::ENOSYS
    );
    guests::refused("set_segment_base", hypercall::set_segment_base(99, 0));
    guests::refused(
        "grant_table_op",
        hypercall::call(nr::GRANT_TABLE_OP, [99, 0, 0, 0, 0]),
    );
}

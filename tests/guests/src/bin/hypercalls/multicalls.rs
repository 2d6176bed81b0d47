//! Multicalls: results in place, failures that stop nothing, no nesting.

use guest_runtime::abi::{MulticallEntry, errno, nr};
use guest_runtime::hypercall::{self, multicall};
use guest_runtime::{check_eq, frames, page_table};
use guests::accepted;

fn entry(op: u64, args: [u64; 6]) -> MulticallEntry {
    MulticallEntry {
        op,
        result: 0x5555,
        args,
    }
}

pub fn all() {
    let version = hypercall::version();
    let page = frames::allocate();
    let mut calls = [
        entry(nr::XEN_VERSION, [0; 6]),
        entry(99, [0; 6]),
        entry(u64::MAX, [0; 6]),
        entry(
            nr::UPDATE_VA_MAPPING,
            [page.va(), page.maddr() | 1, 2, 0, 0, 0],
        ),
        entry(nr::MULTICALL, [0, 1, 0, 0, 0, 0]),
        entry(nr::UPDATE_VA_MAPPING, [0x1000, 0, 0, 0, 0, 0]),
        entry(nr::XEN_VERSION, [1, 0, 0, 0, 0, 0]),
        entry(
            nr::STACK_SWITCH,
            [0xe02b, guest_runtime::trap::trap_stack_top(), 0, 0, 0, 0],
        ),
        entry(nr::XEN_VERSION, [0; 6]),
    ];
    accepted("a multicall with failures in it", multicall(&mut calls));
    let wanted = [
        version,
        -errno::ENOSYS,
        -errno::ENOSYS,
        0,
        -errno::EINVAL,
        -errno::EINVAL,
        -errno::EFAULT,
        0,
        version,
    ];
    for (call, wanted) in calls.iter().zip(wanted) {
        check_eq!("the result in its place", call.result as i64, wanted);
    }
    check_eq!("numbers are left alone", calls[3].op, nr::UPDATE_VA_MAPPING);
    let writable = page_table::slot(page.va()).map_or(2, |slot| slot.value() & 2);
    check_eq!("the call in the middle was done", writable, 0);
    accepted("writable", page_table::unprotect(page));

    // After a nested one was refused, multicalls go on working.
    let mut single = [entry(nr::XEN_VERSION, [0; 6])];
    accepted("a multicall after a nested one", multicall(&mut single));
    check_eq!("its result", single[0].result as i64, version);

    many(page);
    read_only(page);
    odd(page);
    frames::release(page);
}

fn many(page: frames::Page) {
    let mut calls = [entry(nr::XEN_VERSION, [0; 6]); 512];
    calls[511].op = 98;
    accepted("a multicall of 512", multicall(&mut calls));
    let right = calls[..511]
        .iter()
        .filter(|call| call.result as i64 == hypercall::version())
        .count();
    check_eq!(
        "results of the many",
        (right, calls[511].result as i64),
        (511, -errno::ENOSYS)
    );
    let _ = page;
}

/// Results cannot be written: the call says so.
fn read_only(page: frames::Page) {
    page.write(0, nr::XEN_VERSION);
    accepted("read-only", page_table::protect(page));
    let result = hypercall::call(nr::MULTICALL, [page.va(), 1, 0, 0, 0]);
    check_eq!("a multicall in read-only memory", result, -errno::EFAULT);
    accepted("writable", page_table::unprotect(page));
    check_eq!("nothing was written", page.read(1), 0);
}

fn odd(page: frames::Page) {
    let at = page.va() + 13;
    // SAFETY: inside the page.
    unsafe { (at as *mut MulticallEntry).write_unaligned(entry(nr::XEN_VERSION, [0; 6])) };
    accepted(
        "a multicall at an odd address",
        hypercall::call(nr::MULTICALL, [at, 1, 0, 0, 0]),
    );
    // SAFETY: as above.
    let result = unsafe { (at as *const MulticallEntry).read_unaligned() }.result as i64;
    check_eq!("its result", result, hypercall::version());
}

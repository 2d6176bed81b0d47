//! Counts: none, more than there is, and more than there can be.

use guest_runtime::abi::{DOMID_SELF, MmuUpdate, MmuextOp, MulticallEntry, errno, nr, sched};
use guest_runtime::hypercall::{self, call};
use guest_runtime::{check, check_eq, frames, user};
use guests::{accepted, refused};

/// The last eight-byte-aligned place before an unmapped page that an object of `size` bytes fits in.
fn at_the_edge(size: usize) -> u64 {
    user::STACK_TOP - size as u64
}

fn put<T>(value: T) -> u64 {
    let at = at_the_edge(size_of::<T>());
    // SAFETY: mapped user data, which ends there.
    unsafe { (at as *mut T).write_unaligned(value) };
    at
}

pub fn all() {
    nothing_at_all();
    arrays_that_end_early();
    long_batches();
    huge();
}

fn nothing_at_all() {
    for at in [0u64, 0x8000_0000_0000] {
        // Nothing is read; some hypervisors check the address all the same.
        for (what, result) in [
            (
                "mmu_update of none",
                call(nr::MMU_UPDATE, [at, 0, 0, DOMID_SELF, 0]),
            ),
            (
                "mmuext_op of none",
                call(nr::MMUEXT_OP, [at, 0, 0, DOMID_SELF, 0]),
            ),
            ("multicall of none", call(nr::MULTICALL, [at, 0, 0, 0, 0])),
        ] {
            check!(result == 0 || result == -errno::EFAULT, what);
        }
    }
    accepted(
        "poll of no ports, in the past",
        hypercall::sched_op(sched::POLL, &mut [0u64, 0, 1]),
    );
}

/// The entries before the end are done and counted; then the copy fails.
fn arrays_that_end_early() {
    let page = frames::allocate();
    for count in [2u64, 3, 1000, 1 << 20, 0x7fff_ffff] {
        page.write(0, 0);
        let mut done = 99u32;
        let at = put(MmuUpdate {
            ptr: page.maddr(),
            val: count,
        });
        let result = call(
            nr::MMU_UPDATE,
            [at, count, &raw mut done as u64, DOMID_SELF, 0],
        );
        check_eq!(
            "mmu_update beyond its array",
            (result, done, page.read(0)),
            (-errno::EFAULT, 1, count)
        );
        let at = put(MmuextOp {
            cmd: 6,
            ..Default::default()
        });
        let result = call(
            nr::MMUEXT_OP,
            [at, count, &raw mut done as u64, DOMID_SELF, 0],
        );
        check_eq!(
            "mmuext_op beyond its array",
            (result, done),
            (-errno::EFAULT, 1)
        );
        let at = put(MulticallEntry {
            op: nr::XEN_VERSION,
            result: u64::MAX,
            ..Default::default()
        });
        let result = call(nr::MULTICALL, [at, count, 0, 0, 0]);
        check_eq!("multicall beyond its array", result, -errno::EFAULT);
        // SAFETY: written by `put`.
        let entry = unsafe { (at as *const MulticallEntry).read_unaligned() };
        check_eq!(
            "its first entry was done",
            entry.result as i64,
            hypercall::version()
        );
    }
    frames::release(page);
}

/// Batches of more entries than a call does at once: each is done once, in order, whether or not it tells how many.
fn long_batches() {
    const ENTRIES: usize = 500;
    let page = frames::allocate();
    let mut list = [MmuUpdate::default(); ENTRIES];
    for counted in [true, false] {
        page.clear();
        for (index, request) in list.iter_mut().enumerate() {
            *request = MmuUpdate {
                ptr: page.entry_maddr(index),
                val: index as u64 + 1,
            };
        }
        let mut done = 0u32;
        let at = if counted { &raw mut done as u64 } else { 0 };
        let result = call(
            nr::MMU_UPDATE,
            [list.as_ptr() as u64, ENTRIES as u64, at, DOMID_SELF, 0],
        );
        let missing = (0..ENTRIES)
            .filter(|&index| page.read(index) != index as u64 + 1)
            .count();
        check_eq!(
            "a long mmu_update",
            (result, done, missing),
            (0, if counted { ENTRIES as u32 } else { 0 }, 0)
        );
    }
    // The last entry is the one that counts.
    let mut flushes = [MmuextOp {
        cmd: 6,
        ..Default::default()
    }; ENTRIES];
    flushes[ENTRIES - 1].cmd = 999;
    let (result, done) = hypercall::mmuext_batch(&flushes);
    check_eq!(
        "a long mmuext_op whose last entry is unknown",
        (result, done),
        (-errno::ENOSYS, ENTRIES as u32 - 1)
    );
    // The same inside a multicall, whose own progress must not be mistaken for it.
    page.clear();
    let mut calls = [MulticallEntry::default(); 3];
    for (part, entry) in calls.iter_mut().enumerate() {
        let from = &list[part * 160..(part + 1) * 160];
        entry.op = nr::MMU_UPDATE;
        entry.args[..4].copy_from_slice(&[from.as_ptr() as u64, from.len() as u64, 0, DOMID_SELF]);
    }
    let result = hypercall::multicall(&mut calls);
    let results = calls.map(|entry| entry.result as i64);
    let missing = (0..480)
        .filter(|&index| page.read(index) != index as u64 + 1)
        .count();
    check_eq!(
        "a multicall of long batches",
        (result, results, missing),
        (0, [0; 3], 0)
    );
    frames::release(page);
}

fn huge() {
    let list = [0u64; 16];
    for entries in [7169u64, 8192, 65_536, 1 << 31, u64::MAX] {
        refused(
            "set_gdt beyond the table",
            call(nr::SET_GDT, [list.as_ptr() as u64, entries, 0, 0, 0]),
        );
    }
    for ports in [129u64, 4097, 0xffff_ffff] {
        let mut poll = [list.as_ptr() as u64, ports, 1];
        check_eq!(
            "a poll of too many ports",
            hypercall::sched_op(sched::POLL, &mut poll),
            -errno::EINVAL
        );
    }
    let text = put(*b"count.\n\0");
    for length in [0x7fff_ffffu64, 1 << 20] {
        let result = call(nr::CONSOLE_IO, [0, length, text, 0, 0]);
        check_eq!("a console write beyond its buffer", result, -errno::EFAULT);
    }
    let result = call(nr::CONSOLE_IO, [0, 0x8000_0000, 0, 0, 0]);
    check!(result <= 0, "a console write of a negative length");
    // Reservations that would need more than there is, or cannot be counted.
    for (count, order) in [(1u64, 63u32), (u64::MAX, 0), (1 << 40, 0), (1, 40)] {
        let mut argument = [list.as_ptr() as u64, count, u64::from(order), 0x7ff0];
        let result = call(nr::MEMORY_OP, [6, argument.as_mut_ptr() as u64, 0, 0, 0]);
        check!(result <= 0, "populating more than there is");
    }
}

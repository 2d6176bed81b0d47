//! What cannot be done with a grant, or with the frame it lends, while somebody uses it.

use crate::bench::{Bench, unmap};
use guest_runtime::abi::errno;
use guest_runtime::abi::grant::*;
use guest_runtime::{check_eq, frames, hypercall, page_table};
use guests::lending::op;
use guests::{accepted, refused};

pub fn all(bench: &Bench) {
    in_use(bench);
    references(bench);
}

fn swap(a: u32, b: u32) -> i16 {
    let mut argument = SwapGrantRef {
        ref_a: a,
        ref_b: b,
        ..SwapGrantRef::ZERO
    };
    accepted("swap_grant_ref", op(11, &mut argument));
    argument.status
}

fn in_use(bench: &Bench) {
    let (status, handle) = bench.map(GNTMAP_HOST_MAP, 8);
    check_eq!("map", status, GNTST_OKAY);
    let mut version = 2u32;
    check_eq!("version 2 meanwhile", op(8, &mut version), -errno::EBUSY);
    check_eq!("the version", version, 1);
    check_eq!("swap of one in use", swap(8, 20), GNTST_EAGAIN);
    bench.table.write(21, 0x1234_0000_0000);
    check_eq!("swap", swap(21, 20), GNTST_OKAY);
    let swapped = (bench.table.read(20), bench.table.read(21));
    check_eq!("swapped", swapped, (0x1234_0000_0000, 0));
    check_eq!("swap of none", swap(21, 200_000), GNTST_BAD_GNTREF);
    bench.table.write(20, 0);
    check_eq!("unmap", unmap(bench.window.va(), 0, handle), GNTST_OKAY);
}

/// A frame that is lent stays what it is: it cannot become a table while it is mapped writable for somebody, even only
/// for devices.
fn references(bench: &Bench) {
    use guest_runtime::abi::mmuext::{PIN_L1, UNPIN};
    let table = frames::allocate();
    accepted("read-only", page_table::protect(table));
    bench.set(10, GTF_PERMIT_ACCESS, 0, table.mfn());
    let (status, handle) = bench.map(GNTMAP_DEVICE_MAP, 10);
    check_eq!("map for devices", status, GNTST_OKAY);
    refused("pin", hypercall::mmuext(PIN_L1, table.mfn(), 0));
    check_eq!("unmap", unmap(0, table.maddr(), handle), GNTST_OKAY);
    accepted("pin", hypercall::mmuext(PIN_L1, table.mfn(), 0));
    let (status, _) = bench.map(GNTMAP_DEVICE_MAP, 10);
    check_eq!("a table for devices", status, GNTST_GENERAL_ERROR);
    check_eq!("no bits", bench.flags(10), GTF_PERMIT_ACCESS);
    accepted("unpin", hypercall::mmuext(UNPIN, table.mfn(), 0));
    bench.set(10, GTF_INVALID, 0, 0);
}

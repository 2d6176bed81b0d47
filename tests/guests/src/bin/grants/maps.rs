//! Mapping and unmapping: by flags, by what the entry says, by address and by page-table entry.

use crate::bench::{BITS, Bench, NOBODY, SELF, map, unmap};
use guest_runtime::abi::HOLE_START;
use guest_runtime::abi::grant::*;
use guest_runtime::page_table::bits;
use guest_runtime::{check_eq, hypercall, page_table};
use guests::accepted;

pub fn all(bench: &Bench, table_frame: u64) {
    mappings(bench);
    flags(bench);
    entries(bench, table_frame);
    addresses(bench);
    by_entry(bench);
}

fn mappings(bench: &Bench) {
    let (status, handle) = bench.map(GNTMAP_HOST_MAP, 8);
    check_eq!("map", status, GNTST_OKAY);
    check_eq!(
        "it is the frame",
        bench.window.read(0),
        0x1122_3344_5566_7788
    );
    bench.window.write(1, 42);
    check_eq!("and may be written", bench.data.read(1), 42);
    let wanted = bench.data.maddr() | bits::KERNEL_RW | bits::NX;
    check_eq!(
        "the entry",
        bench.slot() & !bits::MAY_DIFFER,
        wanted & !bits::MAY_DIFFER
    );
    check_eq!("the bits", bench.flags(8), GTF_PERMIT_ACCESS | BITS);
    check_eq!(
        "another handle",
        unmap(bench.window.va(), 0, 77),
        GNTST_BAD_HANDLE
    );
    check_eq!(
        "any handle",
        unmap(bench.window.va(), 0, !0),
        GNTST_BAD_HANDLE
    );
    let elsewhere = unmap(bench.data.va() + 4096 * 20, 0, handle);
    check_eq!("another address", elsewhere, GNTST_GENERAL_ERROR);
    check_eq!("no address", unmap(0, 0, handle), GNTST_OKAY);
    check_eq!(
        "it is mapped still",
        bench.flags(8),
        GTF_PERMIT_ACCESS | BITS
    );
    check_eq!("unmap", unmap(bench.window.va(), 0, handle), GNTST_OKAY);
    check_eq!("the entry is empty", bench.slot(), 0);
    check_eq!("the bits are gone", bench.flags(8), GTF_PERMIT_ACCESS);
    check_eq!(
        "unmap again",
        unmap(bench.window.va(), 0, handle),
        GNTST_BAD_HANDLE
    );

    let (status, handle) = bench.map(GNTMAP_HOST_MAP | GNTMAP_READONLY, 8);
    check_eq!("map to read", status, GNTST_OKAY);
    check_eq!("its entry", bench.slot() & bits::WRITE, 0);
    check_eq!("its bits", bench.flags(8), GTF_PERMIT_ACCESS | GTF_READING);
    let again = map(bench.window.va() + 8, GNTMAP_HOST_MAP, 8, 0);
    check_eq!("map over it, inside the page", again.0, GNTST_OKAY);
    check_eq!("both bits", bench.flags(8), GTF_PERMIT_ACCESS | BITS);
    // The first one's entry is now another.
    check_eq!(
        "the first",
        unmap(bench.window.va(), 0, handle),
        GNTST_GENERAL_ERROR
    );
    check_eq!(
        "the second",
        unmap(bench.window.va(), 0, again.1),
        GNTST_OKAY
    );
    check_eq!("one bit", bench.flags(8), GTF_PERMIT_ACCESS | GTF_READING);
    accepted(
        "by hand",
        hypercall::update_va_mapping(bench.window.va(), bench.slot()),
    );
    check_eq!(
        "still not",
        unmap(bench.window.va(), 0, handle),
        GNTST_GENERAL_ERROR
    );
    let entry = bench.data.maddr() | bits::KERNEL_RO;
    accepted(
        "by hand",
        hypercall::update_va_mapping(bench.window.va(), entry),
    );
    check_eq!(
        "put right by hand",
        unmap(bench.window.va(), 0, handle),
        GNTST_OKAY
    );
    check_eq!("no bits", bench.flags(8), GTF_PERMIT_ACCESS);
}

fn flags(bench: &Bench) {
    for none in [0, GNTMAP_READONLY, GNTMAP_APPLICATION_MAP] {
        check_eq!("mapped for nobody", bench.map(none, 8).0, GNTST_BAD_GNTREF);
    }
    for domain in [NOBODY, SELF, 0x7ff1, 0x7ff4] {
        let status = map(bench.window.va(), GNTMAP_HOST_MAP, 8, domain).0;
        check_eq!("a grant of nobody's", status, GNTST_BAD_DOMAIN);
    }
    let (status, handle) = bench.map(GNTMAP_HOST_MAP | 5 << 16, 8);
    check_eq!("available bits", status, GNTST_OKAY);
    check_eq!("in the entry", bench.slot() >> 9 & 7, 5);
    check_eq!("unmap", unmap(bench.window.va(), 0, handle), GNTST_OKAY);
    // For devices: its own address, and the page tables are left alone.
    let before = bench.slot();
    let (status, handle) = bench.map(GNTMAP_DEVICE_MAP, 8);
    check_eq!(
        "map for devices",
        (status, bench.slot()),
        (GNTST_OKAY, before)
    );
    check_eq!("bits", bench.flags(8), GTF_PERMIT_ACCESS | BITS);
    check_eq!("unmap", unmap(0, bench.data.maddr(), handle), GNTST_OKAY);
    check_eq!("no bits", bench.flags(8), GTF_PERMIT_ACCESS);
    // Both: the grant is in use until both are gone.
    let (status, handle) = bench.map(GNTMAP_DEVICE_MAP | GNTMAP_HOST_MAP, 8);
    check_eq!("map for both", status, GNTST_OKAY);
    check_eq!("one part", unmap(bench.window.va(), 0, handle), GNTST_OKAY);
    check_eq!("bits", bench.flags(8), GTF_PERMIT_ACCESS | BITS);
    check_eq!(
        "the other",
        unmap(0, bench.data.maddr(), handle),
        GNTST_OKAY
    );
    check_eq!("no bits", bench.flags(8), GTF_PERMIT_ACCESS);
}

/// What an entry says decides, and a refused mapping changes neither it nor the page table.
fn entries(bench: &Bench, table_frame: u64) {
    const ACCESS: u16 = GTF_PERMIT_ACCESS;
    const GENERAL: i16 = GNTST_GENERAL_ERROR;
    let data = bench.data.mfn();
    let cases = [
        (GTF_INVALID, 0, data, GENERAL, GENERAL),
        (ACCESS, 1, data, GENERAL, GENERAL),
        (ACCESS, SELF, data, GENERAL, GENERAL),
        (ACCESS | GTF_READONLY, 0, data, GENERAL, GNTST_OKAY),
        (GTF_ACCEPT_TRANSFER, 0, data, GENERAL, GENERAL),
        (GTF_TRANSITIVE, 0, data, GENERAL, GENERAL),
        (ACCESS | GTF_SUB_PAGE, 0, data, GENERAL, GENERAL),
        (ACCESS, 0, 0xfff_ffff, GNTST_BAD_PAGE, GNTST_BAD_PAGE),
        (ACCESS, 0, 0xfee00, GNTST_BAD_PAGE, GNTST_BAD_PAGE),
        (ACCESS, 0, page_table::root().mfn(), GENERAL, GNTST_OKAY),
        (ACCESS, 0, table_frame, GNTST_OKAY, GNTST_OKAY),
    ];
    for (flags, domain, frame, write, read) in cases {
        for (how, wanted) in [(0, write), (GNTMAP_READONLY, read)] {
            bench.set(9, flags, domain, frame);
            let before = (bench.slot(), bench.flags(9));
            let (status, handle) = bench.map(GNTMAP_HOST_MAP | how, 9);
            check_eq!("status by the entry", status, wanted);
            if status == GNTST_OKAY {
                check_eq!("unmap", unmap(bench.window.va(), 0, handle), GNTST_OKAY);
                check_eq!("flags after", bench.flags(9), flags);
            } else {
                check_eq!("unchanged", (bench.slot(), bench.flags(9)), before);
            }
        }
    }
    bench.set(9, GTF_INVALID, 0, 0);
    check_eq!("unused", bench.map(GNTMAP_HOST_MAP, 1024).0, GENERAL);
    for gref in [1536, 2048, 100_000, u32::MAX] {
        let status = bench.map(GNTMAP_HOST_MAP, gref).0;
        check_eq!("beyond the table", status, GNTST_BAD_GNTREF);
    }
}

fn addresses(bench: &Bench) {
    for address in [
        0,
        0x1000,
        HOLE_START,
        0x8000_0000_0000,
        0xffff_ffff_f000_0000,
    ] {
        let status = map(address, GNTMAP_HOST_MAP, 8, 0).0;
        check_eq!("no page table there", status, GNTST_GENERAL_ERROR);
        check_eq!("no bits", bench.flags(8), GTF_PERMIT_ACCESS);
    }
}

/// The entry itself may be named, by its machine address.
fn by_entry(bench: &Bench) {
    let Some(slot) = page_table::slot(bench.window.va()) else {
        return;
    };
    let how = GNTMAP_HOST_MAP | GNTMAP_CONTAINS_PTE;
    let (status, handle) = map(slot.maddr(), how, 8, 0);
    check_eq!("map by entry", status, GNTST_OKAY);
    check_eq!("it is the frame", bench.window.read(1), 42);
    check_eq!("unmap by entry", unmap(slot.maddr(), 0, handle), GNTST_OKAY);
    check_eq!("empty", bench.slot(), 0);
    let not_tables = [
        slot.maddr() + 4,
        bench.data.maddr(),
        page_table::root().maddr() + 8,
        0xfee0_0000,
        u64::MAX << 3,
    ];
    for address in not_tables {
        let status = map(address, how, 8, 0).0;
        check_eq!("no entry of level 1", status, GNTST_GENERAL_ERROR);
        check_eq!("no bits", bench.flags(8), GTF_PERMIT_ACCESS);
    }
}

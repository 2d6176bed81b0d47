//! Proves that grant tables of version 1 answer as Xen 4.17 answers the initial domain, which lends to itself: set-up,
//! mapping, unmapping and copying with every status, and the granter's bits exactly while a grant is in use.
#![cfg_attr(target_os = "none", no_std, no_main)]

use guest_runtime::abi::grant::*;
use guest_runtime::abi::{DOMID_SELF, HOLE_START, errno, nr};
use guest_runtime::frames::{self, Page};
use guest_runtime::page_table::{self, bits};
use guest_runtime::{check, check_eq, guest, hypercall};
use guests::{accepted, refused};

guest!(grants, main);

const SELF: u16 = DOMID_SELF as u16;
const BITS: u16 = GTF_READING | GTF_WRITING;
/// A domain that does not exist.
const NOBODY: u16 = 1;

fn op<T>(operation: u64, argument: &mut T) -> i64 {
    many(operation, argument, 1)
}

fn many<T>(operation: u64, argument: &mut T, count: u64) -> i64 {
    let address = &raw mut *argument as u64;
    hypercall::call(nr::GRANT_TABLE_OP, [operation, address, count, 0, 0])
}

/// The table's first frame, mapped, and pages to lend.
struct Bench {
    table: Page,
    data: Page,
    window: Page,
}

impl Bench {
    fn set(&self, gref: usize, flags: u16, domain: u16, frame: u64) {
        let entry = u64::from(flags) | u64::from(domain) << 16 | frame << 32;
        self.table.write(gref, entry);
    }

    fn flags(&self, gref: usize) -> u16 {
        self.table.read(gref) as u16
    }

    fn slot(&self) -> u64 {
        page_table::slot(self.window.va()).map_or(0, |slot| slot.value())
    }

    /// Maps at the window; status and handle.
    fn map(&self, flags: u32, gref: u32) -> (i16, u32) {
        map(self.window.va(), flags, gref, 0)
    }
}

fn map(address: u64, flags: u32, gref: u32, domain: u16) -> (i16, u32) {
    let mut argument = MapGrantRef {
        host_addr: address,
        flags,
        gref,
        dom: domain,
        ..MapGrantRef::ZERO
    };
    accepted("map_grant_ref", op(0, &mut argument));
    (argument.status, argument.handle)
}

fn unmap(address: u64, device: u64, handle: u32) -> i16 {
    let mut argument = UnmapGrantRef {
        host_addr: address,
        dev_bus_addr: device,
        handle,
        ..UnmapGrantRef::ZERO
    };
    accepted("unmap_grant_ref", op(1, &mut argument));
    argument.status
}

fn main() {
    versions();
    let frame = set_up();
    arguments();
    let bench = Bench {
        table: frames::allocate(),
        data: frames::allocate(),
        window: frames::allocate(),
    };
    let entry = frame << 12 | bits::KERNEL_RW;
    accepted(
        "the table is mapped",
        hypercall::update_va_mapping(bench.table.va(), entry),
    );
    bench.data.write(0, 0x1122_3344_5566_7788);
    bench.set(8, GTF_PERMIT_ACCESS, 0, bench.data.mfn());
    mappings(&bench);
    flags(&bench);
    entries(&bench, frame);
    addresses(&bench);
    in_use(&bench);
    by_entry(&bench);
    references(&bench);
    copies(&bench);
}

fn versions() {
    let mut version = GetVersion {
        dom: SELF,
        ..GetVersion::ZERO
    };
    accepted("get_version", op(10, &mut version));
    check_eq!("version", version.version, 1);
    version.dom = NOBODY;
    check_eq!("get_version of nobody", op(10, &mut version), -errno::ESRCH);
    for (wanted, result) in [(1u32, 0), (0, -errno::EINVAL), (3, -errno::EINVAL)] {
        let mut version = wanted;
        check_eq!("set_version", op(8, &mut version), result);
        check_eq!("the version in force", version, 1);
    }
}

fn query(domain: u16) -> QuerySize {
    let mut size = QuerySize {
        dom: domain,
        ..QuerySize::ZERO
    };
    accepted("query_size", op(6, &mut size));
    size
}

fn list(domain: u16, frames: u32, list: u64) -> (i64, i16) {
    let mut setup = SetupTable {
        dom: domain,
        nr_frames: frames,
        frame_list: list,
        status: 99,
        ..SetupTable::ZERO
    };
    (op(2, &mut setup), setup.status)
}

fn set_up() -> u64 {
    let size = query(SELF);
    check_eq!(
        "size at the start",
        (size.status, size.nr_frames, size.max_nr_frames),
        (GNTST_OKAY, 1, 64)
    );
    for domain in [NOBODY, 0x7ff1, 0x7ff4] {
        check_eq!("size of nobody's", query(domain).status, GNTST_BAD_DOMAIN);
    }
    let mut frames = [0u64; 66];
    let at = frames.as_mut_ptr() as u64;
    check_eq!("no frames", list(SELF, 0, at), (0, GNTST_OKAY));
    check_eq!("three frames", list(0, 3, at), (0, GNTST_OKAY));
    check_eq!("size now", query(SELF).nr_frames, 3);
    let three = frames;
    check!(
        three[..3].iter().all(|frame| *frame != 0) && three[3] == 0,
        "three are listed"
    );
    frames[1] = 7;
    check_eq!("two of them", list(SELF, 2, at), (0, GNTST_OKAY));
    check_eq!("the same ones", frames[..2] == three[..2], true);
    check_eq!("the table does not shrink", query(SELF).nr_frames, 3);
    for (domain, count, status) in [
        (NOBODY, 1, GNTST_BAD_DOMAIN),
        (SELF, 65, GNTST_GENERAL_ERROR),
        (SELF, u32::MAX, GNTST_GENERAL_ERROR),
    ] {
        check_eq!(
            "set-up that is refused",
            list(domain, count, at),
            (0, status)
        );
    }
    check_eq!("a list nowhere", list(SELF, 1, 0), (0, GNTST_BAD_VIRT_ADDR));
    check_eq!(
        "a list of ours",
        list(SELF, 1, HOLE_START),
        (-errno::EFAULT, 99)
    );
    three[0]
}

/// Counts and lists that no kernel would use.
fn arguments() {
    let mut query = QuerySize::ZERO;
    for (operation, result) in [
        (2, -errno::EINVAL),
        (6, -errno::EINVAL),
        (0, 0),
        (1, 0),
        (5, 0),
    ] {
        check_eq!("nothing", many(operation, &mut query, 0), result);
    }
    check_eq!("two sizes", many(6, &mut query, 2), -errno::EINVAL);
    for operation in [0, 1, 2, 5, 6, 11] {
        check_eq!(
            "2^31 of it",
            many(operation, &mut query, 1 << 31),
            -errno::EINVAL
        );
        let call = |list| hypercall::call(nr::GRANT_TABLE_OP, [operation, list, 1, 0, 0]);
        check_eq!("a list that is nowhere", call(0), -errno::EFAULT);
        check_eq!(
            "a list of the hypervisor's",
            call(HOLE_START),
            -errno::EFAULT
        );
    }
    check_eq!("no such operation", many(13, &mut query, 1), -errno::ENOSYS);
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

fn copy(from: (bool, u64, u16, u16), to: (bool, u64, u16, u16), len: u16) -> i16 {
    let end = |(_, u, domid, offset): (bool, u64, u16, u16)| CopyPtr {
        u,
        domid,
        offset,
        ..CopyPtr::ZERO
    };
    let mut argument = Copy {
        source: end(from),
        dest: end(to),
        len,
        flags: u16::from(from.0) | u16::from(to.0) << 1,
        ..Copy::ZERO
    };
    accepted("copy", op(5, &mut argument));
    argument.status
}

fn copies(bench: &Bench) {
    let (from, target) = (bench.data.mfn(), frames::allocate());
    let to = target.mfn();
    let page = |frame| (false, frame, SELF, 0);
    let grant = |gref: u64, domain| (true, gref, domain, 0);
    check_eq!("page to page", copy(page(from), page(to), 8), GNTST_OKAY);
    check_eq!("it is there", target.read(0), 0x1122_3344_5566_7788);
    for domain in [SELF, 0] {
        target.write(0, 0);
        let status = copy(grant(8, domain), page(to), 8);
        check_eq!("grant to page", status, GNTST_OKAY);
        check_eq!("it is there", target.read(0), 0x1122_3344_5566_7788);
        let status = copy((false, to, SELF, 0), (true, 8, domain, 4088), 8);
        check_eq!("page to grant", status, GNTST_OKAY);
        check_eq!("it is there", bench.data.read(511), 0x1122_3344_5566_7788);
        check_eq!("no bits", bench.flags(8), GTF_PERMIT_ACCESS);
    }
    let cases = [
        (
            "a page of a domain by number",
            (false, from, 0, 0),
            page(to),
            GNTST_PERMISSION_DENIED,
        ),
        (
            "nobody's page",
            (false, from, NOBODY, 0),
            page(to),
            GNTST_BAD_DOMAIN,
        ),
        (
            "nobody's grant",
            grant(8, NOBODY),
            page(to),
            GNTST_BAD_DOMAIN,
        ),
        (
            "beyond the table",
            grant(100_000, 0),
            page(to),
            GNTST_BAD_GNTREF,
        ),
        (
            "an unused grant",
            grant(99, 0),
            page(to),
            GNTST_GENERAL_ERROR,
        ),
        (
            "over the source's end",
            (false, from, SELF, 4089),
            page(to),
            GNTST_BAD_COPY_ARG,
        ),
        (
            "over the target's end",
            page(from),
            (false, to, SELF, 4089),
            GNTST_BAD_COPY_ARG,
        ),
        (
            "up to both ends",
            (false, from, SELF, 4088),
            (false, to, SELF, 4088),
            GNTST_OKAY,
        ),
        ("from no memory", page(0xfff_ffff), page(to), GNTST_BAD_PAGE),
        ("from a device", page(0xfee00), page(to), GNTST_BAD_PAGE),
        ("to no memory", page(from), page(0xfff_ffff), GNTST_BAD_PAGE),
        ("to a device", page(from), page(0xfee00), GNTST_BAD_PAGE),
        (
            "to a page table",
            page(from),
            page(page_table::root().mfn()),
            GNTST_GENERAL_ERROR,
        ),
        (
            "from a page table",
            page(page_table::root().mfn()),
            page(to),
            GNTST_OKAY,
        ),
    ];
    for (what, from, to, wanted) in cases {
        check_eq!(what, copy(from, to, 8), wanted);
    }
    check_eq!(
        "nothing, at the very end",
        copy((false, from, SELF, 4096), page(to), 0),
        GNTST_OKAY
    );
    bench.set(8, GTF_PERMIT_ACCESS | GTF_READONLY, 0, from);
    check_eq!(
        "to read-only",
        copy(page(to), grant(8, 0), 8),
        GNTST_GENERAL_ERROR
    );
    check_eq!("from read-only", copy(grant(8, 0), page(to), 8), GNTST_OKAY);
    bench.set(8, GTF_PERMIT_ACCESS, NOBODY, from);
    check_eq!(
        "lent to another",
        copy(grant(8, 0), page(to), 8),
        GNTST_GENERAL_ERROR
    );
    bench.set(8, GTF_INVALID, 0, 0);
}

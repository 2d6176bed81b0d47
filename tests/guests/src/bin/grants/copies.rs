//! Copies between pages and grants, with every status.

use crate::bench::{Bench, NOBODY, SELF};
use guest_runtime::abi::grant::*;
use guest_runtime::{check_eq, frames, page_table};
use guests::accepted;
use guests::lending::op;

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

pub fn all(bench: &Bench) {
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

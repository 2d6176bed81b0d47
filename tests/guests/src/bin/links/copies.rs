//! Copying from, to and between what others lend.

use guest_runtime::abi::DOMID_SELF;
use guest_runtime::abi::grant::*;
use guest_runtime::builder::{self, Plan};
use guest_runtime::{check, check_eq};

use crate::steps::at;
use crate::{GREF, id, steps, with_two};

const LENT: u64 = GTF_PERMIT_ACCESS as u64;

pub fn between_three() {
    with_two(|a, b| {
        let Some(mut c) = builder::running(Plan::SMALL) else {
            return;
        };
        for child in [&mut *a, &mut *b] {
            let frame = child.call(steps::frame, [0; 5]) as u64;
            child.call(steps::entry, [GREF, LENT, id(&c), frame, 0]);
            let to_read = [GREF + 1, LENT | 4, id(&c), frame, 0];
            child.call(steps::entry, to_read);
        }
        let own = c.call(steps::frame, [0; 5]) as u64;
        a.call(steps::write, [0, 0, 0x1111, 0, 0]);
        a.call(steps::write, [0, 511, 0x2222, 0, 0]);
        let (from_a, to_b) = (at(true, GREF, id(a), 0), at(true, GREF, id(b), 0));
        let page = |offset| at(false, own, DOMID_SELF, offset);
        check_eq!(
            "grant to grant",
            c.call(steps::copy, [from_a, to_b, 4096, 0, 0]),
            0
        );
        check_eq!("it is there", b.call(steps::read, [0; 5]), 0x1111);
        check_eq!("to the end", b.call(steps::read, [0, 511, 0, 0, 0]), 0x2222);
        check_eq!(
            "grant to page",
            c.call(steps::copy, [from_a, page(16), 8, 0, 0]),
            0
        );
        check_eq!("it is there", c.call(steps::read, [0, 2, 0, 0, 0]), 0x1111);
        let end = at(true, GREF, id(b), 4088);
        check_eq!(
            "page to grant",
            c.call(steps::copy, [page(16), end, 8, 0, 0]),
            0
        );
        check_eq!(
            "it is there",
            b.call(steps::read, [0, 511, 0, 0, 0]),
            0x1111
        );
        let read_only = at(true, GREF + 1, id(b), 0);
        let general = i64::from(GNTST_GENERAL_ERROR);
        for (what, from, to, status) in [
            ("to what is to be read", page(0), read_only, general),
            ("from what is to be read", read_only, page(0), 0),
            ("unused", at(true, 400, id(a), 0), page(0), general),
            (
                "another's page",
                at(false, own, id(a), 0),
                page(0),
                i64::from(GNTST_PERMISSION_DENIED),
            ),
            (
                "another's page by one's own name",
                at(false, b.root(), DOMID_SELF, 0),
                page(0),
                i64::from(GNTST_BAD_PAGE),
            ),
            (
                "nobody's",
                at(true, GREF, 4711, 0),
                page(0),
                i64::from(GNTST_BAD_DOMAIN),
            ),
            (
                "an end's",
                at(true, GREF, 0x7fe0, 0),
                page(0),
                i64::from(GNTST_BAD_DOMAIN),
            ),
            (
                "over the end",
                at(true, GREF, id(a), 4089),
                page(0),
                i64::from(GNTST_BAD_COPY_ARG),
            ),
            (
                "over the other end",
                from_a,
                page(4089),
                i64::from(GNTST_BAD_COPY_ARG),
            ),
        ] {
            check_eq!(what, c.call(steps::copy, [from, to, 8, 0, 0]), status);
        }
        // What is lent to another is not lent to its neighbour.
        let b_own = at(false, b.call(steps::frame, [0; 5]) as u64, DOMID_SELF, 0);
        check_eq!(
            "lent to another",
            b.call(steps::copy, [from_a, b_own, 8, 0, 0]),
            general
        );
        batch(a, &mut c);
        for child in [&mut *a, &mut *b] {
            check_eq!(
                "no bits",
                child.call(steps::flags, [GREF, 0, 0, 0, 0]),
                LENT as i64
            );
        }
        check!(c.destroy_and_wait(), "the third is gone");
    });
}

/// One bad element changes its own status only.
fn batch(a: &mut guest_runtime::builder::Child, c: &mut guest_runtime::builder::Child) {
    let statuses = c.call(steps::batch, [id(a), GREF, 1, 0, 0]);
    let wanted = [
        GNTST_OKAY,
        GNTST_BAD_DOMAIN,
        GNTST_OKAY,
        GNTST_BAD_GNTREF,
        GNTST_BAD_COPY_ARG,
        GNTST_GENERAL_ERROR,
        GNTST_PERMISSION_DENIED,
        GNTST_OKAY,
    ];
    for (index, wanted) in wanted.into_iter().enumerate() {
        let status = statuses >> (4 * index) & 15;
        check_eq!("each has its own status", status, i64::from(-wanted));
        let word = c.call(steps::read, [1, index as u64, 0, 0, 0]);
        let copied = if wanted == GNTST_OKAY { 0x1111 } else { 0 };
        check_eq!("copied if it is good", word, copied);
    }
}

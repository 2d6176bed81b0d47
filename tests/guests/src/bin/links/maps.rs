//! Mapping another domain's frame.

use guest_runtime::abi::grant::*;
use guest_runtime::builder::{self, Child, Plan};
use guest_runtime::page_table::{self, bits};
use guest_runtime::{check, check_eq, control, frames};
use guests::{lending, refused as is_refused};

use crate::{GREF, id, steps, with_two};

const LENT: u64 = GTF_PERMIT_ACCESS as u64;
const READING: i64 = (GTF_PERMIT_ACCESS | GTF_READING) as i64;
const BITS: i64 = (GTF_PERMIT_ACCESS | GTF_READING | GTF_WRITING) as i64;
const HOST: u64 = GNTMAP_HOST_MAP as u64;
const DEVICE: u64 = GNTMAP_DEVICE_MAP as u64;
const READONLY: u64 = GNTMAP_READONLY as u64;
const USER: u64 = GNTMAP_APPLICATION_MAP as u64;
const BY_ENTRY: u64 = GNTMAP_CONTAINS_PTE as u64;
const WORD: u64 = 0x1234_5678_9abc_def0;

/// `a` lends its page 0 to `b` by [`GREF`], with these flags beside; the frame.
fn lend(a: &mut Child, b: &Child, flags: u64) -> u64 {
    let frame = a.call(steps::frame, [0; 5]) as u64;
    a.call(steps::write, [0, 0, WORD, 0, 0]);
    a.call(steps::entry, [GREF, LENT | flags, id(b), frame, 0]);
    frame
}

fn flags(a: &mut Child) -> i64 {
    a.call(steps::flags, [GREF, 0, 0, 0, 0])
}

/// Each combination of flags: what hangs in the page table, what the granter sees, and that it ends part by part.
pub fn kinds() {
    with_two(|a, b| {
        let frame = lend(a, b, 0);
        let own = bits::PRESENT | bits::NX | frame << 12;
        for how in [0, BY_ENTRY] {
            for (also, entry, used) in [
                (0, bits::WRITE, BITS),
                (READONLY, 0, READING),
                (USER, bits::WRITE, BITS),
                (USER | READONLY | 3 << 16, 3 << 9, READING),
                (DEVICE, bits::WRITE, BITS),
            ] {
                let wanted = HOST | how | also;
                check_eq!("map", b.call(steps::map, [id(a), GREF, wanted, 0, 0]), 0);
                let hangs = b.call(steps::hangs, [0; 5]) as u64;
                check_eq!("the entry", hangs, (own | entry) & !bits::MAY_DIFFER);
                let user = b.call(steps::is_for_user, [0; 5]);
                // A hypervisor may have user mode reach what kernel mode does.
                check!(also & USER == 0 || user == 1, "user mode reaches it");
                check_eq!(
                    "its address",
                    b.call(steps::told, [0; 5]) as u64,
                    frame << 12
                );
                check_eq!("its words", b.call(steps::peek, [0; 5]) as u64, WORD);
                check_eq!("the granter's entry", flags(a), used);
                if also & DEVICE != 0 {
                    check_eq!("one part", b.call(steps::unmap, [0, 1, 0, 0, 0]), 0);
                    check_eq!("in use still", flags(a), used);
                    check_eq!("the other", b.call(steps::unmap, [0, 0, 1, 0, 0]), 0);
                } else {
                    check_eq!("nothing", b.call(steps::unmap, [0; 5]), 0);
                    check_eq!("in use still", flags(a), used);
                    check_eq!("unmap", b.call(steps::unmap, [0, 1, 0, 0, 0]), 0);
                }
                check_eq!("nothing hangs there", b.call(steps::hangs, [0; 5]), 0);
                check_eq!("no bits", flags(a), LENT as i64);
                let again = b.call(steps::unmap, [0, 1, 0, 0, 0]);
                check_eq!("it is unmapped", again, i64::from(GNTST_BAD_HANDLE));
                b.call(steps::put, [0; 5]);
            }
        }
    });
}

/// What an entry must not say, and whom it may name.
pub fn refused() {
    with_two(|a, b| {
        let frame = lend(a, b, 0);
        let (root, others) = (
            a.call(steps::root, [0; 5]) as u64,
            b.call(steps::frame, [0; 5]),
        );
        let general = i64::from(GNTST_GENERAL_ERROR);
        let bad_page = i64::from(GNTST_BAD_PAGE);
        for (what, flags, domain, lent, write, read) in [
            ("nothing", 0, id(b), frame, general, general),
            ("lent to its owner", LENT, id(a), frame, general, general),
            (
                "lent to the control domain",
                LENT,
                0,
                frame,
                general,
                general,
            ),
            ("lent to an end", LENT, 0x7fe0, frame, general, general),
            ("to be read", LENT | 4, id(b), frame, general, 0),
            ("transfer", 2, id(b), frame, general, general),
            (
                "a part of a page",
                LENT | 0x100,
                id(b),
                frame,
                general,
                general,
            ),
            ("a root", LENT, id(b), root, general, 0),
            (
                "the borrower's own",
                LENT,
                id(b),
                others as u64,
                bad_page,
                bad_page,
            ),
            (
                "the control domain's",
                LENT,
                id(b),
                page_table::root().mfn(),
                bad_page,
                bad_page,
            ),
            ("no memory", LENT, id(b), 0xfff_ffff, bad_page, bad_page),
            ("a device", LENT, id(b), 0xfee00, bad_page, bad_page),
        ] {
            a.call(steps::entry, [GREF, flags, domain, lent, 0]);
            for (how, wanted) in [(HOST, write), (HOST | READONLY, read)] {
                let status = b.call(steps::map, [id(a), GREF, how, 0, 0]);
                check_eq!(what, status, wanted);
                if status == 0 {
                    check_eq!("unmap", b.call(steps::unmap, [0, 1, 0, 0, 0]), 0);
                    b.call(steps::put, [0; 5]);
                }
                check_eq!("the entry", self::flags(a), flags as i64);
            }
        }
        lend(a, b, 0);
        let nobody = i64::from(GNTST_BAD_DOMAIN);
        for domain in [0x7fe0, 0x7ff0, 0x7ff1, 0x7ff4, 4711, 0xffff] {
            let status = b.call(steps::map, [domain, GREF, HOST, 0, 0]);
            check_eq!("nobody's grant", status, nobody);
        }
        let own = b.call(steps::map, [id(b), GREF, HOST, 0, 0]);
        check_eq!("an unused one of its own", own, general);
        let beyond = b.call(steps::map, [id(a), 1 << 20, HOST, 0, 0]);
        check_eq!("beyond the table", beyond, i64::from(GNTST_BAD_GNTREF));
    });
}

/// Who has mapped a frame may do with it what the grant says, and nothing else.
pub fn borrowed() {
    with_two(|a, b| {
        lend(a, b, 0);
        check_eq!("map", b.call(steps::map, [id(a), GREF, HOST, 0, 0]), 0);
        is_refused(
            "a mapping without a grant",
            b.call(steps::map_again, [0; 5]),
        );
        is_refused("a table of what is borrowed", b.call(steps::pin, [0; 5]));
        b.call(steps::poke, [0, 7, 99, 0, 0]);
        check_eq!("written", a.call(steps::read, [0, 7, 0, 0, 0]), 99);
        // The granter changes its mind: who has it has it, and nobody new gets it.
        a.call(steps::entry, [GREF, 0, 0, 0, 0]);
        // Xen looks at the entry of a grant in use no more, and lets who has it mapped have it again.
        let again = b.call(steps::map, [id(a), GREF, HOST, 1, 0]);
        let refused = again == i64::from(GNTST_GENERAL_ERROR);
        check!(refused || !control::is_ours() && again == 0, "taken back");
        if !refused {
            check_eq!("unmap", b.call(steps::unmap, [1, 1, 0, 0, 0]), 0);
            b.call(steps::put, [1, 0, 0, 0, 0]);
        }
        check_eq!("mapped still", b.call(steps::peek, [0, 7, 0, 0, 0]), 99);
        check_eq!("unmap", b.call(steps::unmap, [0, 1, 0, 0, 0]), 0);
        check_eq!("the entry", flags(a), 0);
        b.call(steps::put, [0; 5]);
        // Another frame in an entry that is in use.
        lend(a, b, 0);
        check_eq!("map", b.call(steps::map, [id(a), GREF, HOST, 0, 0]), 0);
        let other = a.call(steps::frame, [1, 0, 0, 0, 0]) as u64;
        a.call(steps::entry, [GREF, BITS as u64, id(b), other, 0]);
        let read = b.call(steps::map, [id(a), GREF, HOST | READONLY, 1, 0]);
        check!(read <= 0, "the other one, or refused");
        if read == 0 {
            check_eq!("unmap", b.call(steps::unmap, [1, 1, 0, 0, 0]), 0);
            b.call(steps::put, [1, 0, 0, 0, 0]);
        }
        check_eq!("the first", b.call(steps::peek, [0; 5]) as u64, WORD);
        check_eq!("unmap", b.call(steps::unmap, [0, 1, 0, 0, 0]), 0);
        b.call(steps::put, [0; 5]);
        check_eq!("no bits", flags(a), LENT as i64);
    });
}

/// A domain that dies gives back all it has mapped of the control domain's, in every form.
pub fn borrower_dies() {
    let Some(mut child) = builder::running(Plan::SMALL) else {
        return;
    };
    let pages = [frames::allocate(), frames::allocate(), frames::allocate()];
    let hows = [HOST, HOST | READONLY, DEVICE];
    for (at, (page, how)) in pages.iter().zip(hows).enumerate() {
        let gref = lending::FIRST + at as u32;
        lending::lend(gref, child.id, page.mfn(), false);
        let mapped = child.call(steps::map, [0, u64::from(gref), how, at as u64, 0]);
        check_eq!("map", mapped, 0);
        check!(i64::from(lending::flags(gref)) >= READING, "in use");
    }
    child.call(steps::poke, [0, 3, 7, 0, 0]);
    check_eq!("written", pages[0].read(3), 7);
    check!(child.destroy_and_wait(), "the child is gone");
    for (at, page) in pages.into_iter().enumerate() {
        let gref = lending::FIRST + at as u32;
        check_eq!("no bits", lending::take_back(gref), GTF_PERMIT_ACCESS);
        frames::release(page);
    }
}

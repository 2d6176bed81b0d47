//! Grants between two children.

use guest_runtime::abi::grant::{
    GNTST_BAD_GNTREF, GNTST_GENERAL_ERROR, GTF_PERMIT_ACCESS, GTF_READING, GTF_READONLY,
    GTF_WRITING,
};
use guest_runtime::builder::Child;
use guest_runtime::frames;
use guest_runtime::{check, check_eq};
use guests::lending;

use crate::{steps, with_two};

const GENERAL: i64 = GNTST_GENERAL_ERROR as i64;
const WORD: u64 = 0x1122_3344_5566_7788;

fn id(child: &Child) -> u64 {
    u64::from(child.id)
}

/// Mapping, writing, reading, copying, and what is refused.
pub fn between_two() {
    with_two(|mut a, mut b| {
        let (to, from) = (id(&b), id(&a));
        a.call(steps::lend, [8, to, WORD, 0, 0]);
        a.call(steps::lend, [9, to, WORD + 1, 1, 0]);
        a.call(steps::lend, [10, from, WORD + 2, 0, 0]);
        check_eq!("map", b.call(steps::map, [from, 8, 0, 0, 0]), 0);
        check_eq!(
            "what is there",
            b.call(steps::word, [0, 0, 0, 0, 0]),
            WORD as i64
        );
        check_eq!("a write", b.call(steps::set_word, [0, 3, 77, 0, 0]), 0);
        check_eq!("is seen", a.call(steps::own_word, [8, 3, 0, 0, 0]), 77);
        let used = i64::from(GTF_PERMIT_ACCESS | GTF_READING | GTF_WRITING);
        check_eq!(
            "the entry in use",
            a.call(steps::flags, [8, 0, 0, 0, 0]),
            used
        );
        check_eq!(
            "a second mapping",
            b.call(steps::map, [from, 8, 1, 1, 0]),
            0
        );
        check_eq!("unmap the first", b.call(steps::unmap, [0; 5]), 0);
        let read = i64::from(GTF_PERMIT_ACCESS | GTF_READING);
        check_eq!(
            "the entry still read",
            a.call(steps::flags, [8, 0, 0, 0, 0]),
            read
        );
        check_eq!(
            "a write faults",
            b.call(steps::set_word, [1, 3, 78, 0, 0]),
            14
        );
        check_eq!("unmap the second", b.call(steps::unmap, [1, 0, 0, 0, 0]), 0);
        let free = i64::from(GTF_PERMIT_ACCESS);
        check_eq!(
            "the entry unused",
            a.call(steps::flags, [8, 0, 0, 0, 0]),
            free
        );

        check_eq!(
            "to write what is to read",
            b.call(steps::map, [from, 9, 2, 0, 0]),
            GENERAL
        );
        check_eq!("to read it", b.call(steps::map, [from, 9, 2, 1, 0]), 0);
        check_eq!(
            "what is there",
            b.call(steps::word, [2, 0, 0, 0, 0]),
            WORD as i64 + 1
        );
        check_eq!(
            "what is another's",
            b.call(steps::map, [from, 10, 3, 0, 0]),
            GENERAL
        );
        check_eq!(
            "what nobody lends",
            b.call(steps::map, [from, 11, 3, 0, 0]),
            GENERAL
        );
        let beyond = b.call(steps::map, [from, 5000, 3, 0, 0]);
        check_eq!("beyond the table", beyond, i64::from(GNTST_BAD_GNTREF));
        // The control domain is just another domain here.
        let page = frames::allocate();
        let ours = lending::map_at(page.va(), a.id, 8, false);
        check_eq!("another's grant, to the control domain", ours, Err(GENERAL));
        check_eq!(
            "nor a copy of it",
            lending::copy_from(a.id, 8, page, 64),
            GENERAL
        );
        check_eq!("the page", page.read(0), 0);
        frames::release(page);
        let readonly = i64::from(GTF_PERMIT_ACCESS | GTF_READONLY | GTF_READING);
        check_eq!(
            "the entry read",
            a.call(steps::flags, [9, 0, 0, 0, 0]),
            readonly
        );
        check_eq!("unmap", b.call(steps::unmap, [2, 0, 0, 0, 0]), 0);
        [Some(a), Some(b)]
    });
}

/// The granter clears the entry while it is mapped: the mapping stays what it was, and ends as ever.
pub fn taken_back() {
    with_two(|mut a, mut b| {
        let (to, from) = (id(&b), id(&a));
        a.call(steps::lend, [8, to, WORD, 0, 0]);
        check_eq!("map", b.call(steps::map, [from, 8, 0, 0, 0]), 0);
        let used = i64::from(GTF_PERMIT_ACCESS | GTF_READING | GTF_WRITING);
        check_eq!(
            "taken back",
            a.call(steps::take_back, [8, 0, 0, 0, 0]),
            used
        );
        check_eq!(
            "it is there",
            b.call(steps::word, [0, 0, 0, 0, 0]),
            WORD as i64
        );
        check_eq!(
            "and may be written",
            b.call(steps::set_word, [0, 5, 6, 0, 0]),
            0
        );
        check_eq!("the same page", a.call(steps::own_word, [8, 5, 0, 0, 0]), 6);
        // While it is in use Xen remembers what it was; then a second mapping is of the same page.
        if b.call(steps::map, [from, 8, 1, 0, 0]) == 0 {
            let word = b.call(steps::word, [1, 5, 0, 0, 0]);
            check_eq!("a mapping after it was taken back", word, 6);
            check_eq!("unmap", b.call(steps::unmap, [1, 0, 0, 0, 0]), 0);
        }
        // The entry serves another page meanwhile, to be read.
        a.call(steps::lend, [8, to, WORD + 9, 1, 0]);
        check_eq!(
            "the first is still that",
            b.call(steps::word, [0, 5, 0, 0, 0]),
            6
        );
        check_eq!("unmap", b.call(steps::unmap, [0; 5]), 0);
        check!(b.call(steps::unmap, [0; 5]) < 0, "unmap again");
        check_eq!("the second one", b.call(steps::map, [from, 8, 2, 1, 0]), 0);
        check_eq!(
            "is the second",
            b.call(steps::word, [2, 0, 0, 0, 0]),
            WORD as i64 + 9
        );
        check_eq!("unmap", b.call(steps::unmap, [2, 0, 0, 0, 0]), 0);
        [Some(a), Some(b)]
    });
}

/// The granter gives the page up while it is mapped: it is nobody's new page until the mapping ends.
pub fn given_up() {
    with_two(|mut a, mut b| {
        let (to, from) = (id(&b), id(&a));
        let frame = a.call(steps::lend, [8, to, WORD, 0, 0]);
        check_eq!("map", b.call(steps::map, [from, 8, 0, 0, 0]), 0);
        let gone = a.call(steps::give_up, [8, 0, 0, 0, 0]);
        check!(
            gone == 1 || gone == 0,
            "given up, or refused while it is lent"
        );
        check_eq!(
            "it is there",
            b.call(steps::word, [0, 0, 0, 0, 0]),
            WORD as i64
        );
        check_eq!(
            "and may be written",
            b.call(steps::set_word, [0, 1, 2, 0, 0]),
            0
        );
        if gone == 1 {
            let new = a.call(steps::take_new, [8, 0, 0, 0, 0]);
            // None while the old one still counts, or another.
            check!(new != frame, "the new page is not the old one");
            if new > 1 {
                check_eq!(
                    "nothing is in it",
                    a.call(steps::own_word, [8, 1, 0, 0, 0]),
                    0
                );
            }
        }
        check_eq!("still the page", b.call(steps::word, [0, 1, 0, 0, 0]), 2);
        check_eq!("unmap", b.call(steps::unmap, [0; 5]), 0);
        [Some(a), Some(b)]
    });
}

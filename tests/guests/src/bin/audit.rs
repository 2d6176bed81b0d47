//! Attacks the audit hypercall: wrong versions, operations, domains and pointers; and proves that what it counts is
//! what there is, moves with what a guest does, and is back where it was when all is undone.
#![cfg_attr(target_os = "none", no_std, no_main)]

use guest_runtime::abi::xeno::{Audit, XENO_INTERFACE_VERSION};
use guest_runtime::abi::{DOMID_SELF, MulticallEntry, XenMemoryReservation, errno, mmuext, nr};
use guest_runtime::entry::start_info;
use guest_runtime::frames::{self, Page};
use guest_runtime::hypercall::{call, mmuext as op, multicall};
use guest_runtime::page_table;
use guest_runtime::{check_eq, guest, skip};
use guests::accepted;

guest!(audit, main);

const AUDIT: u64 = 0;
const UNTYPED: usize = 0;
const WRITABLE: usize = 1;
const L1: usize = 2;

fn question() -> Audit {
    Audit {
        version: XENO_INTERFACE_VERSION,
        domid: DOMID_SELF as u16,
        ..Audit::ZERO
    }
}

fn ask(audit: &mut Audit) -> i64 {
    call(nr::XENO_OP, [AUDIT, &raw mut *audit as u64, 0, 0, 0])
}

fn audit() -> Audit {
    let mut audit = question();
    accepted("an audit", ask(&mut audit));
    audit
}

fn main() {
    if ask(&mut question()) == -errno::ENOSYS {
        skip!("another hypervisor, which has no audit");
        return;
    }
    sums();
    wrong_questions();
    wrong_pointers();
    across_a_page();
    pins_come_and_go();
    frames_come_and_go();
    batches();
}

fn sums() {
    let audit = audit();
    check_eq!("no count is wrong", audit.mismatches, 0);
    check_eq!(
        "owners add up",
        audit.free + audit.hypervisor + audit.domain + audit.others,
        audit.frames
    );
    check_eq!(
        "types add up",
        audit.frames_by_type.iter().sum::<u64>(),
        audit.domain
    );
    check_eq!(
        "the domain has its pages, the shared one and the first of its grant table",
        audit.domain,
        start_info().nr_pages + 2
    );
    check_eq!("there is no other domain", audit.others, 0);
    check_eq!("the domain is named", audit.domid, 0);
    check_eq!("one root is in use", audit.frames_by_type[5], 1);
    let mut by_number = question();
    by_number.domid = 0;
    accepted("an audit by number", ask(&mut by_number));
    check_eq!("nothing changed meanwhile", by_number, audit);
}

fn wrong_questions() {
    for version in [0, 2, u32::MAX] {
        let mut audit = Audit {
            version,
            ..question()
        };
        check_eq!(
            "a version there is none of",
            ask(&mut audit),
            -errno::EINVAL
        );
        check_eq!("nothing was answered", audit.frames, 0);
    }
    for domid in [1, 63, 64, 0x7ff1, 0x7ff2, 0x7fff, 0xffff] {
        let mut audit = Audit {
            domid,
            ..question()
        };
        check_eq!("a domain there is none of", ask(&mut audit), -errno::ESRCH);
    }
    for operation in [1, 64, 0x7fff_ffff, 0xffff_ffff] {
        let mut audit = question();
        let at = &raw mut audit as u64;
        let result = call(nr::XENO_OP, [operation, at, 0, 0, 0]);
        check_eq!("an operation there is none of", result, -errno::ENOSYS);
    }
}

fn wrong_pointers() {
    for address in [0, 8, 0xffff_8000_0000_0000, 0x8000_0000_0000, u64::MAX - 7] {
        check_eq!(
            "an audit nowhere",
            call(nr::XENO_OP, [AUDIT, address, 0, 0, 0]),
            -errno::EFAULT
        );
    }
    let page = frames::allocate();
    put(page, 0);
    accepted("read-only", page_table::protect(page));
    check_eq!(
        "an audit to read-only memory",
        call(nr::XENO_OP, [AUDIT, page.va(), 0, 0, 0]),
        -errno::EFAULT
    );
    check_eq!("nothing was written", page.read(2), 0);
    accepted("writable", page_table::unprotect(page));
    frames::release(page);
}

/// Writes a question at word `index` of a page.
fn put(page: Page, index: usize) {
    page.write(index, u64::from(XENO_INTERFACE_VERSION) | DOMID_SELF << 32);
}

/// An answer may lie across two pages; if the second is not there, nothing is written to the first.
fn across_a_page() {
    let (first, second) = neighbours();
    put(first, 510);
    let at = first.va() + 510 * 8;
    accepted(
        "an audit across pages",
        call(nr::XENO_OP, [AUDIT, at, 0, 0, 0]),
    );
    // Words 2 and 3 of the answer: all frames, free frames.
    check_eq!("the second page has its part", second.read(0) != 0, true);
    first.write(511, 77);
    accepted("hidden", page_table::hide(second));
    check_eq!(
        "an audit that ends nowhere",
        call(nr::XENO_OP, [AUDIT, at, 0, 0, 0]),
        -errno::EFAULT
    );
    check_eq!("the first page is as it was", first.read(511), 77);
    accepted("shown", page_table::unprotect(second));
    frames::release(first);
    frames::release(second);
}

/// Two pages that follow each other.
fn neighbours() -> (Page, Page) {
    let mut last = frames::allocate();
    loop {
        let next = frames::allocate();
        if next.va() == last.va() + 4096 {
            return (last, next);
        }
        last = next;
    }
}

fn pins_come_and_go() {
    let before = audit();
    let page = page_table::new_table();
    let protected = audit().frames_by_type;
    check_eq!(
        "a page without writable mapping is in no use",
        (protected[UNTYPED], protected[WRITABLE]),
        (
            before.frames_by_type[UNTYPED] + 1,
            before.frames_by_type[WRITABLE] - 1
        )
    );
    accepted("pin", op(mmuext::PIN_L1, page.mfn(), 0));
    let pinned = audit();
    check_eq!("no count is wrong", pinned.mismatches, 0);
    check_eq!(
        "a pinned table is counted as one",
        pinned.frames_by_type[L1],
        before.frames_by_type[L1] + 1
    );
    accepted("unpin", op(mmuext::UNPIN, page.mfn(), 0));
    accepted("writable again", page_table::unprotect(page));
    frames::release(page);
    check_eq!("all is back", audit(), before);
}

fn frames_come_and_go() {
    let before = audit();
    let page = frames::allocate();
    let mut list = [page.mfn()];
    accepted("hidden", page_table::hide(page));
    check_eq!("given up", reservation(1, &mut list), 1);
    let without = audit();
    check_eq!("no count is wrong", without.mismatches, 0);
    check_eq!(
        "a frame changed hands",
        (without.domain, without.free),
        (before.domain - 1, before.free + 1)
    );
    list[0] = page.pfn;
    check_eq!("taken", reservation(6, &mut list), 1);
    frames::set_mfn(page, list[0]);
    accepted("mapped", page_table::unprotect(page));
    frames::release(page);
    check_eq!("all is back", audit(), before);
}

fn reservation(operation: u64, list: &mut [u64; 1]) -> i64 {
    let mut argument = XenMemoryReservation {
        extent_start: list.as_mut_ptr() as u64,
        nr_extents: 1,
        domid: DOMID_SELF as u16,
        ..XenMemoryReservation::ZERO
    };
    call(
        nr::MEMORY_OP,
        [operation, &raw mut argument as u64, 0, 0, 0],
    )
}

/// In a batch each audit is answered; a batch is continued after each.
fn batches() {
    let mut answers = [question(); 4];
    let entry = |answer: &mut Audit| MulticallEntry {
        op: nr::XENO_OP,
        args: [AUDIT, &raw mut *answer as u64, 0, 0, 0, 0],
        ..MulticallEntry::ZERO
    };
    let mut calls = answers.each_mut().map(entry);
    accepted("a batch of audits", multicall(&mut calls));
    for (call, answer) in calls.iter().zip(&answers) {
        check_eq!("each is done", call.result, 0);
        check_eq!("each says the same", *answer, answers[0]);
    }
    check_eq!("and it is right", answers[0].mismatches, 0);
}

//! Attacks reuse of memory: some vCPUs read a page in a tight loop while another takes its frame from under them, without
//! telling anybody to forget the translation, and gives it up; the frame then becomes other memory of ours, or of another
//! domain, and is marked. Proves that whoever still had the translation faults or reads what was there before: never a
//! mark, and never what the hypervisor leaves in a frame between two owners.
//!
//! xtask: hv=dom0_max_vcpus=4
//! xtask: parallel=2
//! xtask: parallel_full=4
#![cfg_attr(target_os = "none", no_std, no_main)]

use core::sync::atomic::{AtomicU64, Ordering};

use guest_runtime::abi::{DOMID_SELF, XenMemoryReservation, memory, nr};
use guest_runtime::frames::{self, Page};
use guest_runtime::hypercall::{call, update_va_mapping};
use guest_runtime::page_table::{self, bits};
use guest_runtime::{Global, check, check_eq, control, guest, say};
use guests::accepted;
use guests::racers::code::read;
use guests::racers::{self, FAULTED, Racer, expect, give_way};

guest!(stale, main);

/// Times that the frame goes, in a round each.
const ROUNDS: u64 = 400;
/// What is in the page, and what is put into its frame elsewhere.
const CONTENTS: u64 = 0x00c0_ffee_00c0_ffee;
const MARK: u64 = 0x0bad_0bad_0bad_0bad;

/// The page that is read.
static PAGE: Global<Page> = Global::new(Page { pfn: 0 });
/// The last round that is over for the readers.
static OVER: AtomicU64 = AtomicU64::new(0);
/// Reads that found the page, and that did not.
static READ: AtomicU64 = AtomicU64::new(0);
static NOT_THERE: AtomicU64 = AtomicU64::new(0);

fn main() {
    let (page, elsewhere) = (frames::allocate(), frames::allocate());
    fill(page, CONTENTS);
    accepted("hidden", page_table::hide(elsewhere));
    let spare = elsewhere.mfn();
    PAGE.set(page);
    let child = control::create(&control::ordinary(1)).unwrap_or(0);
    check!(child != 0, "a child");
    accepted("its memory", control::max_mem(child, 4));
    racers::start(3, watch);
    let mut same = [0; 2];
    for round in 1..=ROUNDS {
        let of = round % 2;
        let owner = if of == 0 { DOMID_SELF as u16 } else { child };
        racers::begin();
        give_way();
        same[of as usize] += u64::from(goes_to(owner, page, elsewhere));
        give_way();
        OVER.store(round, Ordering::Release);
        if !racers::end() {
            break;
        }
    }
    racers::stop();
    check_eq!("the child is destroyed", control::destroy(child), 0);
    let (found, not) = (
        READ.load(Ordering::Relaxed),
        NOT_THERE.load(Ordering::Relaxed),
    );
    say!(
        "{found} reads found the page, {not} did not; its frame was ours again {} times, the child's {}",
        same[0],
        same[1]
    );
    check!(found > 0 && not > 0, "it was there, and was not");
    check!(same[0] > 0 && same[1] > 0, "it was the same frame");
    frames::set_mfn(elsewhere, spare);
    accepted("mapped", page_table::unprotect(elsewhere));
    frames::release(elsewhere);
    page.clear();
    frames::release(page);
    if let Some(audit) = control::audit(DOMID_SELF as u16) {
        check_eq!("counts that are wrong", audit.mismatches, 0);
    }
}

fn fill(page: Page, word: u64) {
    for index in 0..512 {
        page.write(index, word);
    }
}

/// A reader's round.
fn watch(racer: &mut Racer) {
    let at = PAGE.get().va() + 8 * racer.below(512);
    while OVER.load(Ordering::Acquire) < racer.round {
        match read(at) {
            FAULTED => NOT_THERE.fetch_add(1, Ordering::Relaxed),
            value => {
                expect("what is read in the page", value, CONTENTS);
                READ.fetch_add(1, Ordering::Relaxed)
            }
        };
        racer.now_and_then();
    }
}

/// One frame, below the address that `near` lies below: the reservation's result.
fn reservation(operation: u64, domain: u16, list: &mut [u64; 1], near: u64) -> i64 {
    let argument = XenMemoryReservation {
        extent_start: list.as_mut_ptr() as u64,
        nr_extents: 1,
        mem_flags: 64 - (near << 12).leading_zeros(),
        domid: domain,
        ..XenMemoryReservation::ZERO
    };
    call(
        nr::MEMORY_OP,
        [operation, &raw const argument as u64, 0, 0, 0],
    )
}

/// A new frame of `owner`'s.
fn new_frame(owner: u16, number: u64, near: u64) -> u64 {
    let mut list = [number];
    let got = reservation(memory::POPULATE_PHYSMAP, owner, &mut list, near);
    check_eq!("a frame", got, 1);
    list[0]
}

/// The page's frame goes, and one of `owner`'s is marked and goes in turn; then there is a page again. Says whether that
/// frame was the same.
fn goes_to(owner: u16, page: Page, elsewhere: Page) -> bool {
    let old = page.mfn();
    let slot = page_table::slot(page.va()).expect("the pool is mapped");
    // Nothing is flushed here: translations stand until the hypervisor ends them.
    accepted("gone", slot.set(0));
    let mut list = [old];
    let given = reservation(
        memory::DECREASE_RESERVATION,
        DOMID_SELF as u16,
        &mut list,
        old,
    );
    check_eq!("given up", given, 1);
    let ours = owner == DOMID_SELF as u16;
    let marked = new_frame(owner, if ours { page.pfn } else { 0 }, old);
    let entry = |mfn: u64| mfn << 12 | bits::KERNEL_RW | bits::NX;
    let place = page_table::slot(elsewhere.va()).expect("the pool is mapped");
    let put = |mfn: u64, word: u64| {
        let mapped = match ours {
            true => update_va_mapping(elsewhere.va(), entry(mfn)),
            false => control::map_foreign(place.maddr(), entry(mfn), owner),
        };
        accepted("mapped elsewhere", mapped);
        fill(elsewhere, word);
        give_way();
    };
    put(marked, MARK);
    let new = if ours {
        marked
    } else {
        accepted("not there any more", page_table::hide(elsewhere));
        let mut list = [marked];
        let given = reservation(memory::DECREASE_RESERVATION, owner, &mut list, old);
        check_eq!("given up by the child", given, 1);
        new_frame(DOMID_SELF as u16, page.pfn, old)
    };
    accepted(
        "mapped where it is made a page",
        update_va_mapping(elsewhere.va(), entry(new)),
    );
    fill(elsewhere, CONTENTS);
    frames::set_mfn(page, new);
    accepted("a page again", slot.set(entry(new)));
    accepted("and nothing else", page_table::hide(elsewhere));
    marked == old
}

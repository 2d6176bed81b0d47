//! Attacks the bound on a domain's memory: some vCPUs exchange frames while another maps and unmaps those very frames, so
//! that one may be mapped between the look that finds it unmapped and the moment it goes. Proves that a frame is exchanged
//! or mapped, never both: the domain never has more frames than it had, and every count is right.
//!
//! xtask: hv=dom0_max_vcpus=4
//! xtask: parallel=2
//! xtask: parallel_full=4
#![cfg_attr(target_os = "none", no_std, no_main)]

use core::sync::atomic::{AtomicU64, Ordering};

use guest_runtime::abi::{
    DOMID_SELF, XenMemoryDomain, XenMemoryExchange, XenMemoryReservation, errno, memory, mmuext, nr,
};
use guest_runtime::frames::{self, Page};
use guest_runtime::hypercall::{call, mmuext as op};
use guest_runtime::page_table::{self, Slot, bits};
use guest_runtime::{Global, check, check_eq, control, guest, say};
use guests::accepted;
use guests::racers::{self, Racer, expect};

guest!(exchange_raced, main);

/// Rounds, and most attempts of each racer in a round.
const ROUNDS: u64 = 10;
const ATTEMPTS: u64 = 400;
/// Frames that are fought for: each exchanger has its own.
const FRAMES: usize = 2;

/// Their numbers, as far as is known.
static MFNS: [AtomicU64; FRAMES] = [const { AtomicU64::new(0) }; FRAMES];
/// The pages that they are.
static PAGES: Global<[Page; FRAMES]> = Global::new([Page { pfn: 0 }; FRAMES]);
/// A pinned table to map them in.
static TABLE: Global<Page> = Global::new(Page { pfn: 0 });
/// How often one was exchanged, was not because it was mapped, was mapped, and was not because it had gone.
static COUNTS: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

fn main() {
    let pages = [(); FRAMES].map(|()| frames::allocate());
    for (page, mfn) in pages.iter().zip(&MFNS) {
        accepted("hidden", page_table::hide(*page));
        mfn.store(page.mfn(), Ordering::Relaxed);
    }
    PAGES.set(pages);
    let table = page_table::new_table();
    accepted("a table", op(mmuext::PIN_L1, table.mfn(), 0));
    TABLE.set(table);
    let before = reservation();
    racers::start(3, |racer| {
        racer.often(ATTEMPTS, |racer| match racer.number {
            0 => map(racer),
            _ => exchange(racer),
        });
    });
    for _ in 0..ROUNDS {
        let fine = racers::round();
        check_eq!("frames of the domain", reservation(), before);
        recount();
        if !fine {
            break;
        }
    }
    racers::stop();
    let counts = COUNTS.each_ref().map(|count| count.load(Ordering::Relaxed));
    let [exchanged, in_use, mapped, gone] = counts;
    say!("{exchanged} exchanged, {in_use} in use, {mapped} mapped, {gone} gone");
    check!(exchanged > 0 && mapped > 0, "both were tried");
    finish(pages, table);
    check_eq!("and of the domain at the end", reservation(), before);
    recount();
}

fn reservation() -> i64 {
    let who = XenMemoryDomain {
        domid: DOMID_SELF as u16,
    };
    let argument = &raw const who as u64;
    call(
        nr::MEMORY_OP,
        [memory::CURRENT_RESERVATION, argument, 0, 0, 0],
    )
}

fn recount() {
    if let Some(audit) = control::audit(DOMID_SELF as u16) {
        check_eq!("counts that are wrong", audit.mismatches, 0);
    }
}

fn count(what: usize) {
    COUNTS[what].fetch_add(1, Ordering::Relaxed);
}

/// Maps a frame, and after a while no more.
fn map(racer: &mut Racer) {
    let frame = racer.below(FRAMES as u64) as usize;
    let slot = Slot {
        table: TABLE.get(),
        index: frame,
    };
    let access = [bits::KERNEL_RO, bits::KERNEL_RW][racer.below(2) as usize];
    let mfn = MFNS[frame].load(Ordering::Acquire);
    match slot.set(mfn << 12 | access | bits::NX) {
        0 => count(2),
        error if error == -errno::EPERM || error == -errno::EINVAL => count(3),
        error => racers::wrong("a mapping of a frame that may have gone", 0, error as u64),
    }
    racer.now_and_then();
    expect("no mapping", slot.set(0) as u64, 0);
    racer.now_and_then();
}

/// Exchanges a frame for another.
fn exchange(racer: &mut Racer) {
    let frame = racer.number - 1;
    let old = MFNS[frame].load(Ordering::Acquire);
    let mut new = PAGES.get()[frame].pfn;
    let list = |at: *const u64| XenMemoryReservation {
        extent_start: at as u64,
        nr_extents: 1,
        domid: DOMID_SELF as u16,
        ..XenMemoryReservation::ZERO
    };
    let mut trade = XenMemoryExchange {
        give: list(&raw const old),
        get: list(&raw mut new),
        ..XenMemoryExchange::ZERO
    };
    let argument = &raw mut trade as u64;
    match call(nr::MEMORY_OP, [memory::EXCHANGE, argument, 0, 0, 0]) {
        0 => {
            // SAFETY: a word of ours, which the call wrote.
            let new = unsafe { (&raw mut new).read_volatile() };
            expect("extents exchanged", trade_count(&trade), 1);
            MFNS[frame].store(new, Ordering::Release);
            count(0);
        }
        error if error == -errno::EINVAL => count(1),
        error => racers::wrong("an exchange of a frame in use", 0, error as u64),
    }
    racer.now_and_then();
}

fn trade_count(trade: &XenMemoryExchange) -> u64 {
    // SAFETY: a word of ours, which the call wrote.
    unsafe { (&raw const trade.nr_exchanged).read_volatile() }
}

/// All is as it was, but for the numbers.
fn finish(pages: [Page; FRAMES], table: Page) {
    for (page, mfn) in pages.into_iter().zip(&MFNS) {
        let mfn = mfn.load(Ordering::Relaxed);
        check_eq!("its page", frames::mfn_to_pfn(mfn), page.pfn);
        frames::set_mfn(page, mfn);
        accepted("mapped", page_table::unprotect(page));
        frames::release(page);
    }
    accepted("no table", op(mmuext::UNPIN, table.mfn(), 0));
    page_table::release_table(table);
}

//! Crashes in its first life while other domains exist in every stage, map its frames and each other's and have theirs
//! mapped; and proves in its second that none of them is left, that the same frames are free as when the first life
//! began, and that domains can be built again.
//! xtask: hv=dom0_crash=restart
//! xtask: memory=512M
//! xtask: seconds=120
//! xtask: parallel=4
//! xtask: parallel_full=8
#![cfg_attr(target_os = "none", no_std, no_main)]

use guest_runtime::abi::{DOMID_SELF, DomctlCommand, ShutdownReason, errno};
use guest_runtime::abi::{Domctl, Physinfo, Sysctl, SysctlCommand, xeno::Audit};
use guest_runtime::builder::{self, Child, Plan, Stage};
use guest_runtime::frames;
use guest_runtime::{check, check_eq, control, guest, hypercall, page_table, say};
use guests::{accepted, clock_chip, lending};

guest!(restarted_with_guests, main);

const WORD: u64 = 0x6c65_6e74_2077_6f72;
/// A number whose name needs a frame of its own, which the hypervisor keeps.
const FAR: u16 = 5000;
const KEPT: u64 = 1;

fn main() {
    clock_chip::open();
    let last = clock_chip::take();
    if last.is_none() {
        each_processor_has_had_a_vcpu();
    }
    let Some(now) = control::audit(DOMID_SELF as u16) else {
        return check::fail(format_args!("no audit"));
    };
    match last {
        Some(free) => second_life(&now, free),
        None => first_life(&now),
    }
}

/// The tables in which a processor's vCPUs are grow with its first, and stay with it: they are no domain's.
fn each_processor_has_had_a_vcpu() {
    let mut machine = Sysctl::new(SysctlCommand::Physinfo);
    accepted("physinfo", control::sysctl(&mut machine));
    let plan = Plan {
        // Siblings go to a processor each.
        vcpus: machine.payload::<Physinfo>().nr_cpus,
        until: Stage::HasVcpus,
        ..Plan::SMALL
    };
    let child = builder::build(plan).ok();
    check!(child.is_some_and(Child::destroy_and_wait), "one on each");
}

fn first_life(now: &Audit) {
    check_eq!("no count is wrong in the first life", now.mismatches, 0);
    clock_chip::keep(now.free);
    let (Some(mut one), Some(mut two), Some(mut busy), Some(mut down), Some(mut gone)) = (
        builder::running(Plan::SMALL),
        builder::running(Plan::SMALL),
        builder::running(Plan::SMALL),
        builder::running(Plan::SMALL),
        builder::running(Plan::SMALL),
    ) else {
        return;
    };
    borrow_from_child(&mut one, 8);
    borrow_from_child(&mut gone, 8);
    child_borrows(&mut one, 8);
    child_borrows(&mut two, 9);
    child_borrows(&mut down, 10);
    between(&mut one, &mut two, 9);
    between(&mut two, &mut one, 9);
    between(&mut gone, &mut two, 10);
    between(&mut one, &mut gone, 11);
    down.start(|_| hypercall::shutdown(ShutdownReason::Poweroff), [0; 5]);
    check_eq!(
        "one shuts down",
        down.wait_shutdown(),
        builder::reason(ShutdownReason::Poweroff)
    );
    half_built();
    far_away();
    let dying = gone.id;
    check_eq!("one is destroyed", gone.destroy(), 0);
    check!(
        control::info(dying).is_ok(),
        "it is listed: its frames are mapped"
    );
    busy.start(
        |_| loop {
            core::hint::spin_loop()
        },
        [0; 5],
    );
    let full = control::audit(DOMID_SELF as u16);
    check_eq!(
        "no count is wrong at its end",
        full.map(|full| full.mismatches),
        Some(0)
    );
    say!("restarted_with_guests: the first life crashes");
    hypercall::shutdown(ShutdownReason::Crash)
}

fn second_life(now: &Audit, free: u64) {
    check_eq!("no count is wrong in the second life", now.mismatches, 0);
    check_eq!(
        "as many frames are free as when the first began",
        now.free + KEPT,
        free
    );
    check_eq!("there is no other's frame", now.others, 0);
    for id in (1..12).chain([FAR]) {
        check_eq!(
            "there is no other domain",
            control::info(id).err(),
            Some(-errno::ESRCH)
        );
    }
    let Some(mut child) = builder::running(Plan::SMALL) else {
        return;
    };
    check_eq!(
        "a step",
        child.call(|[a, b, ..]| (a + b) as i64, [40, 2, 0, 0, 0]),
        42
    );
    child_borrows(&mut child, 8);
    check!(child.destroy_and_wait(), "it is gone");
}

/// Step: lends a page: entry, domain. Its frame.
fn lend([gref, to, ..]: [u64; 5]) -> i64 {
    let page = frames::allocate();
    page.write(3, WORD);
    lending::lend(gref as u32, to as u16, page.mfn(), false);
    page.mfn() as i64
}

/// Step: maps what a domain lends, and leaves it so: domain, entry. A word of it.
fn borrow([from, gref, ..]: [u64; 5]) -> i64 {
    let window = frames::allocate();
    match lending::map_at(window.va(), from as u16, gref as u32, false) {
        Ok(_) => window.read(3) as i64,
        Err(error) => error,
    }
}

fn child_borrows(child: &mut Child, gref: u64) {
    lend([gref, u64::from(child.id), 0, 0, 0]);
    let read = child.call(borrow, [0, gref, 0, 0, 0]);
    check_eq!("a child maps a page of ours", read as u64, WORD);
}

fn borrow_from_child(child: &mut Child, gref: u64) {
    child.call(lend, [gref, 0, 0, 0, 0]);
    let read = borrow([u64::from(child.id), gref, 0, 0, 0]);
    check_eq!("a page of a child's is mapped", read as u64, WORD);
}

fn between(lender: &mut Child, borrower: &mut Child, gref: u64) {
    lender.call(lend, [gref, u64::from(borrower.id), 0, 0, 0]);
    let read = borrower.call(borrow, [u64::from(lender.id), gref, 0, 0, 0]);
    check_eq!("a child maps another's", read as u64, WORD);
}

/// One with pinned tables that was never let run; its tables are looked at, too.
fn half_built() {
    let plan = Plan {
        until: Stage::HasPinnedTables,
        ..Plan::SMALL
    };
    match builder::build(plan) {
        Ok(child) => {
            let page = frames::allocate();
            accepted("hidden", page_table::hide(page));
            if let Some(slot) = page_table::slot(page.va()) {
                let entry = child.root() << 12 | page_table::bits::PRESENT | page_table::bits::NX;
                accepted(
                    "its root is looked at",
                    control::map_foreign(slot.maddr(), entry, child.id),
                );
            }
        }
        Err(error) => check::fail(format_args!("none could be built half: {error:?}")),
    }
}

/// One that is created and nothing more, under a number of our choice.
fn far_away() {
    let mut request = Domctl::new(DomctlCommand::Createdomain, FAR);
    request.set_payload(&control::ordinary(1));
    accepted("one with a high number", control::domctl(&mut request));
    check_eq!("its number", request.domain, FAR);
}

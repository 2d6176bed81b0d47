//! The run-time audit: recounts every owner, type and reference from the page tables themselves and compares.
//!
//! Run where nothing else changes tables: in a hypercall of the control domain's, and when that domain ends, if the log
//! level asks for everything. It takes a stretch of memory for its counters and gives it back.
//!
//! # Invariants
//! - U1: while it runs, no vCPU of any domain does: it is one section of ring 0, and the other CPUs are parked
//!   (`domain::park`) or stand still for the same reason. Work grows with memory (three looks at each frame, one at each entry of each table): it is the one operation here that
//!   takes as long as it takes, and only the control domain may ask for it.
//! - U2: every reference that is no entry, claim or pin is named by [`holders`]; who keeps a new kind names it there.

use crate::arch::smp;
use crate::domain::life::Stage;
use crate::domain::{self, Domain, Guest, Local};
use crate::layout::PAGE;
use crate::memory::{alloc, frame_table, phys};
use crate::mmu::{RING0, work};
use crate::{error, info};
use core::sync::atomic::Ordering;
use frames::audit::{Audit, Counts, Finding, Hold, Progress};
use frames::totals::Totals;
use frames::{Class, DomId, FrameType, Mfn};

/// Frames and entries looked at before the loop turns.
const STEP: usize = 4096;
/// Mismatches printed.
const SHOWN: u64 = 16;

/// What an audit found.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// What there is, as if the audit had taken no memory.
    pub totals: Totals,
    /// Counts that are not what was counted. Each was told on the console, up to a bound.
    pub mismatches: u64,
}

/// Recounts all frames (U1), for the guest in hand if there is one; those of `about` are told apart by type.
///
/// # Errors
/// `None` if there is no memory for the counters.
pub fn run(g: Option<&Guest<'_>>, about: Option<&Domain>) -> Option<Report> {
    let frames = frame_table::end();
    let bytes = frames * size_of::<Counts>() as u64;
    let order = bytes.div_ceil(PAGE).next_power_of_two().ilog2();
    let first = alloc::take_raw(DomId::RING0, order, 64)?;
    let place = phys::at(first.0 * PAGE, bytes).cast::<Counts>();
    // SAFETY: fresh frames of ring 0's own, which nobody else refers to; `Counts` is two plain integers, for which any
    // bytes are a value; aligned to a page.
    let counts = unsafe { core::slice::from_raw_parts_mut(place, frames as usize) };
    let mut mismatches = 0u64;
    let mut audit = Audit::new(&RING0, Mfn(0), counts);
    if let Some(about) = about {
        audit = audit.about(about.id);
    }
    let mut report = |finding: Finding| {
        mismatches = mismatches.saturating_add(1);
        if mismatches <= SHOWN {
            error!("audit: {finding:x?}");
        }
    };
    while audit.step(STEP, |hold| holders(g, hold), &mut report) == Progress::More {
        smp::watch::answer();
    }
    let mut totals = *audit.totals();
    mismatches += sums(&totals);
    for mfn in first.0..first.0 + (1 << order) {
        alloc::give_ring0(Mfn(mfn));
    }
    totals.ring0 -= 1 << order;
    totals.free += 1 << order;
    totals.general -= 1 << order;
    Some(Report { totals, mismatches })
}

/// Compares what others keep count of with what was found; the number of sums that differ.
fn sums(totals: &Totals) -> u64 {
    let mut wrong = 0;
    let mut compare = |what: core::fmt::Arguments<'_>, recorded: u64, found: u64| {
        if recorded != found {
            error!("audit: {what}: {recorded} recorded, {found} found");
            wrong += 1;
        }
    };
    compare(
        format_args!("free frames"),
        alloc::free_frames(),
        totals.free,
    );
    let orphans = see_owners();
    compare(format_args!("frames of no domain"), 0, orphans);
    let mut claimed = 0;
    for dom in domain::all() {
        // The shared page and the grant table are the domain's, and not of its allotment.
        let shared = u64::from(has_shared_page(dom));
        let pages = dom.pages.load(Ordering::Acquire) + shared + dom.grants.lock().table_frames();
        let seen = dom.allotment.seen.load(Ordering::Relaxed);
        compare(format_args!("frames of domain {}", dom.id.0), pages, seen);
        claimed += dom.allotment.claim.outstanding();
    }
    compare(
        format_args!("claimed frames"),
        alloc::claimed_frames(),
        claimed,
    );
    wrong
}

/// Has every domain count its frames; those left that some domain should own, and there is none.
fn see_owners() -> u64 {
    for dom in domain::all() {
        dom.allotment.seen.store(0, Ordering::Relaxed);
    }
    let mut orphans = 0;
    for mfn in 0..frame_table::end() {
        let Class::Ram(frame) = frame_table::class(Mfn(mfn)) else {
            continue;
        };
        match frame.snapshot().owner() {
            DomId::NOBODY | DomId::RING0 => {}
            owner => match domain::get(owner) {
                Some(dom) => {
                    dom.allotment.seen.fetch_add(1, Ordering::Relaxed);
                }
                None => orphans += 1,
            },
        }
    }
    orphans
}

/// As [`run`], with one line about the result on the console. True if every count is right.
pub fn run_and_say(g: Option<&Guest<'_>>) -> Option<bool> {
    let report = run(g, g.map(|g| g.dom))?;
    match report.mismatches {
        0 => info!(
            "audit: all counts of {} frames are right",
            report.totals.frames
        ),
        wrong => error!("audit: {wrong} counts are WRONG"),
    }
    Some(report.mismatches == 0)
}

/// What holds references besides claims, pins and entries of tables (U2).
fn holders(g: Option<&Guest<'_>>, hold: &mut dyn FnMut(Mfn, Hold)) {
    for dom in crate::domain::all() {
        if has_shared_page(dom) {
            hold(dom.shared_info, Hold::Type(FrameType::Writable));
        }
        dom.undo.each(&RING0, |table| hold(table, Hold::Work));
        dom.grants.lock().held(hold);
        dom.ends.held(hold);
        for vcpu in dom.vcpus().chain(dom.ended_vcpus()) {
            work::held(vcpu, hold);
            // Before it is initialised it holds nothing but what its vcpu_info lies in.
            if vcpu.info_moved.load(Ordering::Acquire) {
                let info = Mfn(vcpu.info.load(Ordering::Acquire) / PAGE);
                hold(info, Hold::Type(FrameType::Writable));
            }
            if !vcpu.initialised.load(Ordering::Acquire) {
                continue;
            }
            match g {
                Some(g) if core::ptr::eq(vcpu, g.vcpu) => held_by_vcpu(g.local, hold),
                // SAFETY: D1: it does not run (U1), and the guest in hand is another.
                _ => held_by_vcpu(unsafe { vcpu.local() }, hold),
            }
        }
    }
}

/// Whether ring 0 still writes the page it shares with a domain.
fn has_shared_page(dom: &Domain) -> bool {
    dom.life.stage() < Stage::Frames
}

fn held_by_vcpu(local: &Local, hold: &mut dyn FnMut(Mfn, Hold)) {
    hold(local.kernel_root, Hold::Type(FrameType::L4));
    if let Some(root) = local.user_root {
        hold(root, Hold::Type(FrameType::L4));
    }
    for page in local.gdt.iter().chain(&local.ldt).flatten() {
        hold(*page, Hold::Type(FrameType::Descriptors));
    }
}

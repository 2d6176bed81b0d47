//! The run-time audit: recounts every owner, type and reference from the page tables themselves and compares.
//!
//! Run where nothing else changes tables: when the control domain ends, if the log level asks for everything. It takes
//! a stretch of memory for its counters and gives it back.

use crate::domain::Domain;
use crate::layout::PAGE;
use crate::memory::{alloc, frame_table, phys};
use crate::mmu::RING0;
use crate::{error, info};
use core::sync::atomic::Ordering;
use frames::audit::{Audit, Counts, Finding, Hold, Progress};
use frames::{DomId, FrameType, Mfn};

/// Frames and entries looked at before the loop turns.
const STEP: usize = 4096;
/// Mismatches printed.
const SHOWN: u32 = 16;

/// Recounts all frames while `dom` is the only domain and does not run. True if every count is right.
///
/// # Errors
/// `None` if there is no memory for the counters.
pub fn run(dom: &Domain) -> Option<bool> {
    let frames = frame_table::end();
    let bytes = frames * size_of::<Counts>() as u64;
    let order = bytes.div_ceil(PAGE).next_power_of_two().ilog2();
    let first = alloc::take_raw(DomId::RING0, order, 64)?;
    let place = phys::at(first.0 * PAGE, bytes).cast::<Counts>();
    // SAFETY: fresh frames of ring 0's own, which nobody else refers to; `Counts` is two plain integers, for which any
    // bytes are a value; aligned to a page.
    let counts = unsafe { core::slice::from_raw_parts_mut(place, frames as usize) };
    let mut wrong = 0u32;
    let mut audit = Audit::new(&RING0, Mfn(0), counts);
    let mut report = |finding: Finding| {
        wrong = wrong.saturating_add(1);
        if wrong <= SHOWN {
            error!("audit: {finding:x?}");
        }
    };
    while audit.step(STEP, |hold| holders(dom, hold), &mut report) == Progress::More {}
    for mfn in first.0..first.0 + (1 << order) {
        alloc::give_ring0(Mfn(mfn));
    }
    if wrong == 0 {
        info!("audit: all counts of {frames} frames are right");
    } else {
        error!("audit: {wrong} counts are WRONG");
    }
    Some(wrong == 0)
}

/// What holds references besides claims, pins and entries of tables.
fn holders(dom: &Domain, hold: &mut dyn FnMut(Mfn, Hold)) {
    hold(dom.shared_info, Hold::Type(FrameType::Writable));
    for vcpu in dom.vcpus() {
        // SAFETY: D1: the audit runs on the CPU of the domain's only vCPU, in ring 0.
        let local = unsafe { vcpu.local() };
        hold(local.kernel_root, Hold::Type(FrameType::L4));
        if let Some(root) = local.user_root {
            hold(root, Hold::Type(FrameType::L4));
        }
        for page in local.gdt.iter().chain(&local.ldt).flatten() {
            hold(*page, Hold::Type(FrameType::Descriptors));
        }
        let info = Mfn(vcpu.info.load(Ordering::Acquire) / PAGE);
        if info != dom.shared_info {
            hold(info, Hold::Type(FrameType::Writable));
        }
    }
}

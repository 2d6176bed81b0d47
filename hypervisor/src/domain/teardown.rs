//! Takes a domain apart: whatever exists because of it is given back, and it is forgotten.
//!
//! # Invariants
//! - W1: none of its vCPUs runs, here or elsewhere, and no CPU is on a root of its or in code that looked it up: the
//!   caller has put this CPU on ring 0's own root and stack (`run::vacate`), and one CPU runs domains.
//! - W2: its devices are quiet before the first frame is given back.
//! - W3: first go the references that ring 0 holds in its name, then its pins, then its claims. Tables are undone when
//!   their last reference goes, so that after the claims no reference is left; what is left is a fault and is told.

use crate::device;
use crate::domain::{Domain, Vcpu, exposed_area, unregister};
use crate::event;
use crate::hypercall::grant;
use crate::layout::PAGE;
use crate::memory::{alloc as frame_alloc, frame_table};
use crate::mmu::{Ring0, tables};
use crate::{error, schedule};
use alloc::boxed::Box;
use core::sync::atomic::Ordering;
use frames::held::{Descriptors, General, Held, Table, Writable};
use frames::table::Tables;
use frames::{Class, DomId, Frame, Level, Mfn};

/// Ports, mappings and frames given back in a step.
const STEP: u32 = 128;

/// What came back.
#[derive(Clone, Copy, Debug)]
pub struct Returned {
    /// Frames that were the domain's.
    pub frames: u64,
    /// Frames that still are somebody's reference, though nobody's business: a fault.
    pub left: u64,
}

/// Takes a domain apart. After this neither it nor its vCPUs exist (W1).
pub fn tear_down(dom: &'static Domain) -> Returned {
    dom.stopped.store(true, Ordering::Release);
    for vcpu in dom.vcpus() {
        schedule::remove(vcpu);
    }
    if dom.privileged {
        device::quiesce::all();
    }
    while !event::close_some(dom, &mut STEP.clone()) {}
    free_pirqs(dom);
    while !grant::release_some(dom, &mut STEP.clone()) {}
    let t = tables(dom.id);
    for vcpu in dom.vcpus() {
        release_vcpu(t, vcpu);
    }
    drop(Held::kept(t, dom.shared_info, Writable));
    let returned = give_frames(t, dom.id);
    exposed_area::free(dom.exposed_l3);
    frame_alloc::give_ring0(dom.ring0_root);
    if let Some(infos) = dom.spare_infos {
        frame_alloc::give_ring0(infos);
    }
    let charged = dom.overhead.load(Ordering::Acquire);
    if charged != 0 {
        error!(
            "domain {}: {charged} frames of ring 0's are still charged to it",
            dom.id.0
        );
    }
    forget(dom);
    returned
}

/// Gives the map of physical interrupts back, which no port is bound to any more.
fn free_pirqs(dom: &Domain) {
    let pirqs = dom.events.lock().take_pirqs();
    if !pirqs.is_empty() {
        // SAFETY: the builder leaked a box of exactly this slice into the table, which has let go of it.
        drop(unsafe { Box::from_raw(pirqs) });
    }
}

/// Gives back what ring 0 holds for a vCPU: roots, descriptor tables, the page of its info.
fn release_vcpu(t: Tables<'static, Ring0>, vcpu: &Vcpu) {
    if vcpu.info_moved.swap(false, Ordering::AcqRel) {
        let info = Mfn(vcpu.info.load(Ordering::Acquire) / PAGE);
        drop(Held::kept(t, info, Writable));
    }
    if !vcpu.initialised.swap(false, Ordering::AcqRel) {
        return;
    }
    // SAFETY: D1: it runs no more (W1).
    let local = unsafe { vcpu.local() };
    drop(Held::kept(t, local.kernel_root, Table(Level::L4)));
    if let Some(root) = local.user_root.take() {
        drop(Held::kept(t, root, Table(Level::L4)));
    }
    let held = local.gdt.iter_mut().chain(&mut local.ldt);
    for page in held.filter_map(Option::take) {
        drop(Held::kept(t, page, Descriptors));
    }
}

/// Takes the domain's pins and claims from all its frames (W3).
fn give_frames(t: Tables<'static, Ring0>, dom: DomId) -> Returned {
    let owned = || {
        (0..frame_table::end()).filter_map(move |mfn| match frame_table::class(Mfn(mfn)) {
            Class::Ram(frame) if frame.snapshot().owner() == dom => Some((Mfn(mfn), frame)),
            _ => None,
        })
    };
    let frames = owned().count() as u64;
    for (mfn, _) in owned().filter(|(_, frame)| frame.snapshot().is_pinned()) {
        if t.unpin(mfn).is_err() {
            error!("domain {}: frame {:#x} cannot be unpinned", dom.0, mfn.0);
        }
    }
    for (mfn, _) in owned().filter(|(_, frame)| frame.snapshot().is_allocated()) {
        if let Ok(held) = t.hold(mfn, General) {
            held.disown();
        }
    }
    let mut left = 0;
    for (mfn, frame) in owned() {
        if left == 0 {
            tell(dom, mfn, frame);
        }
        left += 1;
    }
    Returned { frames, left }
}

fn tell(dom: DomId, mfn: Mfn, frame: &Frame) {
    error!(
        "domain {}: frame {:#x} is still referred to: {:x?}",
        dom.0,
        mfn.0,
        frame.snapshot()
    );
}

/// Makes the domain and its vCPUs unknown and gives their records back.
fn forget(dom: &'static Domain) {
    unregister(dom);
    for vcpu in dom.vcpus() {
        let record: *const Vcpu = vcpu;
        // SAFETY: the builder leaked a box; the scheduler and this CPU have let go of it, and nobody else looks (W1).
        drop(unsafe { Box::from_raw(record.cast_mut()) });
    }
    let record: *const Domain = dom;
    // SAFETY: as above.
    drop(unsafe { Box::from_raw(record.cast_mut()) });
}

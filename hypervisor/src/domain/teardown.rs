//! Takes a domain apart, in bounded steps: whatever exists because of it is given back, and it is forgotten.
//!
//! Where it is stands in the domain's record (`domain::life`), so that whoever asks next goes on from there. When all its
//! own references are gone the domain is *left*: what frames it still has, others refer to. With the last of them
//! (`mmu`'s release) the record goes too.
//!
//! # Invariants
//! - W1: what was found by a look-up, a domain or a vCPU, is good until the CPU that looked is between two pieces of work
//!   (`arch::smp::grace`). So nothing is taken from a domain before whoever found it alive has done with it and its vCPUs
//!   stand still; no vCPU's record ends, nor goes a page that ring 0 writes for the domain, before whoever found a vCPU or a
//!   port has done; and no domain's record ends, nor is its number given out again, before whoever found it has.
//! - W2: devices are quiet before the first frame of the control domain's, or of one that goes with it, is given back
//!   (`control::restart`).
//! - W3: first go the references that ring 0 holds in its name, then with each frame its pin and its claim. Tables are
//!   undone when their last reference goes.
//! - W4: nothing new is had by a domain that dies: who could give it something looks it up with `domain::living`.

use crate::account;
use crate::arch::percpu;
use crate::arch::smp::grace;
use crate::domain::create;
use crate::domain::life::{self, Stage};
use crate::domain::permissions::Permissions;
use crate::domain::{Domain, Vcpu, all, exposed_area, table, unfinished};
use crate::event;
use crate::hypercall::{BUDGET, descriptor, grant};
use crate::layout::PAGE;
use crate::memory::owned::List;
use crate::memory::{alloc as frame_alloc, frame_table, record};
use crate::mmu::{Ring0, tables, work};
use crate::{error, schedule};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use frames::held::{General, Held, Table, Writable};
use frames::table::Tables;
use frames::{Frame, Level, Mfn};

/// Whether there is more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Yes.
    More,
    /// Yes, but others come first: nothing can be done before this CPU was between two pieces of work, or others were.
    Wait,
    /// No: the domain is gone, or left.
    Done,
}

/// Frames given back in one step, or ports closed.
pub const STEP: u32 = 24;

/// Set when a domain that is left may have lost its last frame.
static TO_BURY: AtomicBool = AtomicBool::new(false);

/// Forgets a domain of which all was given that can be. Says how many frames it has that others refer to: it is left then.
pub fn end(dom: &'static Domain, between: impl Fn()) -> u64 {
    let left = dom.pages.load(Ordering::Acquire);
    bury(between);
    left
}

/// Makes all steps of taking a domain apart, where no vCPU is in hand and nothing is locked, and nobody else takes domains
/// apart: interrupts are let in as often as ever. What the domain's tables held is given back, too. Its record stays until
/// [`bury`].
pub fn give_all_in_parts(dom: &'static Domain) {
    life::begin_to_die(dom);
    work::undo_in_parts(true);
    unfinished::let_others_in();
    while step(dom) != Progress::Done {
        unfinished::let_others_in();
    }
    while !work::undo_nobodys() {
        unfinished::let_others_in();
    }
    work::undo_in_parts(false);
    unfinished::let_others_in();
}

/// Makes one step of destroying a domain for which [`life::begin_to_die`] was called.
pub fn step(dom: &'static Domain) -> Progress {
    if !dom.life.begin_step() {
        return Progress::Wait;
    }
    let stage = dom.life.stage();
    let waits = match stage {
        // In this order: once the grace is over no CPU takes a vCPU up that it chose before.
        Stage::Stopping => !(dom.life.grace_is_over() && life::stands_still(dom)),
        Stage::Records => !dom.life.grace_is_over(),
        _ => false,
    };
    if waits {
        dom.life.end_step();
        return Progress::Wait;
    }
    let next = match stage {
        Stage::Alive | Stage::Left | Stage::Buried => None,
        Stage::Stopping => Some(Stage::Ports),
        Stage::Ports => counted(PORT, |left| event::close_some(dom, left)).then(|| {
            free_pirqs(dom);
            dom.release_allotment();
            Stage::Grants
        }),
        Stage::Grants => {
            counted(GRANT, |left| grant::release_some(dom, left)).then_some(Stage::Vcpus)
        }
        Stage::Vcpus => hide_vcpu(dom).then(|| {
            dom.life.begin_grace();
            Stage::Records
        }),
        Stage::Records => end_vcpu(dom).then_some(Stage::Frames),
        Stage::Frames => give_frames(dom).then_some(Stage::Left),
    };
    if let Some(next) = next {
        dom.life.set_stage(next);
        work::charge(STAGE);
        if next == Stage::Left {
            life::tell_control();
            note_release(dom);
        }
    }
    dom.life.end_step();
    match dom.life.stage() {
        Stage::Alive | Stage::Left | Stage::Buried => Progress::Done,
        _ => Progress::More,
    }
}

/// Units of closing a port, and of giving back a mapping or a frame of the tables of grants.
const PORT: u32 = 8;
const GRANT: u32 = 28;

/// Takes a step of parts of so many units, of at most [`STEP`] and of what the section at hand has room for but one, and
/// counts what it took.
fn counted(units: u32, step: impl FnOnce(&mut u32) -> bool) -> bool {
    if !work::in_budget() {
        return false;
    }
    let parts = (work::left() / units).clamp(1, STEP);
    let mut left = parts;
    let done = step(&mut left);
    work::charge(((parts - left.min(parts)) * units) as i32);
    done
}

/// To be called when a frame of a domain's was given back.
#[inline]
pub fn note_release(dom: &Domain) {
    if dom.is_dying() && dom.life.stage() == Stage::Left && is_empty(dom) {
        TO_BURY.store(true, Ordering::Release);
        percpu::current().reschedule.set(true);
    }
}

fn is_empty(dom: &Domain) -> bool {
    let frames = dom.frames.lock();
    frames.first(List::Live).is_none() && frames.first(List::Left).is_none()
}

/// Ends the records of domains that are left and have no frame any more. To be called between two pieces of work (W1), with
/// nothing locked. `between` lets others in: it is called after each, and while other CPUs are at work that may have found one
/// that goes. They are waited for, so that when a call returns that took the last of a domain all of it is back.
#[inline]
pub fn bury(between: impl Fn()) {
    grace::pass();
    if TO_BURY.load(Ordering::Acquire) {
        bury_them(between);
    }
}

#[cold]
#[inline(never)]
fn bury_them(between: impl Fn()) {
    if !TO_BURY.swap(false, Ordering::AcqRel) {
        return;
    }
    for dom in all() {
        // That it is empty stays so. One that others bury is theirs.
        if dom.life.stage() != Stage::Left || !is_empty(dom) || !dom.life.begin_burial() {
            continue;
        }
        account::books::domain_goes();
        let number = table::unregister(dom);
        dom.life.begin_grace();
        grace::pass();
        while !dom.life.grace_is_over() {
            between();
        }
        let area = dom.usage_area;
        dom.uncount_fixed(record::frames_of::<Domain>() + area.frames().count() as u64);
        let charged = dom.overhead.load(Ordering::Acquire);
        if charged != 0 {
            error!(
                "domain {}: {charged} frames of ring 0's are still charged to it",
                dom.id.0
            );
        }
        account::domain_ends(dom);
        // SAFETY: made by `create`; unknown since before the grace, and nobody who found it still looks (W1).
        unsafe { record::end(dom) };
        area.give();
        // It may be another's next.
        drop(number);
        life::tell_control();
        between();
    }
}

/// Gives the map of physical interrupts back, which no port is bound to any more.
fn free_pirqs(dom: &Domain) {
    let pirqs = dom.events.lock().take_pirqs();
    if !pirqs.is_empty() {
        // SAFETY: the builder leaked a box of exactly this slice into the table, which has let go of it.
        drop(unsafe { Box::from_raw(pirqs) });
    }
}

/// Whether the section at hand has room for what takes so many units; if not it is over, so that nobody asks in vain again.
fn room_for(units: i32) -> bool {
    let there_is = work::has_room_for(units);
    if !there_is {
        work::charge(units);
    }
    there_is
}

/// Takes from one vCPU what it refers to, and makes it unknown; true when there was none left.
fn hide_vcpu(dom: &'static Domain) -> bool {
    if !room_for(VCPU) || !work::settle(dom) {
        return false;
    }
    let Some(vcpu) = dom.vcpus().next() else {
        return true;
    };
    schedule::remove(vcpu);
    release_state(dom, vcpu);
    let slot = dom.vcpus.get(vcpu.id as usize);
    slot.inspect(|slot: &&AtomicPtr<Vcpu>| {
        slot.store(core::ptr::null_mut(), Ordering::Release);
    });
    let next = dom.ended.load(Ordering::Acquire);
    vcpu.next_ended.store(next, Ordering::Release);
    let record: *const Vcpu = vcpu;
    dom.ended.store(record.cast_mut(), Ordering::Release);
    work::charge(VCPU);
    false
}

/// Ends the record of one vCPU, with what others could write for it; true when there was none left.
fn end_vcpu(dom: &'static Domain) -> bool {
    if !room_for(RECORD) {
        return false;
    }
    let t = tables(dom.id);
    let Some(vcpu) = dom.ended_vcpus().next() else {
        // Nobody is left to write the shared page for. It is an ordinary frame from here on.
        drop(Held::kept(t, dom.shared_info, Writable));
        dom.pages.fetch_add(1, Ordering::AcqRel);
        return true;
    };
    dom.ended
        .store(vcpu.next_ended.load(Ordering::Acquire), Ordering::Release);
    if vcpu.info_moved.swap(false, Ordering::AcqRel) {
        let info = Mfn(vcpu.info.load(Ordering::Acquire) / PAGE);
        drop(Held::kept(t, info, Writable));
    }
    // Its table is there as long as the domain.
    let _ = exposed_area::map(
        dom.exposed_l3,
        vcpu.area + exposed_area::OWN_DESCRIPTORS,
        None,
        0,
    );
    frame_alloc::give_ring0(vcpu.own_descriptors);
    dom.uncount_fixed(1);
    work::charge(RECORD);
    // SAFETY: made by `create`; the scheduler and the domain have let go of it, whoever found it before has done with it
    // (W1), and this is the last look at it.
    let ended = unsafe { dom.take_out(vcpu) };
    create::end_local(dom, ended.local.into_inner());
    false
}

/// Takes from a vCPU the state that it was given, with what that refers to. It stands still: its domain is dying, or it is
/// held (`life`).
pub fn release_state(dom: &'static Domain, vcpu: &'static Vcpu) {
    if !vcpu.initialised.swap(false, Ordering::AcqRel) {
        return;
    }
    let t = tables(dom.id);
    // SAFETY: D1: no CPU has its state in hand or takes it up (L1, L3 in `life`).
    let local = unsafe { vcpu.local() };
    local.repeat = false;
    work::give_up(vcpu);
    descriptor::clear(dom, vcpu, local);
    drop(Held::kept(t, local.kernel_root, Table(Level::L4)));
    if let Some(root) = local.user_root.take() {
        drop(Held::kept(t, root, Table(Level::L4)));
    }
    vcpu.walks.forget();
}

/// Units of what goes with the end of a stage.
const STAGE: i32 = 50;
/// Units of taking from a vCPU what it refers to, and of ending its record.
const VCPU: i32 = 50;
const RECORD: i32 = 50;
/// Units of giving a frame back (`hypercall::BUDGET`).
const FRAME: i32 = 12;
/// Units that must be left for the end of a domain's record.
const LAST: i32 = 100;

// There is that much when a call is made again, in a list of calls too.
const _: () = assert!(LAST + 8 < BUDGET && VCPU + 8 < BUDGET && RECORD + 8 < BUDGET);

/// Takes pins and claims from frames; with the last one gives back what ring 0 has for the domain, and says so.
fn give_frames(dom: &'static Domain) -> bool {
    let t = tables(dom.id);
    for _ in 0..STEP {
        if !work::in_budget() {
            return false;
        }
        let mfn = {
            let mut frames = dom.frames.lock();
            let Some(mfn) = frames.first(List::Live) else {
                drop(frames);
                // What follows, the end of the record included, is not done in parts.
                if !room_for(LAST) {
                    return false;
                }
                give_exposed(dom);
                work::charge(LAST);
                return true;
            };
            frames.remove(mfn);
            frames.insert(mfn, List::Left);
            mfn
        };
        if let Some(frame) = frame_table::get(mfn) {
            give_frame(dom, t, mfn, frame);
        }
        work::charge(FRAME);
    }
    false
}

/// Takes pin and claim from one frame.
fn give_frame(dom: &Domain, t: Tables<'static, Ring0>, mfn: Mfn, frame: &Frame) {
    // A reference of our own, so that it stays what it is until both are gone.
    let Ok(held) = t.hold(mfn, General) else {
        return;
    };
    if frame.snapshot().is_pinned() && t.unpin(mfn).is_err() {
        error!("domain {}: frame {:#x} cannot be unpinned", dom.id.0, mfn.0);
    }
    if frame.snapshot().is_allocated() {
        held.disown();
    }
}

/// Gives back the exposed area and what is like it: no CPU runs the domain any more.
fn give_exposed(dom: &Domain) {
    account::anchors::end(dom);
    let mut given = exposed_area::free(dom.exposed_l3);
    if let Some(infos) = dom.spare_infos {
        frame_alloc::give_ring0(infos);
        given += 1;
    }
    if let Some(permissions) = dom.permissions.lock().take() {
        // SAFETY: made by `record`, and the domain has let go of it.
        unsafe { record::end(permissions) };
        given += record::frames_of::<Permissions>();
    }
    dom.uncount_fixed(given);
}

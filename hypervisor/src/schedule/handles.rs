//! The vCPUs of all domains by their handles, and the tables that are indexed by these.
//!
//! Tables are as long as the most vCPUs there ever were at a time need, a frame at a time.
//!
//! # Invariants
//! - H1: a handle is taken in [`HANDLES`] from [`take`] to [`give`], which is not before nobody is at work with what it named;
//!   it is named in its leaf only meanwhile.
//! - H2: leaves and rows stay: who looks finds them without a lock. Of several parties that make the same one, one's stays.

use super::{Kind, QUEUE, TIMERS};
use crate::domain::{Vcpu, unfinished};
use crate::layout::PAGE;
use crate::memory::record;
use ::cpus::numbers::Numbers;
use ::sched::{Entry, EntryRows, MAX_VCPUS, TimerRows, TimerSlot, VcpuHandle};
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// Handles one leaf names.
const LEAF: usize = PAGE as usize / size_of::<AtomicPtr<Vcpu>>();

type Leaf = [AtomicPtr<Vcpu>; LEAF];

/// The leaves; null where none is needed yet.
static LEAVES: [AtomicPtr<Leaf>; MAX_VCPUS / LEAF] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_VCPUS / LEAF];
/// The handles in use (H1).
static HANDLES: Numbers<{ MAX_VCPUS / 64 }> = Numbers::new();
/// Frames that leaves and rows have taken.
static KEPT: AtomicU64 = AtomicU64::new(0);

const _: () = assert!(MAX_VCPUS.is_multiple_of(LEAF) && LEAF.is_multiple_of(64));

/// Frames of ring 0's that tables of vCPUs have taken, and keep.
pub fn kept_frames() -> u64 {
    KEPT.load(Ordering::Relaxed)
}

/// A handle that no vCPU has, with room for it in every table. `None` if there are too many, or no memory is left.
pub fn take() -> Option<VcpuHandle> {
    let handle = VcpuHandle(HANDLES.take_lowest(0..MAX_VCPUS as u32)?);
    if make_room(handle) {
        return Some(handle);
    }
    give(handle);
    None
}

/// Gives a handle back. Nobody is at work any more who found a vCPU by it.
pub fn give(handle: VcpuHandle) {
    name(handle, core::ptr::null());
    HANDLES.give(handle.0);
}

fn slot(handle: VcpuHandle) -> Option<&'static AtomicPtr<Vcpu>> {
    let leaf = LEAVES.get(handle.0 as usize / LEAF)?;
    // SAFETY: null, or a leaf that `make_leaf` put there whole, which stays (H2).
    let leaf = unsafe { leaf.load(Ordering::Acquire).as_ref()? };
    leaf.get(handle.0 as usize % LEAF)
}

/// Says whose a handle is: null for nobody's.
pub fn name(handle: VcpuHandle, vcpu: *const Vcpu) {
    if let Some(slot) = slot(handle) {
        slot.store(vcpu.cast_mut(), Ordering::Release);
    }
}

/// A vCPU by its handle.
#[inline]
pub fn get(handle: VcpuHandle) -> Option<&'static Vcpu> {
    // SAFETY: null, or a record; who takes it out (`schedule::remove`) ends it only when no CPU is at work any more that
    // looked here before (W1 in `domain::teardown`).
    unsafe { slot(handle)?.load(Ordering::Acquire).as_ref() }
}

/// A frame as a row of a table; counted as kept. Where a call asks for it interrupts are let in first: nothing is locked that
/// an interrupt's handler takes.
pub fn new_row<T: Copy>(value: T, count: usize) -> Option<&'static mut [T]> {
    unfinished::breathe();
    let row = record::place_row(value, count);
    KEPT.fetch_add(u64::from(row.is_some()), Ordering::Relaxed);
    row
}

/// Makes the tables as long as a handle needs them; false if there is no memory for that, or another CPU made one longer
/// meanwhile.
fn make_room(vcpu: VcpuHandle) -> bool {
    make_leaf(vcpu) && make_entries(vcpu) && make_timers(vcpu)
}

fn make_leaf(handle: VcpuHandle) -> bool {
    let Some(leaf) = LEAVES.get(handle.0 as usize / LEAF) else {
        return false;
    };
    if !leaf.load(Ordering::Acquire).is_null() {
        return true;
    }
    let Some(fresh) =
        record::place::<Leaf>([const { AtomicPtr::new(core::ptr::null_mut()) }; LEAF])
    else {
        return false;
    };
    let (none, place): (_, *const Leaf) = (core::ptr::null_mut(), fresh);
    let named = leaf.compare_exchange(none, place.cast_mut(), Ordering::AcqRel, Ordering::Acquire);
    if named.is_ok() {
        KEPT.fetch_add(1, Ordering::Relaxed);
    } else {
        // SAFETY: made by `place` above; another's is there (H2), so that nobody has seen this one.
        unsafe { record::end(fresh) };
    }
    true
}

// Frames are taken before a lock is: what is fresh may have to be flushed.

fn make_entries(vcpu: VcpuHandle) -> bool {
    let lacks = |length: usize| length <= vcpu.0 as usize;
    while QUEUE.lock().as_ref().is_some_and(|q| lacks(q.capacity())) {
        let row = new_row(Entry::EMPTY, EntryRows::PER_ROW);
        let added = row.and_then(|row| Some(QUEUE.lock().as_mut()?.add_row(row)));
        if added != Some(true) {
            return false;
        }
    }
    true
}

fn make_timers(vcpu: VcpuHandle) -> bool {
    let lacks = |length: usize| length <= Kind::Periodic.of(vcpu) as usize;
    while TIMERS.lock().as_ref().is_some_and(|t| lacks(t.capacity())) {
        let row = new_row(TimerSlot::EMPTY, TimerRows::PER_ROW);
        let added = row.and_then(|row| Some(TIMERS.lock().as_mut()?.add_row(row)));
        if added != Some(true) {
            return false;
        }
    }
    true
}

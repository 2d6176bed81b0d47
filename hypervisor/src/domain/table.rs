//! The domains by their numbers.
//!
//! Two levels, so that a machine with one domain does not pay for thirty thousand: a fixed table of leaves, each a frame
//! made when the first number in it is used, and kept; and a bit for each number in use, so that a search passes
//! sixty-four at a time.
//!
//! # Invariants
//! - N1: a bit of [`USED`] is set exactly while its leaf names a domain; both change under [`CHANGE`].
//! - N2: a number is given out again only when everybody else was tried: who keeps an old one for a while does not find
//!   a stranger under it.

use crate::domain::Domain;
use crate::layout::PAGE;
use crate::memory::{alloc, phys};
use crate::sync::{Lock, rank};
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use frames::{DomId, Mfn};
use guest_abi::domid::DOMID_FIRST_END;

/// Numbers one leaf has.
const LEAF: usize = PAGE as usize / size_of::<u64>();
/// Leaves there can be.
const LEAVES: usize = (DOMID_FIRST_END as usize).div_ceil(LEAF);

/// Frames of the leaves; 0 for none. Frame 0 is never handed out.
static LEAF_FRAMES: [AtomicU64; LEAVES] = [const { AtomicU64::new(0) }; LEAVES];
/// A bit for each number in use (N1).
static USED: [AtomicU64; LEAVES * LEAF / 64] = [const { AtomicU64::new(0) }; LEAVES * LEAF / 64];
/// The number given out last. Held while numbers are given out and taken back.
static CHANGE: Lock<u16, rank::DomainTable> = Lock::new(0);

/// Where a number's domain is named, if its leaf is there.
fn slot(id: DomId) -> Option<&'static AtomicPtr<Domain>> {
    let frame = LEAF_FRAMES.get(usize::from(id.0) / LEAF)?;
    let frame = frame.load(Ordering::Acquire);
    if frame == 0 {
        return None;
    }
    let word: *const AtomicU64 = phys::word(Mfn(frame), usize::from(id.0) % LEAF);
    // SAFETY: a word of a leaf, which is never given back and holds pointers or null only; the two atomics have the
    // same form.
    Some(unsafe { &*word.cast() })
}

fn used(id: DomId) -> bool {
    USED.get(usize::from(id.0) / 64)
        .is_some_and(|word| word.load(Ordering::Acquire) >> (id.0 % 64) & 1 == 1)
}

/// A domain by its number, whether it lives or is being destroyed. Good until this CPU leaves ring 0 (W1 in
/// `domain::teardown`): nothing keeps it longer.
#[inline]
pub fn get(id: DomId) -> Option<&'static Domain> {
    // SAFETY: null, or a record that `register` was given; who takes it out ends it only when no CPU is in code that
    // looked here before.
    unsafe { slot(id)?.load(Ordering::Acquire).as_ref() }
}

/// As [`get`], but not one that is being destroyed: whoever is to get a new reference is to be found by this.
#[inline]
pub fn living(id: DomId) -> Option<&'static Domain> {
    get(id).filter(|dom| !dom.is_dying())
}

/// The domain with the lowest number from `id` on.
pub fn next_from(id: DomId) -> Option<&'static Domain> {
    let first = usize::from(id.0);
    for (index, word) in USED.iter().enumerate().skip(first / 64) {
        let mut bits = word.load(Ordering::Acquire);
        if index == first / 64 {
            bits &= !0 << (first % 64);
        }
        if bits != 0 {
            let number = index * 64 + bits.trailing_zeros() as usize;
            return get(DomId(number as u16));
        }
    }
    None
}

/// All domains there are, in order of their numbers.
pub fn all() -> impl Iterator<Item = &'static Domain> {
    let mut next = Some(0u16);
    core::iter::from_fn(move || {
        let found = next_from(DomId(next?))?;
        next = found.id.0.checked_add(1);
        Some(found)
    })
}

/// The control domain, once it is built.
pub fn control() -> Option<&'static Domain> {
    get(DomId(0))
}

/// Whether a new domain may have a number: an ordinary one that nobody has.
pub fn is_free(id: DomId) -> bool {
    id.0 != 0 && id.0 < DOMID_FIRST_END && !used(id)
}

/// The number after the one given out last that nobody has (N2).
pub fn next_free() -> Option<DomId> {
    let rover = *CHANGE.lock();
    let after = (rover + 1..DOMID_FIRST_END).chain(1..rover + 1);
    after.map(DomId).find(|id| is_free(*id))
}

/// Says that a number was given out, so that the next search begins behind it.
pub fn given(id: DomId) {
    *CHANGE.lock() = id.0;
}

/// Makes the leaf of the first numbers, which stays. Before the first domain is built.
pub fn prepare() -> bool {
    make_leaf(DomId(0))
}

/// Frames that are leaves: they stay.
pub fn leaves() -> u64 {
    let made = LEAF_FRAMES
        .iter()
        .filter(|leaf| leaf.load(Ordering::Acquire) != 0);
    made.count() as u64
}

/// Makes the leaf of a number if there is none. Not under [`CHANGE`]: what is fresh may have to be flushed.
fn make_leaf(id: DomId) -> bool {
    let Some(leaf) = LEAF_FRAMES.get(usize::from(id.0) / LEAF) else {
        return false;
    };
    if leaf.load(Ordering::Acquire) != 0 {
        return true;
    }
    // Zeroed: null pointers.
    let Some(frame) = alloc::take_ring0() else {
        return false;
    };
    let made = leaf.compare_exchange(0, frame.0, Ordering::AcqRel, Ordering::Acquire);
    if made.is_err() {
        // Another was faster.
        alloc::give_ring0(frame);
    }
    true
}

/// Makes a domain known under its number; false if there is no memory to name it in.
pub fn register(domain: &'static Domain) -> bool {
    let id = domain.id;
    if !make_leaf(id) {
        return false;
    }
    let _alone = CHANGE.lock();
    let Some(slot) = slot(id) else {
        return false;
    };
    let record: *const Domain = domain;
    slot.store(record.cast_mut(), Ordering::Release);
    USED[usize::from(id.0) / 64].fetch_or(1 << (id.0 % 64), Ordering::AcqRel);
    true
}

/// Makes a domain unknown.
pub fn unregister(domain: &Domain) {
    let _alone = CHANGE.lock();
    let id = domain.id;
    USED[usize::from(id.0) / 64].fetch_and(!(1 << (id.0 % 64)), Ordering::AcqRel);
    if let Some(slot) = slot(id) {
        slot.store(core::ptr::null_mut(), Ordering::Release);
    }
}

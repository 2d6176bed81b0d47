//! The domains by their numbers.
//!
//! Two levels, so that a machine with one domain does not pay for thirty thousand: a fixed table of leaves, each a frame
//! made when the first number in it is used, and kept; and a bit for each number in use, so that a search passes
//! sixty-four at a time.
//!
//! # Invariants
//! - N1: a number is a domain's, or somebody's who is about to make one ([`Claimed`]), while it is taken in [`NUMBERS`]; its
//!   leaf names a domain only then. It is taken before a leaf names the domain, and given back when its record is gone.
//! - N2: a number is given out again only when everybody else was tried: who keeps an old one for a while does not find
//!   a stranger under it.

use crate::domain::Domain;
use crate::layout::PAGE;
use crate::memory::{alloc, phys};
use ::cpus::numbers::Numbers;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use frames::{DomId, Mfn};
use guest_abi::Errno;
use guest_abi::domid::DOMID_FIRST_END;

/// Numbers one leaf has.
const LEAF: usize = PAGE as usize / size_of::<u64>();
/// Leaves there can be.
const LEAVES: usize = (DOMID_FIRST_END as usize).div_ceil(LEAF);

/// Frames of the leaves; 0 for none. Frame 0 is never handed out.
static LEAF_FRAMES: [AtomicU64; LEAVES] = [const { AtomicU64::new(0) }; LEAVES];
/// The numbers that are taken (N1).
static NUMBERS: Numbers<{ LEAVES * LEAF / 64 }> = Numbers::new();

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

/// A domain by its number, whether it lives or is being destroyed. Good until this CPU is between two pieces
/// of work (W1 in `domain::teardown`): nothing keeps it longer.
#[inline]
pub fn get(id: DomId) -> Option<&'static Domain> {
    // SAFETY: null, or a record that `register` was given; who takes it out (`unregister`) ends it only when no CPU is
    // at work any more that looked here before.
    unsafe { slot(id)?.load(Ordering::Acquire).as_ref() }
}

/// As [`get`], but not one that is being destroyed: whoever is to get a new reference is to be found by this.
#[inline]
pub fn living(id: DomId) -> Option<&'static Domain> {
    get(id).filter(|dom| !dom.is_dying())
}

/// The domain with the lowest number from `id` on.
pub fn next_from(id: DomId) -> Option<&'static Domain> {
    let mut from = u32::from(id.0);
    loop {
        let number = NUMBERS.next_taken(from)?;
        // One that is only claimed so far is nobody's.
        if let Some(found) = get(DomId(number as u16)) {
            return Some(found);
        }
        from = number + 1;
    }
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

/// A number that nobody else has. Dropped, it is free again.
#[must_use = "dropping it makes the number another's"]
pub struct Claimed(DomId);

/// Claims a number, and the place its domain is to be named in.
///
/// # Errors
/// `-EEXIST` if somebody has it; `-ENOMEM` if there is no memory to name it in.
pub fn claim(id: DomId) -> Result<Claimed, Errno> {
    if NUMBERS.take(u32::from(id.0)) {
        in_leaf(Claimed(id))
    } else {
        Err(Errno::Exist)
    }
}

/// Claims the number for an ordinary domain that comes after the one given out so last (N2).
///
/// # Errors
/// `-ENOMEM` if all are taken, or there is no memory to name it in.
pub fn claim_next() -> Result<Claimed, Errno> {
    let number = NUMBERS.take_next(1..u32::from(DOMID_FIRST_END));
    in_leaf(Claimed(DomId(number.ok_or(Errno::NoMem)? as u16)))
}

fn in_leaf(number: Claimed) -> Result<Claimed, Errno> {
    match make_leaf(number.id()) {
        true => Ok(number),
        false => Err(Errno::NoMem),
    }
}

impl Claimed {
    /// The number.
    pub fn id(&self) -> DomId {
        self.0
    }

    /// Makes a domain known under the number, which is its own.
    pub fn register(self, domain: &'static Domain) {
        debug_assert_eq!(self.0, domain.id);
        if let Some(slot) = slot(self.0) {
            let record: *const Domain = domain;
            slot.store(record.cast_mut(), Ordering::Release);
        }
        core::mem::forget(self);
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        NUMBERS.give(u32::from(self.0.0));
    }
}

/// Makes a domain unknown: nobody finds it from here on. Its number is nobody else's before the answer is dropped.
pub fn unregister(domain: &Domain) -> Claimed {
    if let Some(slot) = slot(domain.id) {
        slot.store(core::ptr::null_mut(), Ordering::Release);
    }
    Claimed(domain.id)
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

/// Makes the leaf of a number if there is none. Of several that do, one is faster.
fn make_leaf(id: DomId) -> bool {
    let Some(leaf) = LEAF_FRAMES.get(usize::from(id.0) / LEAF) else {
        return false;
    };
    if leaf.load(Ordering::Acquire) != 0 {
        return true;
    }
    // Zeroed: null pointers.
    let Some(fresh) = alloc::take_ring0() else {
        return false;
    };
    let made = leaf.compare_exchange(0, fresh.0, Ordering::AcqRel, Ordering::Acquire);
    if made.is_err() {
        alloc::give_ring0(fresh);
    }
    true
}

//! A value of the frame word, and which value may follow which: pure functions, no atomics.
//!
//! ```text
//!  63      49 48   46  45        44      43    42        24 23          0
//! | owner:15 | type:3 | valid:1 | pin:1 | alloc:1 | types:19 | general:24 |
//! ```
//!
//! * *general* counts plain references: read-only mappings, ring-0 users, and one for *alloc*, the owner's own
//!   claim, which lives from allocation until the domain gives the frame up.
//! * *types* counts references under the current type: writable mappings, or uses as a table or descriptor page.
//! * *valid* says that the current use may be joined without ado: a table or descriptor page has been checked;
//!   a writable frame's previous use has been flushed. It means nothing while *types* is zero.
//! * *pin* stands for one of the type references.
//!
//! # Invariants
//! - W1: *type* and *valid* change from one use to another only where *types* is zero (F1).
//! - W2: a word without references gains one only from [`crate::Frame::assign`] (F3), or the owner's claim back from who
//!   took it, with [`crate::Frame::take_sole`].
//! - W3: general + types <= [`GENERAL_MASK`] - [`DEMOTION_RESERVE`], and one more for each demotion in flight.
//!   Taking either kind needs `general < GENERAL_LIMIT`, and *types* never exceeds its field; so a demotion, which
//!   must not fail, has room whatever happened before it.

use crate::frame::Denied;
use crate::name::{DomId, FrameType};

pub(crate) const GENERAL_ONE: u64 = 1;
pub(crate) const GENERAL_MASK: u64 = (1 << 24) - 1;
pub(crate) const TYPES_SHIFT: u32 = 24;
pub(crate) const TYPES_ONE: u64 = 1 << TYPES_SHIFT;
pub(crate) const TYPES_MAX: u64 = (1 << 19) - 1;
pub(crate) const TYPES_MASK: u64 = TYPES_MAX << TYPES_SHIFT;
pub(crate) const ALLOCATED: u64 = 1 << 43;
pub(crate) const PINNED: u64 = 1 << 44;
pub(crate) const VALID: u64 = 1 << 45;
pub(crate) const TYPE_SHIFT: u32 = 46;
pub(crate) const TYPE_MASK: u64 = 7 << TYPE_SHIFT;
pub(crate) const OWNER_SHIFT: u32 = 49;
const OWNER_MASK: u64 = !0 << OWNER_SHIFT;
pub(crate) const COUNTS: u64 = GENERAL_MASK | TYPES_MASK;
/// Demotions that may be in flight at once: one on every CPU, and more CPUs than any machine has.
const DEMOTION_RESERVE: u64 = 4096;
/// From here on no reference is given out (W3). All types can become general ones by demotion.
pub(crate) const GENERAL_LIMIT: u64 = GENERAL_MASK - TYPES_MAX - DEMOTION_RESERVE;

/// A frame that belongs to nobody, never used.
pub(crate) const FREE: u64 = owner_bits(DomId::NOBODY);

pub(crate) const fn owner_bits(owner: DomId) -> u64 {
    (owner.0 as u64) << OWNER_SHIFT
}

pub(crate) const fn type_bits(of: FrameType) -> u64 {
    (of as u64) << TYPE_SHIFT
}

/// A value of the frame word, taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Snapshot(pub(crate) u64);

impl Snapshot {
    /// The owning domain.
    pub const fn owner(self) -> DomId {
        DomId((self.0 >> OWNER_SHIFT) as u16)
    }
    /// The current type; stale (the last one) while [`Self::type_count`] is zero.
    pub const fn frame_type(self) -> FrameType {
        FrameType::from_bits(self.0 >> TYPE_SHIFT)
    }
    /// References under the current type.
    pub const fn type_count(self) -> u64 {
        (self.0 & TYPES_MASK) >> TYPES_SHIFT
    }
    /// General references.
    pub const fn general_count(self) -> u64 {
        self.0 & GENERAL_MASK
    }
    /// Whether the contents have been checked for the current type.
    pub const fn is_validated(self) -> bool {
        self.0 & VALID != 0 && self.0 & TYPES_MASK != 0 && self.frame_type().needs_validation()
    }
    /// Whether the guest holds a pin.
    pub const fn is_pinned(self) -> bool {
        self.0 & PINNED != 0
    }
    /// Whether the owner still claims the frame.
    pub const fn is_allocated(self) -> bool {
        self.0 & ALLOCATED != 0
    }
    /// Whether any reference is left.
    pub const fn is_alive(self) -> bool {
        self.0 & COUNTS != 0
    }
}

/// Whether `who` (anybody, with `None`) may take a reference if the frame is alive.
#[inline]
fn check_right_owner(word: u64, who: Option<DomId>) -> Result<(), Denied> {
    match who {
        Some(who) if word >> OWNER_SHIFT != who.0 as u64 => Err(Denied::NotYours),
        _ => Ok(()),
    }
}

/// Whether `who` may take a reference at all.
#[inline]
fn check_owner(word: u64, who: Option<DomId>) -> Result<(), Denied> {
    check_right_owner(word, who)?;
    // W2: without a reference the frame is on its way to the allocator.
    if word & COUNTS == 0 {
        return Err(Denied::NotYours);
    }
    Ok(())
}

/// Whether the counts leave room for one more of either kind (W3).
#[inline]
const fn has_room(word: u64) -> bool {
    word & GENERAL_MASK < GENERAL_LIMIT
}

/// The word with one more general reference.
#[inline]
pub(crate) fn with_general(word: u64, who: Option<DomId>) -> Result<u64, Denied> {
    check_owner(word, who)?;
    if !has_room(word) {
        return Err(Denied::TooMany);
    }
    Ok(word.wrapping_add(GENERAL_ONE))
}

/// The word with the general reference of a mapping about to be demoted: only a dead frame refuses (W2, W3).
#[inline]
pub(crate) fn with_general_for_demotion(word: u64) -> Result<u64, Denied> {
    check_owner(word, None)?;
    Ok(word.wrapping_add(GENERAL_ONE))
}

/// The word with one more reference of type `want`, which is a new use of the frame if there was none.
#[inline]
pub(crate) fn with_type(word: u64, who: Option<DomId>, want: FrameType) -> Result<u64, Denied> {
    check_right_owner(word, who)?;
    let same_type = word & TYPE_MASK == type_bits(want);
    if word & TYPES_MASK == 0 {
        if word & GENERAL_MASK == 0 {
            return Err(Denied::NotYours);
        }
        if !has_room(word) {
            return Err(Denied::TooMany);
        }
        // W1: the only place where the type changes. A frame used as writable before needs no flush, so that
        // others may join at once; everything else waits for `Frame::settle` or `Frame::end_validation`.
        let valid = if same_type && !want.needs_validation() {
            VALID
        } else {
            0
        };
        let kept = word & !(TYPE_MASK | VALID);
        return Ok((kept | type_bits(want) | valid).wrapping_add(TYPES_ONE));
    }
    if !same_type {
        return Err(Denied::InUse);
    }
    if want.needs_validation() && word & VALID == 0 {
        return Err(Denied::Busy);
    }
    if word & TYPES_MASK == TYPES_MASK || !has_room(word) {
        return Err(Denied::TooMany);
    }
    Ok(word.wrapping_add(TYPES_ONE))
}

/// The word without its last reference, the claim of `who`, its owner: any other reference refuses.
#[inline]
pub(crate) fn without_sole_claim(word: u64, who: DomId) -> Result<u64, Denied> {
    check_owner(word, Some(who))?;
    if word & (COUNTS | ALLOCATED) != ALLOCATED | GENERAL_ONE {
        return Err(Denied::InUse);
    }
    Ok(word.wrapping_sub(ALLOCATED | GENERAL_ONE))
}

/// Whether `who` may join others who use the frame as writable: then there is nothing more to it than to count one
/// more. (What [`with_type`] says to a word with a type count and [`VALID`], in fewer steps.)
#[inline]
pub(crate) fn joins_writable(word: u64, who: DomId) -> bool {
    const USE: u64 = OWNER_MASK | TYPE_MASK | VALID;
    let types = word & TYPES_MASK;
    word & USE == owner_bits(who) | type_bits(FrameType::Writable) | VALID
        && types.wrapping_sub(TYPES_ONE) < TYPES_MASK - TYPES_ONE
        && has_room(word)
}

/// The word with one more reference of the validated type `want`, if it is in use as that.
#[inline]
pub(crate) fn with_valid_type(
    word: u64,
    who: Option<DomId>,
    want: FrameType,
) -> Result<u64, Denied> {
    const USE: u64 = TYPE_MASK | VALID;
    check_right_owner(word, who)?;
    let types = word & TYPES_MASK;
    if word & USE != type_bits(want) | VALID || types == 0 {
        return Err(Denied::InUse);
    }
    if types == TYPES_MASK || !has_room(word) {
        return Err(Denied::TooMany);
    }
    Ok(word.wrapping_add(TYPES_ONE))
}

//! The frame word: who owns a machine frame, what it is being used as, and how often.
//!
//! One `AtomicU64` holds all of it, so that taking or dropping a mapping is one atomic operation:
//!
//! ```text
//!  63      49 48   46  45        44      43    42        24 23          0
//! | owner:15 | type:3 | valid:1 | pin:1 | alloc:1 | types:19 | general:24 |
//! ```
//!
//! * *general* counts plain references: read-only mappings, ring-0 users, and one for `alloc`, the owner's own
//!   claim, which lives from allocation until the domain gives the frame up.
//! * *types* counts references under the current type: writable mappings, or uses as a table or descriptor page.
//! * A frame is alive while either count is non-zero (F3).

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// A machine frame number: a physical address divided by 4096.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Mfn(pub u64);

/// A domain id (15 bits; the ABI's special ids are resolved before they get here).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DomId(pub u16);

impl DomId {
    /// Owner of frames that are free or are no domain's: all fifteen bits set.
    pub const NOBODY: DomId = DomId(0x7fff);
    /// Owner of frames that ring 0 keeps for itself.
    pub const RING0: DomId = DomId(0x7ff2);
    /// Owner of addresses that are no memory: device registers, firmware.
    pub const IO: DomId = DomId(0x7ff1);
}

/// What a frame is being used as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FrameType {
    /// Nothing in particular: the type count is zero and no type was taken yet.
    Untyped = 0,
    /// Mapped writable somewhere.
    Writable = 1,
    /// A page table of the lowest level.
    L1 = 2,
    /// A page directory.
    L2 = 3,
    /// A page-directory-pointer table.
    L3 = 4,
    /// A root table.
    L4 = 5,
    /// A page of a descriptor table (GDT or LDT).
    Descriptors = 6,
}

impl FrameType {
    const fn from_bits(bits: u64) -> FrameType {
        match bits & 7 {
            1 => FrameType::Writable,
            2 => FrameType::L1,
            3 => FrameType::L2,
            4 => FrameType::L3,
            5 => FrameType::L4,
            6 => FrameType::Descriptors,
            _ => FrameType::Untyped,
        }
    }

    /// The table level, if this is a table type.
    pub const fn level(self) -> Option<Level> {
        match self {
            FrameType::L1 => Some(Level::L1),
            FrameType::L2 => Some(Level::L2),
            FrameType::L3 => Some(Level::L3),
            FrameType::L4 => Some(Level::L4),
            _ => None,
        }
    }

    /// Whether frames of this type must be checked before use (everything but `Writable`).
    pub const fn needs_validation(self) -> bool {
        !matches!(self, FrameType::Writable | FrameType::Untyped)
    }
}

/// A page-table level.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Level {
    /// Lowest: entries map pages.
    L1 = 1,
    /// Entries name L1 tables.
    L2 = 2,
    /// Entries name L2 tables.
    L3 = 3,
    /// Root: entries name L3 tables.
    L4 = 4,
}

impl Level {
    /// The frame type of a table of this level.
    pub const fn frame_type(self) -> FrameType {
        match self {
            Level::L1 => FrameType::L1,
            Level::L2 => FrameType::L2,
            Level::L3 => FrameType::L3,
            Level::L4 => FrameType::L4,
        }
    }

    /// The level that entries of this level name; `None` for L1, whose entries map pages.
    pub const fn below(self) -> Option<Level> {
        match self {
            Level::L1 => None,
            Level::L2 => Some(Level::L1),
            Level::L3 => Some(Level::L2),
            Level::L4 => Some(Level::L3),
        }
    }
}

const GENERAL_ONE: u64 = 1;
const GENERAL_MASK: u64 = (1 << 24) - 1;
const TYPES_SHIFT: u32 = 24;
const TYPES_ONE: u64 = 1 << TYPES_SHIFT;
const TYPES_MAX: u64 = (1 << 19) - 1;
const TYPES_MASK: u64 = TYPES_MAX << TYPES_SHIFT;
const ALLOCATED: u64 = 1 << 43;
const PINNED: u64 = 1 << 44;
const VALIDATED: u64 = 1 << 45;
const TYPE_SHIFT: u32 = 46;
const TYPE_MASK: u64 = 7 << TYPE_SHIFT;
const OWNER_SHIFT: u32 = 49;
const COUNTS: u64 = GENERAL_MASK | TYPES_MASK;

/// How far below the field's end [`Frame::get`] stops, so that a demotion, which must not fail, finds room
/// however many CPUs do one at once.
const DEMOTION_RESERVE: u64 = 4096;

const FREE_WORD: u64 = (DomId::NOBODY.0 as u64) << OWNER_SHIFT;

/// A value of the frame word, taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Snapshot(u64);

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
        self.0 & VALIDATED != 0
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

/// Why a reference could not be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Denied {
    /// The frame belongs to somebody else, or to nobody.
    NotYours,
    /// It is in use as something that excludes this.
    InUse,
    /// It is being validated or devalidated by another party right now (F6).
    Busy,
    /// A count is at its maximum.
    TooMany,
}

/// What taking a type meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    /// The type was already held by others; nothing more to do.
    Shared,
    /// The frame took this type anew: translations older than `stamp` must be flushed everywhere first (F5),
    /// and for a type that needs it the contents validated.
    Fresh {
        /// Flush-clock reading when the previous use ended.
        stamp: u32,
        /// Whether the previous use was the same type, so that stale translations can do no harm.
        same: bool,
    },
}

/// What dropping a reference left behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Left {
    /// Others remain.
    InUse,
    /// It was the last reference of all: the frame is to be given back (F3).
    Nothing,
    /// It was the last reference to a validated table or descriptor page. The reference is *still held* and
    /// the frame locked against new ones (F6); the caller devalidates and calls [`Frame::end_devalidation`].
    MustDevalidate,
}

/// One machine frame's record: 32 bytes.
///
/// `links` belong to whichever list the frame is on (free list or the owner's), guarded by that list's lock.
#[derive(Debug)]
#[repr(C)]
pub struct Frame {
    word: AtomicU64,
    stamp: AtomicU32,
    /// Free list: order of the block this frame heads. Otherwise unused.
    pub order: AtomicU32,
    /// Next frame of the list the frame is on.
    pub next: AtomicU32,
    /// Previous frame of the list the frame is on.
    pub prev: AtomicU32,
    spare: AtomicU64,
}

const _: () = assert!(size_of::<Frame>() == 32);

impl Default for Frame {
    fn default() -> Self {
        Self::new()
    }
}

impl Frame {
    /// A frame that belongs to nobody.
    pub const fn new() -> Frame {
        Frame {
            word: AtomicU64::new(FREE_WORD),
            stamp: AtomicU32::new(0),
            order: AtomicU32::new(0),
            next: AtomicU32::new(0),
            prev: AtomicU32::new(0),
            spare: AtomicU64::new(0),
        }
    }

    /// The word as it is now. An allegation: it may change at once.
    #[inline]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.word.load(Ordering::Acquire))
    }

    /// Makes a record that was never used into that of a free frame. Boot only: memory fresh from the
    /// allocator holds zeros, which would read as a frame of domain 0.
    pub fn reset(&self) {
        self.word.store(FREE_WORD, Ordering::Release);
    }

    /// Makes a record that was never used into that of an address without memory. Boot only.
    pub fn mark_io(&self) {
        let word = (DomId::IO.0 as u64) << OWNER_SHIFT;
        self.word.store(word, Ordering::Release);
    }

    /// Whether [`Self::mark_io`] was called.
    #[inline]
    pub fn is_io(&self) -> bool {
        self.snapshot().owner() == DomId::IO
    }

    /// Gives a free frame to `owner` with one general reference, the owner's claim.
    ///
    /// Returns false, changing nothing, if the frame is not free.
    pub fn assign(&self, owner: DomId) -> bool {
        let word = ((owner.0 as u64) << OWNER_SHIFT) | ALLOCATED | GENERAL_ONE;
        let keep_type = self.word.load(Ordering::Acquire);
        if keep_type & !TYPE_MASK != FREE_WORD {
            return false;
        }
        self.word
            .compare_exchange(
                keep_type,
                word | (keep_type & TYPE_MASK),
                Ordering::AcqRel,
                Ordering::Acquire,
            )
            .is_ok()
    }

    /// Marks a frame without references as nobody's. The last act before it goes to the allocator.
    pub fn retire(&self) {
        let old = self.word.load(Ordering::Acquire);
        debug_assert!(old & COUNTS == 0);
        // The type bits stay: they tell the next user under which use old translations were made (F5).
        self.word
            .store(FREE_WORD | (old & TYPE_MASK), Ordering::Release);
    }

    /// Reading of the flush clock when the last use ended.
    #[inline]
    pub fn stamp(&self) -> u32 {
        self.stamp.load(Ordering::Acquire)
    }

    /// Takes a general reference if `who` owns the frame (or, with `None`, whoever owns it).
    #[inline]
    pub fn get(&self, who: Option<DomId>) -> Result<(), Denied> {
        self.change(|old| {
            check_owner(old, who)?;
            if old & GENERAL_MASK >= GENERAL_MASK - DEMOTION_RESERVE {
                return Err(Denied::TooMany);
            }
            Ok(old + GENERAL_ONE)
        })
        .map(|_| ())
    }

    /// Drops a general reference. `now` is the flush clock, stamped on the frame if this was the last use.
    #[inline]
    pub fn put(&self, now: u32) -> Left {
        self.drop_counts(GENERAL_ONE, 0, now)
    }

    /// Takes back the owner's claim: the frame no longer belongs to the domain's allotment, and returns to
    /// the allocator when its last reference goes. Returns false if the claim was gone already.
    #[inline]
    pub fn disown(&self) -> bool {
        self.change(|old| {
            if old & ALLOCATED == 0 {
                Err(Denied::NotYours)
            } else {
                Ok(old & !ALLOCATED)
            }
        })
        .is_ok()
    }

    /// Takes a reference of type `Writable`.
    #[inline]
    pub fn get_writable(&self, who: Option<DomId>) -> Result<Taken, Denied> {
        let old = self.change(|old| {
            check_owner(old, who)?;
            take_type(old, FrameType::Writable)
        })?;
        Ok(self.taken(old, FrameType::Writable))
    }

    /// Turns a `Writable` reference into a general one: a mapping that lost its write permission. Cannot fail:
    /// [`Self::get`] leaves room for one demotion on every CPU.
    #[inline]
    pub fn demote(&self, now: u32) {
        let mut old = self.word.load(Ordering::Relaxed);
        loop {
            debug_assert!(Snapshot(old).type_count() > 0);
            if old & TYPES_MASK == TYPES_ONE {
                self.stamp.store(now, Ordering::Release);
            }
            let new = old.wrapping_sub(TYPES_ONE).wrapping_add(GENERAL_ONE);
            match self
                .word
                .compare_exchange_weak(old, new, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(seen) => old = seen,
            }
        }
    }

    /// Takes a reference of a type that needs validation. On `Fresh` the caller must flush, validate and then
    /// call [`Self::end_validation`]; until then others get `Busy`.
    #[inline]
    pub fn get_checked(&self, who: Option<DomId>, want: FrameType) -> Result<Taken, Denied> {
        debug_assert!(want.needs_validation());
        let old = self.change(|old| {
            check_owner(old, who)?;
            take_type(old, want)
        })?;
        Ok(self.taken(old, want))
    }

    /// Takes one more reference of type `want` only where the frame already is validated as that.
    #[inline]
    pub fn get_if_valid(&self, who: Option<DomId>, want: FrameType) -> Result<(), Denied> {
        self.change(|old| {
            check_owner(old, who)?;
            let now_type = Snapshot(old);
            if now_type.type_count() == 0
                || now_type.frame_type() != want
                || !now_type.is_validated()
            {
                return Err(Denied::InUse);
            }
            if now_type.type_count() == TYPES_MAX {
                return Err(Denied::TooMany);
            }
            Ok(old + TYPES_ONE)
        })
        .map(|_| ())
    }

    /// Ends a validation begun by a `Fresh` [`Self::get_checked`]: the type stands, or the reference is gone.
    pub fn end_validation(&self, good: bool, now: u32) -> Left {
        if good {
            self.word.fetch_or(VALIDATED, Ordering::AcqRel);
            Left::InUse
        } else {
            self.drop_counts(0, TYPES_ONE, now)
        }
    }

    /// Drops a type reference.
    #[inline]
    pub fn put_type(&self, now: u32) -> Left {
        let mut old = self.word.load(Ordering::Relaxed);
        loop {
            let snap = Snapshot(old);
            debug_assert!(snap.type_count() > 0);
            let lock = snap.type_count() == 1 && snap.frame_type().needs_validation();
            let new = if lock {
                old & !VALIDATED
            } else {
                old - TYPES_ONE
            };
            if new & TYPES_MASK == 0 {
                self.stamp.store(now, Ordering::Release);
            }
            match self.word.compare_exchange_weak(
                old,
                new,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) if lock => return Left::MustDevalidate,
                Ok(_) if new & COUNTS == 0 => return Left::Nothing,
                Ok(_) => return Left::InUse,
                Err(seen) => old = seen,
            }
        }
    }

    /// Ends a devalidation demanded by [`Left::MustDevalidate`]: drops the reference that was still held.
    pub fn end_devalidation(&self, now: u32) -> Left {
        self.drop_counts(0, TYPES_ONE, now)
    }

    /// Sets the pin flag; false if it was set. The pin owns one type reference, which the caller took.
    pub fn set_pinned(&self) -> bool {
        self.word.fetch_or(PINNED, Ordering::AcqRel) & PINNED == 0
    }

    /// Clears the pin flag; false if it was clear. The caller then drops the pin's type reference.
    pub fn clear_pinned(&self) -> bool {
        self.word.fetch_and(!PINNED, Ordering::AcqRel) & PINNED != 0
    }

    fn taken(&self, old: u64, want: FrameType) -> Taken {
        let old = Snapshot(old);
        if old.type_count() > 0 {
            Taken::Shared
        } else {
            Taken::Fresh {
                stamp: self.stamp(),
                same: old.frame_type() == want,
            }
        }
    }

    #[inline]
    fn change(&self, mut next: impl FnMut(u64) -> Result<u64, Denied>) -> Result<u64, Denied> {
        let mut old = self.word.load(Ordering::Relaxed);
        loop {
            let new = next(old)?;
            // AcqRel pairs with every other change of the word: who takes a reference sees what was written
            // under the references that were dropped before.
            match self
                .word
                .compare_exchange_weak(old, new, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return Ok(old),
                Err(seen) => old = seen,
            }
        }
    }

    #[inline]
    fn drop_counts(&self, general: u64, types: u64, now: u32) -> Left {
        let mut old = self.word.load(Ordering::Relaxed);
        loop {
            debug_assert!(old & GENERAL_MASK >= general && old & TYPES_MASK >= types);
            let new = old.wrapping_sub(general).wrapping_sub(types);
            if new & COUNTS == 0 || (types != 0 && new & TYPES_MASK == 0) {
                // Stored before the count is seen as zero, so that whoever takes the frame next reads it (F5).
                self.stamp.store(now, Ordering::Release);
            }
            match self.word.compare_exchange_weak(
                old,
                new,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) if new & COUNTS == 0 => return Left::Nothing,
                Ok(_) => return Left::InUse,
                Err(seen) => old = seen,
            }
        }
    }
}

#[inline]
fn check_owner(word: u64, who: Option<DomId>) -> Result<(), Denied> {
    let snap = Snapshot(word);
    let right_owner = match who {
        Some(who) => snap.owner() == who,
        None => true,
    };
    // Without a reference the frame is on its way to the allocator: nobody can revive it (F3).
    if right_owner && snap.is_alive() {
        Ok(())
    } else {
        Err(Denied::NotYours)
    }
}

#[inline]
fn take_type(word: u64, want: FrameType) -> Result<u64, Denied> {
    let snap = Snapshot(word);
    if snap.type_count() == 0 {
        // F1: the type changes only here, at count zero. VALIDATED is clear at count zero.
        return Ok((word & !TYPE_MASK) | ((want as u64) << TYPE_SHIFT) | TYPES_ONE);
    }
    if snap.frame_type() != want {
        return Err(Denied::InUse);
    }
    if want.needs_validation() && !snap.is_validated() {
        return Err(Denied::Busy);
    }
    if snap.type_count() == TYPES_MAX {
        return Err(Denied::TooMany);
    }
    Ok(word + TYPES_ONE)
}

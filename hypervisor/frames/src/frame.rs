//! One machine frame's record: the atomic word (laid out in `word.rs`) and the time its last use ended.
//!
//! Taking or dropping a mapping is one atomic operation on one 64-bit word. Takers loop, because they may be
//! refused; who drops a reference owns it, cannot fail, and subtracts.
//!
//! # The stamp (F5)
//! The stamp is the flush clock's reading when the last use ended: a CPU that flushed later holds nothing stale.
//! Each drop is told `now`, read *after* the mapping was taken out of memory, and notes it before it subtracts.
//! Noting only in the drop that reaches zero would not do: a CPU that read the clock long ago can be the last to
//! subtract, after another CPU's younger mapping came and went. So the stamp only ever moves forward, and whoever
//! finds the count at zero finds every drop noted. Two drops may leave it to a later one:
//! - a general reference while the owner's claim stands: the claim goes later, by a clock read after
//!   [`Frame::disown`] or [`Frame::take_sole`];
//! - a table or descriptor reference: the last one is dropped in two steps, and `now` of the second
//!   ([`Frame::end_devalidation`]) is read when nobody else can hold one.

use crate::atomic::{AtomicU32, AtomicU64};
use crate::word::{
    self, ALLOCATED, COUNTS, FREE, GENERAL_MASK, GENERAL_ONE, PINNED, TYPE_MASK, TYPES_MASK,
    TYPES_ONE, VALID,
};
use crate::work::Part;
use core::sync::atomic::AtomicU32 as Link;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

pub use crate::name::{DomId, FrameType, Level, Mfn};
pub use crate::word::Snapshot;

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
    /// The use is new: translations older than `stamp` must be flushed everywhere before anything relies on it
    /// (F5), and for a type that needs it the contents validated.
    ///
    /// For `Writable` several takers may be told so, until one of them says [`Frame::settle`]: none of them may
    /// rely on another having finished its flush.
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
    pub order: Link,
    /// Next frame of the list the frame is on.
    pub next: Link,
    /// Previous frame of the list the frame is on.
    pub prev: Link,
    /// What table work left for later: the next frame of an undo list and the part of the entries that hold
    /// references (`work`). Belongs to whoever has the frame in progress (F6). While the frame is free: whether it is
    /// clean, which is the allocator's.
    work: AtomicU64,
}

const _: () = assert!(size_of::<Frame>() == 32);

/// Bits of each bound of a part: 0 to 512. Frame numbers have the other 44.
const PART_SHIFT: u32 = 10;

/// Two clock readings this far apart or further were not read in one race: the stamp is simply out of date.
const RACE_TICKS: u32 = 1 << 30;

impl Default for Frame {
    fn default() -> Self {
        Self::new()
    }
}

impl Frame {
    /// A frame that belongs to nobody.
    pub const fn new() -> Frame {
        Frame {
            word: AtomicU64::new(FREE),
            stamp: AtomicU32::new(0),
            order: Link::new(0),
            next: Link::new(0),
            prev: Link::new(0),
            work: AtomicU64::new(0),
        }
    }

    /// A frame of `owner`'s that has been referred to often.
    #[cfg(test)]
    pub(crate) fn with_general_count(owner: DomId, count: u64) -> Frame {
        let frame = Frame::new();
        let word = word::owner_bits(owner) | ALLOCATED | count;
        frame.word.store(word, Release);
        frame
    }

    /// The word as it is now. An allegation: it may change at once.
    #[inline]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.word.load(Acquire))
    }

    /// Makes a record that was never used into that of a free frame. Boot only: memory fresh from the
    /// allocator holds zeros, which would read as a frame of domain 0.
    pub fn reset(&self) {
        self.word.store(FREE, Release);
    }

    /// Makes a record that was never used into that of an address without memory. Boot only.
    pub fn mark_io(&self) {
        self.word.store(word::owner_bits(DomId::IO), Release);
    }

    /// Whether [`Self::mark_io`] was called.
    #[inline]
    pub fn is_io(&self) -> bool {
        self.snapshot().owner() == DomId::IO
    }

    /// Gives a free frame to `owner` with one general reference, the owner's claim. The caller has flushed what
    /// the last owner may have left in any CPU (F5, [`Self::stamp`]).
    ///
    /// Returns false, changing nothing, if the frame is not free.
    pub fn assign(&self, owner: DomId) -> bool {
        let old = self.word.load(Acquire);
        let new = word::owner_bits(owner) | (old & TYPE_MASK) | ALLOCATED | GENERAL_ONE;
        old & !TYPE_MASK == FREE
            && self
                .word
                .compare_exchange(old, new, AcqRel, Acquire)
                .is_ok()
    }

    /// Marks a frame without references as nobody's. The last act before it goes to the allocator.
    pub fn retire(&self) {
        let old = self.word.load(Acquire);
        debug_assert!(old & COUNTS == 0);
        // The type bits stay: they tell the next user under which use old translations were made (F5).
        self.work.store(0, Relaxed);
        self.word.store(FREE | (old & TYPE_MASK), Release);
    }

    /// Whether a free frame holds zeros and nothing translates to it.
    pub fn is_clean(&self) -> bool {
        self.work.load(Relaxed) != 0
    }

    /// Says so of a free frame, or that it is none from here on.
    pub fn set_clean(&self, clean: bool) {
        self.work.store(u64::from(clean), Relaxed);
    }

    /// Notes what is left of the work on a table in progress. `next` is the link of an undo list.
    pub(crate) fn set_work(&self, next: u64, part: Part) {
        let part = (part.from as u64) << PART_SHIFT | part.to as u64;
        self.work.store(next << (2 * PART_SHIFT) | part, Release);
    }

    /// What [`Self::set_work`] noted.
    pub(crate) fn work(&self) -> (u64, Part) {
        const MASK: u64 = (1 << PART_SHIFT) - 1;
        let work = self.work.load(Acquire);
        let part = Part {
            from: (work >> PART_SHIFT & MASK) as usize,
            to: (work & MASK) as usize,
        };
        (work >> (2 * PART_SHIFT), part)
    }

    /// Reading of the flush clock when the last use ended.
    #[inline]
    pub fn stamp(&self) -> u32 {
        self.stamp.load(Acquire)
    }

    /// Takes a general reference if `who` owns the frame (or, with `None`, whoever owns it).
    #[inline]
    pub fn get(&self, who: Option<DomId>) -> Result<(), Denied> {
        self.change(|old| word::with_general(old, who)).map(|_| ())
    }

    /// Drops a general reference. `now` is the flush clock, read after the mapping (if it was one) had left
    /// memory and, for the owner's claim, after [`Self::disown`].
    #[inline]
    pub fn put(&self, now: u32) -> Left {
        // The owner's claim, dropped later, will be stamped later.
        if self.word.load(Acquire) & ALLOCATED == 0 {
            self.note(now);
        }
        let old = self.word.fetch_sub(GENERAL_ONE, AcqRel);
        debug_assert!(old & GENERAL_MASK != 0);
        if old & COUNTS == GENERAL_ONE {
            // Only after a claim dropped without `disown`. Nobody can take the frame before the caller gives it
            // to the allocator (W2), so that this is not too late.
            self.note(now);
            return Left::Nothing;
        }
        Left::InUse
    }

    /// Takes back the owner's claim: the frame no longer belongs to the domain's allotment, and returns to
    /// the allocator when its last reference goes. The caller then drops the claim's reference with
    /// [`Self::put`]. Returns false if the claim was gone already.
    #[inline]
    pub fn disown(&self) -> bool {
        self.word.fetch_and(!ALLOCATED, AcqRel) & ALLOCATED != 0
    }

    /// Takes the frame away from its owner `who` if its claim is the only reference there is. From then on nobody can
    /// take one (W2), until the caller says [`Self::put_back`] or [`Self::give_up`].
    pub fn take_sole(&self, who: DomId) -> Result<(), Denied> {
        self.change(|old| word::without_sole_claim(old, who))
            .map(|_| ())
    }

    /// Undoes [`Self::take_sole`]: the owner has its claim again.
    pub fn put_back(&self) {
        let old = self.word.fetch_add(ALLOCATED | GENERAL_ONE, AcqRel);
        debug_assert!(old & (COUNTS | ALLOCATED) == 0);
    }

    /// The frame is the allocator's. `now` is the flush clock, read after [`Self::take_sole`].
    pub fn give_up(&self, now: u32) {
        self.note(now);
    }

    /// Takes a reference of type `Writable`. On `Fresh` that is not the `same` the caller must flush before the
    /// mapping exists, and may then call [`Self::settle`].
    #[inline]
    pub fn get_writable(&self, who: Option<DomId>) -> Result<Taken, Denied> {
        let old = self.word.load(Relaxed);
        let new = old.wrapping_add(TYPES_ONE);
        if let Some(who) = who
            && word::joins_writable(old, who)
            && self
                .word
                .compare_exchange(old, new, AcqRel, Relaxed)
                .is_ok()
        {
            return Ok(Taken::Shared);
        }
        self.get_writable_anew(who)
    }

    #[inline(never)]
    fn get_writable_anew(&self, who: Option<DomId>) -> Result<Taken, Denied> {
        let old = self.change(|old| word::with_type(old, who, FrameType::Writable))?;
        Ok(self.taken(old, FrameType::Writable))
    }

    /// Says that what the frame was before it became writable has been flushed everywhere, so that later takers
    /// need not. The caller holds a reference from [`Self::get_writable`].
    #[inline]
    pub fn settle(&self) {
        self.word.fetch_or(VALID, AcqRel);
    }

    /// Drops a reference of type `Writable`; `now` as for [`Self::put`].
    #[inline]
    pub fn put_writable(&self, now: u32) -> Left {
        self.note(now);
        self.subtract_type()
    }

    /// Takes the general reference of a mapping that is about to lose its write permission; the caller then
    /// changes the entry and drops the `Writable` one, or this one if the entry had changed meanwhile. Fails only
    /// if the frame has no reference left at all, which means that the entry names it no longer.
    ///
    /// Both are held for a moment, because other CPUs may drop what the changed entry holds as soon as it can be
    /// seen: converting the one to the other in one step afterwards would let them drop a reference not yet there.
    #[inline]
    pub fn get_for_demotion(&self) -> Result<(), Denied> {
        self.change(word::with_general_for_demotion).map(|_| ())
    }

    /// Takes a reference of a type that needs validation. On `Fresh` the caller must flush, validate and then
    /// call [`Self::end_validation`]; until then others get `Busy` (F6).
    #[inline]
    pub fn get_checked(&self, who: Option<DomId>, want: FrameType) -> Result<Taken, Denied> {
        debug_assert!(want.needs_validation());
        let old = self.change(|old| word::with_type(old, who, want))?;
        Ok(self.taken(old, want))
    }

    /// Takes one more reference of type `want` only where the frame already is validated as that.
    #[inline]
    pub fn get_if_valid(&self, who: Option<DomId>, want: FrameType) -> Result<(), Denied> {
        debug_assert!(want.needs_validation());
        self.change(|old| word::with_valid_type(old, who, want))
            .map(|_| ())
    }

    /// Ends a validation begun by a `Fresh` [`Self::get_checked`]: the type stands, or the reference is gone.
    pub fn end_validation(&self, good: bool, now: u32) -> Left {
        if good {
            self.word.fetch_or(VALID, AcqRel);
            Left::InUse
        } else {
            self.note(now);
            self.subtract_type()
        }
    }

    /// Drops a type reference, whatever the type; `now` as for [`Self::put`].
    #[inline]
    pub fn put_type(&self, now: u32) -> Left {
        let mut old = self.word.load(Relaxed);
        // The caller's reference keeps the type as it is, so that one look will do.
        if !Snapshot(old).frame_type().needs_validation() {
            return self.put_writable(now);
        }
        loop {
            debug_assert!(old & TYPES_MASK != 0);
            // F6: the last reference is kept while the contents are being undone; others find the frame busy.
            let last = old & TYPES_MASK == TYPES_ONE;
            let new = if last {
                old & !VALID
            } else {
                old.wrapping_sub(TYPES_ONE)
            };
            match self.word.compare_exchange_weak(old, new, AcqRel, Relaxed) {
                Ok(_) if last => return Left::MustDevalidate,
                Ok(_) => return Left::InUse,
                Err(seen) => old = seen,
            }
        }
    }

    /// Ends a devalidation demanded by [`Left::MustDevalidate`]: drops the reference that was still held.
    /// `now` is the flush clock, read after [`Self::put_type`] demanded it.
    pub fn end_devalidation(&self, now: u32) -> Left {
        self.note(now);
        self.subtract_type()
    }

    /// Sets the pin flag; false if it was set. The pin owns one type reference, which the caller took.
    pub fn set_pinned(&self) -> bool {
        self.word.fetch_or(PINNED, AcqRel) & PINNED == 0
    }

    /// Clears the pin flag of a table of `who`'s and returns the table's level. The caller then drops the pin's
    /// type reference.
    ///
    /// Flag, owner and type are looked at in one step: between two, others might unpin the frame and pin it as
    /// something else.
    pub fn clear_pinned(&self, who: DomId) -> Result<Level, Denied> {
        let old = self.change(|old| {
            if Snapshot(old).owner() != who {
                Err(Denied::NotYours)
            } else if old & PINNED == 0 {
                Err(Denied::InUse)
            } else {
                Ok(old & !PINNED)
            }
        })?;
        Snapshot(old).frame_type().level().ok_or(Denied::InUse)
    }

    /// Moves the stamp forward to `now`, if it is not there or past it (F5).
    #[inline]
    fn note(&self, now: u32) {
        let mut stamp = self.stamp.load(Relaxed);
        // Modulo 2^32: a stamp a little ahead was noted by a race's winner; one far ahead is one long past.
        while stamp.wrapping_sub(now) >= RACE_TICKS {
            match self
                .stamp
                .compare_exchange_weak(stamp, now, Release, Relaxed)
            {
                Ok(_) => return,
                Err(seen) => stamp = seen,
            }
        }
    }

    #[inline]
    fn subtract_type(&self) -> Left {
        let old = self.word.fetch_sub(TYPES_ONE, AcqRel);
        debug_assert!(old & TYPES_MASK != 0);
        if old & COUNTS == TYPES_ONE {
            Left::Nothing
        } else {
            Left::InUse
        }
    }

    #[inline]
    fn taken(&self, old: u64, want: FrameType) -> Taken {
        let fresh = old & TYPES_MASK == 0;
        if !fresh && old & VALID != 0 {
            return Taken::Shared;
        }
        Taken::Fresh {
            // Read after the type was taken, and thus after every drop of the use before was noted.
            stamp: self.stamp(),
            same: fresh && old & TYPE_MASK == word::type_bits(want),
        }
    }

    #[inline]
    fn change(&self, mut next: impl FnMut(u64) -> Result<u64, Denied>) -> Result<u64, Denied> {
        let mut old = self.word.load(Relaxed);
        loop {
            let new = next(old)?;
            // AcqRel pairs with every other change of the word: who takes a reference sees what was written
            // under the references that were dropped before.
            match self.word.compare_exchange_weak(old, new, AcqRel, Relaxed) {
                Ok(_) => return Ok(old),
                Err(seen) => old = seen,
            }
        }
    }
}

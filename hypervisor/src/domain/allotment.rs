//! A domain's memory as far as it is bounded and described: how it grows, what is set aside for it, and the map of it
//! that the domain is shown.
//!
//! # Invariants
//! - G1: a domain never has more frames than it may have at that moment. Whatever adds frames does so under
//!   [`Domain::grow`]'s lock, which counts them before they exist; frames that go are counted when they are gone. Where
//!   frames go and as many come in their place, the count stays.

use crate::domain::Domain;
use crate::memory::alloc::{Claim, Unclaimed};
use crate::memory::pieces::{self, Charge};
use crate::sync::{Lock, rank};
use core::sync::atomic::{AtomicU64, Ordering};
use guest_abi::memory::E820Entry;
use guest_abi::{Errno, Wire};

/// Entries a map may have.
pub const MAP_ENTRIES: usize = 128;
/// Bytes of so many.
pub const MAP_BYTES: usize = MAP_ENTRIES * E820Entry::SIZE;

const _: () = assert!(MAP_BYTES <= pieces::LARGEST);

/// What bounds and describes a domain's memory, beside the counts of its frames.
pub struct Allotment {
    /// Held while the count of frames grows (G1). Before the allocator's lock.
    growth: Lock<(), rank::Growth>,
    /// Frames set aside for it.
    pub claim: Claim,
    map: Lock<Option<Map>, rank::Settings>,
    /// Frames of the domain's that an audit under way has seen.
    pub seen: AtomicU64,
}

/// The memory map a domain is shown: in memory of ring 0's that is charged to it.
type Map = &'static mut [u8];

impl Allotment {
    /// Nothing set aside, no map.
    pub const fn new() -> Allotment {
        Allotment {
            growth: Lock::new(()),
            claim: Claim::new(),
            map: Lock::new(None),
            seen: AtomicU64::new(0),
        }
    }
}

impl Domain {
    /// Counts frames that the domain is about to get. False if it may not have so many (G1).
    pub fn grow(&self, frames: u64) -> bool {
        let _growth = self.allotment.growth.lock();
        let held = self.pages.load(Ordering::Acquire);
        let within = held
            .checked_add(frames)
            .is_some_and(|all| all <= self.max_pages.load(Ordering::Acquire));
        if within {
            self.pages.fetch_add(frames, Ordering::AcqRel);
        }
        within
    }

    /// Takes back what [`Self::grow`] counted for frames that there are none of.
    pub fn shrink(&self, frames: u64) {
        self.pages.fetch_sub(frames, Ordering::AcqRel);
    }

    /// Sets memory aside: as much as the domain lacks of `frames` in all; 0 gives the claim up.
    ///
    /// # Errors
    /// `-EINVAL` if it has as many already, may not have so many, or has a claim; `-ENOMEM` if there are not so many.
    pub fn claim(&self, frames: u64) -> Result<(), Errno> {
        if frames == 0 {
            self.allotment.claim.release();
            return Ok(());
        }
        let _growth = self.allotment.growth.lock();
        let held = self.pages.load(Ordering::Acquire);
        if frames <= held || frames > self.max_pages.load(Ordering::Acquire) {
            return Err(Errno::Inval);
        }
        self.allotment
            .claim
            .make(frames - held)
            .map_err(|why| match why {
                Unclaimed::Already => Errno::Inval,
                Unclaimed::NoMemory => Errno::NoMem,
            })
    }

    /// Replaces the memory map; an empty one takes it away.
    ///
    /// # Errors
    /// `-ENOMEM` if the domain has had its share of ring 0's memory.
    pub fn set_map(&self, entries: &[u8]) -> Result<(), Errno> {
        let new = match entries {
            [] => None,
            _ => {
                // Before the lock: what is fresh may have to be flushed.
                let place = self.place_bytes(entries.len(), Charge::Caused);
                let place = place.ok_or(Errno::NoMem)?;
                place.copy_from_slice(entries);
                Some(place)
            }
        };
        let old = core::mem::replace(&mut *self.allotment.map.lock(), new);
        if let Some(old) = old {
            self.take_back_bytes(old);
        }
        Ok(())
    }

    /// Copies the memory map, as far as there is room for whole entries. `None` if it has none; else the bytes.
    pub fn copy_map(&self, to: &mut [u8]) -> Option<usize> {
        let map = self.allotment.map.lock();
        let map = map.as_ref()?;
        let bytes = map.len().min(to.len() / E820Entry::SIZE * E820Entry::SIZE);
        to.get_mut(..bytes)?.copy_from_slice(map.get(..bytes)?);
        Some(bytes)
    }

    /// Gives up what is set aside for the domain and the storage of its map, for tearing it down. May be called again.
    pub fn release_allotment(&self) {
        self.allotment.claim.release();
        // A map taken away is no map.
        let _ = self.set_map(&[]);
    }
}

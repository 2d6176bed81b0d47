//! Rings in memory that both sides can write: where the reading side stands, whatever the other side claims.
//!
//! A ring has a power of two of slots and two free-running 32-bit indices. The producer's lies in shared memory and is
//! a claim; the reader's own is kept here and never read back from shared memory.
//!
//! # Invariants
//! - G1: a reader reads no more slots than there are between two looks at the claim, and each slot once: the next one is
//!   always its own index, in range by masking.
//! - G2: a claim of more than the ring holds is never acted on, and the ring is broken from then on.
#![no_std]
#![forbid(unsafe_code)]

/// The producer claims more than a ring can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// Where the reading side of a ring of `SLOTS` slots stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reader<const SLOTS: u32> {
    next: u32,
    broken: bool,
}

impl<const SLOTS: u32> Reader<SLOTS> {
    const IS_A_RING: () = assert!(SLOTS.is_power_of_two() && SLOTS <= 1 << 31);

    /// Begins with the slot of this index, which may be any.
    #[must_use]
    pub const fn starting_at(next: u32) -> Self {
        () = Self::IS_A_RING;
        Self {
            next,
            broken: false,
        }
    }

    /// How many slots there are to read if the producer's index is `claim`.
    ///
    /// # Errors
    /// [`Broken`] if these are more than the ring has, now or at any time before (G2).
    pub fn look(&mut self, claim: u32) -> Result<u32, Broken> {
        let waiting = claim.wrapping_sub(self.next);
        self.broken |= waiting > SLOTS;
        if self.broken {
            Err(Broken)
        } else {
            Ok(waiting)
        }
    }

    /// The slot to read now; the next time it is the one behind it (G1).
    pub fn take(&mut self) -> usize {
        let slot = self.next & (SLOTS - 1);
        self.next = self.next.wrapping_add(1);
        slot as usize
    }

    /// The index of the slot that comes next, as it is told to the producer.
    #[must_use]
    pub const fn next(&self) -> u32 {
        self.next
    }
}

//! What CPUs put into the accounts of a domain, kept so that it can be told as of one moment of each CPU while all go on.
//!
//! The books of the machine are numbered. Each CPU goes over to the next number at a boundary of its own, and adds what it
//! puts into accounts to the sum that has the parity of the number it is at. When all have gone over to number n, nobody adds
//! to the other sum until they go over again: with what the sum of n's own parity was before the first of them went over, it
//! is what the domain had used when each CPU went over, to the cycle. Whoever makes the books looks at every domain twice,
//! once before and once after, and as slowly as he likes.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

/// What was put into the accounts of a domain.
#[derive(Debug, Default)]
pub struct Sold {
    sums: [AtomicU64; 2],
    /// The sum of the coming number's parity before the first CPU went over to it.
    base: AtomicU64,
}

impl Sold {
    /// Nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            sums: [const { AtomicU64::new(0) }; 2],
            base: AtomicU64::new(0),
        }
    }

    fn of_parity(&self, number: u64) -> &AtomicU64 {
        &self.sums[(number & 1) as usize]
    }

    /// Adds what a CPU put into accounts that is at this number.
    #[inline]
    pub fn add(&self, number: u64, cycles: u64) {
        self.of_parity(number).fetch_add(cycles, Relaxed);
    }

    /// Prepares for a number. All CPUs are at the one before.
    pub fn note(&self, number: u64) {
        self.base
            .store(self.of_parity(number).load(Relaxed), Relaxed);
    }

    /// What had been put into accounts when each CPU went over to a number. All have since it was noted, and none is beyond.
    #[must_use]
    pub fn at(&self, number: u64) -> u64 {
        let frozen = self.of_parity(number.wrapping_add(1)).load(Relaxed);
        frozen.wrapping_add(self.base.load(Relaxed))
    }

    /// All that was put into accounts so far.
    #[must_use]
    pub fn all(&self) -> u64 {
        let [even, odd] = self.sums.each_ref().map(|sum| sum.load(Relaxed));
        even.wrapping_add(odd)
    }

    /// Takes over what another had, to which nobody adds any more.
    pub fn absorb(&self, other: &Self) {
        let places = self.sums.iter().zip(&other.sums);
        for (to, from) in places.chain([(&self.base, &other.base)]) {
            to.fetch_add(from.load(Relaxed), Relaxed);
        }
    }
}

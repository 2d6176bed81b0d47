//! Numbers that several CPUs give out at the same time: of domains, of vCPUs.
//!
//! # Invariants
//! - N3: a number is taken by one party at a time: its bit is set by one locked operation, and who set it is who found it
//!   clear.
//! - N4: [`Numbers::take_next`] takes up again only when everybody else was tried.

use crate::atomic::{AtomicU32, AtomicU64};
use core::ops::Range;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

/// `WORDS * 64` numbers, from 0.
#[derive(Debug)]
pub struct Numbers<const WORDS: usize> {
    /// A bit for each number that is taken.
    taken: [AtomicU64; WORDS],
    /// The last one that [`Self::take_next`] gave out.
    last: AtomicU32,
}

impl<const WORDS: usize> Default for Numbers<WORDS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const WORDS: usize> Numbers<WORDS> {
    /// None taken.
    #[must_use]
    pub const fn new() -> Self {
        Numbers {
            taken: [const { AtomicU64::new(0) }; WORDS],
            last: AtomicU32::new(0),
        }
    }

    /// Takes this number. False if somebody has it, or there is none such.
    #[must_use]
    pub fn take(&self, number: u32) -> bool {
        let bit = 1 << (number % 64);
        self.word(number)
            .is_some_and(|word| word.fetch_or(bit, AcqRel) & bit == 0)
    }

    /// Takes the lowest number of a range that nobody has.
    #[must_use]
    pub fn take_lowest(&self, of: Range<u32>) -> Option<u32> {
        let mut from = of.start;
        while from < of.end {
            let word = self.word(from)?.load(Acquire);
            // Those below `from` count as taken.
            let taken = word | ((1u64 << (from % 64)) - 1);
            let number = (from & !63) + taken.trailing_ones();
            if taken == !0 {
                from = number;
            } else if number >= of.end {
                return None;
            } else if self.take(number) {
                return Some(number);
            } else {
                // Another was faster.
                from = number + 1;
            }
        }
        None
    }

    /// Takes the number of a range that comes after the one taken so last, round and round.
    #[must_use]
    pub fn take_next(&self, of: Range<u32>) -> Option<u32> {
        let middle = (self.last.load(Relaxed) + 1).clamp(of.start, of.end);
        let number = self
            .take_lowest(middle..of.end)
            .or_else(|| self.take_lowest(of.start..middle))?;
        self.last.store(number, Relaxed);
        Some(number)
    }

    /// Gives a number back. It was taken, and is its holder's no more.
    pub fn give(&self, number: u32) {
        if let Some(word) = self.word(number) {
            word.fetch_and(!(1 << (number % 64)), AcqRel);
        }
    }

    /// The lowest number from `from` on that is taken.
    #[must_use]
    pub fn next_taken(&self, from: u32) -> Option<u32> {
        let first = from as usize / 64;
        for (index, word) in self.taken.iter().enumerate().skip(first) {
            let mut bits = word.load(Acquire);
            if index == first {
                bits &= !0 << (from % 64);
            }
            if bits != 0 {
                return Some(index as u32 * 64 + bits.trailing_zeros());
            }
        }
        None
    }

    fn word(&self, number: u32) -> Option<&AtomicU64> {
        self.taken.get(number as usize / 64)
    }
}

#[cfg(test)]
#[path = "tests/numbers.rs"]
mod tests;

//! The lowest free port, in two steps (invariants E2 and E6).

use crate::MAX_PORTS;

const WORDS: usize = MAX_PORTS / 64;

/// A bit for each port, set while it is free, and a summary with a bit for each word that has one set.
pub(crate) struct FreeMap {
    words: [u64; WORDS],
    summary: u64,
}

const _: () = assert!(WORDS == 64, "the summary is one word");

impl FreeMap {
    pub(crate) const NONE_FREE: Self = Self {
        words: [0; WORDS],
        summary: 0,
    };

    pub(crate) fn lowest(&self) -> Option<usize> {
        if self.summary == 0 {
            return None;
        }
        let word = self.summary.trailing_zeros() as usize;
        let bits = self.words.get(word)?;
        Some(word * 64 + bits.trailing_zeros() as usize)
    }

    pub(crate) fn set_free(&mut self, index: usize) {
        if let Some(word) = self.words.get_mut(index / 64) {
            *word |= 1 << (index % 64);
            self.summary |= 1 << (index / 64);
        }
    }

    pub(crate) fn set_taken(&mut self, index: usize) {
        if let Some(word) = self.words.get_mut(index / 64) {
            *word &= !(1 << (index % 64));
            if *word == 0 {
                self.summary &= !(1 << (index / 64));
            }
        }
    }

    /// The same for every index of some words.
    pub(crate) fn set_words_taken(&mut self, words: core::ops::Range<usize>) {
        for word in words {
            if let Some(place) = self.words.get_mut(word) {
                *place = 0;
                self.summary &= !(1 << word);
            }
        }
    }

    /// The lowest index from `from` below `end` that is not free.
    pub(crate) fn next_taken(&self, from: usize, end: usize) -> Option<usize> {
        let mut index = from;
        while index < end {
            let taken = !self.words.get(index / 64)? >> (index % 64);
            if taken != 0 {
                let found = index + taken.trailing_zeros() as usize;
                return (found < end).then_some(found);
            }
            index = (index / 64 + 1) * 64;
        }
        None
    }
}

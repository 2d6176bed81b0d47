//! What is remembered of a chain of records that others keep: how long it is and the hash of its last entry; and the last
//! few of a numbered series.
//!
//! # Invariants
//! - N1: an anchor's count never falls: whoever kept the chain cannot come back with a shorter one, or with another of
//!   the same length.
//! - N2: what is told of a series is what was put there under that number.

/// Bytes of a hash.
const HASH: usize = 32;

/// A chain's length and head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    count: u64,
    head: [u8; HASH],
}

/// Why a chain is not taken to have grown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAppended {
    /// It would not be longer than it is.
    GoesBack,
    /// Whoever says so thinks of another length that it has had so far.
    NotFromHere,
}

impl Default for Anchor {
    fn default() -> Self {
        Self::NONE
    }
}

impl Anchor {
    /// Of a chain without entries.
    pub const NONE: Self = Self {
        count: 0,
        head: [0; HASH],
    };

    /// Entries, and the hash of the last.
    pub fn told(&self) -> (u64, [u8; HASH]) {
        (self.count, self.head)
    }

    /// The chain of `from` entries has grown to `count`.
    ///
    /// # Errors
    /// Why that cannot be; nothing changes then.
    pub fn append(&mut self, from: u64, count: u64, head: [u8; HASH]) -> Result<(), NotAppended> {
        if count <= self.count {
            return Err(NotAppended::GoesBack);
        }
        if from != self.count {
            return Err(NotAppended::NotFromHere);
        }
        *self = Self { count, head };
        Ok(())
    }
}

/// The last `N` values of a series numbered from 0 on.
#[derive(Clone, Copy, Debug)]
pub struct LastOf<T, const N: usize> {
    values: [Option<T>; N],
    /// How many there have been.
    total: u64,
}

impl<T: Copy, const N: usize> Default for LastOf<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Copy, const N: usize> LastOf<T, N> {
    /// An empty series.
    pub const fn new() -> Self {
        const { assert!(N > 0) };
        Self {
            values: [None; N],
            total: 0,
        }
    }

    /// How many values there have been.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Another value; the oldest gives way.
    pub fn push(&mut self, value: T) {
        let place = self.total % N as u64;
        if let Some(place) = self.values.get_mut(place as usize) {
            *place = Some(value);
            // Once a nanosecond this takes centuries.
            self.total = self.total.wrapping_add(1);
        }
    }

    /// The first value from number `from` on that is remembered, with its number.
    pub fn from(&self, from: u64) -> Option<(u64, &T)> {
        let first = from.max(self.total.saturating_sub(N as u64));
        if first >= self.total {
            return None;
        }
        let value = self.values.get((first % N as u64) as usize)?.as_ref()?;
        Some((first, value))
    }
}

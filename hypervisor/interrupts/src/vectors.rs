//! Which vectors are free.

use core::ops::RangeInclusive;

/// The vectors that devices share out among themselves.
#[derive(Clone, Debug)]
pub struct Vectors {
    /// A bit for each vector that may be taken now.
    free: [u64; 4],
    /// A bit for each vector that devices may have at all.
    ours: [u64; 4],
}

impl Vectors {
    /// All vectors of `range` but those in `kept`.
    #[must_use]
    pub const fn new(range: RangeInclusive<u8>, kept: &[u8]) -> Self {
        let mut ours = [0u64; 4];
        let mut vector = *range.start();
        loop {
            ours[(vector >> 6) as usize] |= 1 << (vector & 63);
            if vector >= *range.end() {
                break;
            }
            vector += 1;
        }
        let mut i = 0;
        while i < kept.len() {
            ours[(kept[i] >> 6) as usize] &= !(1 << (kept[i] & 63));
            i += 1;
        }
        Self { free: ours, ours }
    }

    /// Takes the lowest free vector.
    pub fn take(&mut self) -> Option<u8> {
        let (word, bits) = self.free.iter_mut().enumerate().find(|(_, b)| **b != 0)?;
        let bit = bits.trailing_zeros();
        *bits &= *bits - 1;
        u8::try_from(word as u32 * 64 + bit).ok()
    }

    /// Gives a vector back. One that was not a device's is not given (N1).
    pub fn give(&mut self, vector: u8) {
        let (word, bit) = (usize::from(vector >> 6), 1u64 << (vector & 63));
        self.free[word] |= self.ours[word] & bit;
    }
}

//! Storage that grows: what is numbered lies in rows of the caller's, each as long as a page has room for.
//!
//! A table grows by a row at a time, and nothing that is in it moves: to grow costs the same however long it is.
//!
//! # Invariants
//! - R1: all rows but the last are full, so a number says its row and the place in it; a full row is a power of two long.

#![no_std]
#![forbid(unsafe_code)]

/// Bytes a row fills at most.
const ROW: usize = 4096;

/// How many of a kind a row has: as many as are a power of two and fit.
#[must_use]
pub const fn per_row<T>() -> usize {
    1 << (ROW / size_of::<T>()).ilog2()
}

/// Rows in which so many of a kind find room.
#[must_use]
pub const fn rows_for<T>(number: usize) -> usize {
    number.div_ceil(per_row::<T>())
}

/// Rows of `T`, at most `MOST` of them. All but the last are full.
pub struct Rows<'a, T, const MOST: usize> {
    /// Those there are not are empty.
    rows: [&'a mut [T]; MOST],
    nr_rows: usize,
    len: usize,
}

impl<'a, T: Copy, const MOST: usize> Rows<'a, T, MOST> {
    /// How many a row has.
    pub const PER_ROW: usize = per_row::<T>();

    /// Storage, cut into rows; of more than there can be the rest is left.
    #[must_use]
    pub fn new(storage: &'a mut [T]) -> Self {
        let mut rows = Self {
            rows: core::array::from_fn(|_| Default::default()),
            nr_rows: 0,
            len: 0,
        };
        for row in storage.chunks_mut(Self::PER_ROW) {
            rows.add(row);
        }
        rows
    }

    /// Adds a row behind the others. False if the last of them is not full, this is too long, or there are as many as
    /// there can be.
    pub fn add(&mut self, row: &'a mut [T]) -> bool {
        if self.len != self.nr_rows * Self::PER_ROW || row.len() > Self::PER_ROW {
            return false;
        }
        let Some(place) = self.rows.get_mut(self.nr_rows) else {
            return false;
        };
        self.len += row.len();
        *place = row;
        self.nr_rows += 1;
        true
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The one with a number; `None` beyond the last.
    #[must_use]
    #[inline]
    pub fn get(&self, index: usize) -> Option<&T> {
        let row = self.rows.get(index / Self::PER_ROW)?;
        row.get(index % Self::PER_ROW)
    }

    /// As [`Self::get`], to be changed.
    #[inline]
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        let row = self.rows.get_mut(index / Self::PER_ROW)?;
        row.get_mut(index % Self::PER_ROW)
    }

    /// All, by number.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let rows = self.rows.iter().take(self.nr_rows);
        rows.flat_map(|row| row.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    extern crate std;
    use std::vec;
    use std::vec::Vec;

    type Few<'a> = Rows<'a, [u64; 30], 3>;

    #[test]
    fn a_row_is_a_power_of_two_long_and_fits_a_page() {
        assert_eq!(Few::PER_ROW, 16);
        assert_eq!(per_row::<u64>(), 512);
        assert_eq!(per_row::<[u8; 4096]>(), 1);
        assert_eq!(rows_for::<[u64; 30]>(17), 2);
    }

    #[test]
    fn storage_is_cut_into_rows_and_each_is_found_by_its_number() {
        let mut storage = vec![[0; 30]; 40];
        let mut rows = Few::new(&mut storage);
        for index in 0..40 {
            rows.get_mut(index).unwrap()[0] = index as u64;
        }
        let all: Vec<u64> = rows.iter().map(|one| one[0]).collect();
        assert_eq!(all, (0..40).collect::<Vec<u64>>());
        assert_eq!(rows.len(), 40);
        assert!(rows.get(40).is_none() && rows.get(usize::MAX).is_none());
    }

    #[test]
    fn nothing_is_added_behind_a_row_that_is_not_full_nor_beyond_the_last() {
        let (mut first, mut second, mut long) =
            (vec![[0; 30]; 16], vec![[0; 30]; 3], vec![[0; 30]; 17]);
        let (mut third, mut fourth) = (vec![[0; 30]; 16], vec![[0; 30]; 1]);
        let mut rows = Few::new(&mut []);
        assert!(rows.is_empty());
        assert!(!rows.add(&mut long), "longer than a row");
        assert!(rows.add(&mut first));
        assert!(rows.add(&mut second));
        assert!(!rows.add(&mut third), "the one before is not full");
        let mut full = vec![[0; 30]; 48];
        let mut rows = Few::new(&mut full);
        assert!(!rows.add(&mut fourth), "there are three at most");
    }
}

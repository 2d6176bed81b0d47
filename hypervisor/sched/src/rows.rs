//! Storage that grows: what is numbered lies in rows of the caller's, each as long as a page has room for.

/// Bytes a row fills at most.
const ROW: usize = 4096;

/// Rows of `T`, at most `MOST` of them. All but the last are full.
pub struct Rows<'a, T, const MOST: usize> {
    rows: [Option<&'a mut [T]>; MOST],
    nr_rows: usize,
    len: usize,
}

impl<'a, T: Copy, const MOST: usize> Rows<'a, T, MOST> {
    /// How many a row has.
    pub const PER_ROW: usize = ROW / size_of::<T>();

    /// Storage, cut into rows; of more than there can be the rest is left.
    pub(crate) fn new(storage: &'a mut [T]) -> Self {
        let mut rows = Self {
            rows: [const { None }; MOST],
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
    pub(crate) fn add(&mut self, row: &'a mut [T]) -> bool {
        if self.len != self.nr_rows * Self::PER_ROW || row.len() > Self::PER_ROW {
            return false;
        }
        let Some(place) = self.rows.get_mut(self.nr_rows) else {
            return false;
        };
        self.len += row.len();
        *place = Some(row);
        self.nr_rows += 1;
        true
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        let row = self.rows.get(index / Self::PER_ROW)?.as_ref()?;
        row.get(index % Self::PER_ROW)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        let row = self.rows.get_mut(index / Self::PER_ROW)?.as_mut()?;
        row.get_mut(index % Self::PER_ROW)
    }
}

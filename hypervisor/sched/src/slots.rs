//! Numbers given to who joins, each naming who has it.

use crate::rows::Rows;

/// Rows there can be: as many as of a word for each vCPU there can be, twice over.
const MOST: usize = 32;

/// The storage of who has which number.
pub type SlotRows<'a, T> = Rows<'a, Option<T>, MOST>;

/// Numbers from zero; each is nobody's, or somebody's from [`Self::join`] to [`Self::leave`].
pub struct Slots<'a, T> {
    slots: SlotRows<'a, T>,
    /// All numbers below are somebody's.
    lowest: usize,
    joined: usize,
}

impl<T: Copy> Default for Slots<'_, T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a, T: Copy> Slots<'a, T> {
    /// No numbers: [`Self::add_row`] brings some.
    #[must_use]
    pub fn new() -> Self {
        Self {
            slots: Rows::new(&mut []),
            lowest: 0,
            joined: 0,
        }
    }

    /// Numbers there are.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// How many are somebody's.
    #[must_use]
    pub fn joined(&self) -> usize {
        self.joined
    }

    /// Adds a row of numbers, behind the others and nobody's. False if it cannot be.
    pub fn add_row(&mut self, row: &'a mut [Option<T>]) -> bool {
        row.fill(None);
        self.slots.add(row)
    }

    /// The number that would be given out next; it is there only if it is below the capacity.
    pub fn lowest_free(&mut self) -> usize {
        while self.get(self.lowest).is_some() {
            self.lowest += 1;
        }
        self.lowest
    }

    /// Gives out the lowest number that is nobody's; `None` if all are somebody's.
    pub fn join(&mut self, who: T) -> Option<usize> {
        let number = self.lowest_free();
        *self.slots.get_mut(number)? = Some(who);
        self.joined += 1;
        Some(number)
    }

    /// Says that a number that was given out is somebody else's. False if it is nobody's.
    pub fn rename(&mut self, number: usize, who: T) -> bool {
        match self.slots.get_mut(number) {
            Some(slot @ Some(_)) => {
                *slot = Some(who);
                true
            }
            _ => false,
        }
    }

    /// Takes a number back; says whose it was.
    pub fn leave(&mut self, number: usize) -> Option<T> {
        let who = self.slots.get_mut(number)?.take()?;
        self.lowest = self.lowest.min(number);
        self.joined -= 1;
        Some(who)
    }

    /// Whose a number is.
    #[must_use]
    #[inline]
    pub fn get(&self, number: usize) -> Option<T> {
        self.slots.get(number).copied().flatten()
    }
}

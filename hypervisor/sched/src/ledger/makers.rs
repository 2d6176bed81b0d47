//! Who makes the books of the machine, and how far he is: of several at a time, the last that came.
//!
//! The books are numbered, and all CPUs go over from one number to the next before what domains had is told
//! ([`Sold`](super::Sold)). Whoever comes takes the place of who was there, wherever that was: CPUs may have been about to go
//! over. So each step says by whom it is made, and is one with the look at who may make it.

/// Somebody else has begun to make books.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overtaken;

/// Who makes books. For one at a time: whoever has the lock around it.
#[derive(Debug)]
pub struct Makers {
    /// Of the last that came.
    ticket: u64,
    /// That CPUs are at, or go over to.
    number: u64,
    /// They are all at it.
    together: bool,
}

impl Makers {
    /// The number of CPUs that nobody has told of one.
    pub const FIRST: u64 = 1;

    /// Nobody makes any.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            ticket: 0,
            number: Self::FIRST,
            together: true,
        }
    }

    /// Somebody comes: his ticket, and whether all CPUs are at the number. If not they are to come to it first
    /// ([`Self::are_together`]).
    pub const fn begin(&mut self) -> (u64, bool) {
        self.ticket = self.ticket.wrapping_add(1);
        (self.ticket, self.together)
    }

    /// Whether it is still he who makes them.
    ///
    /// # Errors
    /// [`Overtaken`].
    pub const fn check(&self, ticket: u64) -> Result<(), Overtaken> {
        if self.ticket == ticket {
            Ok(())
        } else {
            Err(Overtaken)
        }
    }

    /// He has CPUs go over to the next number, from here on: which.
    ///
    /// # Errors
    /// [`Overtaken`]; they stay where they are.
    pub fn go_over(&mut self, ticket: u64) -> Result<u64, Overtaken> {
        self.check(ticket)?;
        self.together = false;
        self.number = self.number.wrapping_add(1);
        Ok(self.number)
    }

    /// All CPUs have shown since he began, or had them go over, that they are at the number.
    ///
    /// # Errors
    /// [`Overtaken`]: another may have had them go on since.
    pub fn are_together(&mut self, ticket: u64) -> Result<(), Overtaken> {
        self.check(ticket)?;
        self.together = true;
        Ok(())
    }
}

impl Default for Makers {
    fn default() -> Self {
        Self::new()
    }
}

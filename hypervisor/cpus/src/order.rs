//! The order in which a CPU takes locks, from the locks it holds: a rule that a build for tests checks at each.
//!
//! Each lock has a rank, and a CPU takes locks inwards only: none whose rank is at or outside that of one it holds. So no
//! circle of CPUs waits for one another. Two of one rank are taken as a pair, in an order of their own (by domain number,
//! by CPU) that whoever takes pairs keeps.
//!
//! # Invariants
//! - O1: among locks all of whose takings this rule allowed, no set of CPUs waits in a circle.
//! - O2: giving back may come in any order, and makes no later taking right that was wrong before.

/// Ranks there may be.
pub const RANKS: u8 = 32;

/// What one CPU holds: a bit for each rank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    once: u32,
    /// Ranks of which a pair is held.
    twice: u32,
}

impl Held {
    /// Nothing.
    pub const NONE: Held = Held { once: 0, twice: 0 };

    /// With one of `rank`, lower than [`RANKS`], more.
    ///
    /// # Errors
    /// The innermost rank held, if that is `rank` itself or inside it: the order would be broken.
    pub fn take(self, rank: u8) -> Result<Held, u8> {
        match self.innermost() {
            Some(inner) if inner >= rank => Err(inner),
            _ => Ok(Held {
                once: self.once | bit(rank),
                ..self
            }),
        }
    }

    /// With the second of a pair of `rank`, right after the first.
    ///
    /// # Errors
    /// The innermost rank held, if that is not the first of the pair; `rank` itself if both are held already, or nothing.
    pub fn take_second(self, rank: u8) -> Result<Held, u8> {
        match self.innermost() {
            Some(inner) if inner == rank && self.twice & bit(rank) == 0 => Ok(Held {
                twice: self.twice | bit(rank),
                ..self
            }),
            inner => Err(inner.unwrap_or(rank)),
        }
    }

    /// With one of `rank` less.
    #[must_use]
    pub fn give(self, rank: u8) -> Held {
        let bit = bit(rank);
        if self.twice & bit != 0 {
            Held {
                twice: self.twice & !bit,
                ..self
            }
        } else {
            Held {
                once: self.once & !bit,
                ..self
            }
        }
    }

    /// The innermost rank of which something is held.
    pub fn innermost(self) -> Option<u8> {
        self.once.checked_ilog2().map(|rank| rank as u8)
    }
}

fn bit(rank: u8) -> u32 {
    assert!(rank < RANKS);
    1 << rank
}

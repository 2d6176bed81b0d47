//! A change that was granted to all of a domain's vCPUs, given to them in parts.
//!
//! All is decided, and charged, before the first has it ([`crate::Placement::amend_in_place`]): from then on each is charged
//! the more of what it has and what it will have, and as it gets that, what it had more is given back
//! ([`crate::Placement::given_back`]). So it does not matter who does what in between: nobody finds room that is another's.
//!
//! # Invariants
//! - D1: one change is under way at a time, and nothing else changes what its vCPUs are promised before they have it: who
//!   wants to has them, or the one that he is about, get it first.
//! - D2: a vCPU that waits is in its queue: who takes it out, or moves it to another, has it get what it waits for first.
//! - D3: numbers are given once.

use crate::rules::Terms;

/// What vCPUs get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum New {
    /// These terms.
    Terms(Terms),
    /// Another weight; what they are promised stays.
    Weight(u16),
}

impl New {
    /// What one has then that was granted this.
    #[must_use]
    pub fn after(&self, granted: &Terms) -> Terms {
        match *self {
            Self::Terms(terms) => terms,
            // No weight at all is none to be had.
            Self::Weight(weight) => granted.with_weight(weight).unwrap_or(*granted),
        }
    }
}

/// vCPUs that get it now, by the bits of their numbers, and whose they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<W> {
    /// As was said when it began.
    pub whose: W,
    /// What they get.
    pub to: New,
    /// Who.
    pub vcpus: u64,
}

/// What has become of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Some still wait.
    UnderWay,
    /// All have it.
    Over,
    /// There has been none of that number.
    NeverBegun,
}

/// The change that is under way, if one is. `W` says whose vCPUs it is about.
#[derive(Debug)]
pub struct InParts<W> {
    /// The number of the last that was begun.
    last: u64,
    going: Option<Part<W>>,
}

impl<W> Default for InParts<W> {
    fn default() -> Self {
        Self {
            last: 0,
            going: None,
        }
    }
}

impl<W: Copy> InParts<W> {
    /// Whether none is under way: another can begin.
    #[must_use]
    pub const fn is_free(&self) -> bool {
        self.going.is_none()
    }

    /// Begins one that was granted, and says its number. None is under way.
    pub const fn begin(&mut self, granted: Part<W>) -> u64 {
        self.last += 1;
        if granted.vcpus != 0 {
            self.going = Some(granted);
        }
        self.last
    }

    /// What has become of the one with a number, which may be any.
    #[must_use]
    pub const fn standing(&self, number: u64) -> Standing {
        if number == 0 || number > self.last {
            Standing::NeverBegun
        } else if number == self.last && self.going.is_some() {
            Standing::UnderWay
        } else {
            Standing::Over
        }
    }

    /// The next of those that wait, so many at most: they wait no longer, and are to get it now. `None` if nobody waits.
    pub fn next(&mut self, most: u32) -> Option<Part<W>> {
        let going = self.going?;
        let mut later = going.vcpus;
        for _ in 0..most.max(1) {
            later &= later.wrapping_sub(1);
        }
        self.leave(later);
        Some(Part {
            vcpus: going.vcpus & !later,
            ..going
        })
    }

    /// What one vCPU waits for, which it is to get now: before anything else is done to it. `None` if it does not wait.
    pub fn take(&mut self, is_whose: impl FnOnce(W) -> bool, vcpu: u32) -> Option<New> {
        let going = self.going?;
        let bit = 1_u64.checked_shl(vcpu).unwrap_or(0);
        if going.vcpus & bit == 0 || !is_whose(going.whose) {
            return None;
        }
        self.leave(going.vcpus & !bit);
        Some(going.to)
    }

    fn leave(&mut self, waiting: u64) {
        self.going = self.going.filter(|_| waiting != 0).map(|going| Part {
            vcpus: waiting,
            ..going
        });
    }
}

//! What of the machine's devices the control domain lets another domain reach: ranges of frames that are no memory, and
//! of ports. Few domains have any, so the lists have a frame of their own, charged to the domain, when there are some.
//!
//! # Invariants
//! - P1: what is ring 0's own is nobody's, whatever is permitted: who asks here asks that first.

use arrayvec::ArrayVec;
use core::ops::RangeInclusive;

/// Ranges of each kind that a domain may have.
pub const MOST: usize = 32;

/// Ranges of frames and of ports.
#[derive(Default)]
pub struct Permissions {
    frames: Ranges,
    ports: Ranges,
}

/// No more ranges fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Ranges that neither overlap nor touch.
#[derive(Default)]
pub struct Ranges {
    list: ArrayVec<(u64, u64), MOST>,
}

impl Ranges {
    /// Whether all of a range is in it.
    pub fn contains(&self, range: &RangeInclusive<u64>) -> bool {
        self.list
            .iter()
            .any(|(first, last)| first <= range.start() && range.end() <= last)
    }

    /// Adds a range.
    pub fn add(&mut self, range: &RangeInclusive<u64>) -> Result<(), Full> {
        let (mut first, mut last) = (*range.start(), *range.end());
        let touches = |&(a, b): &(u64, u64)| {
            a <= range.end().saturating_add(1) && *range.start() <= b.saturating_add(1)
        };
        let merged = self.list.iter().filter(|r| touches(r)).count();
        if merged == 0 && self.list.is_full() {
            return Err(Full);
        }
        for (a, b) in self.list.iter().filter(|r| touches(r)) {
            first = first.min(*a);
            last = last.max(*b);
        }
        self.list.retain(|r| !touches(r));
        // At least one place is free: one was, or one was taken out.
        let _ = self.list.try_push((first, last));
        Ok(())
    }

    /// Takes a range out. Splitting one needs a place.
    pub fn remove(&mut self, range: &RangeInclusive<u64>) -> Result<(), Full> {
        let (start, end) = (*range.start(), *range.end());
        let splits = |&(a, b): &(u64, u64)| a < start && end < b;
        if self.list.is_full() && self.list.iter().any(splits) {
            return Err(Full);
        }
        let old = core::mem::take(&mut self.list);
        for (a, b) in old {
            if b < start || end < a {
                let _ = self.list.try_push((a, b));
                continue;
            }
            if a < start {
                let _ = self.list.try_push((a, start - 1));
            }
            if end < b {
                let _ = self.list.try_push((end + 1, b));
            }
        }
        Ok(())
    }
}

impl Permissions {
    /// Frames that are no memory.
    pub fn frames(&mut self) -> &mut Ranges {
        &mut self.frames
    }

    /// Ports.
    pub fn ports(&mut self) -> &mut Ranges {
        &mut self.ports
    }
}

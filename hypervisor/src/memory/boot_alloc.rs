//! Memory taken while booting: for tables that exist once and for ever, before the frame allocator works.
//!
//! Taken from the top of the highest usable range below 4 GiB downwards, so that low memory stays free for
//! devices. What was taken is told to the frame table, which marks it as ring 0's.

use crate::layout::PAGE;
use core::fmt;

/// Most separate ranges the firmware map may have after what is in use has been cut out.
const MAX_RANGES: usize = 256;

/// A physical range, page-aligned.
#[derive(Clone, Copy, Default, Debug)]
pub struct Range {
    /// First address.
    pub start: u64,
    /// First address beyond.
    pub end: u64,
}

/// Usable memory that nobody has taken yet.
pub struct BootAlloc {
    ranges: [Range; MAX_RANGES],
    count: usize,
    /// Bytes handed out.
    pub taken: u64,
    /// Ranges that did not fit the list.
    pub dropped: usize,
}

/// There is not enough memory to boot.
#[derive(Debug)]
pub struct TooLittle {
    /// What was asked for, in bytes.
    pub wanted: u64,
}

impl fmt::Display for TooLittle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "too little memory: {} KiB more are needed to boot; give the machine more memory",
            self.wanted / 1024
        )
    }
}

impl BootAlloc {
    /// An empty allocator.
    pub const fn new() -> BootAlloc {
        BootAlloc {
            ranges: [Range { start: 0, end: 0 }; MAX_RANGES],
            count: 0,
            taken: 0,
            dropped: 0,
        }
    }

    /// Adds usable memory (rounded inwards to pages).
    pub fn add(&mut self, start: u64, end: u64) {
        let start = start.next_multiple_of(PAGE);
        let end = end & !(PAGE - 1);
        if start >= end {
            return;
        }
        if self.count == MAX_RANGES {
            self.dropped += 1;
            return;
        }
        self.ranges[self.count] = Range { start, end };
        self.count += 1;
    }

    /// Cuts out what is in use (rounded outwards to pages).
    pub fn remove(&mut self, start: u64, end: u64) {
        let start = start & !(PAGE - 1);
        let end = end.next_multiple_of(PAGE);
        let mut i = 0;
        while i < self.count {
            let r = self.ranges[i];
            if end <= r.start || start >= r.end {
                i += 1;
                continue;
            }
            self.ranges[i] = self.ranges[self.count - 1];
            self.count -= 1;
            self.add(r.start, start.min(r.end).max(r.start));
            self.add(end.max(r.start).min(r.end), r.end);
        }
    }

    /// Takes zeroed memory below `below`, aligned to `align` (a power of two, at least a page).
    pub fn take(&mut self, bytes: u64, align: u64, below: u64) -> Result<u64, TooLittle> {
        let bytes = bytes.next_multiple_of(PAGE);
        let mut best: Option<(usize, u64)> = None;
        for (i, r) in self.ranges[..self.count].iter().enumerate() {
            let end = r.end.min(below);
            let Some(start) = end.checked_sub(bytes) else {
                continue;
            };
            let start = start & !(align - 1);
            if start >= r.start && best.is_none_or(|(_, b)| start > b) {
                best = Some((i, start));
            }
        }
        let (i, start) = best.ok_or(TooLittle { wanted: bytes })?;
        let r = self.ranges[i];
        self.ranges[i] = Range {
            start: r.start,
            end: start,
        };
        self.add(start + bytes, r.end);
        if r.start == start {
            self.ranges[i] = self.ranges[self.count - 1];
            self.count -= 1;
        }
        self.taken += bytes;
        super::phys::zero(start, bytes);
        Ok(start)
    }

    /// What is left, to be given to the frame allocator.
    pub fn ranges(&self) -> &[Range] {
        &self.ranges[..self.count]
    }
}

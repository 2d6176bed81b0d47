//! The memory of a domain under construction: its pages by number, wherever their frames are.

use crate::BuildError;
use xen::{Access, DomId, Hypervisor, Mapping};

/// Pages of a large extent, as a power of two: 2 MiB.
const LARGE: u32 = 9;
/// Extents asked for at a time.
const EXTENTS: u64 = 1024;

/// The frames of a domain's pages, as runs.
pub(crate) struct Memory {
    domain: DomId,
    /// First page, first frame, pages; in order, without gaps.
    runs: Vec<(u64, u64, u64)>,
    pages: u64,
}

impl Memory {
    /// Gives the domain its memory, in large extents as long as there are any.
    ///
    /// # Errors
    /// [`BuildError::NoMemory`] if the machine has not so much.
    pub(crate) fn populate(
        hypervisor: &dyn Hypervisor,
        domain: DomId,
        pages: u64,
    ) -> Result<Memory, BuildError> {
        let mut memory = Memory {
            domain,
            runs: Vec::new(),
            pages: 0,
        };
        let mut order = LARGE;
        while memory.pages < pages {
            let left = pages - memory.pages;
            if left < 1 << order {
                order = 0;
            }
            let wanted = (left >> order).min(EXTENTS);
            let mut frames: Vec<u64> = (0..wanted)
                .map(|extent| memory.pages + (extent << order))
                .collect();
            let got = hypervisor.populate(domain, order, &mut frames)?;
            for frame in frames.iter().take(got) {
                memory.add(*frame, 1 << order);
            }
            match (got as u64 == wanted, order) {
                (true, _) => {}
                (false, 0) => {
                    let free = hypervisor.machine()?.free_pages + memory.pages;
                    return Err(BuildError::NoMemory { need: pages, free });
                }
                (false, _) => order = 0,
            }
        }
        Ok(memory)
    }

    fn add(&mut self, frame: u64, pages: u64) {
        match self.runs.last_mut() {
            Some((_, first, len)) if *first + *len == frame => *len += pages,
            _ => self.runs.push((self.pages, frame, pages)),
        }
        self.pages += pages;
    }

    /// The frame of a page.
    ///
    /// # Panics
    /// If the domain has no such page; the layout says which there are.
    pub(crate) fn frame(&self, pfn: u64) -> u64 {
        assert!(pfn < self.pages, "page {pfn} is beyond the guest's memory");
        let at = self.runs.partition_point(|(first, _, _)| *first <= pfn) - 1;
        let (first, frame, _) = self.runs[at];
        frame + (pfn - first)
    }

    /// The frames of pages from `first` on, in order.
    pub(crate) fn frames(&self, first: u64) -> impl Iterator<Item = u64> + '_ {
        let at = self
            .runs
            .partition_point(|(start, _, len)| start + len <= first);
        self.runs[at..].iter().flat_map(move |(start, frame, len)| {
            let skip = first.saturating_sub(*start);
            *frame + skip..*frame + *len
        })
    }

    /// Maps frames of the domain, to be written.
    pub(crate) fn map(
        &self,
        hypervisor: &dyn Hypervisor,
        frames: &[u64],
    ) -> Result<Mapping, xen::Error> {
        hypervisor.map_frames(self.domain, frames, Access::Write)
    }

    pub(crate) fn domain(&self) -> DomId {
        self.domain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_found_in_its_run_and_runs_follow_each_other() {
        let mut memory = Memory {
            domain: 1,
            runs: Vec::new(),
            pages: 0,
        };
        memory.add(100, 4);
        memory.add(104, 4);
        memory.add(50, 1);
        memory.add(49, 1);
        assert_eq!(memory.runs.len(), 3);
        let frames = [100, 101, 102, 103, 104, 105, 106, 107, 50, 49];
        for (pfn, frame) in frames.iter().enumerate() {
            assert_eq!(memory.frame(pfn as u64), *frame);
            let rest: Vec<u64> = memory.frames(pfn as u64).collect();
            assert_eq!(rest, frames[pfn..]);
        }
        assert_eq!(memory.frames(10).count(), 0);
    }
}

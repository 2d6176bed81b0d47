//! The memory of a domain under construction: its pages by number, wherever their frames are.

use super::DOM0;
use super::error::BuildError;
use crate::layout::PAGE;
use crate::memory::{alloc as frame_alloc, m2p, phys};
use alloc::vec::Vec;
use frames::Mfn;

/// The machine frames of the domain's pages, as the runs they were allocated in.
pub(super) struct Pages {
    runs: Vec<(u64, u64, u64)>,
    count: u64,
}

impl Pages {
    pub(super) fn allocate(frames: u64) -> Result<Pages, BuildError> {
        let mut pages = Pages {
            runs: Vec::new(),
            count: 0,
        };
        while pages.count < frames {
            let mut order = (frames - pages.count).ilog2().min(frame_alloc::MAX_ORDER);
            let first = loop {
                // Contents: every page is written by the builder or zeroed here.
                match frame_alloc::take(DOM0, order, 64) {
                    Some(mfn) => break mfn,
                    None if order == 0 => return Err(BuildError::NoFrame),
                    None => order -= 1,
                }
            };
            let len = 1u64 << order;
            for i in 0..len {
                m2p::set(Mfn(first.0 + i), pages.count + i);
            }
            match pages.runs.last_mut() {
                Some((pfn, mfn, n)) if *mfn + *n == first.0 && *pfn + *n == pages.count => {
                    *n += len
                }
                _ => pages.runs.push((pages.count, first.0, len)),
            }
            pages.count += len;
        }
        Ok(pages)
    }

    /// The frame of a page. Pages the builder asks for are below `count`.
    pub(super) fn mfn(&self, pfn: u64) -> Mfn {
        let at = self.runs.partition_point(|(first, _, _)| *first <= pfn) - 1;
        let (first, mfn, len) = self.runs[at];
        assert!(
            pfn - first < len,
            "page {pfn} is beyond the domain's memory"
        );
        Mfn(mfn + pfn - first)
    }

    pub(super) fn write(&self, pseudophysical: u64, mut data: &[u8]) {
        let mut at = pseudophysical;
        while !data.is_empty() {
            let len = ((PAGE - at % PAGE) as usize).min(data.len());
            phys::write(self.mfn(at / PAGE).0 * PAGE + at % PAGE, &data[..len]);
            data = &data[len..];
            at += len as u64;
        }
    }

    pub(super) fn write_word(&self, pfn: u64, index: u64, value: u64) {
        phys::write_u64(self.mfn(pfn).0 * PAGE + index * 8, value);
    }
}

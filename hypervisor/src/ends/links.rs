//! Where the records of a domain's links to ends lie: frames charged to it, some records each.

use super::{Behind, Pages, Record};
use crate::domain::Domain;
use crate::layout::{DIRECT_MAP, PAGE};
use crate::memory::phys;
use crate::sync::{Lock, rank};
use core::sync::atomic::{AtomicPtr, Ordering};
use events::{DomId, Port};
use frames::Mfn;
use frames::audit::Hold;

/// Frames of records a domain may have.
const FRAMES: usize = 4;
/// Records in one.
const PER_FRAME: usize = 4096 / size_of::<Link>();

/// A link in force.
pub(super) struct Attached {
    /// To which end.
    pub end: DomId,
    /// The domain's port.
    pub port: Port,
    /// Its frames.
    pub pages: Pages,
    /// The end's own part.
    pub behind: Behind,
}

/// A record and its lock.
pub(super) struct Link {
    pub(super) record: Lock<Record, rank::EndLink>,
}

type LinkFrame = [Link; PER_FRAME];

const _: () = assert!(PER_FRAME >= 16 && size_of::<LinkFrame>() <= 4096);

/// A domain's links to ends.
pub struct DomainEnds {
    /// Null, or a frame of the domain's that holds an initialised `LinkFrame` (N4).
    frames: [AtomicPtr<LinkFrame>; FRAMES],
}

impl DomainEnds {
    /// None.
    pub const fn new() -> Self {
        DomainEnds {
            frames: [const { AtomicPtr::new(core::ptr::null_mut()) }; FRAMES],
        }
    }

    fn frame(&self, at: usize) -> Option<&LinkFrame> {
        let place = self.frames.get(at)?.load(Ordering::Acquire);
        // SAFETY: null, or what `add_frame` put there; it is taken out when the domain has no port left to reach it by,
        // and freed only when no CPU is in code that looked here before (N4).
        unsafe { place.as_ref() }
    }

    /// Every reference that is held for a link.
    pub fn held(&self, report: &mut dyn FnMut(Mfn, Hold)) {
        for frame in (0..FRAMES).filter_map(|at| self.frame(at)) {
            for link in frame {
                let record = link.record.lock();
                for page in record.iter().flat_map(|attached| &attached.pages) {
                    let (frame, hold) = page.held();
                    report(frame, hold);
                }
            }
        }
    }
}

/// A record by its number.
pub(super) fn get(dom: &Domain, number: u16) -> Option<&Link> {
    let number = usize::from(number);
    dom.ends.frame(number / PER_FRAME)?.get(number % PER_FRAME)
}

/// A record that is not in use, with its number.
pub(super) fn free(dom: &Domain) -> Option<(u16, &Link)> {
    for at in 0..FRAMES {
        let frame = match dom.ends.frame(at) {
            Some(frame) => frame,
            None => {
                add_frame(dom, at)?;
                dom.ends.frame(at)?
            }
        };
        let found = frame.iter().position(|link| link.record.lock().is_none());
        if let Some(index) = found {
            return Some(((at * PER_FRAME + index) as u16, frame.get(index)?));
        }
    }
    None
}

fn add_frame(dom: &Domain, at: usize) -> Option<()> {
    let slot = dom.ends.frames.get(at)?;
    let frame = dom.take_charged()?;
    let place = phys::at(frame.0 * PAGE, PAGE).cast::<LinkFrame>();
    let fresh = [const {
        Link {
            record: Lock::new(None),
        }
    }; PER_FRAME];
    // SAFETY: a frame of ring 0's own that nobody else refers to, large enough and aligned.
    unsafe { place.write(fresh) };
    let null = core::ptr::null_mut();
    let placed = slot.compare_exchange(null, place, Ordering::AcqRel, Ordering::Relaxed);
    if placed.is_err() {
        dom.give_charged(frame);
    }
    Some(())
}

/// Gives the last frame back. False when there is none.
pub(super) fn release_frame(dom: &Domain) -> bool {
    let taken = dom.ends.frames.iter().rev().find_map(|slot| {
        let place = slot.swap(core::ptr::null_mut(), Ordering::AcqRel);
        (!place.is_null()).then_some(place)
    });
    let Some(place) = taken else {
        return false;
    };
    // Its records are empty: closing a port empties the one it has.
    dom.give_charged(Mfn((place as u64).wrapping_sub(DIRECT_MAP) / PAGE));
    true
}

//! Giving a dying domain's grants back, a bounded step at a time.
//!
//! First what it has mapped of others', then its own table. Others may go on using what they have mapped of it: each
//! such mapping holds its frame, and with the frame the domain's record, until it ends.

use super::{DomainGrants, finish, mfn_of};
use crate::domain::Domain;
use crate::layout::{DIRECT_MAP, PAGE};
use crate::mmu::{hold, kept_writable};
use core::sync::atomic::Ordering;
use frames::Mfn;
use grants::Storage;

/// A step of giving a dying domain's grants back. Each mapping and each frame takes one from `budget`. True when
/// nothing is left. From the first step on it can neither lend nor borrow; what others have mapped of it stays theirs
/// until they unmap it.
///
/// The frames of its table go as its other frames do, and count as its pages until they are free: they may be mapped.
pub fn release_some(dom: &Domain, budget: &mut u32) -> bool {
    dom.grants.lock().rules.retire();
    while let Some(left) = budget.checked_sub(1) {
        *budget = left;
        // One lock at a time: the granter's is another.
        let ended = dom.grants.lock().rules.end_one();
        match ended {
            Some(ended) => finish(&ended.mapping),
            None if dom.grants.lock().release_frame(dom) => {}
            None => return true,
        }
    }
    false
}

impl DomainGrants {
    /// Gives a frame of storage back: of handles, which are all unused, else of the table. False when there is none.
    fn release_frame(&mut self, dom: &Domain) -> bool {
        if let Some(storage) = self.rules.take_handles() {
            dom.give_charged(frame_of(storage.as_ptr() as u64));
            return true;
        }
        if let Some(directory) = self.rules.take_directory() {
            dom.give_charged(frame_of(directory.as_ptr() as u64));
            return true;
        }
        if let Some(storage) = self.rules.take_uses() {
            give_uses(dom, storage);
            return true;
        }
        if !self.rules.take_table_frame() {
            return false;
        }
        let at = self.rules.nr_frames();
        if let Some(frame) = self.frames.get_mut(at).and_then(Option::take) {
            let frame = mfn_of(frame);
            give_page(dom, frame);
            drop(kept_writable(dom.id, frame));
        }
        true
    }
}

/// A frame of storage, by where it is seen in the direct map.
fn frame_of(place: u64) -> Mfn {
    Mfn(place.wrapping_sub(DIRECT_MAP) / PAGE)
}

/// Gives storage for uses back.
pub(super) fn give_uses(dom: &Domain, storage: Storage<'static>) {
    match storage {
        Storage::First(piece) => drop(dom.take_back(piece)),
        Storage::Frame(frame) => dom.give_charged(frame_of(frame.as_ptr() as u64)),
    }
}

/// Takes a frame of the table's from the domain. Until it is free it counts as a page of the domain's: it may be mapped.
pub(super) fn give_page(dom: &Domain, frame: Mfn) {
    if let Ok(claim) = hold(dom.id, frame) {
        dom.pages.fetch_add(1, Ordering::AcqRel);
        claim.disown();
    }
}

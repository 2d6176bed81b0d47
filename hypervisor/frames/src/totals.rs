//! The sum of an audit: how many frames each owner has and what they are in use as.
//!
//! Two of these, taken while the same domains were at rest, tell whether a load in between gave everything back.

use crate::frame::{DomId, Snapshot};

/// Kinds of use that are told apart: as many as a frame's word has numbers for.
pub const TYPES: usize = 8;

/// How many frames and references there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// The domain whose frames are counted by type.
    pub subject: Option<DomId>,
    /// Frames of memory in all.
    pub frames: u64,
    /// Frames nobody has.
    pub free: u64,
    /// Frames of ring 0's own.
    pub ring0: u64,
    /// Frames of the subject, those included that it gave up and that are still referred to.
    pub subject_frames: u64,
    /// Frames of all other domains.
    pub others: u64,
    /// The subject's frames by the number of the type they are in use as; those without a reference of their type
    /// are untyped.
    pub by_type: [u64; TYPES],
    /// General references.
    pub general: u64,
    /// References under a type.
    pub types: u64,
}

impl Totals {
    /// Adds one frame of memory.
    pub(crate) fn add(&mut self, snap: Snapshot) {
        self.frames += 1;
        self.general += snap.general_count();
        self.types += snap.type_count();
        match snap.owner() {
            DomId::NOBODY => self.free += 1,
            DomId::RING0 => self.ring0 += 1,
            owner if Some(owner) == self.subject => {
                self.subject_frames += 1;
                let used_as = if snap.type_count() == 0 {
                    0
                } else {
                    snap.frame_type() as usize
                };
                if let Some(count) = self.by_type.get_mut(used_as) {
                    *count += 1;
                }
            }
            _ => self.others += 1,
        }
    }
}

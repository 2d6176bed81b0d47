//! Recounting: what every frame's counts must be, worked out from the tables themselves (F4), and compared with what
//! the frame words say.
//!
//! The words are believed in two things only, which nothing else records: which frames are in use as validated tables
//! (what they hold is then recounted), and who claims or pins a frame (one reference each). All other references must
//! be found: as an entry of a table, or as one that ring 0 names itself. Two counters a frame are all the memory it
//! takes, and they are the caller's.
//!
//! The work is done in pieces, so that a machine can be audited without a long section of ring 0. Domains must not run
//! in between: references that move while they are counted look like faults.
//!
//! # Invariants
//! - R1: every reference is counted once, whatever the pieces: a piece ends between two frames.

use crate::entry::{ENTRIES_PER_TABLE, Entry, L4_RESERVED};
use crate::frame::{DomId, Frame, FrameType, Level, Mfn, Snapshot};
use crate::machine::{Class, Machine};
use crate::totals::Totals;
use crate::work::Part;

/// References to one frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Counts {
    /// General references.
    pub general: u32,
    /// References under the frame's type.
    pub types: u32,
}

/// How a frame is held by somebody who is no table: a vCPU's root, a descriptor table, a shared page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hold {
    /// By a general reference.
    General,
    /// By a reference of this type.
    Type(FrameType),
    /// By the one reference that the work on a table in progress has (`work`).
    Work,
}

/// Something that is not as it must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finding {
    /// A frame's word says other counts than were found: more means that a reference leaked, fewer that one was
    /// dropped too often.
    Miscounted {
        /// The frame.
        mfn: Mfn,
        /// What was counted.
        expected: Counts,
        /// What its word says.
        found: Counts,
    },
    /// Somebody refers to a frame as what it is not (F1, F2).
    Mistyped {
        /// The frame referred to.
        mfn: Mfn,
        /// The table and entry that refer to it, if it is a table that does.
        by: Option<(Mfn, usize)>,
        /// What it is referred to as.
        expected: FrameType,
        /// What its word says.
        found: FrameType,
    },
    /// A table or descriptor page is neither validated nor given up, though nobody is at work (F6).
    Unfinished {
        /// The frame.
        mfn: Mfn,
    },
}

/// Whether there is more to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "an audit that is not done has not compared anything"]
pub enum Progress {
    /// Call again.
    More,
    /// Everything has been compared.
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Clear,
    Count,
    Compare,
    Done,
}

/// An audit under way, of as many frames as it was given counters for.
pub struct Audit<'a, M> {
    machine: &'a M,
    start: Mfn,
    counts: &'a mut [Counts],
    totals: Totals,
    phase: Phase,
    /// Frames of this phase that are done.
    at: usize,
}

impl<'a, M: Machine> Audit<'a, M> {
    /// Begins an audit of the frames from `start` on. What `counts` holds does not matter.
    ///
    /// References to frames outside are not looked at, and tables outside hold references that would be missed: the
    /// range is to cover all memory that guests can have.
    pub fn new(machine: &'a M, start: Mfn, counts: &'a mut [Counts]) -> Self {
        Audit {
            machine,
            start,
            counts,
            totals: Totals::default(),
            phase: Phase::Clear,
            at: 0,
        }
    }

    /// Has the frames of this domain counted by type. Said before the first step.
    pub fn about(mut self, domain: DomId) -> Self {
        self.totals.subject = Some(domain);
        self
    }

    /// What there is: complete when the audit is done.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Goes on for about `budget` frames and entries; at most one table's entries more, and at least one frame.
    ///
    /// `holders` is asked once, after the first phase, to name every reference held by no table, no claim and no pin.
    /// `report` hears of what is wrong, in the order of frames within each phase.
    pub fn step(
        &mut self,
        budget: usize,
        holders: impl FnOnce(&mut dyn FnMut(Mfn, Hold)),
        mut report: impl FnMut(Finding),
    ) -> Progress {
        let mut holders = Some(holders);
        let mut spent = 0;
        loop {
            if self.at >= self.counts.len() {
                self.at = 0;
                self.phase = match self.phase {
                    Phase::Clear => {
                        if let Some(holders) = holders.take() {
                            holders(&mut |mfn, hold| self.hold(mfn, hold, None, &mut report));
                        }
                        Phase::Count
                    }
                    Phase::Count => Phase::Compare,
                    Phase::Compare | Phase::Done => Phase::Done,
                };
                if self.phase == Phase::Done {
                    return Progress::Done;
                }
                continue;
            }
            if spent >= budget.max(1) {
                return Progress::More;
            }
            spent += self.one_frame(&mut report);
            self.at += 1;
        }
    }

    /// One frame of the current phase; returns what it cost.
    fn one_frame(&mut self, report: &mut impl FnMut(Finding)) -> usize {
        let mfn = Mfn(self.start.0.wrapping_add(self.at as u64));
        if self.phase == Phase::Clear {
            if let Some(counts) = self.counts.get_mut(self.at) {
                *counts = Counts::default();
            }
            return 1;
        }
        let Class::Ram(frame) = self.machine.class(mfn) else {
            return 1;
        };
        let snap = frame.snapshot();
        if self.phase == Phase::Count {
            return self.count_held_by(mfn, frame, snap, report);
        }
        self.totals.add(snap);
        let found = Counts {
            general: snap.general_count() as u32,
            types: snap.type_count() as u32,
        };
        if let Some(&expected) = self.counts.get(self.at)
            && expected != found
        {
            report(Finding::Miscounted {
                mfn,
                expected,
                found,
            });
        }
        1
    }

    /// Counts what a frame stands for: its claim, its pin and, if it is a table, its entries.
    fn count_held_by(
        &mut self,
        mfn: Mfn,
        frame: &Frame,
        snap: Snapshot,
        report: &mut impl FnMut(Finding),
    ) -> usize {
        let found = snap.frame_type();
        if snap.is_allocated() {
            self.hold(mfn, Hold::General, None, report);
        }
        if snap.is_pinned() {
            self.hold(mfn, Hold::Type(found), None, report);
        }
        if snap.type_count() == 0 || !found.needs_validation() {
            return 1;
        }
        let Some(level) = found.level() else {
            if !snap.is_validated() {
                report(Finding::Unfinished { mfn });
            }
            return 1;
        };
        let mut part = Part::WHOLE;
        if !snap.is_validated() {
            // Between two parts of the work the record says which entries hold references (P1 in `work`).
            let is_somebodys = self.counts.get(self.at).is_some_and(|c| c.types != 0);
            if !is_somebodys {
                report(Finding::Unfinished { mfn });
                return 1;
            }
            part = frame.work().1;
        }
        for index in part.from..part.to.min(ENTRIES_PER_TABLE) {
            if level == Level::L4 && L4_RESERVED.contains(&index) {
                continue;
            }
            let entry = self.machine.read_entry(mfn, index);
            if let Some(hold) = held_by(entry, level) {
                self.hold(entry.mfn(), hold, Some((mfn, index)), report);
            }
        }
        ENTRIES_PER_TABLE
    }

    fn hold(
        &mut self,
        mfn: Mfn,
        hold: Hold,
        by: Option<(Mfn, usize)>,
        report: &mut impl FnMut(Finding),
    ) {
        let at = mfn
            .0
            .checked_sub(self.start.0)
            .and_then(|at| usize::try_from(at).ok());
        let Some(counts) = at.and_then(|at| self.counts.get_mut(at)) else {
            return;
        };
        // Addresses that are no memory have no counts.
        let Class::Ram(frame) = self.machine.class(mfn) else {
            return;
        };
        match hold {
            Hold::Work => counts.types = counts.types.saturating_add(1),
            Hold::General => counts.general = counts.general.saturating_add(1),
            Hold::Type(expected) => {
                counts.types = counts.types.saturating_add(1);
                report_type(frame, mfn, expected, by, report);
            }
        }
    }
}

fn report_type(
    frame: &Frame,
    mfn: Mfn,
    expected: FrameType,
    by: Option<(Mfn, usize)>,
    report: &mut impl FnMut(Finding),
) {
    let found = frame.snapshot().frame_type();
    if found != expected {
        report(Finding::Mistyped {
            mfn,
            by,
            expected,
            found,
        });
    }
}

/// What an entry holds (F4).
fn held_by(entry: Entry, level: Level) -> Option<Hold> {
    if !entry.is_present() {
        return None;
    }
    Some(match level.below() {
        Some(below) => Hold::Type(below.frame_type()),
        None if entry.is_writable() => Hold::Type(FrameType::Writable),
        None => Hold::General,
    })
}

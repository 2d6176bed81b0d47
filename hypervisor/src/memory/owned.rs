//! The frames of one domain as two lists, so that who takes it apart finds them without looking at all of memory.
//!
//! The links lie in the frames' records, in the fields that the allocator uses while a frame is free. A frame enters the
//! first list when it is assigned and leaves when it is given back to the allocator; it is moved to the second by whoever
//! takes the domain's claim from it for good.
//!
//! # Invariants
//! - O1: a frame whose owner is a registered domain is on exactly one list of that domain's, from `assign` to `give`.
//! - O2: links are read and written under the lock of the list's domain, or by the allocator while nobody owns the frame.

use crate::device::timer;
use crate::memory::frame_table;
use ::sched::{Held, SharedHeld};
use core::sync::atomic::Ordering::Relaxed;
use frames::{Frame, Mfn};

const NIL: u32 = u32::MAX;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// Frames as they come.
    Live = 0,
    /// Frames whose claim was taken back: they stay as long as somebody refers to them.
    Left = 1,
}

/// The lists' beginnings, and how many frames there were for how long.
pub struct OwnedFrames {
    heads: [u32; 2],
    frames: &'static SharedHeld,
    charged: &'static SharedHeld,
}

fn record(mfn: u32) -> Option<&'static Frame> {
    frame_table::get(Mfn(u64::from(mfn)))
}

impl OwnedFrames {
    /// No frames; how many there will be is written where it can be read.
    pub const fn new(frames: &'static SharedHeld, charged: &'static SharedHeld) -> OwnedFrames {
        OwnedFrames {
            heads: [NIL; 2],
            frames,
            charged,
        }
    }

    /// Puts a frame that is on no list first on one.
    pub fn insert(&mut self, mfn: Mfn, list: List) {
        let number = mfn.0 as u32;
        let head = &mut self.heads[list as usize];
        let Some(frame) = record(number) else {
            return;
        };
        self.frames.take(1, timer::counter());
        frame.prev.store(NIL, Relaxed);
        frame.next.store(*head, Relaxed);
        if let Some(second) = record(*head).filter(|_| *head != NIL) {
            second.prev.store(number, Relaxed);
        }
        *head = number;
    }

    /// Puts frames in a row, which are on no list, first on one; `records` are theirs, in order.
    pub fn insert_row(&mut self, first: Mfn, records: &[Frame], list: List) {
        let Some(last) = records.last() else {
            return;
        };
        self.frames.take(records.len() as u64, timer::counter());
        let number = first.0 as u32;
        let head = &mut self.heads[list as usize];
        let mut before = NIL;
        for (frame, at) in records.iter().zip(number..) {
            frame.prev.store(before, Relaxed);
            frame.next.store(at.wrapping_add(1), Relaxed);
            before = at;
        }
        last.next.store(*head, Relaxed);
        if let Some(second) = record(*head).filter(|_| *head != NIL) {
            second.prev.store(before, Relaxed);
        }
        *head = number;
    }

    /// Takes a frame off the list that it is on.
    pub fn remove(&mut self, mfn: Mfn) {
        let number = mfn.0 as u32;
        let Some(frame) = record(number) else {
            return;
        };
        self.frames.give(1, timer::counter());
        let (prev, next) = (frame.prev.load(Relaxed), frame.next.load(Relaxed));
        if prev != NIL {
            if let Some(before) = record(prev) {
                before.next.store(next, Relaxed);
            }
        } else if let Some(head) = self.heads.iter_mut().find(|head| **head == number) {
            *head = next;
        }
        if let Some(after) = record(next).filter(|_| next != NIL) {
            after.prev.store(prev, Relaxed);
        }
        frame.prev.store(NIL, Relaxed);
        frame.next.store(NIL, Relaxed);
    }

    /// Counts frames of ring 0's that exist because of the domain from now on.
    pub fn charge(&mut self, frames: u64) {
        self.charged.take(frames, timer::counter());
    }

    /// Counts fewer of those from now on.
    pub fn discharge(&mut self, frames: u64) {
        self.charged.give(frames, timer::counter());
    }

    /// How many it has, and how many of ring 0's exist because of it, over time.
    pub fn held(&self) -> (Held, Held) {
        (self.frames.held(), self.charged.held())
    }

    /// The first frame of a list.
    pub fn first(&self, list: List) -> Option<Mfn> {
        let head = self.heads[list as usize];
        (head != NIL).then_some(Mfn(u64::from(head)))
    }
}

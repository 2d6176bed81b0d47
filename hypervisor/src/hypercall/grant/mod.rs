//! Grant tables: the rules of the crate `grants` bound to frames, page tables and guests' memory.
//!
//! # Invariants
//! - V1: the table's frames are the domain's, held as writable memory for as long as it lives; it maps them as it likes.
//! - V2: every mapping in force holds one reference on its frame beside that of its page-table entry: a writable one if
//!   the mapping is, else a general one. The audit asks for them ([`DomainGrants::held`]).
//!
//! The lock of a domain's grants is taken before that of the frame allocator, and no other inside.

mod copy;
mod map;
mod release;
mod table;

pub use release::release_some;

use crate::domain::{self, Domain, Guest};
use crate::error;
use crate::hypercall::{Args, Outcome, Stop};
use crate::layout::{PAGE, guest_range_ok};
use crate::memory::{alloc as frame_alloc, frame_table, m2p, phys};
use crate::mmu::{hold, hold_writable, kept, kept_writable};
use core::sync::atomic::Ordering;
use frames::audit::Hold;
use frames::{Class, DomId, FrameType, Mfn};
use grants::{Access, Entry, Grants, MAX_TABLE_FRAMES, Mapping, Status};
use guest_abi::grant::{
    Copy, GNTST_BAD_DOMAIN, GNTST_BAD_PAGE, GNTST_GENERAL_ERROR, GNTST_OKAY, GrantTableOp,
    MapGrantRef, SwapGrantRef, UnmapGrantRef,
};
use guest_abi::{Errno, Wire};

/// How often an entry that changes under us is looked at again.
const TRIES: u32 = 5;
/// The most elements of a list, as Xen has it.
const MAX_COUNT: u64 = i32::MAX as u64;

/// A domain's grants.
pub struct DomainGrants {
    rules: Grants<'static>,
    /// The table's frames (V1).
    frames: [Option<Mfn>; MAX_TABLE_FRAMES],
}

impl DomainGrants {
    /// None yet, and room for so many frames of the table and of handles (at most [`MAX_TABLE_FRAMES`] and
    /// [`grants::MAX_HANDLE_FRAMES`]).
    pub const fn new(max_frames: usize, max_handle_frames: usize) -> Self {
        DomainGrants {
            rules: Grants::new(max_frames, max_handle_frames),
            frames: [None; MAX_TABLE_FRAMES],
        }
    }

    /// Frames of the table, which are the domain's and not of its allotment.
    pub fn table_frames(&self) -> u64 {
        self.rules.nr_frames() as u64
    }

    /// Every reference that is held for the table and its mappings (V1, V2).
    pub fn held(&self, report: &mut dyn FnMut(Mfn, Hold)) {
        for frame in self.frames.iter().flatten() {
            report(*frame, Hold::Type(FrameType::Writable));
        }
        for mapping in self.rules.mappings() {
            let hold = match mapping.access {
                Access::Read => Hold::General,
                Access::Write => Hold::Type(FrameType::Writable),
            };
            report(Mfn(u64::from(mapping.frame.0)), hold);
        }
    }

    /// Grows the table by a frame, which with the storage for its uses is charged to the domain.
    pub fn grow(&mut self, dom: &Domain) -> Option<()> {
        let at = self.rules.nr_frames();
        if at >= self.rules.max_frames() {
            return None;
        }
        let slot = self.frames.get_mut(at)?;
        let storage = dom.take_charged()?;
        let Some(frame) = frame_alloc::take(dom.id, 0, 64) else {
            dom.give_charged(storage);
            return None;
        };
        m2p::set(frame, m2p::INVALID);
        // A fresh frame of the domain's can be had as memory.
        hold_writable(dom.id, frame).ok()?.keep();
        *slot = Some(frame);
        let place = phys::at(storage.0 * PAGE, PAGE);
        // SAFETY: a zeroed frame of ring 0's own, which no guest can reach and nobody else refers to; any bytes are uses,
        // and they have exactly a frame's size and less than a frame's alignment.
        let uses: &'static mut grants::UsesFrame = unsafe { &mut *place.cast() };
        self.rules.add_table_frame(uses).then_some(())
    }

    /// Storage for more handles, charged to the domain.
    fn add_handles(&mut self, dom: &Domain) -> Option<()> {
        if self.rules.wants_directory() {
            let directory = dom.take_charged()?;
            let place = phys::at(directory.0 * PAGE, PAGE);
            // SAFETY: as in `grow`; all zeroes are places without storage.
            self.rules.add_directory(unsafe { &mut *place.cast() });
        }
        let storage = dom.take_charged()?;
        let place = phys::at(storage.0 * PAGE, PAGE);
        // SAFETY: as in `grow`; any bytes are unused handles.
        let handles: &'static mut grants::HandleFrame = unsafe { &mut *place.cast() };
        let added = self.rules.add_handles(handles);
        if !added {
            dom.give_charged(storage);
        }
        added.then_some(())
    }

    /// The word of an entry.
    fn word(&self, gref: u32) -> Result<&'static core::sync::atomic::AtomicU64, Status> {
        let (frame, index) = self.rules.place(gref)?;
        let frame = self.frames.get(frame).copied().flatten();
        frame
            .map(|frame| phys::word(frame, index))
            .ok_or(Status(GNTST_GENERAL_ERROR))
    }

    /// Begins a use of an entry by `who` and takes a reference on the frame, which the caller keeps or gives back.
    fn begin(&mut self, dom: &Domain, gref: u32, who: u16, access: Access) -> Result<Mfn, Status> {
        let word = self.word(gref)?;
        for _ in 0..TRIES {
            let entry = Entry(word.load(Ordering::Acquire));
            let begin = self.rules.begin(gref, entry, who, access)?;
            let frame = Mfn(u64::from(begin.frame.0));
            take(dom, frame, access)?;
            let stored =
                word.compare_exchange(entry.0, begin.store.0, Ordering::AcqRel, Ordering::Relaxed);
            if stored.is_ok() {
                self.rules.commit(begin);
                return Ok(frame);
            }
            give(dom, frame, access);
        }
        Err(Status(GNTST_GENERAL_ERROR))
    }

    /// Ends a use and gives its reference back.
    fn end(&mut self, dom: &Domain, gref: u32, frame: Mfn, access: Access) {
        let clear = self.rules.end(gref, access);
        if let Ok(word) = self.word(gref) {
            word.fetch_and(!clear.0, Ordering::AcqRel);
        }
        give(dom, frame, access);
    }
}

/// Takes a reference on a frame of the granter's; it is kept.
fn take(dom: &Domain, frame: Mfn, access: Access) -> Result<(), Status> {
    let is_its =
        matches!(frame_table::class(frame), Class::Ram(f) if f.snapshot().owner() == dom.id);
    if !is_its {
        return Err(Status(GNTST_BAD_PAGE));
    }
    let held = match access {
        Access::Read => hold(dom.id, frame).map(|held| held.keep()),
        Access::Write => hold_writable(dom.id, frame).map(|held| held.keep()),
    };
    held.map(|_| ()).map_err(|_| Status(GNTST_GENERAL_ERROR))
}

/// Gives back what [`take`] took.
fn give(dom: &Domain, frame: Mfn, access: Access) {
    match access {
        Access::Read => drop(kept(dom.id, frame)),
        Access::Write => drop(kept_writable(dom.id, frame)),
    }
}

/// The domain of this number, as who lends. `DOMID_SELF` is nobody's here.
fn granter(g: &Guest<'_>, domid: u16) -> Result<&'static Domain, Status> {
    if domid == g.dom.id.0 {
        return Ok(g.dom);
    }
    domain::get(DomId(domid)).ok_or(Status(GNTST_BAD_DOMAIN))
}

/// `grant_table_op(op, list, count)`.
pub fn grant_table_op(g: &mut Guest<'_>, args: Args) -> Outcome {
    let [op, list, count, ..] = args;
    let count = count & 0xffff_ffff;
    if count > MAX_COUNT {
        return Err(Errno::Inval.into());
    }
    let only_one = || -> Result<(), Stop> {
        match count {
            1 => Ok(()),
            _ => Err(Errno::Inval.into()),
        }
    };
    match GrantTableOp::from_number(op as u32).ok_or(Errno::NoSys)? {
        // Translations of what was unmapped or replaced are dropped before the guest goes on.
        GrantTableOp::MapGrantRef => {
            let outcome = each::<MapGrantRef>(g, args, map::map);
            g.flush_everywhere();
            outcome
        }
        GrantTableOp::UnmapGrantRef => {
            let outcome = each::<UnmapGrantRef>(g, args, map::unmap);
            g.flush_everywhere();
            outcome
        }
        GrantTableOp::Copy => each::<Copy>(g, args, copy::copy),
        GrantTableOp::SwapGrantRef => each::<SwapGrantRef>(g, args, table::swap),
        GrantTableOp::SetupTable => only_one().and_then(|()| table::set_up(g, list)),
        GrantTableOp::QuerySize => only_one().and_then(|()| table::query_size(g, list)),
        GrantTableOp::SetVersion => table::set_version(g, list),
        GrantTableOp::GetVersion => table::get_version(g, list),
        // Frames are given away between domains, and status frames are version 2's.
        GrantTableOp::Transfer
        | GrantTableOp::UnmapAndReplace
        | GrantTableOp::GetStatusFrames
        | GrantTableOp::DumpTable
        | GrantTableOp::CacheFlush => Err(Errno::NoSys.into()),
    }
}

/// Does each element of a list, which has a status of its own.
fn each<T: Wire>(g: &mut Guest<'_>, args: Args, one: fn(&mut Guest<'_>, &mut T)) -> Outcome {
    let [op, mut list, count, a, b] = args;
    let mut left = count & 0xffff_ffff;
    let size = T::SIZE as u64;
    if left != 0 && !guest_range_ok(list, left * size) {
        return Err(Errno::Fault.into());
    }
    loop {
        if left == 0 {
            return Ok(0);
        }
        if !g.spend() {
            return Err(Stop::Again([op, list, left, a, b]));
        }
        let element = g.memory().value::<T>(list);
        let writable = g.memory().check_writable(list, T::SIZE);
        let (Ok(mut element), Ok(())) = (element, writable) else {
            return Err(Errno::Fault.into());
        };
        one(g, &mut element);
        // What it mapped may have replaced the list itself.
        if g.memory().put(list, &element).is_err() {
            return Err(Errno::Fault.into());
        }
        (list, left) = (list + size, left - 1);
    }
}

/// A result as an element's status.
fn status(result: Result<(), Status>) -> i16 {
    result.map_or_else(|status| status.0, |()| GNTST_OKAY)
}

/// What `mapping` holds, given back with its use.
fn finish(mapping: &Mapping) {
    let frame = Mfn(u64::from(mapping.frame.0));
    // The frame keeps its owner's record, dying or not.
    match domain::get(DomId(mapping.granter)) {
        Some(dom) => dom
            .grants
            .lock()
            .end(dom, mapping.gref, frame, mapping.access),
        None => error!(
            "domain {}: a mapping of its frame {:#x} outlived it",
            mapping.granter, frame.0
        ),
    }
}

//! Grant tables: the rules of the crate `grants` bound to frames, page tables and guests' memory.
//!
//! # Invariants
//! - V1: the table's frames are the domain's, held as writable memory for as long as it lives; it maps them as it likes.
//! - V2: every mapping in force holds one reference on its frame beside that of its page-table entry: a writable one if
//!   the mapping is, else a general one. The audit asks for them ([`DomainGrants::held`]). So does every use without a
//!   mapping ([`Lent`]), whoever keeps it.
//! - V3: a frame that somebody else has mapped stays its owner's until the last such reference is gone, and with it the
//!   owner's record: a dying domain is there to be given it back.
//! - V4: before a use of an entry is seen to end, and before the call that unmaps returns, no CPU can reach the frame
//!   through that mapping any more.
//!
//! The lock of a domain's grants is taken before that of the frame allocator, and no other inside: never that of another
//! domain's grants.

mod copy;
mod lent;
mod map;
mod release;
mod table;

pub use lent::Lent;
pub use release::release_some;

use crate::domain::{self, Domain, Guest};
use crate::error;
use crate::hypercall::{Args, Outcome, Stop, is_self};
use crate::layout::{PAGE, guest_range_ok};
use crate::memory::pieces::Charge;
use crate::memory::{alloc as frame_alloc, frame_table, m2p, phys};
use crate::mmu::{hold, hold_writable, kept, kept_writable};
use core::sync::atomic::Ordering;
use frames::audit::Hold;
use frames::{Class, DomId, FrameType, Mfn};
use grants::{
    Access, Entry, FIRST_ENTRIES, Frame, Grants, MAX_TABLE_FRAMES, Mapping, Status, Storage, Uses,
    Wanted,
};
use guest_abi::grant::{
    Copy, GNTST_BAD_DOMAIN, GNTST_BAD_PAGE, GNTST_GENERAL_ERROR, GNTST_NO_SPACE, GNTST_OKAY,
    GNTST_PERMISSION_DENIED, GrantTableOp, MapGrantRef, SwapGrantRef, UnmapGrantRef,
};
use guest_abi::{Errno, Wire};

/// How often an entry that changes under us is looked at again.
const TRIES: u32 = 5;
/// The most elements of a list, as Xen has it.
const MAX_COUNT: u64 = i32::MAX as u64;

/// As ring 0 has it elsewhere.
fn mfn_of(frame: Frame) -> Mfn {
    Mfn(u64::from(frame.0))
}

/// A domain's grants.
pub struct DomainGrants {
    rules: Grants<'static>,
    /// The table's frames (V1), in half of an `Option<Mfn>`: a domain's record is to fit into a frame.
    frames: [Option<Frame>; MAX_TABLE_FRAMES],
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
        for frame in self.frames() {
            report(frame, Hold::Type(FrameType::Writable));
        }
        for mapping in self.rules.mappings() {
            let hold = match mapping.access {
                Access::Read => Hold::General,
                Access::Write => Hold::Type(FrameType::Writable),
            };
            report(mfn_of(mapping.frame), hold);
        }
    }

    /// The table's frames there are.
    fn frames(&self) -> impl Iterator<Item = Mfn> {
        self.frames.iter().flatten().map(|frame| mfn_of(*frame))
    }

    /// Frames that the table may have.
    pub fn max_frames(&self) -> u64 {
        self.rules.max_frames() as u64
    }

    /// The word of an entry.
    fn word(&self, gref: u32) -> Result<&'static core::sync::atomic::AtomicU64, Status> {
        let (frame, index) = self.rules.place(gref)?;
        let frame = self.frames.get(frame).copied().flatten();
        frame
            .map(|frame| phys::word(mfn_of(frame), index))
            .ok_or(Status(GNTST_GENERAL_ERROR))
    }

    /// The frame that an entry lends `who`, as it stands now.
    fn look(&self, gref: u32, who: u16, access: Access) -> Result<Mfn, Status> {
        let entry = Entry(self.word(gref)?.load(Ordering::Acquire));
        let begin = self.rules.begin(gref, entry, who, access)?;
        Ok(mfn_of(begin.frame))
    }

    /// Begins a use of an entry whose frame is held already; false if it means another frame by now, or changes.
    fn begin(&mut self, gref: u32, who: u16, access: Access, held: Mfn) -> Result<bool, Status> {
        let word = self.word(gref)?;
        let entry = Entry(word.load(Ordering::Acquire));
        let begin = self.rules.begin(gref, entry, who, access)?;
        if mfn_of(begin.frame) != held {
            return Ok(false);
        }
        let stored =
            word.compare_exchange(entry.0, begin.store.0, Ordering::AcqRel, Ordering::Relaxed);
        if stored.is_ok() {
            self.rules.commit(begin);
        }
        Ok(stored.is_ok())
    }

    /// Ends a use. Its reference is the caller's to give back.
    fn end(&mut self, gref: u32, access: Access) {
        let clear = self.rules.end(gref, access);
        if let Ok(word) = self.word(gref) {
            word.fetch_and(!clear.0, Ordering::AcqRel);
        }
    }
}

/// Grows a domain's table by a frame. False if it has all it may have, or there is no memory.
pub fn grow(dom: &Domain) -> bool {
    new_page(dom.id).is_some_and(|page| add_page(dom, page))
}

/// A page for a domain's table, which is the domain's. What is fresh is flushed: no lock may be held.
pub fn new_page(owner: DomId) -> Option<Mfn> {
    let page = frame_alloc::take(owner, 0, 64)?;
    m2p::set(page, m2p::INVALID);
    Some(page)
}

/// Adds such a page to a domain's table. False if it has all it may have: the page is given back.
pub fn add_page(dom: &Domain, frame: Mfn) -> bool {
    // A fresh frame of the domain's can be had as memory.
    let held = hold_writable(dom.id, frame);
    let mut table = dom.grants.lock();
    let DomainGrants { rules, frames } = &mut *table;
    let slot = frames.get_mut(rules.nr_frames());
    if let (Ok(held), Some(slot)) = (held, slot)
        && rules.add_table_frame()
    {
        *slot = Some(Frame(held.keep().0 as u32));
        return true;
    }
    drop(table);
    release::give_page(dom, frame);
    false
}

/// Storage for the uses of an entry, charged to its domain. False if it has all it wants, the domain has all it may have,
/// or there is no memory.
fn add_uses(dom: &Domain, gref: u32) -> bool {
    let wanted = dom.grants.lock().rules.wants_uses(gref);
    let storage = match wanted {
        None => None,
        Some(Wanted::First) => {
            let piece = dom.place([Uses::default(); FIRST_ENTRIES], Charge::Caused);
            piece.ok().map(Storage::First)
        }
        Some(Wanted::Frame) => dom.take_charged().map(|frame| {
            let place = phys::at(frame.0 * PAGE, PAGE);
            // SAFETY: a zeroed frame of ring 0's own, which no guest can reach and nobody else refers to; any bytes are
            // uses, and they have exactly a frame's size and less than a frame's alignment.
            Storage::Frame(unsafe { &mut *place.cast() })
        }),
    };
    let Some(storage) = storage else {
        return false;
    };
    let refused = dom.grants.lock().rules.add_uses(gref, storage).err();
    let added = refused.is_none();
    if let Some(storage) = refused {
        release::give_uses(dom, storage);
    }
    added
}

/// A frame of a domain's table, which grows as far as that; `None` if it cannot.
pub fn table_frame(dom: &Domain, index: usize) -> Option<Mfn> {
    loop {
        let have = dom.grants.lock().frames.get(index).copied()?;
        if let Some(have) = have {
            return Some(mfn_of(have));
        }
        if !grow(dom) {
            return None;
        }
    }
}

/// Storage for more handles, charged to the domain. False if it has all it may have, or there is no memory.
fn add_handles(dom: &Domain) -> bool {
    let Some(storage) = dom.take_charged() else {
        return false;
    };
    let place = phys::at(storage.0 * PAGE, PAGE);
    let mut table = dom.grants.lock();
    let rules = &mut table.rules;
    if rules.wants_directory() {
        // SAFETY: as in `add_uses`; all zeroes are places without storage.
        rules.add_directory(unsafe { &mut *place.cast() });
        drop(table);
        return add_handles(dom);
    }
    // SAFETY: as in `add_uses`; any bytes are unused handles. What is not taken is forgotten before it is given back.
    let added = rules.wants_handles() && rules.add_handles(unsafe { &mut *place.cast() });
    drop(table);
    if !added {
        dom.give_charged(storage);
    }
    added
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
fn give(dom: DomId, frame: Mfn, access: Access) {
    match access {
        Access::Read => drop(kept(dom, frame)),
        Access::Write => drop(kept_writable(dom, frame)),
    }
}

/// The domain of this number, as who lends: one that dies lends no more. `DOMID_SELF` is nobody's here.
fn granter(g: &Guest<'_>, domid: u16) -> Result<&'static Domain, Status> {
    if domid == g.dom.id.0 {
        return Ok(g.dom);
    }
    domain::living(DomId(domid)).ok_or(Status(GNTST_BAD_DOMAIN))
}

/// The domain whose table an operation is about: the caller, or for the control domain any other.
fn owner(g: &Guest<'_>, domid: u16) -> Result<&'static Domain, Status> {
    if is_self(g, domid) {
        return Ok(g.dom);
    }
    // Whether there is such a domain is the control domain's business.
    if !g.dom.privileged {
        return Err(Status(GNTST_PERMISSION_DENIED));
    }
    domain::living(DomId(domid)).ok_or(Status(GNTST_BAD_DOMAIN))
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
            let mut ended = map::Unmapped::default();
            let outcome = each::<UnmapGrantRef>(g, args, |g, op| map::unmap(g, op, &mut ended));
            ended.settle(g);
            outcome
        }
        GrantTableOp::Copy => each::<Copy>(g, args, copy::copy),
        GrantTableOp::SwapGrantRef => each::<SwapGrantRef>(g, args, table::swap),
        GrantTableOp::SetupTable => only_one().and_then(|()| table::set_up(g, args)),
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
fn each<T: Wire>(
    g: &mut Guest<'_>,
    args: Args,
    mut one: impl FnMut(&mut Guest<'_>, &mut T),
) -> Outcome {
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
    let frame = mfn_of(mapping.frame);
    finish_use(DomId(mapping.granter), mapping.gref, frame, mapping.access);
}

/// Begins a use of an entry of `dom`'s by `who` and takes a reference on the frame, which [`finish_use`] gives back.
fn take_use(dom: &Domain, gref: u32, who: u16, access: Access) -> Result<Mfn, Status> {
    for _ in 0..TRIES {
        let looked = dom.grants.lock().look(gref, who, access);
        if looked == Err(Status(GNTST_NO_SPACE)) && add_uses(dom, gref) {
            continue;
        }
        let frame = looked?;
        // Not under the lock: it may flush.
        take(dom, frame, access)?;
        let begun = dom.grants.lock().begin(gref, who, access, frame);
        if begun == Ok(true) {
            dom.account.count_lent();
            return Ok(frame);
        }
        give(dom.id, frame, access);
        begun?;
    }
    Err(Status(GNTST_GENERAL_ERROR))
}

/// Ends a use of an entry and gives its reference back.
fn finish_use(granter: DomId, gref: u32, frame: Mfn, access: Access) {
    // The frame keeps its owner's record, dying or not.
    match domain::get(granter) {
        Some(dom) => dom.grants.lock().end(gref, access),
        None => error!(
            "domain {}: a use of its frame {:#x} outlived it",
            granter.0, frame.0
        ),
    }
    give(granter, frame, access);
}

//! Mapping grants and unmapping them: for the processor by an entry of the caller's page tables, for devices by the
//! frame's own address.

use super::{add_handles, finish, granter, status, take_use};
use crate::domain::Guest;
use crate::layout::{PAGE, guest_address_ok};
use crate::memory::{frame_table, phys};
use crate::mmu::tables;
use arrayvec::ArrayVec;
use core::sync::atomic::Ordering;
use frames::table::Change;
use frames::{Class, Entry, FrameType, Level, Mfn};
use grants::{Access, Frame, Mapping, Status};
use guest_abi::grant::{
    GNTMAP_APPLICATION_MAP, GNTMAP_CONTAINS_PTE, GNTMAP_DEVICE_MAP, GNTMAP_GUEST_AVAIL0_SHIFT,
    GNTMAP_HOST_MAP, GNTMAP_READONLY, GNTST_BAD_GNTREF, GNTST_BAD_HANDLE, GNTST_GENERAL_ERROR,
    GNTST_NO_SPACE, MapGrantRef, UnmapGrantRef,
};

const GENERAL: Status = Status(GNTST_GENERAL_ERROR);
/// How often an entry that the CPU marks meanwhile is looked at again.
const TRIES: u32 = 5;

/// Units of making a mapping, or of ending one, on top of what an element of a list is.
const MAP_UNITS: u64 = 7;
/// Units of storage for more handles: frames are cleared.
const HANDLE_UNITS: u64 = 20;

/// Maps one grant.
pub(super) fn map(g: &mut Guest<'_>, op: &mut MapGrantRef) {
    g.charge(MAP_UNITS);
    let result = map_one(g, op);
    if let Ok((handle, address)) = result {
        op.handle = handle;
        op.dev_bus_addr = address;
    }
    op.status = status(result.map(|_| ()));
}

fn map_one(g: &mut Guest<'_>, op: &MapGrantRef) -> Result<(u32, u64), Status> {
    let has = |flag: u32| op.flags & flag != 0;
    if !has(GNTMAP_DEVICE_MAP | GNTMAP_HOST_MAP) {
        return Err(Status(GNTST_BAD_GNTREF));
    }
    let dom = granter(g, op.dom)?;
    let access = match has(GNTMAP_READONLY) {
        true => Access::Read,
        false => Access::Write,
    };
    // The handle's storage first: nothing fails for want of it later.
    if g.dom.grants.lock().rules.wants_handles() {
        g.charge(HANDLE_UNITS);
        if !add_handles(g.dom) {
            return Err(Status(GNTST_NO_SPACE));
        }
    }
    let frame = take_use(dom, op.gref, g.dom.id.0, access)?;
    g.vcpu.account.count_used();
    let mapping = Mapping {
        granter: op.dom,
        gref: op.gref,
        // It came from such a number.
        frame: Frame(frame.0 as u32),
        access,
        host: has(GNTMAP_HOST_MAP),
        device: has(GNTMAP_DEVICE_MAP),
        by_entry: has(GNTMAP_CONTAINS_PTE),
    };
    let mapped = match mapping.host {
        true => set_entry(g, &mapping, op),
        false => Ok(()),
    };
    let handle = mapped.and_then(|()| g.dom.grants.lock().rules.new_handle(mapping));
    if handle.is_err() {
        finish(&mapping);
    }
    Ok((handle?, frame.0 * PAGE))
}

/// The entry for a mapping, in the caller's page table.
fn set_entry(g: &Guest<'_>, mapping: &Mapping, op: &MapGrantRef) -> Result<(), Status> {
    const AVAILABLE: u64 = 7 << 9;
    let flag = |on: bool, bit: u64| if on { bit } else { 0 };
    let available = u64::from(op.flags >> GNTMAP_GUEST_AVAIL0_SHIFT) << 9 & AVAILABLE;
    let entry = (u64::from(mapping.frame.0) * PAGE)
        | Entry::PRESENT
        | Entry::ACCESSED
        | Entry::DIRTY
        | Entry::NO_EXECUTE
        | flag(mapping.access == Access::Write, Entry::WRITABLE)
        | flag(op.flags & GNTMAP_APPLICATION_MAP != 0, Entry::USER)
        | available;
    let owner = frames::DomId(mapping.granter);
    with_place(g, op.host_addr, mapping.by_entry, |table, index| {
        tables(g.dom.id)
            .update(table, Level::L1, index, Change::Set(Entry(entry)), owner)
            .map(|_| ())
            .map_err(|_| GENERAL)
    })
}

/// Does something to the entry that an address names: its own machine address, or what it maps. The table is held
/// meanwhile.
fn with_place(
    g: &Guest<'_>,
    address: u64,
    by_entry: bool,
    run: impl FnOnce(Mfn, usize) -> Result<(), Status>,
) -> Result<(), Status> {
    let (table, index) = if by_entry {
        if !address.is_multiple_of(8) {
            return Err(GENERAL);
        }
        (Mfn(address / PAGE), (address % PAGE / 8) as usize)
    } else {
        let leaf = guest_address_ok(address).then(|| g.memory().leaf(address));
        let (table, index, _) = leaf.flatten().ok_or(GENERAL)?;
        (table, index)
    };
    let Class::Ram(frame) = frame_table::class(table) else {
        return Err(GENERAL);
    };
    frame
        .get_if_valid(Some(g.dom.id), FrameType::L1)
        .map_err(|_| GENERAL)?;
    let outcome = run(table, index);
    tables(g.dom.id).put_table(table, Level::L1);
    outcome
}

/// Mappings that have left the page tables; what they held is kept until no CPU can have a translation left (V4).
#[derive(Default)]
pub(super) struct Unmapped {
    ended: ArrayVec<Mapping, 32>,
}

impl Unmapped {
    fn push(&mut self, g: &Guest<'_>, mapping: Mapping) {
        if self.ended.is_full() {
            self.settle(g);
        }
        // There is room: `settle` has made it.
        let _ = self.ended.try_push(mapping);
    }

    /// Drops translations everywhere, of parts that were unmapped too, and then ends the uses.
    pub(super) fn settle(&mut self, g: &Guest<'_>) {
        g.flush_everywhere();
        for mapping in self.ended.drain(..) {
            finish(&mapping);
        }
    }
}

/// Unmaps one grant, or a part of it.
pub(super) fn unmap(g: &mut Guest<'_>, op: &mut UnmapGrantRef, ended: &mut Unmapped) {
    g.charge(MAP_UNITS);
    op.status = status(unmap_one(g, op, ended));
}

fn unmap_one(g: &mut Guest<'_>, op: &UnmapGrantRef, ended: &mut Unmapped) -> Result<(), Status> {
    let mapping = g.dom.grants.lock().rules.handle(op.handle);
    let mapping = mapping.ok_or(Status(GNTST_BAD_HANDLE))?;
    let host = mapping.host && op.host_addr != 0;
    let device = mapping.device && op.dev_bus_addr != 0;
    if device && op.dev_bus_addr != u64::from(mapping.frame.0) * PAGE {
        return Err(GENERAL);
    }
    if host {
        with_place(g, op.host_addr, mapping.by_entry, |table, index| {
            clear_entry(g, &mapping, table, index)
        })?;
    }
    let last = g.dom.grants.lock().rules.unmap(op.handle, host, device);
    if let Some(last) = last {
        ended.push(g, last.mapping);
    }
    Ok(())
}

/// Clears the entry if it still is the mapping's.
fn clear_entry(g: &Guest<'_>, mapping: &Mapping, table: Mfn, index: usize) -> Result<(), Status> {
    for _ in 0..TRIES {
        let seen = Entry(phys::word(table, index).load(Ordering::Acquire));
        let is_its = seen.is_present()
            && seen.mfn() == super::mfn_of(mapping.frame)
            && seen.is_writable() == (mapping.access == Access::Write);
        if !is_its {
            return Err(GENERAL);
        }
        let change = Change::Replace {
            expected: seen,
            new: Entry(0),
        };
        let old = tables(g.dom.id)
            .update(table, Level::L1, index, change, g.dom.id)
            .map_err(|_| GENERAL)?;
        if old == seen {
            return Ok(());
        }
    }
    Err(GENERAL)
}

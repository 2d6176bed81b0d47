//! The table itself: its size, its frames, its version, and swapping two entries.

use super::{granter, grow, owner, status};
use crate::domain::{Domain, Guest};
use crate::hypercall::{Args, Outcome, Stop};
use crate::layout::guest_range_ok;
use core::sync::atomic::Ordering;
use grants::{MAX_TABLE_FRAMES, Status};
use guest_abi::grant::{
    GNTST_BAD_DOMAIN, GNTST_BAD_VIRT_ADDR, GNTST_EAGAIN, GNTST_GENERAL_ERROR, GetVersion,
    QuerySize, SetVersion, SetupTable, SwapGrantRef,
};
use guest_abi::{Errno, Wire};

/// The only version that is served.
const VERSION: u32 = 1;

/// Tells the table's size and what it can have.
pub(super) fn query_size(g: &mut Guest<'_>, arg: u64) -> Outcome {
    let mut query: QuerySize = g.memory().value(arg)?;
    let size = owner(g, query.dom).map(|dom| {
        let table = dom.grants.lock();
        (table.table_frames() as u32, table.rules.max_frames() as u32)
    });
    if let Ok(size) = size {
        (query.nr_frames, query.max_nr_frames) = size;
    }
    query.status = status(size.map(|_| ()));
    g.memory().put(arg, &query)?;
    Ok(0)
}

/// Grows a table to a size, in parts, and lists its frames.
pub(super) fn set_up(g: &mut Guest<'_>, args: Args) -> Outcome {
    let arg = args[1];
    let mut setup: SetupTable = g.memory().value(arg)?;
    g.memory().check_writable(arg, SetupTable::SIZE)?;
    let wanted = setup.nr_frames as usize;
    let result = match owner(g, setup.dom) {
        Err(refused) => Err(refused),
        Ok(dom) if wanted > dom.grants.lock().rules.max_frames() => {
            Err(Status(GNTST_GENERAL_ERROR))
        }
        Ok(_) if wanted != 0 && !guest_range_ok(setup.frame_list, wanted as u64 * 8) => {
            return Err(Errno::Fault.into());
        }
        Ok(dom) => match grow_to(g, dom, wanted) {
            Some(true) => list(g, dom, wanted, setup.frame_list),
            Some(false) => Err(Status(GNTST_GENERAL_ERROR)),
            // What there is now stays: the next time there is less to do.
            None => return Err(Stop::Again(args)),
        },
    };
    setup.status = status(result);
    g.memory().put(arg, &setup)?;
    Ok(0)
}

/// Whether the table could be grown to a size; `None` if there is more to do than is done at a time.
fn grow_to(g: &mut Guest<'_>, dom: &Domain, wanted: usize) -> Option<bool> {
    while (dom.grants.lock().table_frames() as usize) < wanted {
        if !g.spend() {
            return None;
        }
        // Clearing two frames.
        g.charge(32);
        if !grow(dom) {
            return Some(false);
        }
    }
    Some(true)
}

fn list(g: &mut Guest<'_>, dom: &Domain, wanted: usize, list: u64) -> Result<(), Status> {
    let mut bytes = [0u8; MAX_TABLE_FRAMES * 8];
    let table = dom.grants.lock();
    for (place, frame) in bytes.chunks_exact_mut(8).zip(table.frames()) {
        place.copy_from_slice(&frame.0.to_le_bytes());
    }
    drop(table);
    g.memory()
        .write(list, bytes.get(..wanted * 8).unwrap_or_default())
        .map_err(|_| Status(GNTST_BAD_VIRT_ADDR))
}

/// Chooses the version: there is one. What is in force is told in any case.
pub(super) fn set_version(g: &mut Guest<'_>, arg: u64) -> Outcome {
    let mut argument: SetVersion = g.memory().value(arg)?;
    let result = match argument.version {
        VERSION => Ok(0),
        2 if g.dom.grants.lock().rules.any_in_use() => Err(Errno::Busy.into()),
        2 => Err(Errno::NoSys.into()),
        _ => Err(Errno::Inval.into()),
    };
    argument.version = VERSION;
    g.memory().put(arg, &argument)?;
    result
}

/// Tells the version.
pub(super) fn get_version(g: &mut Guest<'_>, arg: u64) -> Outcome {
    let mut argument: GetVersion = g.memory().value(arg)?;
    match owner(g, argument.dom) {
        Ok(_) => {}
        Err(Status(GNTST_BAD_DOMAIN)) => return Err(Errno::Srch.into()),
        Err(_) => return Err(Errno::Perm.into()),
    }
    argument.version = VERSION;
    g.memory().put(arg, &argument)?;
    Ok(0)
}

/// Swaps two entries of the caller's that are not in use.
pub(super) fn swap(g: &mut Guest<'_>, op: &mut SwapGrantRef) {
    let result = granter(g, g.dom.id.0).and_then(|dom| {
        let table = dom.grants.lock();
        let (a, b) = (table.word(op.ref_a)?, table.word(op.ref_b)?);
        if table.rules.is_in_use(op.ref_a)? || table.rules.is_in_use(op.ref_b)? {
            return Err(Status(GNTST_EAGAIN));
        }
        // The entries are their owner's memory, who may write them at any time: what is swapped is what was read.
        let (left, right) = (a.load(Ordering::Relaxed), b.load(Ordering::Relaxed));
        a.store(right, Ordering::Relaxed);
        b.store(left, Ordering::Relaxed);
        Ok(())
    });
    op.status = status(result);
}

//! Memory operations: reservations, claims, exchange for contiguous frames, maps, and frames of a domain's resources.
//!
//! The control domain makes them for others too; others for themselves only.

mod exchange;
mod maps;
mod reservation;
pub use reservation::CLEAR_UNITS;
mod resource;

use crate::domain::{Domain, Guest};
use crate::hypercall::{Args, Outcome, Stop, subject};
use crate::memory::{frame_table, phys};
use core::sync::atomic::Ordering;
use guest_abi::Errno;
use guest_abi::memory::{MEMOP_CMD_MASK, MemoryOp, XenMemoryDomain};
use guest_abi::shared_info::SharedInfo;

/// Bits of the operation number above which a continued call keeps its progress.
const PROGRESS_SHIFT: u32 = 6;

/// `memory_op(op, arg)`.
pub fn memory_op(g: &mut Guest<'_>, args: Args) -> Outcome {
    let [op, arg, ..] = args;
    let start = op >> PROGRESS_SHIFT;
    match MemoryOp::from_number((op & MEMOP_CMD_MASK) as u32) {
        Some(MemoryOp::DecreaseReservation) => reservation::decrease(g, args, start),
        Some(MemoryOp::PopulatePhysmap | MemoryOp::IncreaseReservation) => {
            reservation::populate(g, args, start)
        }
        Some(MemoryOp::ClaimPages) => reservation::claim(g, arg, start),
        Some(MemoryOp::MaximumRamPage) => Ok(frame_table::end().saturating_sub(1)),
        Some(MemoryOp::CurrentReservation) => Ok(target(g, arg)?.pages.load(Ordering::Relaxed)),
        Some(MemoryOp::MaximumReservation) => Ok(target(g, arg)?.max_pages.load(Ordering::Relaxed)),
        Some(MemoryOp::MaximumGpfn) => Ok(highest_pfn(target(g, arg)?)),
        Some(MemoryOp::MachineMemoryMap) => maps::machine_map(g, arg),
        Some(MemoryOp::MemoryMap) => maps::memory_map(g, arg),
        Some(MemoryOp::SetMemoryMap) => maps::set_memory_map(g, arg),
        Some(MemoryOp::MachphysMfnList) => maps::machphys_frames(g, arg),
        Some(MemoryOp::MachphysMapping) => maps::machphys_mapping(g, arg),
        Some(MemoryOp::Exchange) => exchange::exchange(g, args),
        Some(MemoryOp::AcquireResource) => resource::acquire(g, args),
        Some(MemoryOp::GetVnumainfo) => resource::virtual_nodes(g, arg),
        // Nothing is shared between domains behind their backs.
        Some(MemoryOp::GetSharingFreedPages | MemoryOp::GetSharingSharedPages) => Ok(0),
        _ => Err(Errno::NoSys.into()),
    }
}

fn target(g: &Guest<'_>, arg: u64) -> Result<&'static Domain, Stop> {
    let who: XenMemoryDomain = g.memory().value(arg)?;
    Ok(subject(g, who.domid)?)
}

/// The highest page number a domain has, by what it says itself of its list of pages.
fn highest_pfn(dom: &Domain) -> u64 {
    let field = core::mem::offset_of!(SharedInfo, arch.max_pfn);
    let pages = phys::word(dom.shared_info, field / 8).load(Ordering::Relaxed);
    pages.saturating_sub(1)
}

fn again(args: Args, done: u64) -> Stop {
    let mut next = args;
    next[0] = args[0] & MEMOP_CMD_MASK | done << PROGRESS_SHIFT;
    Stop::Again(next)
}

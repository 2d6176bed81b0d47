//! One address at a time: `update_va_mapping`, and its form that maps another domain's frame.
//!
//! The leaf is the one through which the caller reaches the address now; the table it lies in is held as one
//! while it changes. The flush that the caller asks for beside it is done after the change, and only if it was made.

use crate::domain::Guest;
use crate::hypercall::mmu::{errno, mapped_owner, vcpu_set};
use crate::hypercall::{Args, Outcome};
use crate::layout::guest_address_ok;
use crate::memory::frame_table;
use crate::mmu::tables;
use frames::table::Change;
use frames::{Class, DomId, Entry, FrameType, Level};
use guest_abi::Errno;

/// Flags of `update_va_mapping`.
const UVMF_FLUSH_MASK: u64 = 3;

/// `update_va_mapping(va, entry, flags)`.
pub fn update_va_mapping(g: &mut Guest<'_>, args: Args) -> Outcome {
    set_leaf(g, args, g.dom.id)
}

/// `update_va_mapping_otherdomain(va, entry, flags, domain)`: the caller's address, another's frame.
pub fn update_va_mapping_otherdomain(g: &mut Guest<'_>, args: Args) -> Outcome {
    let owner = mapped_owner(g, args[3] as u16)?;
    set_leaf(g, args, owner)
}

/// Sets the leaf for an address of the caller's, to name a frame of `owner`'s.
#[inline(always)]
fn set_leaf(g: &mut Guest<'_>, args: Args, owner: DomId) -> Outcome {
    // In a multicall there may be many, and each walks and changes a table.
    const UNITS: u64 = 3;
    g.charge(UNITS);
    let [va, value, flush, ..] = args;
    if !guest_address_ok(va) {
        return Err(Errno::Inval.into());
    }
    // Local or all; anything else is the address of a set of vCPUs.
    const UVMF_KNOWN: u64 = 7;
    if flush & UVMF_FLUSH_MASK != 0 && flush & !UVMF_KNOWN != 0 {
        vcpu_set(g, flush & !UVMF_KNOWN)?;
    }
    let (table, index, _) = g.memory().leaf(va).ok_or(Errno::Inval)?;
    let Class::Ram(frame) = frame_table::class(table) else {
        return Err(Errno::Inval.into());
    };
    frame
        .get_if_valid(Some(g.dom.id), FrameType::L1)
        .map_err(|_| Errno::Inval)?;
    let t = tables(g.dom.id);
    let outcome = t.update_here(table, Level::L1, index, Change::Set(Entry(value)), owner);
    t.put_table(table, Level::L1);
    outcome.map_err(errno)?;
    if flush & UVMF_FLUSH_MASK != 0 {
        // Beside the kind of flush: nothing for this vCPU's, "all", or the address of a set.
        if flush & !UVMF_FLUSH_MASK == 0 {
            g.flush_local();
        } else {
            g.flush_everywhere();
        }
    }
    Ok(0)
}

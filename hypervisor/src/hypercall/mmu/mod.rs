//! Page-table calls: batches of updates, one address, and the extended operations.
//!
//! - `batch` - what the calls that take a list share: how far they got, and how they are continued.
//! - `update` - `mmu_update`: entries of tables by their machine addresses.
//! - `leaf` - `update_va_mapping` and its form for another domain's frames: the leaf of one of the caller's addresses.
//! - `extended` - `mmuext_op`: pins, flushes, whole pages; `roots` - the tables that a vCPU runs on.
//!
//! The control domain may make them on behalf of another domain, and map another domain's frames. A foreign leaf holds
//! its reference on the frame it maps, whoever owns it; nothing else remembers it (frames F4). It enters a table by an
//! update only: a table that is no longer in use as one holds nothing, and is refused when it is validated again with a
//! foreign leaf still in it. Stock kernels do not do that: such mappings are not copied by `fork`, and the tables of an
//! address space that ends are unpinned for good.

mod batch;
mod extended;
mod leaf;
mod roots;
mod update;

pub use extended::mmuext_op;
pub use leaf::{update_va_mapping, update_va_mapping_otherdomain};
pub use update::mmu_update;

use crate::domain::Guest;
use crate::hypercall::subject;
use crate::mmu::hold_writable;
use frames::table::Refused;
use frames::{DomId, Mfn};
use guest_abi::Errno;
use guest_abi::domid::{DOMID_IO, DOMID_XEN};

fn errno(refused: Refused) -> Errno {
    match refused {
        Refused::Invalid => Errno::Inval,
        Refused::NotYours => Errno::Perm,
        // Inside: the batch loops make the call again.
        Refused::Busy | Refused::Unfinished => Errno::Again,
    }
}

/// Whose frames the caller's entries may name: a domain's, devices' only, or what ring 0 shows of its own.
fn mapped_owner(g: &Guest<'_>, domid: u16) -> Result<DomId, Errno> {
    match domid {
        DOMID_IO | DOMID_XEN if !g.dom.privileged => Err(Errno::Perm),
        DOMID_IO => Ok(DomId::IO),
        DOMID_XEN => Ok(DomId::RING0),
        _ => subject(g, domid).map(|dom| dom.id),
    }
}

/// A set of the domain's vCPUs, a bit each. Whoever is in it, all CPUs that run the domain flush.
fn vcpu_set(g: &Guest<'_>, at: u64) -> Result<u64, Errno> {
    let mut bytes = [0u8; 8];
    let len = (g.dom.max_vcpus as usize).div_ceil(8).min(8);
    g.memory().read(at, &mut bytes[..len])?;
    Ok(u64::from_le_bytes(bytes))
}

/// Does something to a frame of a domain's while it holds the frame as writable memory.
pub fn with_writable<T>(dom: DomId, mfn: Mfn, act: impl FnOnce() -> T) -> Result<T, Errno> {
    let _frame = hold_writable(dom, mfn)?;
    Ok(act())
}

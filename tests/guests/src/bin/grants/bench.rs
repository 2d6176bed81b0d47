//! The grant table, pages to lend, and the calls with their plain statuses.

use guest_runtime::abi::grant::*;
use guest_runtime::abi::{DOMID_SELF, nr};
use guest_runtime::frames::Page;
use guest_runtime::{hypercall, page_table};
use guests::accepted;
use guests::lending::{self, op};

/// Ourselves, as most calls name the domain.
pub const SELF: u16 = DOMID_SELF as u16;
/// What a granter sees while its grant is in use.
pub const BITS: u16 = GTF_READING | GTF_WRITING;
/// A domain that does not exist.
pub const NOBODY: u16 = 1;

/// An operation with this count; the result of the call.
pub fn many<T>(operation: u64, argument: &mut T, count: u64) -> i64 {
    let address = &raw mut *argument as u64;
    hypercall::call(nr::GRANT_TABLE_OP, [operation, address, count, 0, 0])
}

/// The table's first frame, mapped, and pages to lend.
pub struct Bench {
    pub table: Page,
    /// Lent by entry 8.
    pub data: Page,
    /// Where grants are mapped.
    pub window: Page,
}

impl Bench {
    /// Fills an entry in.
    pub fn set(&self, gref: usize, flags: u16, domain: u16, frame: u64) {
        self.table.write(gref, lending::entry(flags, domain, frame));
    }

    /// An entry's flags.
    pub fn flags(&self, gref: usize) -> u16 {
        self.table.read(gref) as u16
    }

    /// The page-table entry of the window.
    pub fn slot(&self) -> u64 {
        page_table::slot(self.window.va()).map_or(0, |slot| slot.value())
    }

    /// Maps at the window; status and handle.
    pub fn map(&self, flags: u32, gref: u32) -> (i16, u32) {
        map(self.window.va(), flags, gref, 0)
    }
}

/// Maps a grant; status and handle.
pub fn map(address: u64, flags: u32, gref: u32, domain: u16) -> (i16, u32) {
    let mut argument = MapGrantRef {
        host_addr: address,
        flags,
        gref,
        dom: domain,
        ..MapGrantRef::ZERO
    };
    accepted("map_grant_ref", op(0, &mut argument));
    (argument.status, argument.handle)
}

/// Unmaps what the handle stands for, by the CPU's address, the device's, or both; the status.
pub fn unmap(address: u64, device: u64, handle: u32) -> i16 {
    let mut argument = UnmapGrantRef {
        host_addr: address,
        dev_bus_addr: device,
        handle,
        ..UnmapGrantRef::ZERO
    };
    accepted("unmap_grant_ref", op(1, &mut argument));
    argument.status
}

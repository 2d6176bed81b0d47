//! Frames that come and go: given back to the hypervisor and populated again.

use guest_runtime::abi::{DOMID_SELF, errno, mmuext, nr};
use guest_runtime::frames;
use guest_runtime::hypercall::{self, mmuext as op};
use guest_runtime::page_table::{self, bits};
use guest_runtime::{check, check_eq, skip};
use guests::{accepted, refused};

const POPULATE_PHYSMAP: u64 = 6;
const DECREASE_RESERVATION: u64 = 1;

/// Argument of the reservation operations.
#[repr(C)]
struct Reservation {
    extents: u64,
    nr_extents: u64,
    order: u32,
    flags: u32,
    domain: u16,
    pad: [u16; 3],
}

fn reservation(operation: u64, list: &mut [u64]) -> i64 {
    let mut argument = Reservation {
        extents: list.as_mut_ptr() as u64,
        nr_extents: list.len() as u64,
        order: 0,
        flags: 0,
        domain: DOMID_SELF as u16,
        pad: [0; 3],
    };
    hypercall::call(
        nr::MEMORY_OP,
        [operation, &raw mut argument as u64, 0, 0, 0],
    )
}

/// A frame given back can no longer be mapped or pinned; the new one is clean, ours and in the M2P list.
pub fn all() {
    let page = frames::allocate();
    page.write(0, 0x5ec2_e700);
    let old = page.mfn();
    accepted("unmap", page_table::hide(page));
    match reservation(DECREASE_RESERVATION, &mut [old]) {
        result if result == -errno::ENOSYS => {
            skip!("no decrease_reservation here");
            accepted("home again", page_table::unprotect(page));
            return;
        }
        result => check_eq!("frames given back", result, 1),
    };
    refused(
        "a mapping of a frame given back",
        page_table::unprotect(page),
    );
    refused("a pin of a frame given back", op(mmuext::PIN_L1, old, 0));
    refused(
        "an update of a frame given back",
        hypercall::mmu_update(old << 12, 1),
    );
    check_eq!(
        "a frame given back twice",
        reservation(DECREASE_RESERVATION, &mut [old]),
        0
    );
    let mut list = [page.pfn];
    check_eq!(
        "pages populated",
        reservation(POPULATE_PHYSMAP, &mut list),
        1
    );
    let new = list[0];
    check_eq!(
        "the M2P entry of the new frame",
        frames::mfn_to_pfn(new),
        page.pfn
    );
    let mapped = hypercall::update_va_mapping(page.va(), new << 12 | bits::KERNEL_RW | bits::NX);
    accepted("a mapping of the new frame", mapped);
    let clean = (0..512).all(|index| page.read(index) == 0);
    check!(
        clean || new == old,
        "a frame that was another's holds nothing of it"
    );
}

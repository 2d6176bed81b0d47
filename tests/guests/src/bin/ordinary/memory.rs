//! Memory that is another's: reservations on its behalf, its frames in our tables, our hands on its tables.

use guest_runtime::abi::{
    DOMID_SELF, MmuUpdate, MmuextOp, XenMemAcquireResource, XenMemoryDomain, XenMemoryExchange,
    XenMemoryReservation, errno, memory, mmu, mmuext, nr,
};
use guest_runtime::frames::{self, Page};
use guest_runtime::hypercall::{call, mmu_update_for};
use guest_runtime::page_table::{self, bits};
use guest_runtime::{check_eq, control, say};

use crate::{either, ids};

fn op<T>(operation: u64, argument: &T) -> i64 {
    call(
        nr::MEMORY_OP,
        [operation, &raw const *argument as u64, 0, 0, 0],
    )
}

/// Step: memory_op about others, and what of it is the control domain's alone.
pub fn operations(_: [u64; 5]) -> i64 {
    let ids = ids();
    let page = frames::allocate();
    for domain in [ids.control, ids.other, ids.nobody] {
        let known = if domain == ids.nobody {
            either(-errno::ESRCH, -errno::EPERM)
        } else {
            -errno::EPERM
        };
        for operation in [memory::CURRENT_RESERVATION, memory::MAXIMUM_RESERVATION] {
            let who = XenMemoryDomain { domid: domain };
            check_eq!("the size of another", op(operation, &who), known);
        }
        // Xen counts these as lists of which nothing was done.
        for operation in [0, memory::DECREASE_RESERVATION, memory::POPULATE_PHYSMAP] {
            page.write(0, ids.frame);
            let result = control::reservation(operation, domain, page.va(), 1);
            check_eq!("another's reservation", result, either(0, -errno::EPERM));
            check_eq!("the list", page.read(0), ids.frame);
        }
        let list = XenMemoryReservation {
            extent_start: page.va(),
            nr_extents: 1,
            domid: domain,
            ..XenMemoryReservation::ZERO
        };
        let trade = XenMemoryExchange {
            give: list,
            get: list,
            ..XenMemoryExchange::ZERO
        };
        check_eq!("another's exchange", op(memory::EXCHANGE, &trade), known);
        let resource = XenMemAcquireResource {
            domid: domain,
            kind: 1,
            nr_frames: 1,
            frame_list: page.va(),
            ..XenMemAcquireResource::ZERO
        };
        check_eq!(
            "another's grant table",
            op(memory::ACQUIRE_RESOURCE, &resource),
            known
        );
        // set_memory_map, claim_pages, set_pod_target, vNUMA: two or more words that begin with the domain.
        for operation in [13, 24] {
            page.clear();
            page.write(0, u64::from(domain));
            let request = XenMemoryReservation {
                extent_start: page.va(),
                domid: domain,
                ..XenMemoryReservation::ZERO
            };
            let result = match operation {
                24 => op(operation, &request),
                _ => call(nr::MEMORY_OP, [operation, page.va(), 0, 0, 0]),
            };
            if !(-4095..0).contains(&result) {
                say!("  memory_op {operation} about {domain:#x} answers {result:#x}");
            }
            check_eq!("it is refused", (-4095..0).contains(&result), true);
        }
    }
    page.clear();
    page.write(0, 64);
    page.write(1, page.va() + 64);
    let result = call(nr::MEMORY_OP, [10, page.va(), 0, 0, 0]);
    check_eq!("machine_memory_map", result, -errno::EPERM);
    frames::release(page);
    0
}

/// The domains argument of mmu_update: whose frames, and whose tables.
fn of(frames: u16, tables: Option<u16>) -> u64 {
    u64::from(frames) | tables.map_or(0, |tables| u64::from(tables) + 1) << 16
}

/// Step: frames and tables of others in mmu_update, mmuext_op and update_va_mapping.
pub fn page_tables(_: [u64; 5]) -> i64 {
    let ids = ids();
    let page = frames::allocate();
    let slot = page_table::slot(page.va()).expect("the pool is mapped");
    let before = slot.value();
    let mfn = page.mfn();
    let entry = ids.frame << 12 | bits::KERNEL_RO | bits::NX;
    for domain in [ids.control, ids.other, ids.nobody] {
        let known = if domain == ids.nobody {
            either(-errno::ESRCH, -errno::EPERM)
        } else {
            -errno::EPERM
        };
        let map = [MmuUpdate {
            ptr: slot.maddr(),
            val: entry,
        }];
        for domains in [
            of(domain, None),
            of(domain, Some(domain)),
            of(DOMID_SELF as u16, Some(domain)),
        ] {
            let (result, done) = mmu_update_for(&map, domains);
            if !check_eq!("mmu_update about another", result, known) {
                say!("  domains {domains:#x}");
            }
            check_eq!("how many were done", done == 0 || done == u32::MAX, true);
        }
        let number = [MmuUpdate {
            ptr: ids.frame << 12 | mmu::MACHPHYS,
            val: 0x1234,
        }];
        check_eq!(
            "another's number",
            mmu_update_for(&number, of(domain, None)).0,
            known
        );
        let untranslated = [MmuUpdate {
            ptr: slot.maddr() | mmu::NO_TRANSLATE,
            val: entry,
        }];
        check_eq!(
            "another's frame as it is",
            mmu_update_for(&untranslated, of(domain, None)).0,
            known
        );
        let result = call(
            nr::UPDATE_VA_MAPPING_OTHERDOMAIN,
            [page.va(), entry, 2, u64::from(domain), 0],
        );
        check_eq!("update_va_mapping about another", result, known);
        for command in [mmuext::PIN_L1, mmuext::PIN_L4, mmuext::UNPIN] {
            check_eq!(
                "mmuext_op about another",
                control::mmuext_for(command, ids.frame, domain),
                known
            );
        }
    }
    // By the caller's own number, a frame of another is just none of its own.
    claimed(page, entry);
    check_eq!("the entry", slot.value(), before);
    check_eq!("the page's frame", page.mfn(), mfn);
    frames::release(page);
    0
}

/// The other's frame, named as the caller's own.
fn claimed(page: Page, entry: u64) {
    let ids = ids();
    let slot = page_table::slot(page.va()).expect("the pool is mapped");
    for domains in [
        of(DOMID_SELF as u16, None),
        of(ids.own, None),
        of(ids.own, Some(ids.own)),
    ] {
        let map = [MmuUpdate {
            ptr: slot.maddr(),
            val: entry,
        }];
        refused("another's frame", mmu_update_for(&map, domains).0);
        let store = [MmuUpdate {
            ptr: ids.frame << 12 | 8,
            val: 0xdead,
        }];
        refused(
            "a store to another's frame",
            mmu_update_for(&store, domains).0,
        );
    }
    for command in [
        mmuext::PIN_L1,
        mmuext::PIN_L4,
        mmuext::UNPIN,
        mmuext::NEW_BASEPTR,
        mmuext::NEW_USER_BASEPTR,
        16,
    ] {
        let request = MmuextOp {
            cmd: command,
            arg1: ids.frame,
            ..MmuextOp::ZERO
        };
        let argument = &raw const request as u64;
        refused(
            "another's frame",
            call(nr::MMUEXT_OP, [argument, 1, 0, DOMID_SELF, 0]),
        );
    }
    let list = [ids.frame];
    let result = call(nr::SET_GDT, [list.as_ptr() as u64, 16, 0, 0, 0]);
    refused("another's frame as descriptors", result);
    let result = call(nr::UPDATE_DESCRIPTOR, [ids.frame << 12, 0, 0, 0, 0]);
    refused("a descriptor in another's frame", result);
    let mut list = [ids.frame];
    let result = control::reservation(
        memory::DECREASE_RESERVATION,
        DOMID_SELF as u16,
        list.as_mut_ptr() as u64,
        1,
    );
    check_eq!("frames of another given up", result, 0);
}

fn refused(what: &str, result: i64) {
    guests::refused(what, result);
}

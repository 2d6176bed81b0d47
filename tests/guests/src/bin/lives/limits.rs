//! A domain's most memory is strictly held, whoever adds, and follows what it gives back.

use guest_runtime::abi::{DOMID_SELF, XenMemoryDomain, errno, memory, nr};
use guest_runtime::builder::{Child, Plan};
use guest_runtime::hypercall::call;
use guest_runtime::{check, check_eq, control, frames, page_table};

use crate::with_child;

/// Frames more than the child has that it may have.
const ROOM: u64 = 16;

/// Step: asks for frames; how many came. What came stays without a place.
fn ask([count, ..]: [u64; 5]) -> i64 {
    let page = frames::allocate();
    let result = control::reservation(
        memory::POPULATE_PHYSMAP,
        DOMID_SELF as u16,
        page.va(),
        count,
    );
    frames::release(page);
    result
}

/// Step: gives up pages of the pool; how many went.
fn give([count, ..]: [u64; 5]) -> i64 {
    (0..count)
        .filter(|_| {
            let page = frames::allocate();
            let mut list = [page.mfn()];
            page_table::hide(page);
            let result = control::reservation(
                memory::DECREASE_RESERVATION,
                DOMID_SELF as u16,
                list.as_mut_ptr() as u64,
                1,
            );
            result == 1
        })
        .count() as i64
}

/// Step: how many pages it has, and may have.
fn sizes([operation, ..]: [u64; 5]) -> i64 {
    let who = XenMemoryDomain {
        domid: DOMID_SELF as u16,
    };
    call(nr::MEMORY_OP, [operation, &raw const who as u64, 0, 0, 0])
}

fn pages(child: &Child) -> (u64, u64) {
    child
        .info()
        .map_or((0, 0), |info| (info.tot_pages, info.max_pages))
}

/// Adds on a child's behalf.
fn add(child: &Child, count: u64) -> i64 {
    let page = frames::allocate();
    for index in 0..count {
        page.write(index as usize, 0x10_0000 + index);
    }
    let result = control::reservation(memory::POPULATE_PHYSMAP, child.id, page.va(), count);
    frames::release(page);
    result
}

/// Adds and takes around the maximum.
pub fn memory() {
    with_child(Plan::SMALL, |child| {
        let (has, most) = pages(child);
        check_eq!(
            "its own size",
            child.call(sizes, [memory::CURRENT_RESERVATION, 0, 0, 0, 0]),
            has as i64
        );
        check_eq!(
            "its own most",
            child.call(sizes, [memory::MAXIMUM_RESERVATION, 0, 0, 0, 0]),
            most as i64
        );
        let spare = (most - has) as i64;
        check_eq!(
            "what it asks for beyond it",
            child.call(ask, [8, 0, 0, 0, 0]),
            spare.min(8)
        );
        check_eq!("what is added beyond it", add(child, 8), 0);
        check_eq!(
            "a larger maximum",
            control::max_mem(child.id, has + ROOM),
            0
        );
        let (has, most) = pages(child);
        let room = (most - has) as i64;
        check_eq!(
            "half of the room, by itself",
            child.call(ask, [room as u64 / 2, 0, 0, 0, 0]),
            room / 2
        );
        check_eq!(
            "the rest, and more, on its behalf",
            add(child, 2 * room as u64),
            room - room / 2
        );
        check_eq!("nothing more", child.call(ask, [1, 0, 0, 0, 0]), 0);
        check_eq!("as many as it may", pages(child), (most, most));
        check_eq!("given back", child.call(give, [5, 0, 0, 0, 0]), 5);
        check_eq!("what it has", pages(child), (most - 5, most));
        check_eq!(
            "taken again, and no more",
            child.call(ask, [9, 0, 0, 0, 0]),
            5
        );
        // A maximum below what it has: nothing is taken away, and nothing comes.
        let result = control::max_mem(child.id, has / 2);
        check!(
            result == 0 || result == -errno::EINVAL,
            "a maximum below what it has"
        );
        if result == 0 {
            check_eq!("nothing comes", child.call(ask, [1, 0, 0, 0, 0]), 0);
            check_eq!("nothing is added", add(child, 1), 0);
            check_eq!("what it has", pages(child).0, most);
            check_eq!("given back", child.call(give, [5, 0, 0, 0, 0]), 5);
            check_eq!("still nothing comes", child.call(ask, [1, 0, 0, 0, 0]), 0);
        }
        check_eq!("it works", child.call(|_| 9, [0; 5]), 9);
    });
}

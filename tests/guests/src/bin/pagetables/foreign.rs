//! Frames that come and go: given back to the hypervisor and populated again, and exchanged for others.

use guest_runtime::abi::{
    DOMID_SELF, XenMemoryExchange, XenMemoryReservation, errno, memory, mmuext, nr,
};
use guest_runtime::frames::{self, Page};
use guest_runtime::hypercall::{self, mmuext as op};
use guest_runtime::page_table;
use guest_runtime::{check, check_eq, skip};
use guests::{accepted, refused};

pub fn all() {
    given_back();
    exchange(1, 0);
    exchange(8, 3);
    refused_exchange();
}

fn reservation(list: &mut [u64], order: u32) -> XenMemoryReservation {
    XenMemoryReservation {
        extent_start: list.as_mut_ptr() as u64,
        nr_extents: list.len() as u64,
        extent_order: order,
        domid: DOMID_SELF as u16,
        ..Default::default()
    }
}

fn memory_op<T>(operation: u64, argument: &mut T) -> i64 {
    hypercall::call(
        nr::MEMORY_OP,
        [operation, &raw mut *argument as u64, 0, 0, 0],
    )
}

/// A frame given back can no longer be mapped or pinned; the new one is clean, ours and in the M2P list.
fn given_back() {
    let page = frames::allocate();
    page.write(0, 0x5ec2_e700);
    let old = page.mfn();
    accepted("unmap", page_table::hide(page));
    let decrease = || {
        memory_op(
            memory::DECREASE_RESERVATION,
            &mut reservation(&mut [old], 0),
        )
    };
    match decrease() {
        result if result == -errno::ENOSYS => {
            skip!("no decrease_reservation here");
            return accept_home(page);
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
    check_eq!("a frame given back twice", decrease(), 0);
    let mut list = [page.pfn];
    let populated = memory_op(memory::POPULATE_PHYSMAP, &mut reservation(&mut list, 0));
    check_eq!("pages populated", populated, 1);
    let new = list[0];
    check_eq!(
        "the M2P entry of the new frame",
        frames::mfn_to_pfn(new),
        page.pfn
    );
    frames::set_mfn(page, new);
    accept_home(page);
    let clean = (0..512).all(|index| page.read(index) == 0);
    check!(
        clean || new == old,
        "a frame that was another's holds nothing of it"
    );
    frames::release(page);
}

fn accept_home(page: Page) {
    accepted("a mapping at home", page_table::unprotect(page));
}

fn exchange_of(give: &mut [u64], get: &mut [u64], order: u32, address_bits: u32) -> (i64, u64) {
    let mut argument = XenMemoryExchange {
        give: reservation(give, 0),
        get: XenMemoryReservation {
            mem_flags: address_bits,
            ..reservation(get, order)
        },
        nr_exchanged: 0,
    };
    let result = memory_op(memory::EXCHANGE, &mut argument);
    (result, argument.nr_exchanged)
}

/// Single frames for one contiguous extent below 4 GiB: all of it or nothing.
fn exchange(count: usize, order: u32) {
    let pages: [Page; 8] = core::array::from_fn(|_| frames::allocate());
    let pages = &pages[..count];
    let mut give = [0; 8];
    for (slot, page) in give.iter_mut().zip(pages) {
        *slot = page.mfn();
        accepted("unmap", page_table::hide(*page));
    }
    let mut get = [pages[0].pfn];
    let old = give;
    let (result, done) = exchange_of(&mut give[..count], &mut get, order, 32);
    if result != 0 {
        check_eq!("extents exchanged by a failed exchange", done, 0);
        skip!("no exchange for order {order}: {result}");
        for page in pages {
            accept_home(*page);
            frames::release(*page);
        }
        return;
    }
    check_eq!("extents exchanged", done, count as u64);
    let base = get[0];
    check_eq!("the new extent is aligned", base & ((1 << order) - 1), 0);
    check!(base < 1 << 20, "and below 4 GiB");
    for (index, page) in pages.iter().enumerate() {
        let mfn = base + index as u64;
        // The pages of the new extent follow the first in number too.
        let pfn = pages[0].pfn + index as u64;
        check_eq!("the M2P entry of a new frame", frames::mfn_to_pfn(mfn), pfn);
        if !(base..base + count as u64).contains(&old[index]) {
            refused(
                "a mapping of an old frame",
                hypercall::update_va_mapping(page.va(), old[index] << 12 | 1),
            );
        }
        frames::set_mfn(Page { pfn }, mfn);
    }
    for index in 0..count as u64 {
        let page = Page {
            pfn: pages[0].pfn + index,
        };
        accept_home(page);
        page.write(1, index);
        check_eq!("a new frame is memory", page.read(1), index);
        frames::release(page);
    }
}

/// Frames that are mapped, tables or not ours are not taken, and none of the others either.
fn refused_exchange() {
    let (mapped, table) = (frames::allocate(), page_table::new_table());
    accepted("pin", op(mmuext::PIN_L1, table.mfn(), 0));
    for bad in [
        mapped.mfn(),
        table.mfn(),
        page_table::root().mfn(),
        1 << 40,
        0xfee00,
    ] {
        let mut get = [0x7_0000];
        let (result, done) = exchange_of(&mut [bad], &mut get, 0, 32);
        refused("an exchange of a frame in use", result);
        check_eq!("extents exchanged", done, 0);
    }
    check_eq!(
        "the mapped frame is still ours",
        frames::mfn_to_pfn(mapped.mfn()),
        mapped.pfn
    );
    mapped.write(0, 3);
    check_eq!("and memory", mapped.read(0), 3);
    accepted("unpin", op(mmuext::UNPIN, table.mfn(), 0));
    page_table::release_table(table);
    frames::release(mapped);
}

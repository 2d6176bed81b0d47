//! What the child does: pages of its own that it names by slots, so that parent and child speak of the same.

use guest_runtime::Global;
use guest_runtime::abi::{DOMID_SELF, memory, mmuext};
use guest_runtime::frames::{self, Page};
use guest_runtime::{control, hypercall, page_table};

const SLOTS: usize = 32;

static PAGES: Global<[u64; SLOTS]> = Global::new([0; SLOTS]);

fn page(slot: u64) -> Page {
    Page {
        pfn: PAGES.get()[slot as usize % SLOTS],
    }
}

/// Takes a page into a slot, with a word in each of its entries: its machine frame.
pub fn take([slot, word, ..]: [u64; 5]) -> i64 {
    let page = frames::allocate();
    for index in 0..512 {
        page.write(index, word);
    }
    let mut pages = PAGES.get();
    pages[slot as usize % SLOTS] = page.pfn;
    PAGES.set(pages);
    page.mfn() as i64
}

/// Gives the page of a slot back to the pool.
pub fn release([slot, ..]: [u64; 5]) -> i64 {
    frames::release(page(slot));
    0
}

/// The number of a slot's page.
pub fn number([slot, ..]: [u64; 5]) -> i64 {
    page(slot).pfn as i64
}

/// A word of a slot's page.
pub fn word([slot, index, ..]: [u64; 5]) -> i64 {
    page(slot).read(index as usize) as i64
}

/// Writes a word of a slot's page.
pub fn set([slot, index, word, ..]: [u64; 5]) -> i64 {
    page(slot).write(index as usize, word);
    0
}

/// Maps a slot's page read-only.
pub fn protect([slot, ..]: [u64; 5]) -> i64 {
    page_table::protect(page(slot))
}

/// Maps a slot's page writable.
pub fn unprotect([slot, ..]: [u64; 5]) -> i64 {
    page_table::unprotect(page(slot))
}

/// Pins a slot's page as a table of level 1.
pub fn pin([slot, ..]: [u64; 5]) -> i64 {
    hypercall::mmuext(mmuext::PIN_L1, page(slot).mfn(), 0)
}

/// Unpins a slot's page.
pub fn unpin([slot, ..]: [u64; 5]) -> i64 {
    hypercall::mmuext(mmuext::UNPIN, page(slot).mfn(), 0)
}

/// Unmaps a slot's page and gives its frame to the hypervisor.
pub fn give_up([slot, ..]: [u64; 5]) -> i64 {
    let page = page(slot);
    let hidden = page_table::hide(page);
    if hidden != 0 {
        return hidden;
    }
    let list = [page.mfn()];
    reservation(memory::DECREASE_RESERVATION, list.as_ptr() as u64, 1)
}

/// Gets a new frame for a slot's page and maps it: how many came.
pub fn get_back([slot, ..]: [u64; 5]) -> i64 {
    let page = page(slot);
    let mut list = [page.pfn];
    let came = reservation(memory::POPULATE_PHYSMAP, list.as_mut_ptr() as u64, 1);
    if came == 1 {
        frames::set_mfn(page, list[0]);
        let mapped = page_table::unprotect(page);
        if mapped != 0 {
            return mapped;
        }
        // Xen leaves what another domain, or this one, wrote there.
        if control::is_ours() && (0..512).any(|index| page.read(index) != 0) {
            return -1;
        }
    }
    came
}

fn reservation(operation: u64, list: u64, frames: u64) -> i64 {
    control::reservation(operation, DOMID_SELF as u16, list, frames)
}

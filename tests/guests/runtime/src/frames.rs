//! Pages: the p2m and m2p lists, and an allocator of pages that the image does not use.
//!
//! Unless the guest's layout says otherwise, they are the pages below the image, which belong to the domain and are
//! mapped writable at the start.

use crate::Global;
use crate::abi::MACH2PHYS_VIRT_START as M2P;
use crate::entry::start_info;

const POOL_PAGES: usize = 256;

static FREE: Global<[u64; POOL_PAGES / 64]> = Global::new([0; POOL_PAGES / 64]);

unsafe extern "C" {
    static guest_virt_base: u8;
    static guest_pool: u8;
}

/// Virtual address of pseudo-physical page 0, by the guest's own notes and layout.
#[inline]
pub fn virt_base() -> u64 {
    // The compiler takes for granted that nothing lies at address 0; here it may.
    core::hint::black_box(&raw const guest_virt_base as u64)
}

/// The first page of the pool.
fn pool() -> u64 {
    Page::at(&raw const guest_pool as u64).pfn
}

/// A pseudo-physical page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Its number.
    pub pfn: u64,
}

impl Page {
    /// The page mapped at `address` in the kernel's initial mapping.
    pub fn at(address: u64) -> Self {
        Self {
            pfn: (address - virt_base()) >> 12,
        }
    }

    /// Its virtual address in the kernel's initial mapping.
    pub fn va(self) -> u64 {
        virt_base() + (self.pfn << 12)
    }

    /// Its machine frame.
    pub fn mfn(self) -> u64 {
        pfn_to_mfn(self.pfn)
    }

    /// Its machine address.
    pub fn maddr(self) -> u64 {
        self.mfn() << 12
    }

    /// Machine address of its 8-byte entry `index`.
    pub fn entry_maddr(self, index: usize) -> u64 {
        self.maddr() + 8 * index as u64
    }

    /// Reads its 8-byte word `index` (the page must be mapped at its own address).
    pub fn read(self, index: usize) -> u64 {
        // SAFETY: in the page for every index below 512; the page is mapped by the ABI's initial mapping.
        unsafe { ((self.va() as *const u64).add(index % 512)).read_volatile() }
    }

    /// Writes its 8-byte word `index` (the page must be mapped writable at its own address).
    pub fn write(self, index: usize, value: u64) {
        // SAFETY: as `read`; the page came from the allocator, so Rust keeps nothing else there.
        unsafe { ((self.va() as *mut u64).add(index % 512)).write_volatile(value) }
    }

    /// Fills it with zeros.
    pub fn clear(self) {
        for index in 0..512 {
            self.write(index, 0);
        }
    }
}

/// The machine frame of a page, from the p2m list.
pub fn pfn_to_mfn(pfn: u64) -> u64 {
    assert!(pfn < start_info().nr_pages, "page {pfn:#x} is not ours");
    // SAFETY: the list has nr_pages entries at the address start_info gives.
    unsafe {
        (start_info().mfn_list as *const u64)
            .add(pfn as usize)
            .read_volatile()
    }
}

/// Notes in the p2m list that a page is another machine frame now.
pub fn set_mfn(page: Page, mfn: u64) {
    assert!(
        page.pfn < start_info().nr_pages,
        "page {:#x} is not ours",
        page.pfn
    );
    // SAFETY: as `pfn_to_mfn`; the list is ordinary memory of ours, mapped writable.
    unsafe {
        (start_info().mfn_list as *mut u64)
            .add(page.pfn as usize)
            .write_volatile(mfn)
    };
}

/// The page of a machine frame of ours, from the m2p list.
pub fn mfn_to_pfn(mfn: u64) -> u64 {
    // SAFETY: the list covers every frame of this domain; it is readable everywhere frames exist.
    unsafe { (M2P as *const u64).add(mfn as usize).read_volatile() }
}

pub(crate) fn init() {
    let mut free = [u64::MAX; POOL_PAGES / 64];
    free[0] &= !1; // Page 0 stays untouched: address 0 of it is what wrong code hits first.
    FREE.set(free);
}

/// A zeroed page, mapped writable.
pub fn allocate() -> Page {
    let mut free = FREE.get();
    for (word, bits) in free.iter_mut().enumerate() {
        if *bits != 0 {
            let bit = bits.trailing_zeros();
            *bits &= *bits - 1;
            FREE.set(free);
            let page = Page {
                pfn: pool() + (word * 64) as u64 + u64::from(bit),
            };
            page.clear();
            return page;
        }
    }
    panic!("the guest's own pool of {POOL_PAGES} pages is used up");
}

/// Gives a page back. It must be mapped writable again and be no page table.
pub fn release(page: Page) {
    let mut free = FREE.get();
    let index = page.pfn - pool();
    free[index as usize / 64] |= 1 << (index % 64);
    FREE.set(free);
}

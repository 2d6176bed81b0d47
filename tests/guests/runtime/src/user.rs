//! User mode: a second root table with one window of user pages, and contexts that run there.
//!
//! Both roots share the tables beneath L4 slot 0, so the kernel sees user memory at the same addresses. User code
//! is the image's `.guest_user` section, mapped at [`CODE`].

use crate::abi::{KERNEL_CODE64, mmuext};
use crate::frames::{self, Page};
use crate::page_table::{self, bits};
use crate::{Global, hypercall};

/// Where user code is mapped.
pub const CODE: u64 = 0x0000_0000_0040_0000;
/// Where user data is mapped: eight writable pages, the stack at their end.
pub const DATA: u64 = 0x0000_0000_0050_0000;
/// Pages at [`DATA`].
pub const DATA_PAGES: u64 = 8;
/// First unmapped address after the data: the stack's top is a little below.
pub const STACK_TOP: u64 = DATA + DATA_PAGES * 4096;

static USER_ROOT: Global<u64> = Global::new(0);

unsafe extern "C" {
    static guest_user_start: u8;
    static guest_user_end: u8;
}

/// The user root; [`enable`] must have run.
pub fn root() -> Page {
    assert!(USER_ROOT.get() != 0, "user mode is not set up");
    Page {
        pfn: USER_ROOT.get(),
    }
}

/// The user address of something in the `.guest_user` section.
pub fn address(kernel_address: u64) -> u64 {
    kernel_address - &raw const guest_user_start as u64 + CODE
}

/// The page behind user data page `index`.
pub fn data_page(index: u64) -> Page {
    let slot = page_table::slot(DATA + 4096 * index).expect("user data is mapped");
    Page {
        pfn: frames::mfn_to_pfn((slot.value() & bits::ADDRESS) >> 12),
    }
}

/// Builds the user window and the user root, and makes it the vCPU's.
pub fn enable() {
    let start = &raw const guest_user_start as u64;
    let end = &raw const guest_user_end as u64;
    for offset in (0..end - start).step_by(4096) {
        let page = Page::at(start + offset);
        must(page_table::map(
            CODE + offset,
            page.maddr() | bits::PRESENT | bits::USER | bits::ACCESSED,
        ));
    }
    for index in 0..DATA_PAGES {
        let page = frames::allocate();
        let flags = bits::KERNEL_RW | bits::USER | bits::NX;
        must(page_table::map(DATA + 4096 * index, page.maddr() | flags));
    }
    let l4 = frames::allocate();
    l4.write(0, page_table::root().read(0));
    must(page_table::protect(l4));
    must(hypercall::mmuext(mmuext::PIN_L4, l4.mfn(), 0));
    must(hypercall::mmuext(mmuext::NEW_USER_BASEPTR, l4.mfn(), 0));
    USER_ROOT.set(l4.pfn);
}

fn must(result: i64) {
    assert!(result == 0, "user mode could not be set up: {result}");
}

/// Whether a code selector from a frame means user mode.
pub fn is_user(cs: u64) -> bool {
    cs & 0xffff != u64::from(KERNEL_CODE64) && cs & 3 == 3
}

//! set_gdt and update_descriptor: which frames and which descriptors.

use guest_runtime::abi::{errno, mmuext, nr};
use guest_runtime::frames::{self, Page};
use guest_runtime::hypercall::{call, mmu_update, mmuext as op};
use guest_runtime::page_table;
use guest_runtime::{Global, check, check_eq};
use guests::{accepted, refused};

use crate::descriptor::{ACCESSED, CODE32, CODE64, DATA, DPL, ORDINARY, PRESENT, data_at};

/// The table that [`all`] leaves in use; entries as `loads` wants them.
static TABLE: Global<Option<Page>> = Global::new(None);

/// The table in use.
pub fn table() -> Page {
    TABLE.get().expect("gdt::all has run")
}

/// Index of each descriptor that is there at the end.
pub mod index {
    pub const CODE64: u64 = 2;
    pub const DATA: u64 = 3;
    pub const CODE32: u64 = 4;
    pub const ABSENT: u64 = 5;
    pub const USER_CODE64: u64 = 6;
    pub const READ_ONLY: u64 = 8;
    pub const THREAD: u64 = 12;
}

pub fn set_gdt(page: Page, entries: u64) -> i64 {
    let list = [page.mfn()];
    call(nr::SET_GDT, [list.as_ptr() as u64, entries, 0, 0, 0])
}

pub fn update(page: Page, index: u64, value: u64) -> i64 {
    call(
        nr::UPDATE_DESCRIPTOR,
        [page.maddr() + 8 * index, value, 0, 0, 0],
    )
}

pub fn all() {
    on_memory();
    what_may_be_described();
    frames_for_tables();
    bad_entries();
    replaced();
    install();
}

/// update_descriptor works before the page is a table; it forces ring 3.
fn on_memory() {
    let page = frames::allocate();
    for (index, value) in [
        (1, DATA & !DPL),
        (2, CODE64 & !DPL),
        (3, CODE32),
        (4, 0),
        (511, DATA),
    ] {
        accepted("a descriptor in memory", update(page, index, value));
        let wanted = if value & PRESENT != 0 {
            value | DPL
        } else {
            value
        };
        check_eq!(
            "as stored",
            page.read(index as usize) & !ACCESSED,
            wanted & !ACCESSED
        );
    }
    page.clear();
    frames::release(page);
}

/// Code and data of any kind, absent ones; no gates into ring 0, no task states, no local tables.
fn what_may_be_described() {
    let page = frames::allocate();
    for kind in 0..16u64 {
        let value = DATA & !(0xf << 40) | kind << 40;
        accepted("code and data", update(page, 1, value));
        check_eq!("as stored", page.read(1) & !ACCESSED, value & !ACCESSED);
    }
    accepted("empty", update(page, 1, 0));
    for kind in [1u64, 2, 3, 5, 6, 7, 9, 11, 14, 15] {
        let value = DATA & !ORDINARY & !(0xf << 40) | kind << 40;
        refused("a system descriptor", update(page, 1, value));
        refused(
            "a system descriptor of ring 0",
            update(page, 1, value & !DPL),
        );
        check_eq!("nothing was stored", page.read(1), 0);
    }
    for offset in [1u64, 2, 4, 7] {
        let result = call(
            nr::UPDATE_DESCRIPTOR,
            [page.maddr() + 16 + offset, DATA, 0, 0, 0],
        );
        refused("a descriptor across two", result);
    }
    for maddr in [1u64 << 51, 1 << 45, 0xfee0_0000, 0xb_8000] {
        refused(
            "a descriptor in a frame that is not ours",
            call(nr::UPDATE_DESCRIPTOR, [maddr, DATA, 0, 0, 0]),
        );
    }
    let tables = page_table::root();
    refused(
        "a descriptor in a page table",
        call(
            nr::UPDATE_DESCRIPTOR,
            [tables.maddr() + 8 * 300, DATA, 0, 0, 0],
        ),
    );
    page.clear();
    frames::release(page);
}

/// A table is a frame of ours that nobody maps writable, and is no page table.
fn frames_for_tables() {
    let page = frames::allocate();
    refused("a table that is writable", set_gdt(page, 16));
    page.write(0, 0);
    accepted("read-only", page_table::protect(page));
    accepted("a table", set_gdt(page, 16));
    refused(
        "a writable mapping of the table",
        page_table::unprotect(page),
    );
    refused(
        "a plain store to the table",
        mmu_update(page.entry_maddr(3), DATA),
    );
    refused("the table as page table", op(mmuext::PIN_L1, page.mfn(), 0));
    check_eq!("the table is unchanged", page.read(3), 0);
    let pinned = page_table::new_table();
    accepted("pin", op(mmuext::PIN_L1, pinned.mfn(), 0));
    refused("a page table as table", set_gdt(pinned, 16));
    accepted("unpin", op(mmuext::UNPIN, pinned.mfn(), 0));
    page_table::release_table(pinned);
    for mfn in [1u64 << 40, u64::MAX, 0xfee00, 0xb8] {
        let list = [mfn];
        refused(
            "a table that is not ours",
            call(nr::SET_GDT, [list.as_ptr() as u64, 16, 0, 0, 0]),
        );
    }
    let list = [page.mfn(), 1 << 40];
    refused(
        "a table whose second page is not ours",
        call(nr::SET_GDT, [list.as_ptr() as u64, 600, 0, 0, 0]),
    );
    accepted(
        "no table",
        call(nr::SET_GDT, [list.as_ptr() as u64, 0, 0, 0, 0]),
    );
    accepted("memory again", page_table::unprotect(page));
    frames::release(page);
}

/// One bad descriptor anywhere in the page, and it is no table.
fn bad_entries() {
    let page = frames::allocate();
    let task_state = DATA & !ORDINARY & !(0xf << 40) | 9 << 40;
    let gate = 0x0000_ee00_e008_0000u64;
    for (index, value) in [(0, task_state), (15, gate), (5, task_state & !DPL)] {
        page.clear();
        page.write(index, value);
        accepted("read-only", page_table::protect(page));
        let result = set_gdt(page, 16);
        // What is refused may instead be made harmless.
        check!(
            result == -errno::EINVAL || (result == 0 && page.read(index) & PRESENT == 0),
            "a table with a gate in it"
        );
        accepted("no table", call(nr::SET_GDT, [0, 0, 0, 0, 0]));
        accepted("memory again", page_table::unprotect(page));
    }
    page.clear();
    page.write(1, DATA & !DPL);
    accepted("read-only", page_table::protect(page));
    accepted("a table with a ring 0 descriptor", set_gdt(page, 16));
    check_eq!("which is ring 3 now", page.read(1) & DPL, DPL);
    accepted("no table", call(nr::SET_GDT, [0, 0, 0, 0, 0]));
    accepted("memory again", page_table::unprotect(page));
    frames::release(page);
}

/// A table that is replaced is memory again; one that is set twice is still one table.
fn replaced() {
    let pages = [frames::allocate(), frames::allocate()];
    for page in pages {
        accepted("read-only", page_table::protect(page));
    }
    accepted("the first table", set_gdt(pages[0], 512));
    accepted("the first table again", set_gdt(pages[0], 16));
    accepted("the second table", set_gdt(pages[1], 16));
    accepted("the first is memory again", page_table::unprotect(pages[0]));
    let list = [pages[1].mfn(), pages[1].mfn()];
    accepted(
        "the same page twice",
        call(nr::SET_GDT, [list.as_ptr() as u64, 1024, 0, 0, 0]),
    );
    accepted("once", set_gdt(pages[1], 16));
    accepted("no table", call(nr::SET_GDT, [0, 0, 0, 0, 0]));
    accepted(
        "the second is memory again",
        page_table::unprotect(pages[1]),
    );
    for page in pages {
        frames::release(page);
    }
}

/// The table that the other parts use, filled while it is live.
fn install() {
    let page = frames::allocate();
    accepted("read-only", page_table::protect(page));
    accepted("the table", set_gdt(page, 16));
    for (index, value) in [
        (index::CODE64, CODE64),
        (index::DATA, DATA),
        (index::CODE32, CODE32),
        (index::ABSENT, DATA & !PRESENT),
        (index::USER_CODE64, CODE64),
        (index::READ_ONLY, DATA & !(1 << 41)),
        (index::THREAD, data_at(0x1234_5000)),
    ] {
        accepted("a descriptor in the live table", update(page, index, value));
        check_eq!(
            "as stored",
            page.read(index as usize) & !ACCESSED,
            value & !ACCESSED
        );
    }
    TABLE.set(Some(page));
}

//! Does the longest things there are to ask for, so that `measure=sections` sees how long ring 0 lets nobody in: trees of
//! full tables, its own and another domain's, long batches, large extents, many descriptors. That each comes to the
//! right end although it is done in parts is checked on the way.
//!
//! xtask: memory=512M
//! xtask: dom0_mem=256M
#![cfg_attr(target_os = "none", no_std, no_main)]

use guest_runtime::abi::{
    MmuUpdate, MmuextOp, MulticallEntry, XenMemoryReservation, memory, mmuext, nr,
};
use guest_runtime::entry::start_info;
use guest_runtime::frames::{self, Page, pfn_to_mfn};
use guest_runtime::hypercall::{self, call, mmuext as op, mmuext_batch};
use guest_runtime::page_table::{self, bits};
use guest_runtime::window::Window;
use guest_runtime::{check, check_eq, control, guest, say};
use guests::accepted;

mod largest;
mod links;

guest!(sections, main);

/// The caller.
pub const SELF: u16 = 0x7ff0;
/// `MMUEXT_CLEAR_PAGE`.
const CLEAR_PAGE: u32 = 16;
/// Full tables of the lowest level in a tree.
const TABLES: usize = 24;
/// A slot of a root that nothing uses.
const FREE_SLOT: usize = 5;

fn main() {
    say!("batches");
    batches();
    say!("extents");
    extents();
    say!("exchanges");
    largest::exchange();
    say!("another's memory");
    largest::others_memory();
    say!("grants");
    links::grants();
    links::mappings_of_a_child();
    say!("ports");
    links::ports();
    say!("many domains");
    largest::many_domains();
    say!("the console");
    largest::console();
    say!("descriptors");
    descriptors();
    say!("own tree");
    own_tree();
    say!("another's tree");
    others_tree();
    if let Some(audit) = control::audit(SELF) {
        check_eq!("counts that are wrong", audit.mismatches, 0);
    }
}

/// The first of the pages far behind the image, which nothing else uses.
pub fn first_far() -> u64 {
    start_info().nr_pages / 2
}

/// Their frames.
fn far_pages() -> impl Iterator<Item = u64> {
    (first_far()..start_info().nr_pages).map(pfn_to_mfn)
}

/// A tree of full tables over distinct pages: the root, and its other tables.
#[inline(never)]
fn build() -> (Page, [Page; TABLES + 2]) {
    let mut pages = far_pages();
    let tables: [Page; TABLES + 2] = core::array::from_fn(|_| frames::allocate());
    let (l3, l2, l1s) = (tables[0], tables[1], &tables[2..]);
    for (index, l1) in l1s.iter().enumerate() {
        for entry in 0..512 {
            let mfn = pages.next().expect("the domain has memory enough");
            // Writable and read-only ones: their references are of different kinds.
            let flags = match entry % 2 {
                0 => bits::KERNEL_RW,
                _ => bits::KERNEL_RO,
            };
            l1.write(entry, mfn << 12 | flags | bits::NX);
        }
        l2.write(index, l1.maddr() | bits::TABLE);
    }
    l3.write(0, l2.maddr() | bits::TABLE);
    let root = frames::allocate();
    for slot in (0..512).filter(|slot| !(256..272).contains(slot)) {
        root.write(slot, page_table::root().read(slot));
    }
    root.write(FREE_SLOT, l3.maddr() | bits::TABLE);
    for table in tables.iter().chain([&root]) {
        accepted("a table is made read-only", page_table::protect(*table));
    }
    (root, tables)
}

fn take_down(root: Page, tables: &[Page]) {
    for table in tables.iter().chain([&root]) {
        accepted("a page is no table any more", page_table::unprotect(*table));
    }
    tables.iter().for_each(|page| frames::release(*page));
    frames::release(root);
}

/// Pins a tree, unpins it, loads it without a pin, leaves it; and all of it in one list.
#[inline(never)]
fn own_tree() {
    let (root, tables) = build();
    let old = page_table::root();
    for _ in 0..2 {
        accepted("a tree is pinned", op(mmuext::PIN_L4, root.mfn(), 0));
        accepted("and unpinned", op(mmuext::UNPIN, root.mfn(), 0));
        accepted("a tree is loaded", op(mmuext::NEW_BASEPTR, root.mfn(), 0));
        accepted("and left", op(mmuext::NEW_BASEPTR, old.mfn(), 0));
        accepted("a user root", op(mmuext::NEW_USER_BASEPTR, root.mfn(), 0));
        accepted("no user root", op(mmuext::NEW_USER_BASEPTR, 0, 0));
    }
    let command = |cmd, arg1| MmuextOp {
        cmd,
        arg1,
        ..MmuextOp::ZERO
    };
    let list = [
        command(mmuext::PIN_L4, root.mfn()),
        command(mmuext::UNPIN, root.mfn()),
        // Nothing of it is left, or it could not be a table of another level.
        command(mmuext::PIN_L1, root.mfn()),
        command(mmuext::NEW_BASEPTR, old.mfn()),
    ];
    let (result, done) = mmuext_batch(&list);
    check_eq!("a root is no table of pages", (result < 0, done), (true, 2));
    // The same with the tables of pages one by one.
    let l1s = &tables[2..];
    let mut pins = [MmuextOp::ZERO; TABLES];
    for (cmd, name) in [(mmuext::PIN_L1, "pinned"), (mmuext::UNPIN, "unpinned")] {
        for (entry, l1) in pins.iter_mut().zip(l1s) {
            *entry = command(cmd, l1.mfn());
        }
        check_eq!(name, mmuext_batch(&pins), (0, TABLES as u32));
    }
    // A tree whose last entry is refused.
    let last = tables[TABLES + 1];
    accepted("writable", page_table::unprotect(last));
    let good = last.read(511);
    last.write(511, root.maddr() | bits::KERNEL_RW);
    accepted("read-only", page_table::protect(last));
    check!(
        op(mmuext::PIN_L4, root.mfn(), 0) < 0,
        "a wrong tree is refused"
    );
    accepted("writable", page_table::unprotect(last));
    last.write(511, good);
    accepted("read-only", page_table::protect(last));
    take_down(root, &tables);
}

/// A domain with such a tree is destroyed.
#[inline(never)]
fn others_tree() {
    let frames = (TABLES * 512 + TABLES + 3) as u64;
    let Ok(domain) = control::create(&control::ordinary(4)) else {
        check!(false, "a domain is created");
        return;
    };
    accepted("vCPUs", control::max_vcpus(domain, 4));
    accepted("a size", control::max_mem(domain, frames + 16));
    let mut tables = [0u64; TABLES + 3];
    let got = control::populate(domain, &mut tables);
    check_eq!("frames for tables", got, (TABLES + 3) as i64);
    let window = Window::new();
    let (root, l3, l2) = (tables[0], tables[1], tables[2]);
    for (index, l1) in tables[3..].iter().enumerate() {
        let mut pages = [0u64; 512];
        let got = control::populate(domain, &mut pages);
        check_eq!("frames", got, 512);
        accepted("a table is looked at", window.show(domain, *l1));
        for (entry, mfn) in pages.iter().enumerate() {
            window.write(entry, mfn << 12 | bits::KERNEL_RW | bits::NX);
        }
        accepted("the L2", window.show(domain, l2));
        window.write(index, l1 << 12 | bits::TABLE);
    }
    accepted("the L3", window.show(domain, l3));
    window.write(0, l2 << 12 | bits::TABLE);
    accepted("the root", window.show(domain, root));
    window.write(FREE_SLOT, l3 << 12 | bits::TABLE);
    window.close();
    accepted(
        "it is pinned",
        control::mmuext_for(mmuext::PIN_L4, root, domain),
    );
    accepted("it is destroyed", control::destroy(domain));
    check!(control::info(domain).is_err(), "and gone");
}

/// Long lists of short things.
#[inline(never)]
fn batches() {
    let table = frames::allocate();
    let data = frames::allocate();
    accepted("read-only", page_table::protect(table));
    accepted("pinned", op(mmuext::PIN_L1, table.mfn(), 0));
    let on: [MmuUpdate; 200] = core::array::from_fn(|index| MmuUpdate {
        ptr: table.entry_maddr(index),
        val: data.maddr() | bits::KERNEL_RW | bits::NX,
    });
    let off = on.map(|request| MmuUpdate { val: 0, ..request });
    check_eq!("set", hypercall::mmu_update_batch(&on), (0, 200));
    check_eq!("cleared", hypercall::mmu_update_batch(&off), (0, 200));
    let fill = MmuextOp {
        cmd: CLEAR_PAGE,
        arg1: data.mfn(),
        ..MmuextOp::ZERO
    };
    check_eq!("pages cleared", mmuext_batch(&[fill; 64]), (0, 64));
    let flush = MmuextOp {
        cmd: mmuext::TLB_FLUSH_ALL,
        ..MmuextOp::ZERO
    };
    check_eq!("flushes", mmuext_batch(&[flush; 64]), (0, 64));
    let mut calls: [MulticallEntry; 48] = core::array::from_fn(|_| MulticallEntry {
        op: nr::UPDATE_VA_MAPPING,
        args: [
            data.va(),
            data.maddr() | bits::KERNEL_RW | bits::NX,
            2,
            0,
            0,
            0,
        ],
        ..MulticallEntry::ZERO
    });
    accepted("a list of calls", hypercall::multicall(&mut calls));
    check!(calls.iter().all(|entry| entry.result == 0), "each of them");
    accepted("unpinned", op(mmuext::UNPIN, table.mfn(), 0));
    accepted("writable", page_table::unprotect(table));
    frames::release(table);
    frames::release(data);
}

/// Gives frames up and takes them back, one by one and 2 MiB at once.
#[inline(never)]
fn extents() {
    let mut list: [u64; 512] = [0; 512];
    for (place, mfn) in list.iter_mut().zip(far_pages()) {
        *place = mfn;
    }
    let first = start_info().nr_pages / 2;
    let address = list.as_mut_ptr() as u64;
    let freed = control::reservation(memory::DECREASE_RESERVATION, SELF, address, 512);
    check_eq!("given up", freed, 512);
    let mut extent = [first];
    let request = XenMemoryReservation {
        extent_start: extent.as_mut_ptr() as u64,
        nr_extents: 1,
        extent_order: 9,
        domid: SELF,
        ..XenMemoryReservation::ZERO
    };
    let argument = &raw const request as u64;
    let got = call(nr::MEMORY_OP, [memory::POPULATE_PHYSMAP, argument, 0, 0, 0]);
    check_eq!("2 MiB at once", got, 1);
    for (n, pfn) in (first..first + 512).enumerate() {
        frames::set_mfn(Page { pfn }, extent[0] + n as u64);
    }
}

/// The largest descriptor table there can be.
#[inline(never)]
fn descriptors() {
    let pages: [Page; 14] = core::array::from_fn(|_| frames::allocate());
    for page in pages {
        for index in 0..512 {
            // Present flat data: each is looked at and changed.
            page.write(index, 0x00cf_9200_0000_ffff);
        }
        accepted("read-only", page_table::protect(page));
    }
    let list = pages.map(Page::mfn);
    let arguments = [list.as_ptr() as u64, 14 * 512, 0, 0, 0];
    accepted("a large descriptor table", call(nr::SET_GDT, arguments));
    accepted(
        "none",
        call(nr::SET_GDT, [list.as_ptr() as u64, 0, 0, 0, 0]),
    );
    for page in pages {
        accepted("writable", page_table::unprotect(page));
        frames::release(page);
    }
}

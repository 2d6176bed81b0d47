//! Linking tables into each other: the level must fit, and nothing may be linked while it is writable.

use guest_runtime::abi::mmuext;
use guest_runtime::frames::{self, Page};
use guest_runtime::hypercall::mmuext as op;
use guest_runtime::instructions::load;
use guest_runtime::page_table::{self, Slot, bits};
use guest_runtime::{check, check_eq, trap};
use guests::{accepted, refused};

const PINS: [u32; 4] = [
    mmuext::PIN_L1,
    mmuext::PIN_L2,
    mmuext::PIN_L3,
    mmuext::PIN_L4,
];
/// An address in an L4 slot that nobody uses, high in the guest's own upper half.
const FREE_SLOT: u64 = 0xffff_9000_0000_0000;

pub fn all() {
    levels_fit();
    writable_tables();
    superpages();
    recursion();
    live_linking();
    unlinking_flushes();
    malformed();
}

/// Four pinned tables, one a level.
fn pinned() -> [Page; 4] {
    core::array::from_fn(|level| {
        let page = page_table::new_table();
        accepted("pin", op(PINS[level], page.mfn(), 0));
        page
    })
}

fn unpin_all(tables: [Page; 4]) {
    for table in tables {
        accepted("unpin", op(mmuext::UNPIN, table.mfn(), 0));
        page_table::release_table(table);
    }
}

/// An entry of level n takes a table of level n-1 and no other.
fn levels_fit() {
    let tables = pinned();
    for upper in 2..=4usize {
        for lower in 1..=4usize {
            if lower == upper {
                continue; // See `recursion`.
            }
            let slot = Slot {
                table: tables[upper - 1],
                index: 7,
            };
            let result = slot.set(tables[lower - 1].maddr() | bits::TABLE);
            if lower == upper - 1 {
                accepted("link of the next level", result);
                accepted("unlink", slot.set(0));
            } else {
                refused("link of a wrong level", result);
            }
            check_eq!("the entry is empty", slot.value(), 0);
        }
    }
    unpin_all(tables);
}

/// A page with a writable mapping is not linked; one that is linked gets no writable mapping.
fn writable_tables() {
    let tables = pinned();
    let page = frames::allocate();
    for upper in &tables[1..] {
        let slot = Slot {
            table: *upper,
            index: 0,
        };
        refused(
            "link of a writable page",
            slot.set(page.maddr() | bits::TABLE),
        );
        check_eq!("the entry is empty", slot.value(), 0);
        accepted("read-only", page_table::protect(page));
        accepted("link", slot.set(page.maddr() | bits::TABLE));
        refused(
            "a writable mapping of a linked table",
            page_table::unprotect(page),
        );
        accepted("unlink", slot.set(0));
        accepted("writable", page_table::unprotect(page));
    }
    frames::release(page);
    unpin_all(tables);
}

/// Bit 7 of an upper entry would map a region with no table in between.
fn superpages() {
    let tables = pinned();
    let data = frames::allocate();
    for upper in &tables[1..] {
        let slot = Slot {
            table: *upper,
            index: 1,
        };
        for frame in [data.maddr(), data.maddr() & !0x1f_ffff, 0, 0xa_0000] {
            refused("a superpage", slot.set(frame | bits::TABLE | bits::PSE));
            refused(
                "a read-only superpage",
                slot.set(frame | bits::PRESENT | bits::PSE),
            );
        }
        check_eq!("the entry is empty", slot.value(), 0);
    }
    // By validation as well as by update.
    for (pin, table) in PINS.into_iter().zip(tables).skip(1) {
        accepted("unpin", op(mmuext::UNPIN, table.mfn(), 0));
        accepted("writable", page_table::unprotect(table));
        table.write(5, (data.maddr() & !0x1f_ffff) | bits::TABLE | bits::PSE);
        accepted("read-only", page_table::protect(table));
        refused("pin of a table with a superpage", op(pin, table.mfn(), 0));
        accepted("writable", page_table::unprotect(table));
        table.clear();
        accepted("read-only", page_table::protect(table));
        accepted("pin without it", op(pin, table.mfn(), 0));
    }
    unpin_all(tables);
    frames::release(data);
}

/// A table that contains itself: never writable; read-only some hypervisors allow it.
fn recursion() {
    let tables = pinned();
    for upper in &tables[1..] {
        let slot = Slot {
            table: *upper,
            index: 9,
        };
        refused(
            "a writable entry to the table itself",
            slot.set(upper.maddr() | bits::TABLE),
        );
        check_eq!("the entry is empty", slot.value(), 0);
        if slot.set(upper.maddr() | bits::PRESENT | bits::USER) == 0 {
            accepted("removal of a read-only recursion", slot.set(0));
        }
    }
    let slot = Slot {
        table: tables[0],
        index: 9,
    };
    refused(
        "a writable mapping of the table in itself",
        slot.set(tables[0].maddr() | bits::KERNEL_RW),
    );
    accepted(
        "a read-only mapping of the table in itself",
        slot.set(tables[0].maddr() | bits::KERNEL_RO),
    );
    accepted("its removal", slot.set(0));
    unpin_all(tables);
}

/// Tables linked beneath the active root work at once.
fn live_linking() {
    let page = frames::allocate();
    page.write(0, 0xfeed);
    accepted(
        "map in a fresh slot",
        page_table::map(FREE_SLOT, page.maddr() | bits::KERNEL_RO | bits::NX),
    );
    check_eq!(
        "what is mapped there",
        trap::catch(|| load(FREE_SLOT)).ok(),
        Some(0xfeed)
    );
    for level in 2..=4 {
        let Some(slot) = page_table::slot_under(page_table::root(), FREE_SLOT, level) else {
            continue;
        };
        let value = slot.value();
        accepted("unlink of a live table", slot.set(0));
        let trap = trap::catch(|| load(FREE_SLOT)).err();
        check_eq!(
            "access after unlinking",
            trap.map(|trap| (trap.vector, trap.cr2)),
            Some((14, FREE_SLOT))
        );
        accepted("relink", slot.set(value & !bits::MAY_DIFFER | bits::USER));
        check_eq!(
            "access after relinking",
            trap::catch(|| load(FREE_SLOT)).ok(),
            Some(0xfeed)
        );
    }
    take_down(FREE_SLOT);
    frames::release(page);
}

/// Removes the mapping of `address` and its tables from the active root.
pub fn take_down(address: u64) {
    accepted("unmap", page_table::map(address, 0));
    for level in 2..=4 {
        let Some(slot) = page_table::slot_under(page_table::root(), address, level) else {
            continue;
        };
        let table = Page {
            pfn: frames::mfn_to_pfn((slot.value() & bits::ADDRESS) >> 12),
        };
        accepted("unlink", slot.set(0));
        page_table::release_table(table);
    }
}

/// After a table is unlinked the guest needs no flush of its own before the frame is something else: no stale
/// translation may lead into it.
fn unlinking_flushes() {
    let page = frames::allocate();
    accepted(
        "map",
        page_table::map(FREE_SLOT, page.maddr() | bits::KERNEL_RW | bits::NX),
    );
    let Some(slot) = page_table::slot_under(page_table::root(), FREE_SLOT, 2) else {
        return;
    };
    let value = slot.value();
    check!(
        trap::catch(|| load(FREE_SLOT)).is_ok(),
        "a translation is cached"
    );
    accepted("unlink of the L1", slot.set(0));
    accepted("read-only at home", page_table::protect(page));
    let table = Page {
        pfn: frames::mfn_to_pfn((value & bits::ADDRESS) >> 12),
    };
    accepted("the old table becomes memory", page_table::unprotect(table));
    table.clear();
    accepted(
        "and the old memory a table",
        op(mmuext::PIN_L1, page.mfn(), 0),
    );
    // SAFETY: it must fault; if it does not, the check says so and only a test table was hit.
    let stored = trap::catch(|| unsafe { guest_runtime::instructions::store(FREE_SLOT, 3) });
    check!(stored.is_err(), "no stale translation is left");
    accepted("unpin", op(mmuext::UNPIN, page.mfn(), 0));
    page_table::release_table(page);
    accepted("the table again", page_table::protect(table));
    accepted("relink", slot.set(table.maddr() | bits::TABLE));
    take_down(FREE_SLOT);
}

/// Entries that name no frame of ours.
fn malformed() {
    let tables = pinned();
    for upper in &tables[1..] {
        let slot = Slot {
            table: *upper,
            index: 2,
        };
        for frame in [1u64 << 51, bits::ADDRESS, 1 << 45, 0xfee0_0000, 0xa_0000] {
            refused(
                "link of a frame that is not ours",
                slot.set(frame | bits::TABLE),
            );
        }
        check_eq!("the entry is empty", slot.value(), 0);
    }
    unpin_all(tables);
}

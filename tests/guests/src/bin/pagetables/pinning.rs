//! Pinning and unpinning at each level: what qualifies, what does not, and that both balance.

use guest_runtime::abi::{MmuextOp, errno, mmuext, nr};
use guest_runtime::frames::{self, Page};
use guest_runtime::hypercall::{self, mmuext as op, mmuext_batch};
use guest_runtime::instructions::store;
use guest_runtime::page_table::{self, bits};
use guest_runtime::{check_eq, events, trap};
use guests::{accepted, refused};

const PINS: [u32; 4] = [
    mmuext::PIN_L1,
    mmuext::PIN_L2,
    mmuext::PIN_L3,
    mmuext::PIN_L4,
];

pub fn all() {
    empty_tables();
    writable_pages();
    wrong_levels();
    chains();
    bad_frames();
    several_writable_mappings();
    batches();
    shared_page();
    stale_translation();
}

/// An empty page is a valid table of any level; pinned, it cannot be mapped writable; unpinned, it can again.
fn empty_tables() {
    for pin in PINS {
        let page = page_table::new_table();
        accepted("pin of an empty table", op(pin, page.mfn(), 0));
        refused("a second pin", op(pin, page.mfn(), 0));
        refused(
            "a writable mapping of a pinned table",
            page_table::unprotect(page),
        );
        let entry = page_table::slot(page.va()).map_or(0, |slot| slot.value());
        check_eq!(
            "the read-only mapping is still there",
            entry & (bits::PRESENT | bits::WRITE),
            bits::PRESENT
        );
        accepted("unpin", op(mmuext::UNPIN, page.mfn(), 0));
        refused("a second unpin", op(mmuext::UNPIN, page.mfn(), 0));
        accepted(
            "a writable mapping after unpinning",
            page_table::unprotect(page),
        );
        page.write(0, 0x1234);
        check_eq!("the page is memory again", page.read(0), 0x1234);
        frames::release(page);
    }
}

/// A page with a writable mapping is no table.
fn writable_pages() {
    for pin in PINS {
        let page = frames::allocate();
        refused("pin of a writable page", op(pin, page.mfn(), 0));
        page.write(1, 5);
        check_eq!("the page is still memory", page.read(1), 5);
        refused(
            "unpin of what is not pinned",
            op(mmuext::UNPIN, page.mfn(), 0),
        );
        frames::release(page);
    }
}

/// A table of one level is not one of another at the same time, but can become one afterwards.
fn wrong_levels() {
    let page = page_table::new_table();
    for pin in PINS {
        accepted("pin", op(pin, page.mfn(), 0));
        for other in PINS.into_iter().filter(|&other| other != pin) {
            refused("pin at another level", op(other, page.mfn(), 0));
        }
        accepted("unpin", op(mmuext::UNPIN, page.mfn(), 0));
    }
    page_table::release_table(page);
}

/// Pinning a table validates everything below it; unpinning releases all of it.
fn chains() {
    let data = frames::allocate();
    let tables: [Page; 4] = core::array::from_fn(|_| frames::allocate());
    tables[0].write(3, data.maddr() | bits::KERNEL_RW | bits::NX);
    for level in 1..4 {
        tables[level].write(3, tables[level - 1].maddr() | bits::TABLE);
    }
    refused(
        "pin of an L4 whose tables are writable",
        op(mmuext::PIN_L4, tables[3].mfn(), 0),
    );
    for table in &tables[1..] {
        accepted("read-only", page_table::protect(*table));
    }
    refused(
        "pin of an L4 with one writable L1 below it",
        op(mmuext::PIN_L4, tables[3].mfn(), 0),
    );
    refused(
        "pin of an L2 with a writable L1 below it",
        op(mmuext::PIN_L2, tables[1].mfn(), 0),
    );
    accepted("read-only", page_table::protect(tables[0]));
    for level in 0..4 {
        accepted("pin of a chain", op(PINS[level], tables[level].mfn(), 0));
        for table in &tables[..=level] {
            refused(
                "a writable mapping of a linked table",
                page_table::unprotect(*table),
            );
        }
        refused("pin of the mapped page", op(mmuext::PIN_L1, data.mfn(), 0));
        accepted(
            "unpin of a chain",
            op(mmuext::UNPIN, tables[level].mfn(), 0),
        );
    }
    for table in tables {
        page_table::release_table(table);
    }
    frames::release(data);
}

fn bad_frames() {
    for mfn in [
        u64::MAX,
        1 << 40,
        (1 << 40) - 1,
        1 << 52,
        1 << 63,
        0x00ff_ffff_ffff,
    ] {
        for pin in PINS {
            refused("pin of a frame that does not exist", op(pin, mfn, 0));
        }
        refused(
            "unpin of a frame that does not exist",
            op(mmuext::UNPIN, mfn, 0),
        );
    }
}

/// Each writable mapping counts.
fn several_writable_mappings() {
    let (page, table) = (frames::allocate(), page_table::new_table());
    accepted("pin", op(mmuext::PIN_L1, table.mfn(), 0));
    for index in 0..3 {
        let slot = page_table::Slot { table, index };
        accepted(
            "a further mapping",
            slot.set(page.maddr() | bits::KERNEL_RW | bits::NX),
        );
    }
    accepted("read-only at home", page_table::protect(page));
    for index in 0..3 {
        refused(
            "pin with writable mappings elsewhere",
            op(mmuext::PIN_L2, page.mfn(), 0),
        );
        let slot = page_table::Slot { table, index };
        // One is removed, one made read-only, one replaced.
        let value = match index {
            0 => 0,
            1 => page.maddr() | bits::KERNEL_RO | bits::NX,
            _ => table.maddr() | bits::KERNEL_RO | bits::NX,
        };
        accepted("dropping a writable mapping", slot.set(value));
    }
    accepted(
        "pin after the last writable mapping",
        op(mmuext::PIN_L2, page.mfn(), 0),
    );
    accepted("unpin", op(mmuext::UNPIN, page.mfn(), 0));
    accepted("unpin", op(mmuext::UNPIN, table.mfn(), 0));
    page_table::release_table(page);
    page_table::release_table(table);
}

/// A batch stops at the first error and says how many were done.
fn batches() {
    let tables: [Page; 3] = core::array::from_fn(|_| page_table::new_table());
    let request = |cmd, page: Page| MmuextOp {
        cmd,
        arg1: page.mfn(),
        ..Default::default()
    };
    let (result, done) = mmuext_batch(&[
        request(0, tables[0]),
        MmuextOp {
            arg1: 1 << 50,
            ..request(0, tables[1])
        },
        request(0, tables[2]),
    ]);
    refused("a batch with a bad entry", result);
    check_eq!("entries done before the bad one", done, 1);
    accepted("unpin of the first", op(mmuext::UNPIN, tables[0].mfn(), 0));
    refused("unpin of the third", op(mmuext::UNPIN, tables[2].mfn(), 0));
    let (result, done) = mmuext_batch(&[]);
    check_eq!("an empty batch", (result, done), (0, 0));
    let (result, _) = mmuext_batch(&[request(99, tables[0])]);
    check_eq!("an unknown command", result, -errno::ENOSYS);
    for table in tables {
        page_table::release_table(table);
    }
}

/// The shared page is writable by the hypervisor, so never a table.
fn shared_page() {
    let address = &raw const *events::shared() as u64;
    let frame = page_table::slot(address).map_or(0, |slot| (slot.value() & bits::ADDRESS) >> 12);
    for pin in PINS {
        refused("pin of shared_info", op(pin, frame, 0));
    }
}

/// A writable translation may still be cached when the mapping becomes read-only without a flush; the pin must see
/// to it that no write goes by it.
fn stale_translation() {
    let page = frames::allocate();
    page.write(7, 1); // Now the processor knows it writable.
    let entry = page.maddr() | bits::KERNEL_RO | bits::NX;
    let quiet = hypercall::call(nr::UPDATE_VA_MAPPING, [page.va(), entry, 0, 0, 0]);
    accepted("read-only without a flush", quiet);
    page_clear_by_hypercall(page);
    accepted("pin", op(mmuext::PIN_L1, page.mfn(), 0));
    // A writable mapping of the table itself, which no hypervisor emulates.
    let forged = page.maddr() | bits::KERNEL_RW;
    // SAFETY: it must fault; if it does not, the checks say so.
    let stored = trap::catch(|| unsafe { store(page.va() + 8, forged) });
    check_eq!(
        "a write by a stale translation",
        stored.err().map(|trap| trap.vector),
        Some(14)
    );
    check_eq!("the entry", page.read(1), 0);
    accepted("unpin", op(mmuext::UNPIN, page.mfn(), 0));
    page_table::release_table(page);
}

/// Empties a page that may be mapped read-only, by plain stores of mmu_update.
fn page_clear_by_hypercall(page: Page) {
    for index in [1, 7] {
        accepted("clear", hypercall::mmu_update(page.entry_maddr(index), 0));
    }
}

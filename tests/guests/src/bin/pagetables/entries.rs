//! Leaf entries: which frames and bits an L1 entry may have, by every way of setting one.

use guest_runtime::abi::{HOLE_END, HOLE_START, mmuext, nr};
use guest_runtime::frames::{self, Page};
use guest_runtime::hypercall::{self, mmuext as op, update_va_mapping};
use guest_runtime::page_table::{self, Slot, bits};
use guest_runtime::{check_eq, entry};
use guests::{accepted, refused};

pub fn all() {
    harmless_bits();
    frames_that_are_not_ours();
    by_validation();
    io_frames();
    addresses();
    flush_flags();
}

/// Every bit that kernels use is accepted, also those that hypervisors add themselves.
fn harmless_bits() {
    let page = frames::allocate();
    let home = page.maddr() | bits::PRESENT;
    let known = [
        bits::WRITE,
        bits::ACCESSED,
        bits::DIRTY,
        bits::NX,
        bits::AVAIL0,
        1 << 10,
        1 << 11,
        bits::USER,
        bits::USER | bits::BIT52,
        bits::USER | bits::GLOBAL,
    ];
    for set in known {
        accepted("a harmless bit", update_va_mapping(page.va(), home | set));
        let value = page_table::slot(page.va()).map_or(0, |slot| slot.value());
        check_eq!(
            "reading it back",
            value & !bits::MAY_DIFFER,
            (home | set) & !bits::MAY_DIFFER
        );
        accepted(
            "submitting what was read",
            update_va_mapping(page.va(), value),
        );
    }
    for bit in 53..63 {
        accepted(
            "a software bit",
            update_va_mapping(page.va(), home | 1 << bit),
        );
    }
    accepted("home again", page_table::unprotect(page));
    frames::release(page);
}

/// Frames beyond memory, of nobody, or of the hypervisor: refused, and the old entry stays.
fn frames_that_are_not_ours() {
    let page = frames::allocate();
    page.write(0, 77);
    let before = page_table::slot(page.va()).map_or(0, |slot| slot.value());
    let named = [bits::ADDRESS, 1 << 51, 1 << 46, 0x00ff_ffff_f000 << 4];
    for maddr in named.into_iter().chain(unowned().map(|mfn| mfn << 12)) {
        for flags in [
            bits::KERNEL_RW,
            bits::KERNEL_RO,
            bits::KERNEL_RW | bits::USER,
        ] {
            refused(
                "a mapping of a frame that is not ours",
                update_va_mapping(page.va(), maddr | flags),
            );
            let slot = page_table::slot(page.va()).map_or(0, |slot| slot.maddr());
            refused(
                "the same by mmu_update",
                hypercall::mmu_update(slot, maddr | flags),
            );
        }
    }
    let after = page_table::slot(page.va()).map_or(0, |slot| slot.value());
    check_eq!(
        "the entry after refusals",
        after & !bits::MAY_DIFFER,
        before & !bits::MAY_DIFFER
    );
    check_eq!("the page after refusals", page.read(0), 77);
    frames::release(page);
}

/// Some frames of RAM below our highest one that the machine-to-physical list gives to nobody.
fn unowned() -> impl Iterator<Item = u64> {
    let highest = (0..entry::start_info().nr_pages)
        .map(frames::pfn_to_mfn)
        .max()
        .unwrap_or(0);
    let ours = |mfn: u64| {
        let pfn = frames::mfn_to_pfn(mfn);
        pfn < entry::start_info().nr_pages && frames::pfn_to_mfn(pfn) == mfn
    };
    (0x100..highest)
        .filter(move |&mfn| !ours(mfn))
        .step_by(97)
        .take(64)
}

/// The same rules when a whole table is pinned; a refused table is ordinary memory again.
fn by_validation() {
    let (table, victim) = (frames::allocate(), page_table::new_table());
    accepted("pin of the victim", op(mmuext::PIN_L1, victim.mfn(), 0));
    let other = unowned().next().unwrap_or(1 << 39);
    for bad in [
        victim.maddr() | bits::KERNEL_RW,
        other << 12 | bits::KERNEL_RO,
        bits::ADDRESS | bits::PRESENT,
    ] {
        for index in [0, 300, 511] {
            table.clear();
            table.write(17, Page::at(table.va()).maddr() | bits::KERNEL_RO);
            table.write(index, bad);
            accepted("read-only", page_table::protect(table));
            refused(
                "pin of a table with a bad entry",
                op(mmuext::PIN_L1, table.mfn(), 0),
            );
            accepted("writable after the refusal", page_table::unprotect(table));
        }
    }
    accepted("unpin of the victim", op(mmuext::UNPIN, victim.mfn(), 0));
    page_table::release_table(victim);
    frames::release(table);
}

/// The privileged domain maps I/O memory, but cannot write what the hypervisor keeps: the interrupt controllers.
fn io_frames() {
    let page = frames::allocate();
    accepted(
        "a mapping of text memory",
        update_va_mapping(page.va(), 0xb_8000 | bits::KERNEL_RW | bits::NX),
    );
    // SAFETY: device memory that nobody else uses.
    let value = unsafe { (page.va() as *const u16).read_volatile() };
    let _ = value;
    accepted(
        "a mapping of the BIOS",
        update_va_mapping(page.va(), 0xf_0000 | bits::KERNEL_RO | bits::NX),
    );
    refused(
        "a mapping of the local APIC",
        update_va_mapping(page.va(), 0xfee0_0000 | bits::KERNEL_RW),
    );
    if update_va_mapping(page.va(), 0xfec0_0000 | bits::KERNEL_RW) == 0 {
        let entry = page_table::slot(page.va()).map_or(0, |slot| slot.value());
        check_eq!(
            "the IO-APIC, if it is mapped at all, is not writable",
            entry & bits::WRITE,
            0
        );
    }
    accepted("home again", page_table::unprotect(page));
    frames::release(page);
}

/// Addresses at which nothing can be set.
fn addresses() {
    let page = frames::allocate();
    let entry = page.maddr() | bits::KERNEL_RO;
    for address in [
        0x7000_0000_0000,
        HOLE_START,
        HOLE_START + (1 << 39),
        HOLE_END - 4096,
        0x8000_0000_0000,
        0xffff_7fff_ffff_f000,
        0x1234_5678_0000_0000,
        !0xfff,
    ] {
        refused(
            "update_va_mapping where nothing is",
            update_va_mapping(address, entry),
        );
    }
    frames::release(page);
}

/// The flush that update_va_mapping is asked for: each kind works, unknown ones are refused.
fn flush_flags() {
    let (first, second) = (frames::allocate(), frames::allocate());
    first.write(0, 1);
    second.write(0, 2);
    for flush in [1, 2, 1 | 4, 2 | 4] {
        let entry = second.maddr() | bits::KERNEL_RO;
        check_eq!("cached before", first.read(0), 1);
        accepted(
            "replace with a flush",
            hypercall::call(nr::UPDATE_VA_MAPPING, [first.va(), entry, flush, 0, 0]),
        );
        check_eq!("seen after", first.read(0), 2);
        accepted("back", page_table::unprotect(first));
    }
    let entry = first.maddr() | bits::KERNEL_RW;
    accepted(
        "no flush",
        hypercall::call(nr::UPDATE_VA_MAPPING, [first.va(), entry, 0, 0, 0]),
    );
    let vcpus: u64 = 1;
    for command in [mmuext::TLB_FLUSH_MULTI, mmuext::INVLPG_MULTI] {
        accepted(
            "flush of a set of vCPUs",
            op(command, first.va(), &raw const vcpus as u64),
        );
        refused(
            "a set at a bad address",
            op(command, first.va(), HOLE_START + (1 << 39)),
        );
    }
    for command in [
        mmuext::TLB_FLUSH_LOCAL,
        mmuext::TLB_FLUSH_ALL,
        mmuext::INVLPG_LOCAL,
    ] {
        accepted("flush", op(command, first.va(), 0));
    }
    for address in [HOLE_START, 0x8000_0000_0000, u64::MAX] {
        // Nothing is there to be flushed; it must not hurt.
        op(mmuext::INVLPG_LOCAL, address, 0);
    }
    let slot: Option<Slot> = page_table::slot(first.va());
    check_eq!(
        "the mapping at the end",
        slot.map_or(0, |slot| slot.value() & bits::ADDRESS),
        first.maddr()
    );
    frames::release(first);
    frames::release(second);
}

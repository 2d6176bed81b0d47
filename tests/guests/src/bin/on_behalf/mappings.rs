//! Frames of another domain in our tables.

use guest_runtime::abi::{
    DOMID_SELF, MmuUpdate, XenMachphysMfnList, errno, memory, mmu, mmuext, nr,
};
use guest_runtime::builder::Child;
use guest_runtime::frames;
use guest_runtime::hypercall::{self, call, mmu_update_for};
use guest_runtime::page_table::{self, bits};
use guest_runtime::window::Window;
use guest_runtime::{check, check_eq, say};
use guests::{accepted, refused};

use crate::{either, memory_op, of, steps, update, with_child, with_list};

const RW: u64 = bits::KERNEL_RW | bits::NX;
const RO: u64 = bits::KERNEL_RO | bits::NX;
const DOMID_IO: u16 = 0x7ff1;
const DOMID_XEN: u16 = 0x7ff2;

/// Whether the child can have a page of its as a table: not while somebody maps it writable. The words that these tests
/// write are entries that name nothing.
fn can_pin(child: &mut Child, slot: u64) -> bool {
    accepted(
        "read-only at home",
        child.call(steps::protect, [slot, 0, 0, 0, 0]),
    );
    let pinned = child.call(steps::pin, [slot, 0, 0, 0, 0]);
    if pinned == 0 {
        accepted("unpin", child.call(steps::unpin, [slot, 0, 0, 0, 0]));
    }
    accepted(
        "writable at home",
        child.call(steps::unprotect, [slot, 0, 0, 0, 0]),
    );
    pinned == 0
}

/// Both see the same memory, and the mapping counts for as long as it is there, by whatever way it comes and goes.
pub fn right() {
    with_child(|child| {
        let mfn = child.call(steps::take, [0, 0, 0, 0, 0]) as u64;
        let window = Window::new();
        accepted("map", window.show(child.id, mfn));
        window.write(7, 0x234);
        check_eq!(
            "what the child reads",
            child.call(steps::word, [0, 7, 0, 0, 0]),
            0x234
        );
        child.call(steps::set, [0, 8, 0x678, 0, 0]);
        check_eq!("what we read", window.read(8), 0x678);
        check!(!can_pin(child, 0), "no table while we may write it");
        accepted("to read", window.show_as(child.id, mfn, RO));
        check_eq!("what we read", window.read(8), 0x678);
        check!(can_pin(child, 0), "a table while we may only read it");
        accepted("unmap", window.hide());
        // Untranslated, by its own address, and unmapped by a trapped store.
        let slot = window.slot();
        let domains = of(child.id, None);
        accepted(
            "as it is",
            update(slot.maddr() | mmu::NO_TRANSLATE, mfn << 12 | RW, domains),
        );
        check!(!can_pin(child, 0), "no table while we may write it");
        // SAFETY: the table is mapped; the store traps, and clears an entry that nothing here uses.
        unsafe { (slot.va() as *mut u64).write_volatile(0) };
        check!(
            can_pin(child, 0),
            "a table when the store has cleared the entry"
        );
        let other = |value: u64, domain: u16| {
            let arguments = [window.va(), value, 2, u64::from(domain), 0];
            call(nr::UPDATE_VA_MAPPING_OTHERDOMAIN, arguments)
        };
        accepted("by its address", other(mfn << 12 | RW, child.id));
        check_eq!("what we read", window.read(8), 0x678);
        check!(!can_pin(child, 0), "no table while we may write it");
        accepted("by its address, not at all", other(0, child.id));
        check!(can_pin(child, 0), "a table again");
        check_eq!("nobody's", other(mfn << 12 | RW, 0x7000), -errno::ESRCH);
        refused(
            "ours in its name",
            other(frames::pfn_to_mfn(2) << 12 | RW, child.id),
        );
        window.close();
        child.call(steps::release, [0; 5]);
    });
}

/// What is not the domain's is not mapped in its name, and what is not ours not in ours.
pub fn wrong() {
    with_child(|child| {
        let theirs = child.call(steps::take, [0, 0, 0, 0, 0]) as u64;
        let ours = frames::allocate();
        let window = Window::new();
        let slot = window.slot().maddr();
        let id = child.id;
        // Freed a moment ago, beyond memory, beyond the address space, interrupt controllers, firmware, the hypervisor.
        for mfn in [ours.mfn(), 1 << 28, 1 << 40, 0xfee00, 0xf0, 0x100] {
            for flags in [RW, RO] {
                for command in [0, mmu::PRESERVE_AD, mmu::NO_TRANSLATE] {
                    let result = update(slot | command, mfn << 12 | flags, of(id, None));
                    if !refused("a frame that is not its", result) {
                        say!("  frame {mfn:#x}");
                    }
                }
            }
        }
        for domains in [
            of(DOMID_SELF as u16, None),
            of(0, None),
            of(DOMID_IO, None),
            of(DOMID_XEN, None),
        ] {
            refused(
                "its frame in another name",
                update(slot, theirs << 12 | RO, domains),
            );
        }
        for nobody in [0x7000, 0x7fef, 0x7ff4, 0x7fff] {
            let result = update(slot, theirs << 12 | RO, of(nobody, None));
            if !check_eq!("nobody's frame", result, -errno::ESRCH) {
                say!("  domain {nobody:#x}");
            }
        }
        check_eq!("nothing is mapped", window.slot().value() & 1, 0);
        // A large page, and one of its tables writable.
        let root = child.root();
        refused(
            "its root writable",
            update(slot, root << 12 | RW, of(id, None)),
        );
        accepted(
            "its root to read",
            update(slot, root << 12 | RO, of(id, None)),
        );
        refused(
            "its root writable",
            update(slot, root << 12 | RW, of(id, None)),
        );
        window.close();
        frames::release(ours);
        check!(can_pin(child, 0), "nothing is left of all that");
        child.call(steps::release, [0; 5]);
    });
}

/// A batch stops at the entry that is refused, and says where; the rest goes on from behind it.
pub fn batches() {
    with_child(|child| {
        const MANY: usize = 16;
        let mut windows = [const { None }; MANY];
        let mut list = [MmuUpdate { ptr: 0, val: 0 }; MANY];
        for (at, (window, update)) in windows.iter_mut().zip(&mut list).enumerate() {
            let new = Window::new();
            let mfn = child.call(steps::take, [at as u64, at as u64 * 2, 0, 0, 0]) as u64;
            *update = MmuUpdate {
                ptr: new.slot().maddr(),
                val: mfn << 12 | RW,
            };
            *window = Some(new);
        }
        let bad = [3, 4, 15];
        for at in bad {
            list[at].val = frames::pfn_to_mfn(2) << 12 | RW;
        }
        // As the stock kernel's driver does it.
        let (mut at, mut errors) = (0, 0u32);
        while at < MANY {
            let (result, done) = mmu_update_for(&list[at..], of(child.id, None));
            at += done as usize;
            if result < 0 {
                errors |= 1 << at;
                at += 1;
            } else {
                check_eq!("all are done", at, MANY);
            }
        }
        check_eq!(
            "the entries that were refused",
            errors,
            1 << 3 | 1 << 4 | 1 << 15
        );
        for (at, window) in windows.iter().flatten().enumerate() {
            let there = window.slot().value() & 1 != 0;
            check_eq!("mapped", there, !bad.contains(&at));
            if there {
                hypercall::mmuext(mmuext::INVLPG_LOCAL, window.va(), 0);
                check_eq!("which page it is", window.read(0), at as u64 * 2);
            }
        }
        for window in windows.into_iter().flatten() {
            window.close();
        }
        for at in 0..MANY as u64 {
            check!(can_pin(child, at), "unmapped");
            child.call(steps::release, [at, 0, 0, 0, 0]);
        }
    });
}

/// A foreign leaf may lose permissions, and gains none but in its owner's name.
pub fn changes() {
    with_child(|child| {
        let mfn = child.call(steps::take, [0, 4, 0, 0, 0]) as u64;
        let window = Window::new();
        let slot = window.slot().maddr();
        let own = of(DOMID_SELF as u16, None);
        accepted("map", window.show(child.id, mfn));
        // As mprotect and page ageing do it, which do not know whose frame it is.
        accepted(
            "other bits",
            update(slot | mmu::PRESERVE_AD, mfn << 12 | RW | bits::AVAIL0, own),
        );
        let demoted = update(slot, mfn << 12 | RO, own);
        check!(
            demoted == 0 || demoted == either(demoted, 0),
            "to read, by our own name"
        );
        accepted("to read", update(slot, mfn << 12 | RO, of(child.id, None)));
        check!(can_pin(child, 0), "we may only read it");
        refused(
            "writable by our own name",
            update(slot, mfn << 12 | RW, own),
        );
        check!(can_pin(child, 0), "still");
        accepted(
            "writable in its owner's",
            update(slot, mfn << 12 | RW, of(child.id, None)),
        );
        check!(!can_pin(child, 0), "we may write it");
        accepted("not at all", update(slot, 0, own));
        refused("again by our own name", update(slot, mfn << 12 | RO, own));
        window.close();
        check!(can_pin(child, 0), "unmapped");
        child.call(steps::release, [0; 5]);
    });
}

/// A table of ours that is pinned again with a foreign leaf in it is refused; what it held went with the first pin.
pub fn again() {
    with_child(|child| {
        let mfn = child.call(steps::take, [0, 4, 0, 0, 0]) as u64;
        let table = page_table::new_table();
        let pin = || hypercall::mmuext(mmuext::PIN_L1, table.mfn(), 0);
        let unpin = || hypercall::mmuext(mmuext::UNPIN, table.mfn(), 0);
        accepted("pin", pin());
        let entry = table.entry_maddr(9);
        accepted(
            "a foreign leaf",
            update(entry, mfn << 12 | RW, of(child.id, None)),
        );
        check!(!can_pin(child, 0), "we may write it");
        accepted("unpin", unpin());
        check!(can_pin(child, 0), "the leaf is no mapping any more");
        check_eq!("but still a word", table.read(9) & bits::ADDRESS, mfn << 12);
        refused("pin with it", pin());
        refused(
            "pin in the child's name",
            crate::pins::pin_for(mmuext::PIN_L1, table.mfn(), child.id),
        );
        accepted("cleared", update(entry, 0, of(DOMID_SELF as u16, None)));
        accepted("pin", pin());
        accepted("unpin", unpin());
        page_table::release_table(table);
        child.call(steps::release, [0; 5]);
    });
}

/// Devices by DOMID_IO; by DOMID_XEN the table of page numbers, to read.
pub fn special() {
    let window = Window::new();
    let slot = window.slot().maddr();
    let bios = 0xf0 << 12;
    accepted(
        "firmware's page",
        update(slot, bios | RO, of(DOMID_IO, None)),
    );
    accepted("not any more", window.hide());
    refused(
        "memory as a device",
        update(slot, frames::pfn_to_mfn(2) << 12 | RO, of(DOMID_IO, None)),
    );
    let mut list = XenMachphysMfnList {
        max_extents: 4,
        ..XenMachphysMfnList::ZERO
    };
    let table = with_list(&[0; 4], |page| {
        list.extent_start = page.va();
        accepted(
            "the table's frames",
            memory_op(memory::MACHPHYS_MFN_LIST, &mut list),
        );
        page.read(0)
    });
    check!((1..=4).contains(&list.nr_extents), "how many there are");
    // The entry of a frame of ours, in the part of the table it is in.
    let (pfn, mfn) = (3, frames::pfn_to_mfn(3));
    check!(
        mfn < 1 << 18,
        "the first GiB is what the first part is about"
    );
    let frame = table + mfn / 512;
    accepted(
        "the table to read",
        update(slot, frame << 12 | RO, of(DOMID_XEN, None)),
    );
    hypercall::mmuext(mmuext::INVLPG_LOCAL, window.va(), 0);
    check_eq!("our page's number", window.read(mfn as usize % 512), pfn);
    refused(
        "writable",
        update(slot, frame << 12 | RW, of(DOMID_XEN, None)),
    );
    refused(
        "writable by our name",
        update(slot, frame << 12 | RW, of(DOMID_SELF as u16, None)),
    );
    accepted("not any more", window.hide());
    for bad in [frames::pfn_to_mfn(2), 1 << 40, 0xfee00] {
        refused(
            "not the hypervisor's",
            update(slot, bad << 12 | RO, of(DOMID_XEN, None)),
        );
    }
    if either(0, 1) == 1 {
        // Its image begins at one MiB.
        refused(
            "the hypervisor's own",
            update(slot, 0x100 << 12 | RO, of(DOMID_XEN, None)),
        );
        let beyond = table - 1;
        refused(
            "the hypervisor's own",
            update(slot, beyond << 12 | RO, of(DOMID_XEN, None)),
        );
    }
    window.close();
}

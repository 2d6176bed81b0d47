//! Tables of another domain, changed in its name, and the numbers its frames are known by.

use guest_runtime::abi::{DOMID_SELF, MACH2PHYS_VIRT_START, errno, mmu};
use guest_runtime::frames;
use guest_runtime::page_table::bits;
use guest_runtime::{check, check_eq};
use guests::{accepted, refused};

use crate::{either, of, steps, update, with_child};

const RO: u64 = bits::KERNEL_RO | bits::NX;

/// Entries of a child's table: checked as if the child asked, and for frames of its own only.
pub fn entries() {
    with_child(|child| {
        let table = child.call(steps::take, [0, 0, 0, 0, 0]) as u64;
        let page = child.call(steps::take, [1, 0, 0, 0, 0]) as u64;
        let id = child.id;
        let its = of(id, Some(id));
        let entry = (table << 12) | (8 * 5);
        // No table yet: a plain store into its memory.
        accepted("a plain store", update(entry, 0xabc0, its));
        check_eq!(
            "which it sees",
            child.call(steps::word, [0, 5, 0, 0, 0]),
            0xabc0
        );
        accepted("a plain store of nothing", update(entry, 0, its));
        refused(
            "a store to its memory as if ours",
            update(entry, 1, of(DOMID_SELF as u16, None)),
        );
        refused(
            "a store to ours as if its",
            update(frames::pfn_to_mfn(2) << 12, 0, its),
        );
        accepted("read-only", child.call(steps::protect, [0; 5]));
        accepted("pin", child.call(steps::pin, [0; 5]));
        accepted("its page in its table", update(entry, page << 12 | RO, its));
        let seen = child.call(steps::word, [0, 5, 0, 0, 0]) as u64;
        check_eq!("which it sees", seen & bits::ADDRESS, page << 12);
        // The page is mapped twice now, writable at home: no table. Neither is its table writable.
        refused(
            "its table writable in it",
            update(entry, table << 12 | bits::KERNEL_RW, its),
        );
        refused(
            "ours in it",
            update(entry, frames::pfn_to_mfn(2) << 12 | RO, its),
        );
        refused("ours in it, by our name", {
            let result = update(
                entry,
                frames::pfn_to_mfn(2) << 12 | RO,
                of(DOMID_SELF as u16, Some(id)),
            );
            if result == 0 { either(-1, 0) } else { result }
        });
        let by_itself = update(entry, page << 12 | RO, of(DOMID_SELF as u16, Some(id)));
        check!(
            by_itself == either(by_itself, -errno::EPERM),
            "its table, our frames"
        );
        accepted("cleared", update(entry, 0, its));
        check_eq!(
            "nobody's table",
            update(entry, 0, of(id, Some(0x7000))),
            -errno::ESRCH
        );
        accepted("unpin", child.call(steps::unpin, [0; 5]));
        accepted("writable", child.call(steps::unprotect, [0; 5]));
        child.call(steps::release, [0; 5]);
        child.call(steps::release, [1, 0, 0, 0, 0]);
    });
}

/// The numbers that a domain's frames are known by are changed in its name.
pub fn numbers() {
    with_child(|child| {
        let mfn = child.call(steps::take, [0, 0, 0, 0, 0]) as u64;
        let pfn = child.call(steps::number, [0; 5]) as u64;
        let shown = |mfn: u64| {
            // SAFETY: the table is readable wherever there is memory.
            unsafe {
                (MACH2PHYS_VIRT_START as *const u64)
                    .add(mfn as usize)
                    .read_volatile()
            }
        };
        let set =
            |mfn: u64, pfn: u64, domains: u64| update(mfn << 12 | mmu::MACHPHYS, pfn, domains);
        check_eq!("its number", shown(mfn), pfn);
        accepted("another number", set(mfn, 0x77, of(child.id, None)));
        check_eq!("its number", shown(mfn), 0x77);
        accepted("the old one", set(mfn, pfn, of(child.id, None)));
        refused("by our name", set(mfn, 1, of(DOMID_SELF as u16, None)));
        let ours = frames::pfn_to_mfn(2);
        refused("ours by its name", set(ours, 1, of(child.id, None)));
        refused("nowhere", set(1 << 40, 1, of(child.id, None)));
        refused("a device's", set(0xfee00, 1, of(child.id, None)));
        check_eq!("ours", shown(ours), 2);
        check_eq!("its number", shown(mfn), pfn);
        child.call(steps::release, [0; 5]);
    });
}

//! Domains that end while they are mapped: by many leaves, by tables that are undone, by a mapper that goes on.

use guest_runtime::abi::domctl::XEN_DOMINF_DYING;
use guest_runtime::abi::{DOMID_SELF, errno, mmuext};
use guest_runtime::builder::{self, Plan};
use guest_runtime::page_table::{self, bits};
use guest_runtime::{check, check_eq, control, hypercall};
use guests::{accepted, refused};

use crate::pins::pin_for;
use crate::{either, of, update};

const MANY: usize = 64;

/// A table of ours with leaves for many frames of a child, its tables and shared page among them; the child is destroyed,
/// and goes when the table does.
pub fn all() {
    for unpinned in [true, false] {
        let Some(mut child) = builder::running(Plan::SMALL) else {
            return;
        };
        check_eq!("it runs", child.call(|_| 3, [0; 5]), 3);
        let id = child.id;
        let table = page_table::new_table();
        accepted("a table", hypercall::mmuext(mmuext::PIN_L1, table.mfn(), 0));
        for at in 0..MANY {
            let mfn = child.mfn(256 + at as u64);
            let flags = if at % 2 == 0 {
                bits::KERNEL_RW
            } else {
                bits::KERNEL_RO
            };
            accepted(
                "a leaf",
                update(
                    table.entry_maddr(at),
                    mfn << 12 | flags | bits::NX,
                    of(id, None),
                ),
            );
        }
        let shared = child.info().map_or(0, |info| info.shared_info_frame);
        let root = child.root();
        for (at, mfn, flags) in [
            (MANY, shared, bits::KERNEL_RW),
            (MANY + 1, root, bits::KERNEL_RO),
        ] {
            accepted(
                "a leaf",
                update(
                    table.entry_maddr(at),
                    mfn << 12 | flags | bits::NX,
                    of(id, None),
                ),
            );
        }
        let page = child.mfn(300);
        check_eq!("destroyed", child.destroy(), 0);
        let info = control::info(id).unwrap_or_default();
        check_eq!(
            "it is dying",
            info.flags & XEN_DOMINF_DYING,
            XEN_DOMINF_DYING
        );
        check!(info.tot_pages >= MANY as u64, "what is mapped is there");
        refused("a pin in its name", pin_for(mmuext::PIN_L1, page, id));
        check_eq!("memory for it", control::populate(id, &mut [1]) <= 0, true);
        let late = update(
            table.entry_maddr(100),
            page << 12 | bits::KERNEL_RO,
            of(id, None),
        );
        check!(late == either(late, -errno::ESRCH), "a late mapping");
        if unpinned {
            accepted(
                "undone with the table",
                hypercall::mmuext(mmuext::UNPIN, table.mfn(), 0),
            );
        } else {
            for at in (0..=100).rev() {
                accepted(
                    "one after the other",
                    update(table.entry_maddr(at), 0, of(DOMID_SELF as u16, None)),
                );
            }
            accepted("unpin", hypercall::mmuext(mmuext::UNPIN, table.mfn(), 0));
        }
        check!(builder::is_gone_soon(id), "it is gone");
        page_table::release_table(table);
    }
}

//! Pins in another domain's name, and what is done to its pages.

use guest_runtime::abi::{DOMID_SELF, MmuextOp, errno, mmuext, nr};
use guest_runtime::builder::{self, Plan, Stage};
use guest_runtime::hypercall::call;
use guest_runtime::window::Window;
use guest_runtime::{check, check_eq, frames, page_table};
use guests::{accepted, refused};

use crate::{either, steps, with_child};

/// mmuext_op of one command about a frame of `domain`.
pub fn pin_for(cmd: u32, mfn: u64, domain: u16) -> i64 {
    for_domain(cmd, mfn, 0, domain)
}

fn for_domain(cmd: u32, arg1: u64, arg2: u64, domain: u16) -> i64 {
    let request = MmuextOp {
        cmd,
        arg1,
        arg2,
        ..MmuextOp::ZERO
    };
    let at = &raw const request as u64;
    call(nr::MMUEXT_OP, [at, 1, 0, u64::from(domain), 0])
}

/// Pins and unpins of every level, right and wrong; what only the caller can do to itself.
pub fn all() {
    of_a_built_tree();
    with_child(|child| {
        let id = child.id;
        let mfn = child.call(steps::take, [0, 0, 0, 0, 0]) as u64;
        for level in [
            mmuext::PIN_L1,
            mmuext::PIN_L2,
            mmuext::PIN_L3,
            mmuext::PIN_L4,
        ] {
            refused("a page that it may write", pin_for(level, mfn, id));
        }
        accepted("read-only", child.call(steps::protect, [0; 5]));
        for level in [
            mmuext::PIN_L1,
            mmuext::PIN_L2,
            mmuext::PIN_L3,
            mmuext::PIN_L4,
        ] {
            accepted("an empty table of any level", pin_for(level, mfn, id));
            refused("pinned twice", pin_for(level, mfn, id));
            refused("by our name", pin_for(level, mfn, DOMID_SELF as u16));
            refused(
                "unpinned by our name",
                pin_for(mmuext::UNPIN, mfn, DOMID_SELF as u16),
            );
            accepted("unpinned", pin_for(mmuext::UNPIN, mfn, id));
            refused("unpinned twice", pin_for(mmuext::UNPIN, mfn, id));
        }
        let ours = page_table::new_table();
        refused("ours by its name", pin_for(mmuext::PIN_L1, ours.mfn(), id));
        let own = pin_for(mmuext::PIN_L1, ours.mfn(), 0);
        check_eq!("ours, by our number", own, either(-errno::ESRCH, 0));
        if own != 0 {
            accepted(
                "ours",
                pin_for(mmuext::PIN_L1, ours.mfn(), DOMID_SELF as u16),
            );
        }
        refused(
            "ours unpinned by its name",
            pin_for(mmuext::UNPIN, ours.mfn(), id),
        );
        accepted(
            "ours unpinned",
            pin_for(mmuext::UNPIN, ours.mfn(), DOMID_SELF as u16),
        );
        page_table::release_table(ours);
        for bad in [1 << 40, 0xfee00, 0xf0, 0x100] {
            refused("no frame of its", pin_for(mmuext::PIN_L1, bad, id));
        }
        check_eq!(
            "nobody's",
            pin_for(mmuext::PIN_L1, mfn, 0x7000),
            -errno::ESRCH
        );
        // A leaf that names our frame makes no table of its.
        accepted("writable", child.call(steps::unprotect, [0; 5]));
        child.call(steps::set, [0, 3, frames::pfn_to_mfn(2) << 12 | 1, 0, 0]);
        accepted("read-only", child.call(steps::protect, [0; 5]));
        refused("ours in its table", pin_for(mmuext::PIN_L1, mfn, id));
        accepted("writable", child.call(steps::unprotect, [0; 5]));
        for own in [
            mmuext::NEW_BASEPTR,
            mmuext::NEW_USER_BASEPTR,
            mmuext::TLB_FLUSH_LOCAL,
            mmuext::INVLPG_LOCAL,
            mmuext::TLB_FLUSH_ALL,
            mmuext::SET_LDT,
            mmuext::FLUSH_CACHE,
        ] {
            check_eq!(
                "what is the caller's",
                pin_for(own, child.root(), id),
                -errno::EPERM
            );
        }
        check_eq!("it still runs", child.call(|_| 3, [0; 5]), 3);
        child.call(steps::release, [0; 5]);
    });
}

/// The tree that a builder has written, pinned by level in the child's name before it runs.
fn of_a_built_tree() {
    let plan = Plan {
        until: Stage::HasTables,
        ..Plan::SMALL
    };
    let Ok(child) = builder::build(plan) else {
        check!(false, "a child with tables is built");
        return;
    };
    let (id, root) = (child.id, child.root());
    for _ in 0..2 {
        accepted("a root", pin_for(mmuext::PIN_L4, root, id));
        refused("as another level", pin_for(mmuext::PIN_L3, root, id));
        accepted("not any more", pin_for(mmuext::UNPIN, root, id));
    }
    let window = Window::new();
    accepted("a window on the root", window.show(id, root));
    refused(
        "a root that we may write",
        pin_for(mmuext::PIN_L4, root, id),
    );
    window.close();
    accepted("a root", pin_for(mmuext::PIN_L4, root, id));
    // Destroyed with its pin.
    check!(child.destroy_and_wait(), "it is gone");
}

/// Whole pages of a child's, cleared and copied.
pub fn pages() {
    with_child(|child| {
        let id = child.id;
        let from = child.call(steps::take, [0, 0x1111, 0, 0, 0]) as u64;
        let to = child.call(steps::take, [1, 0x2222, 0, 0, 0]) as u64;
        let ours = frames::allocate();
        let word =
            |child: &mut builder::Child, slot: u64| child.call(steps::word, [slot, 511, 0, 0, 0]);
        accepted("copy", for_domain(mmuext::COPY_PAGE, to, from, id));
        check_eq!("what was copied", word(child, 1), 0x1111);
        accepted("clear", for_domain(mmuext::CLEAR_PAGE, to, 0, id));
        check_eq!("what was cleared", word(child, 1), 0);
        ours.write(511, 5);
        for (to, from) in [
            (to, ours.mfn()),
            (ours.mfn(), from),
            (1 << 40, from),
            (to, 1 << 40),
        ] {
            refused(
                "between domains",
                for_domain(mmuext::COPY_PAGE, to, from, id),
            );
        }
        refused(
            "ours in its name",
            for_domain(mmuext::CLEAR_PAGE, ours.mfn(), 0, id),
        );
        refused(
            "its in ours",
            for_domain(mmuext::CLEAR_PAGE, from, 0, DOMID_SELF as u16),
        );
        refused(
            "its root",
            for_domain(mmuext::CLEAR_PAGE, child.root(), 0, id),
        );
        check_eq!("ours", ours.read(511), 5);
        check_eq!("its", word(child, 0), 0x1111);
        frames::release(ours);
        child.call(steps::release, [0; 5]);
        child.call(steps::release, [1, 0, 0, 0, 0]);
    });
}

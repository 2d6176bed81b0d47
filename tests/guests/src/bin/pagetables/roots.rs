//! Root tables: the reserved slots, switching roots, and the user root.

use crate::links::take_down;
use guest_runtime::abi::{MmuUpdate, ROOT_TABLE_FIRST_XEN_SLOT, ROOT_TABLE_LAST_XEN_SLOT, mmuext};
use guest_runtime::context::Context;
use guest_runtime::frames::{self, Page};
use guest_runtime::hypercall::{mmu_update_batch, mmuext as op};
use guest_runtime::page_table::{self, Slot, bits};
use guest_runtime::{check, check_eq, trap, user};
use guests::code;
use guests::expect::Mode;
use guests::{accepted, refused};

code! {
    code_user_load: "mov rbx, [rax]";
}

pub fn all() {
    reserved_slots();
    filled_reserved_slots();
    switching();
    bad_roots();
    user_root();
}

/// Slots 256 to 271 belong to the hypervisor in every root, active or not.
fn reserved_slots() {
    let (pinned, l3) = (page_table::new_table(), page_table::new_table());
    accepted("pin", op(mmuext::PIN_L4, pinned.mfn(), 0));
    for table in [page_table::root(), user::root(), pinned] {
        for index in ROOT_TABLE_FIRST_XEN_SLOT..=ROOT_TABLE_LAST_XEN_SLOT {
            let slot = Slot { table, index };
            let before = slot.value();
            refused(
                "a table in a reserved slot",
                slot.set(l3.maddr() | bits::TABLE),
            );
            refused("emptying a reserved slot", slot.set(0));
            check_eq!("the slot after", slot.value(), before);
        }
    }
    for index in [255, 272] {
        let slot = Slot {
            table: pinned,
            index,
        };
        accepted(
            "a table beside the reserved slots",
            slot.set(l3.maddr() | bits::TABLE),
        );
        accepted("its removal", slot.set(0));
    }
    accepted("unpin", op(mmuext::UNPIN, pinned.mfn(), 0));
    page_table::release_table(pinned);
    page_table::release_table(l3);
}

/// Kernels copy whole roots: whatever a new one holds in the reserved slots is ignored.
fn filled_reserved_slots() {
    let filled = frames::allocate();
    for fill in [
        u64::MAX,
        0x1234_5000 | bits::TABLE,
        page_table::root().maddr() | bits::TABLE,
    ] {
        for index in 256..272 {
            filled.write(index, fill);
        }
        accepted("read-only", page_table::protect(filled));
        accepted(
            "pin of a root with filled reserved slots",
            op(mmuext::PIN_L4, filled.mfn(), 0),
        );
        accepted("unpin", op(mmuext::UNPIN, filled.mfn(), 0));
        accepted("writable", page_table::unprotect(filled));
    }
    filled.clear();
    frames::release(filled);
}

fn copy_of_root() -> Page {
    let copy = frames::allocate();
    for index in 0..512 {
        copy.write(index, page_table::root().read(index));
    }
    accepted("read-only", page_table::protect(copy));
    copy
}

/// A copy of the root works as root, pinned or not; updates to it count while it is active.
fn switching() {
    let (old, copy) = (page_table::root(), copy_of_root());
    for pinned in [true, false] {
        if pinned {
            accepted("pin", op(mmuext::PIN_L4, copy.mfn(), 0));
        }
        accepted("switch to the copy", op(mmuext::NEW_BASEPTR, copy.mfn(), 0));
        page_table::set_root(copy);
        refused(
            "a writable mapping of the active root",
            page_table::unprotect(copy),
        );
        if pinned {
            accepted("unpin of the active root", op(mmuext::UNPIN, copy.mfn(), 0));
            refused(
                "a writable mapping of the active root",
                page_table::unprotect(copy),
            );
        }
        let address = 0xffff_a000_0000_0000;
        let page = frames::allocate();
        accepted(
            "map under the copy",
            page_table::map(address, page.maddr() | bits::KERNEL_RW | bits::NX),
        );
        // SAFETY: the page was just mapped for this.
        let used = trap::catch(|| unsafe { guest_runtime::instructions::store(address, 6) });
        check!(used.is_ok(), "it is used");
        check_eq!("what was stored", page.read(0), 6);
        take_down(address);
        frames::release(page);
        accepted("switch back", op(mmuext::NEW_BASEPTR, old.mfn(), 0));
        page_table::set_root(old);
        if pinned {
            accepted("writable after the switch", page_table::unprotect(copy));
            accepted("read-only", page_table::protect(copy));
        }
    }
    page_table::release_table(copy);
}

/// What is no valid L4 does not become a root, and the active one stays.
fn bad_roots() {
    let (data, l3) = (frames::allocate(), page_table::new_table());
    accepted("pin", op(mmuext::PIN_L3, l3.mfn(), 0));
    for mfn in [data.mfn(), l3.mfn(), 1 << 40, u64::MAX >> 12, 0xfee00] {
        refused("a root that is no L4", op(mmuext::NEW_BASEPTR, mfn, 0));
        refused(
            "a user root that is no L4",
            op(mmuext::NEW_USER_BASEPTR, mfn, 0),
        );
    }
    data.write(0, 0x1000_0000_0000 | bits::TABLE);
    accepted("read-only", page_table::protect(data));
    refused(
        "a root with a bad entry",
        op(mmuext::NEW_BASEPTR, data.mfn(), 0),
    );
    accepted("writable after the refusal", page_table::unprotect(data));
    data.clear();
    accepted("unpin", op(mmuext::UNPIN, l3.mfn(), 0));
    page_table::release_table(l3);
    frames::release(data);
    user_mode_sees("the user root survived", user::DATA, true);
}

/// The user root counts at once: what is taken from it is gone, what is put there is seen.
fn user_root() {
    let root = user::root();
    let slot = Slot {
        table: root,
        index: 0,
    };
    let entry = slot.value();
    // A second slot that leads to the same tables.
    let alias = Slot {
        table: root,
        index: 5,
    };
    accepted(
        "link in the live user root",
        alias.set(entry & bits::ADDRESS | bits::TABLE),
    );
    user_mode_sees("memory by a new slot", user::DATA + (5 << 39), true);
    check!(
        trap::catch(|| guest_runtime::instructions::load(user::DATA + (5 << 39))).is_err(),
        "the kernel root has it not"
    );
    accepted("unlink in the live user root", alias.set(0));
    user_mode_sees(
        "memory by a slot that is gone",
        user::DATA + (5 << 39),
        false,
    );
    let requests = [
        MmuUpdate {
            ptr: alias.maddr(),
            val: entry & bits::ADDRESS | bits::TABLE,
        },
        MmuUpdate {
            ptr: alias.maddr(),
            val: 0,
        },
    ];
    check_eq!("both in one batch", mmu_update_batch(&requests), (0, 2));
    user_mode_sees(
        "memory by a slot that came and went",
        user::DATA + (5 << 39),
        false,
    );
    // Another user root, and back.
    let other = frames::allocate();
    other.write(0, entry & bits::ADDRESS | bits::TABLE);
    accepted("read-only", page_table::protect(other));
    accepted(
        "another user root",
        op(mmuext::NEW_USER_BASEPTR, other.mfn(), 0),
    );
    user_mode_sees("memory by another root", user::DATA, true);
    refused(
        "a writable mapping of the user root",
        page_table::unprotect(other),
    );
    accepted("no user root", op(mmuext::NEW_USER_BASEPTR, 0, 0));
    page_table::release_table(other);
    accepted(
        "the first user root",
        op(mmuext::NEW_USER_BASEPTR, root.mfn(), 0),
    );
    user_mode_sees("memory by the first root", user::DATA, true);
}

fn user_mode_sees(what: &str, address: u64, wanted: bool) {
    let context = Context {
        rax: address,
        ..Mode::User.context(code_user_load())
    };
    let trap = trap::run(&context);
    // Seen: it goes on to the ud2 behind it.
    check_eq!(what, trap.vector == 6, wanted);
    check_eq!(what, trap.vector == 14 && trap.cr2 == address, !wanted);
}

//! mmu_update itself: its commands, plain stores to memory, batches and how many were done.

use guest_runtime::abi::{DOMID_SELF, MmuUpdate, errno, mmu, mmuext, nr};
use guest_runtime::frames;
use guest_runtime::hypercall::{self, mmu_update, mmu_update_batch, mmuext as op};
use guest_runtime::page_table::{self, Slot, bits};
use guest_runtime::{check, check_eq};
use guests::{accepted, refused};

pub fn all() {
    plain_stores();
    preserving();
    machine_to_physical();
    batches();
    bad_pointers();
}

/// On memory that is no table, mapped writable, read-only or not at all, it stores eight bytes.
fn plain_stores() {
    let page = frames::allocate();
    for (index, change) in [page_table::unprotect, page_table::protect, page_table::hide]
        .into_iter()
        .enumerate()
    {
        accepted("map it otherwise", change(page));
        // Nonsense as an entry: it is not looked at.
        accepted(
            "store to memory",
            mmu_update(page.entry_maddr(index), 0xdead_beef_dead_beef),
        );
        accepted(
            "store to memory, preserving",
            mmu_update(page.entry_maddr(index + 8) | mmu::PRESERVE_AD, 0x1001),
        );
    }
    accepted("writable", page_table::unprotect(page));
    for index in 0..3 {
        check_eq!("what was stored", page.read(index), 0xdead_beef_dead_beef);
        check_eq!(
            "what was stored preserving",
            page.read(index + 8) & !(bits::ACCESSED | bits::DIRTY),
            0x1001
        );
    }
    frames::release(page);
}

/// The command that keeps the accessed and dirty bits of the old entry.
fn preserving() {
    let (table, data) = (page_table::new_table(), frames::allocate());
    accepted("pin", op(mmuext::PIN_L1, table.mfn(), 0));
    let slot = Slot { table, index: 4 };
    accepted("set with A and D", slot.set(data.maddr() | bits::KERNEL_RW));
    accepted(
        "preserve",
        mmu_update(
            slot.maddr() | mmu::PRESERVE_AD,
            data.maddr() | bits::PRESENT,
        ),
    );
    let kept = slot.value() & (bits::ACCESSED | bits::DIRTY | bits::WRITE);
    check_eq!(
        "A and D are kept, W is not",
        kept,
        bits::ACCESSED | bits::DIRTY
    );
    accepted("set without", slot.set(data.maddr() | bits::PRESENT));
    check_eq!(
        "A and D are gone",
        slot.value() & (bits::ACCESSED | bits::DIRTY),
        0
    );
    // Anything may be stored in an entry that is not present, as long as it names no frame.
    accepted("a non-present value", slot.set(0x0ff0));
    check_eq!("it is stored as it is", slot.value(), 0x0ff0);
    accepted("empty", slot.set(0));
    accepted("unpin", op(mmuext::UNPIN, table.mfn(), 0));
    page_table::release_table(table);
    frames::release(data);
}

/// M2P entries of our own frames, and of no others.
fn machine_to_physical() {
    let page = frames::allocate();
    accepted(
        "M2P of our frame",
        mmu_update(page.maddr() | mmu::MACHPHYS, 0x7_7777),
    );
    check_eq!("as read", frames::mfn_to_pfn(page.mfn()), 0x7_7777);
    accepted(
        "M2P back",
        mmu_update(page.maddr() | mmu::MACHPHYS, page.pfn),
    );
    check_eq!("as read", frames::mfn_to_pfn(page.mfn()), page.pfn);
    for maddr in [bits::ADDRESS, 1 << 45, 0xfee0_0000, 0xb_8000] {
        refused(
            "M2P of a frame that is not ours",
            mmu_update(maddr | mmu::MACHPHYS, 1),
        );
    }
    frames::release(page);
}

/// A batch stops at the first bad entry; `pdone` counts those before it, even then.
fn batches() {
    let (table, data) = (page_table::new_table(), frames::allocate());
    accepted("pin", op(mmuext::PIN_L1, table.mfn(), 0));
    let set = |index, val| MmuUpdate {
        ptr: table.entry_maddr(index),
        val,
    };
    let entry = data.maddr() | bits::KERNEL_RW;
    let good: [MmuUpdate; 64] = core::array::from_fn(|index| set(index, entry));
    check_eq!("a batch of 64", mmu_update_batch(&good), (0, 64));
    check_eq!("an empty batch", mmu_update_batch(&[]), (0, 0));
    for bad_at in [0usize, 1, 31, 63] {
        let mut batch: [MmuUpdate; 64] =
            core::array::from_fn(|index| set(index, data.maddr() | bits::KERNEL_RO));
        batch[bad_at].val = table.maddr() | bits::KERNEL_RW;
        let (result, done) = mmu_update_batch(&batch);
        refused("a batch with a bad entry", result);
        check_eq!("entries done before the bad one", done as usize, bad_at);
        let changed = (0..64)
            .filter(|&index| table.read(index) & bits::WRITE == 0)
            .count();
        check_eq!("entries changed", changed, bad_at);
        check_eq!("restoring", mmu_update_batch(&good), (0, 64));
    }
    let quiet = hypercall::call(
        nr::MMU_UPDATE,
        [&raw const good as u64, 2, 0, DOMID_SELF, 0],
    );
    accepted("no place for the count", quiet);
    let spaced: [MmuUpdate; 2] = [
        set(100, entry),
        MmuUpdate {
            ptr: data.maddr() | 8,
            val: 5,
        },
    ];
    check_eq!(
        "a table and memory in one batch",
        mmu_update_batch(&spaced),
        (0, 2)
    );
    check!(
        table.read(100) & bits::WRITE != 0 && data.read(1) == 5,
        "both were done"
    );
    accepted("unpin", op(mmuext::UNPIN, table.mfn(), 0));
    page_table::release_table(table);
    frames::release(data);
}

fn bad_pointers() {
    for ptr in [bits::ADDRESS, 1 << 51, 1 << 45, 0xfee0_0000, !7] {
        refused("an entry in a frame that is not ours", mmu_update(ptr, 0));
    }
    let page = frames::allocate();
    for command in 4..8 {
        refused("an unknown command", mmu_update(page.maddr() | command, 1));
    }
    check_eq!("nothing was stored", page.read(0), 0);
    let request = [MmuUpdate {
        ptr: page.maddr(),
        val: 1,
    }];
    for domain in [1u64, 0x7ff4, 0x7fef] {
        let (result, _) = hypercall::mmu_update_for(&request, domain);
        // A domain that does not exist cannot own a frame; on plain memory some hypervisors do not look at it.
        let stored = page.read(0);
        check!(
            result < 0 || stored == 1,
            "a batch for nobody is refused or done"
        );
    }
    for owner in [5u64, 0x7fef] {
        let (result, _) = hypercall::mmu_update_for(&request, DOMID_SELF | (owner + 1) << 16);
        refused("page tables of a domain that does not exist", result);
    }
    // Our own number instead of DOMID_SELF: some hypervisors refuse it; none may do half.
    let (result, _) = hypercall::mmu_update_for(
        &[MmuUpdate {
            ptr: page.maddr() | 8,
            val: 9,
        }],
        0,
    );
    check_eq!(
        "our own number as domain",
        page.read(1),
        if result == 0 { 9 } else { 0 }
    );
    check_eq!(
        "a null array",
        hypercall::call(nr::MMU_UPDATE, [0, 1, 0, DOMID_SELF, 0]),
        -errno::EFAULT
    );
    frames::release(page);
}

//! Proves what the control domain does with other domains' memory: their frames in its tables, their tables, pins in
//! their name, their reservations, claims, maps and resources; every use right and wrong, with every reference and frame
//! accounted for after each.
//!
//! xtask: memory=512M
//! xtask: seconds=240
#![cfg_attr(target_os = "none", no_std, no_main)]

mod balloon;
mod claims;
mod endings;
mod mappings;
mod pins;
mod reservations;
mod shown;
mod steps;
mod tables;

use guest_runtime::abi::{MmuUpdate, nr};
use guest_runtime::builder::{self, Child, Plan};
use guest_runtime::frames::{self, Page};
use guest_runtime::{Global, check, control, guest, hypercall, say};
use guests::balance;

guest!(on_behalf, main);

static OURS: Global<bool> = Global::new(false);

/// What the interface answers: Xen's number, or ours where we differ on purpose.
pub fn either(xen: i64, ours: i64) -> i64 {
    if OURS.get() { ours } else { xen }
}

fn main() {
    OURS.set(control::is_ours());
    let parts: [(&str, fn()); 17] = [
        ("frames of another in our tables", mappings::right),
        ("frames that are not its", mappings::wrong),
        ("some of a batch", mappings::batches),
        ("foreign leaves that change", mappings::changes),
        ("foreign leaves in a table pinned again", mappings::again),
        ("devices and the hypervisor's frames", mappings::special),
        ("tables of another", tables::entries),
        ("numbers of another's frames", tables::numbers),
        ("pins in another's name", pins::all),
        ("pages cleared and copied", pins::pages),
        ("reservations", reservations::right),
        ("wrong reservations", reservations::wrong),
        ("large extents", reservations::large),
        ("a balloon", balloon::all),
        ("claims", claims::all),
        ("maps and resources", shown::all),
        ("ends", endings::all),
    ];
    for (what, part) in parts {
        say!("on_behalf: {what}");
        balance::kept(what, part);
    }
}

/// Runs a part of a test with a child that serves steps, and destroys it.
pub fn with_child(part: impl FnOnce(&mut Child)) {
    let Some(mut child) = builder::running(Plan::SMALL) else {
        return;
    };
    part(&mut child);
    check!(child.destroy_and_wait(), "the child is gone");
}

/// The domains argument of mmu_update: whose frames, and whose tables.
pub fn of(frames: u16, tables: Option<u16>) -> u64 {
    u64::from(frames) | tables.map_or(0, |tables| u64::from(tables) + 1) << 16
}

/// mmu_update of one entry, for the domains that [`of`] says.
pub fn update(ptr: u64, val: u64, domains: u64) -> i64 {
    hypercall::mmu_update_for(&[MmuUpdate { ptr, val }], domains).0
}

/// memory_op with a structure.
pub fn memory_op<T>(operation: u64, argument: &mut T) -> i64 {
    hypercall::call(
        nr::MEMORY_OP,
        [operation, &raw mut *argument as u64, 0, 0, 0],
    )
}

/// A page of ours for lists that hypercalls read and write.
pub fn with_list<T>(words: &[u64], run: impl FnOnce(Page) -> T) -> T {
    let page = frames::allocate();
    for (at, word) in words.iter().enumerate() {
        page.write(at, *word);
    }
    let result = run(page);
    frames::release(page);
    result
}

//! Attacks the rule that no frame is writable while it is a page table, from every side the interface has: pinning,
//! linking, mmu_update, update_va_mapping, root changes and trapped writes. Proves that what must work works, that
//! what is refused changes nothing, and that references balance: every page used here ends as ordinary memory.
#![cfg_attr(target_os = "none", no_std, no_main)]

mod entries;
mod foreign;
mod links;
mod pinning;
mod roots;
mod trapped;
mod untrapped;
mod updates;

use guest_runtime::{guest, user};

guest!(pagetables, main);

fn main() {
    user::enable();
    pinning::all();
    links::all();
    entries::all();
    updates::all();
    roots::all();
    foreign::all();
    trapped::all();
    untrapped::all();
}

//! Proves how device interrupts arrive: a level line once for each end the guest tells, messages each time and to nobody
//! but the vector ring 0 chose; and that what a device sends cannot be changed from here. Attacks the calls with
//! functions, entries, lines and numbers that are not there.
//! xtask: device=edu,addr=0x10
//! xtask: device=edu,addr=0x11
//! xtask: device=virtio-rng-pci,addr=0x12
#![cfg_attr(target_os = "none", no_std, no_main)]

mod lines;
mod machine;
mod messages;
mod refusals;

use guest_runtime::{events, guest};

guest!(interrupts, main);

fn main() {
    // Pending bits are looked at, no upcall is taken.
    events::disable();
    machine::init();
    lines::all();
    messages::all();
    refusals::all();
}

//! Proves how control passes between the guest's two modes: the iret hypercall to kernel, user and 32-bit code, what
//! of flags and selectors it takes, events that wait for it, system calls, and callbacks. Attacks it with selectors
//! and addresses that fault in the middle of the return, which must come back as the guest's own exceptions.
#![cfg_attr(target_os = "none", no_std, no_main)]

mod bad_targets;
mod callbacks;
mod compat;
mod pending;
mod returns;

use guest_runtime::{guest, user};

guest!(iret_callbacks, main, p2m_at 0x8000000000);

fn main() {
    user::enable();
    returns::all();
    bad_targets::all();
    callbacks::all();
    compat::all();
    pending::all();
}

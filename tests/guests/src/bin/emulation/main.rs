//! Proves that privileged instructions which kernels execute in ring 3 do what the interface promises: CPUID by the
//! forced prefix, model-specific registers, control registers, I/O under the virtual I/O privilege level; and that
//! everything else, and all of it from user mode, is #GP(0) and nothing more.
#![cfg_attr(target_os = "none", no_std, no_main)]

mod control;
mod cpuid;
mod msr;
mod ports;

use guest_runtime::{guest, user};

guest!(emulation, main);

fn main() {
    user::enable();
    cpuid::all();
    msr::all();
    control::all();
    ports::all();
}

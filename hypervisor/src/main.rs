//! Ring 0 of the Xenoserver: it isolates, schedules, accounts and connects, and does nothing else.
//!
//! ```text
//! boot ─▶ memory, device ─▶ domain ─▶ guest runs
//!            exit ─▶ arch::trap ─▶ hypercall | policy | mmu | event ─▶ domain::run ─▶ guest
//! ```
//! `unsafe` lives in `arch`, `memory`, `boot` and a few marked places of `domain` and `event`; what a guest asks is
//! judged by crates of their own (`frames`, `events`, `sched`, `clock`) that know no hardware.
// On the host this is an ordinary (empty) program, so that editors and clippy can look at it.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![cfg_attr(not(target_os = "none"), allow(dead_code, unused))]

extern crate alloc;

mod account;
mod arch;
mod boot;
mod control;
mod debug;
mod device;
mod domain;
mod ends;
mod event;
mod hypercall;
mod layout;
mod memory;
mod mmu;
mod policy;
mod schedule;
mod sync;

/// Only bare metal runs this program.
#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is ring 0: build it with `cargo xtask build` and boot it");
    std::process::exit(1);
}

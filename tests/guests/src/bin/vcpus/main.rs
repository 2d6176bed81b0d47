//! Attacks the switch from one vCPU to another: three vCPUs spin, without ever giving up the processor, each with
//! values of its own in every register there is, in kernel and in user mode, while a fourth sends them events, takes
//! descriptors from under their selectors, and takes them down and up. Proves that nothing of one shows in another and
//! nothing is lost, and that a vCPU that is wrongly described does not come to be. On two processors the fourth has one of
//! its own, and what it does to the others it does while one of them runs.
//!
//! xtask: hv=dom0_max_vcpus=36
//! xtask: seconds=240
//! xtask: parallel=2
#![cfg_attr(target_os = "none", no_std, no_main)]

mod block;
mod calls;
mod code;
mod commands;
mod failsafe;
mod spinning;
mod start;
mod worker;

use guest_runtime::{guest, user};

guest!(vcpus, main);

/// vCPUs the machine is asked to have.
pub const VCPUS: u64 = 36;
/// Those that run beside vCPU 0. The last has no place for its vcpu_info in the shared page. All are odd: on two processors
/// they share one, so that each is put away again and again.
pub const WORKERS: [u64; 3] = [1, 3, 35];

fn main() {
    user::enable();
    calls::before();
    start::COMPARES_BASE.set(calls::has_audit());
    start::all();
    spinning::all();
    calls::while_they_run();
    commands::all();
    failsafe::all();
    spinning::all();
    calls::recount("at the end");
    start::stop_all();
}

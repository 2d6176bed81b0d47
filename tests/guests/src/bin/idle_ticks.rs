//! Shows that nothing is done for the ticks of vCPUs that do not run: all but one are down, with periodic timers as fast as
//! there are, and cost nothing.
//!
//! xtask: hv=dom0_max_vcpus=64
#![cfg_attr(target_os = "none", no_std, no_main)]

use guest_runtime::abi::usage::{USAGE_OF_DOMAIN, Usage};
use guest_runtime::abi::{DOMID_SELF, vcpu};
use guest_runtime::hypercall::vcpu_op;
use guest_runtime::instructions::rdtsc;
use guest_runtime::{check, check_eq, guest, say, skip};
use guests::accounts::{self, usage_of};

guest!(idle_ticks, main);

/// The shortest period there is, in nanoseconds.
const PERIOD: u64 = 1_000_000;
/// Periods that pass.
const PERIODS: u64 = 50;

fn passes(cycles: u64) -> u64 {
    let look = || -> Usage { usage_of(DOMID_SELF as u16, USAGE_OF_DOMAIN) };
    let before = look();
    let begun = rdtsc();
    while rdtsc() - begun < cycles {}
    let after = look();
    after
        .hypervisor
        .iter()
        .zip(before.hypervisor)
        .map(|(a, b)| a - b)
        .sum()
}

fn main() {
    if !accounts::are_kept(DOMID_SELF as u16) {
        skip!("another hypervisor, which keeps no such accounts");
        return;
    }
    let hz = usage_of(DOMID_SELF as u16, USAGE_OF_DOMAIN).tsc_hz;
    let cycles = hz / 1000 * PERIODS;
    let _ = vcpu_op(vcpu::STOP_PERIODIC_TIMER, 0, &mut 0u64);
    let quiet = passes(cycles);
    let mut ticking = 0;
    for id in 1..64 {
        ticking += i64::from(vcpu_op(vcpu::SET_PERIODIC_TIMER, id, &mut { PERIOD }) == 0);
    }
    check_eq!("vCPUs that tick", ticking, 63);
    let with_ticks = passes(cycles);
    say!(
        "of {cycles} cycles the hypervisor took {quiet}; with {ticking} vCPUs down and ticking {with_ticks}"
    );
    check!(
        with_ticks < quiet + cycles / 100,
        "ticks of those that do not run cost nothing"
    );
}

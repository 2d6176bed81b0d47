//! Proves event channels and time: what each port does through its life, that an event comes exactly when it is
//! unmasked and once, that timers are never early, and that blocking and polling wake. Attacks them with ports,
//! vCPUs and areas that are not there.
#![cfg_attr(target_os = "none", no_std, no_main)]

mod areas;
mod delivery;
mod ports;
mod timers;

use guest_runtime::{guest, hypercall};

guest!(events_timers, main);

fn main() {
    // A periodic tick, if there is one, would be counted as ours.
    hypercall::vcpu_op(guest_runtime::abi::vcpu::STOP_PERIODIC_TIMER, 0, &mut 0u64);
    ports::all();
    delivery::all();
    timers::all();
    areas::all();
    // Once more, as the vCPU's own page has moved.
    delivery::all();
    timers::all();
}

//! Reservations of CPU time, as the control domain looks at them.

use guest_runtime::abi::reserve::SchedCpu;
use guest_runtime::abi::xeno::{XENO_INTERFACE_VERSION, XenoCommand};
use guest_runtime::control::xeno_op;
use guest_runtime::{check, child, events};

use crate::accepted;

/// The longest period, and as much as it may be put off, in nanoseconds.
const LAST_PERIOD: u64 = 1_200_000_000;

/// Waits until all that was given up of the first CPU is free, and what was granted for it in force.
pub fn settle() {
    let end = events::now_ns() + LAST_PERIOD;
    let mut cpu = SchedCpu {
        version: XENO_INTERFACE_VERSION,
        ..SchedCpu::ZERO
    };
    loop {
        accepted("what is reserved", xeno_op(XenoCommand::SchedCpu, &mut cpu));
        if cpu.departing == 0 {
            return;
        }
        if !check!(events::now_ns() < end, "what is gone is paid for") {
            return;
        }
        child::wait(&[], events::now_ns() + 1_000_000);
    }
}

//! Reservations of CPU time, as the control domain looks at them.

use guest_runtime::abi::reserve::{SchedCpu, SchedGet};
use guest_runtime::abi::xeno::{XENO_INTERFACE_VERSION, XenoCommand};
use guest_runtime::control::xeno_op;
use guest_runtime::{check, child, events};

use crate::accepted;

/// The longest period, and as much as it may be put off, in nanoseconds.
const LAST_PERIOD: u64 = 1_200_000_000;

/// A question about what a domain's vCPU has.
pub fn question(domid: u16, vcpu: u32) -> SchedGet {
    SchedGet {
        version: XENO_INTERFACE_VERSION,
        domid,
        vcpu,
        ..SchedGet::ZERO
    }
}

/// What a domain's vCPU has.
pub fn of(domid: u16, vcpu: u32) -> SchedGet {
    let mut get = question(domid, vcpu);
    accepted("what it has", xeno_op(XenoCommand::SchedGet, &mut get));
    get
}

/// What is reserved of a CPU.
pub fn of_cpu(cpu: u32) -> SchedCpu {
    let mut get = SchedCpu {
        version: XENO_INTERFACE_VERSION,
        cpu,
        ..SchedCpu::ZERO
    };
    accepted("a CPU", xeno_op(XenoCommand::SchedCpu, &mut get));
    get
}

/// Waits until all that was given up of the first CPU is free, and what was granted for it in force.
pub fn settle() {
    settle_on(1);
}

/// As [`settle`], of the first so many CPUs.
pub fn settle_on(cpus: u32) {
    let end = events::now_ns() + LAST_PERIOD;
    while (0..cpus).any(|cpu| of_cpu(cpu).departing != 0) {
        if !check!(events::now_ns() < end, "what is gone is paid for") {
            return;
        }
        child::wait(&[], events::now_ns() + 1_000_000);
    }
}

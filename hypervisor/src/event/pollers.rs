//! Who is woken for an event because it polls: the bits and turns of [`events::pollers`] (O1 to O4 there), bound to the scheduler.

use crate::domain::{Domain, Vcpu};
use crate::schedule;
use events::pollers::{Fate, Polled, Vcpus};
use events::{Port, VcpuId};

impl Vcpus for Domain {
    fn polled(&self, vcpu: VcpuId) -> Option<&Polled> {
        self.vcpu(u32::from(vcpu.0)).map(|vcpu| &vcpu.polling)
    }
    fn wake(&self, vcpu: VcpuId) {
        self.vcpu(u32::from(vcpu.0)).inspect(|v| schedule::wake(v));
    }
    fn wake_soon(&self, vcpu: VcpuId) -> bool {
        let vcpu = self.vcpu(u32::from(vcpu.0));
        vcpu.is_some_and(schedule::wake_soon)
    }
}

fn id(vcpu: &Vcpu) -> VcpuId {
    VcpuId(vcpu.id as u16)
}

/// A vCPU polls for a port, or for several: `sleep` says that it sleeps, `is_ready` looks at its ports then.
#[inline]
pub fn poll(
    vcpu: &Vcpu,
    port: Option<Port>,
    sleep: impl FnOnce(),
    is_ready: impl FnOnce() -> bool,
) -> Fate {
    let pollers = &vcpu.domain.pollers;
    pollers.poll(id(vcpu), &vcpu.polling, port, sleep, is_ready)
}

/// A vCPU polls no more, for whatever reason; says whether it did. It runs, or is woken after that.
#[inline]
pub fn end(vcpu: &Vcpu) -> bool {
    vcpu.domain.pollers.end(id(vcpu), &vcpu.polling)
}

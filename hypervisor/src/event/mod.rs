//! Event channels on the real machine: the tables of the crate `events` bound to shared pages and the scheduler.
//!
//! Locks: two domains' tables are locked in `links` only. A domain's table (`Domain::events`) may be held while a vCPU is woken (the run queue's lock is taken
//! inside); never the other way round.

pub mod links;

pub use links::close_some;

use crate::account;
use crate::arch::{percpu, smp};
use crate::domain::{Domain, NO_CPU, Vcpu};
use crate::memory::pieces::Charge;
use crate::schedule;
use core::sync::atomic::Ordering;
use events::{PORTS_PER_BUCKET, Port, PortState, VcpuId, Wake};

/// A domain's event channels.
pub type DomainEvents = events::Ports<'static>;

/// Raises an event on a port of a domain.
pub fn raise(dom: &Domain, port: Port, vcpu: VcpuId) {
    let raised = events::raise(dom, port, vcpu);
    finish(dom, raised.wake);
    if raised.newly_pending {
        account::received(dom, u32::from(vcpu.0));
        wake_pollers(dom, port);
    }
}

/// Unmasks a port for a guest.
pub fn unmask(dom: &Domain, port: Port, vcpu: VcpuId) {
    finish(dom, events::unmask(dom, port, vcpu));
}

/// Makes a vCPU look at all its ports, after its vcpu_info moved.
pub fn rescan(dom: &Domain, vcpu: VcpuId) {
    finish(dom, events::rescan(dom, vcpu));
}

fn finish(dom: &Domain, wake: Wake) {
    if let Wake::Vcpu(id) = wake
        && let Some(vcpu) = dom.vcpu(u32::from(id.0))
    {
        kick(vcpu);
    }
}

/// Makes a vCPU notice: wakes it if it sleeps; if it runs here, the way out looks, and if it runs on another CPU, that is
/// interrupted. One that was told already looks before it sleeps or goes on.
pub fn kick(vcpu: &'static Vcpu) {
    if !vcpu.notice.give() {
        return;
    }
    if !vcpu.events_masked() || vcpu.polling.load(Ordering::Acquire) == 0 {
        schedule::wake(vcpu);
    }
    interrupt(vcpu);
}

/// Has the CPU that a vCPU is on look at what waits for it, if that is another CPU. What waits was set before, by a locked
/// operation: a CPU that takes the vCPU up from here on sees it. Who sleeps was woken before: its CPU, which may have kept it,
/// is asked once.
fn interrupt(vcpu: &Vcpu) {
    let cpu = vcpu.loaded_on.load(Ordering::SeqCst);
    if cpu != NO_CPU && cpu != percpu::current().id {
        smp::notice(cpu);
    }
}

/// Sends a vCPU an NMI.
pub fn send_nmi(vcpu: &Vcpu) {
    vcpu.nmi_pending.swap(true, Ordering::SeqCst);
    schedule::wake(vcpu);
    interrupt(vcpu);
}

/// Has all vCPUs of a domain come out of their guests, and those that sleep wake: something changed for all of them.
pub fn interrupt_all(dom: &Domain) {
    for vcpu in dom.vcpus() {
        schedule::wake(vcpu);
        interrupt(vcpu);
    }
}

/// Whoever polls the port is woken even if it is masked.
fn wake_pollers(dom: &Domain, port: Port) {
    for vcpu in dom.vcpus() {
        let polled = vcpu.polling.load(Ordering::Acquire);
        if polled == u32::MAX || polled == port.get() + 1 {
            schedule::wake(vcpu);
        }
    }
}

/// Raises a virtual interrupt, if it is bound.
pub fn raise_virq(dom: &Domain, virq: u8, vcpu: u32) {
    let target = dom.events.lock().virq_port(virq, VcpuId(vcpu as u16));
    if let Some((port, notify)) = target {
        raise(dom, port, notify);
    }
}

/// Raises a physical interrupt, if it is bound; says whether it was.
pub fn raise_pirq(dom: &Domain, pirq: u16) -> bool {
    let target = dom.events.lock().pirq_port(pirq);
    match target {
        Some((port, notify)) => {
            raise(dom, port, notify);
            true
        }
        None => false,
    }
}

/// Asks this CPU for a new decision on the way out.
pub fn reschedule_here() {
    percpu::current().reschedule.set(true);
}

/// Gives a domain's table a bucket more, from memory that is charged to it.
pub fn prepare(dom: &Domain) -> bool {
    let Ok(bucket) = dom.place([PortState::FREE; PORTS_PER_BUCKET], Charge::Caused) else {
        return false;
    };
    let refused = dom.events.lock().add_bucket(bucket).err();
    match refused {
        Some(bucket) => {
            dom.take_back(bucket);
            false
        }
        None => true,
    }
}

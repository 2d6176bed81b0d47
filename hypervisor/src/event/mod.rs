//! Event channels on the real machine: the tables of the crate `events` bound to shared pages and the scheduler.
//!
//! Locks: two domains' tables are locked in `links` only. A domain's table (`Domain::events`) is held while the port is found
//! and set pending (E9 of the crate `events`), and let go before anybody is woken for it.

pub mod links;
pub mod pollers;

pub use links::close_some;

use crate::account;
use crate::arch::{percpu, smp};
use crate::domain::{Domain, NO_CPU, Vcpu};
use crate::memory::pieces::Charge;
use crate::schedule;
use core::sync::atomic::Ordering;
use events::{EventError, PORTS_PER_BUCKET, PortState, Raised, Target, VcpuId, Wake};

/// A domain's event channels.
pub type DomainEvents = events::Ports<'static>;

/// Raises an event on the port of a domain that is found in its table; says whether there is one. It is set pending while the
/// table is locked (E9 of the crate `events`); who is to look is told after that.
#[inline]
pub fn raise(
    dom: &Domain,
    find: impl for<'t> FnOnce(&'t DomainEvents) -> Option<Target<'t>>,
) -> bool {
    let table = dom.events.lock();
    let Some(target) = find(&table) else {
        return false;
    };
    let raised = target.raise(dom);
    drop(table);
    tell(dom, raised);
    true
}

/// Wakes those for whom an event was raised.
pub fn tell(dom: &Domain, raised: Raised) {
    finish(dom, raised.wake);
    if raised.newly_pending {
        account::received(dom, u32::from(raised.vcpu.0));
        dom.pollers.wake(dom, raised.port);
    }
}

/// Unmasks a port for a guest.
///
/// # Errors
/// *Invalid* for a port that is not in use.
pub fn unmask(dom: &Domain, port: u32) -> Result<(), EventError> {
    let table = dom.events.lock();
    let wake = table.unmask_target(port)?.unmask(dom);
    drop(table);
    finish(dom, wake);
    Ok(())
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
    if !vcpu.events_masked() || vcpu.polling.is_nothing() {
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

/// Raises a virtual interrupt, if it is bound.
pub fn raise_virq(dom: &Domain, virq: u8, vcpu: u32) {
    raise(dom, |table| table.virq_port(virq, VcpuId(vcpu as u16)));
}

/// Raises a physical interrupt, if it is bound; says whether it was.
pub fn raise_pirq(dom: &Domain, pirq: u16) -> bool {
    raise(dom, |table| table.pirq_port(pirq))
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

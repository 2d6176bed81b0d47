//! What domains and vCPUs are.

use crate::account;
use crate::arch::cpu;
use crate::device::timer;
use crate::domain::{Domain, Guest, NO_CPU, Vcpu, table};
use crate::hypercall::{Args, Outcome};
use ::sched::State;
use core::sync::atomic::Ordering;
use frames::DomId;
use guest_abi::Errno;
use guest_abi::domctl::{
    Domctl, Getdomaininfo, Getvcpuinfo, XEN_DOMINF_BLOCKED, XEN_DOMINF_DYING, XEN_DOMINF_PAUSED,
    XEN_DOMINF_RUNNING, XEN_DOMINF_SHUTDOWN, XEN_DOMINF_SHUTDOWNSHIFT, XEN_DOMINF_XS_DOMAIN,
    XEN_INVALID_MAX_VCPU_ID,
};
use guest_abi::domid::DOMID_FIRST_RESERVED;

/// `getdomaininfo`: the domain asked for, or the next there is.
pub fn next(call: &mut Domctl) -> Outcome {
    if call.domain >= DOMID_FIRST_RESERVED {
        return Err(Errno::Inval.into());
    }
    let dom = table::next_from(DomId(call.domain)).ok_or(Errno::Srch)?;
    call.set_payload(&describe(dom));
    call.domain = dom.id.0;
    Ok(0)
}

/// Nanoseconds that a vCPU used.
fn ran_ns(vcpu: &Vcpu) -> u64 {
    timer::clock().scale.ns_from_ticks(account::used(vcpu))
}

/// One domain.
pub fn describe(dom: &Domain) -> Getdomaininfo {
    let mut info = Getdomaininfo {
        domain: dom.id.0,
        tot_pages: dom.pages.load(Ordering::Acquire),
        max_pages: dom.max_pages.load(Ordering::Acquire),
        shared_info_frame: dom.shared_info.0,
        max_vcpu_id: XEN_INVALID_MAX_VCPU_ID,
        handle: *dom.handle.lock(),
        gpaddr_bits: cpu::address_bits(),
        cpu_time: timer::clock().scale.ns_from_ticks(account::used_by(dom)),
        ..Getdomaininfo::ZERO
    };
    // Blocked if all of its vCPUs are, running if one is.
    let mut flags = XEN_DOMINF_BLOCKED;
    for vcpu in dom.vcpus() {
        info.max_vcpu_id = vcpu.id;
        if !vcpu.up.load(Ordering::Acquire) {
            continue;
        }
        info.nr_online_vcpus += 1;
        match vcpu.runstate.lock().state {
            State::Blocked => {}
            State::Running => flags = flags & !XEN_DOMINF_BLOCKED | XEN_DOMINF_RUNNING,
            State::Runnable | State::Offline => flags &= !XEN_DOMINF_BLOCKED,
        }
    }
    if info.nr_online_vcpus == 0 {
        flags = 0;
    }
    let shutdown = dom.life.shutdown();
    let also = |set: bool, flag: u32| if set { flag } else { 0 };
    info.flags = flags
        | also(dom.is_dying(), XEN_DOMINF_DYING)
        | also(shutdown.is_some(), XEN_DOMINF_SHUTDOWN)
        | also(dom.life.pauses() != 0, XEN_DOMINF_PAUSED)
        | also(dom.serves_store, XEN_DOMINF_XS_DOMAIN)
        // While there is no reason all its bits are ones.
        | shutdown.unwrap_or(!0) << XEN_DOMINF_SHUTDOWNSHIFT;
    info
}

/// `getvcpuinfo`.
pub fn vcpu(_: &mut Guest<'_>, dom: &'static Domain, call: &mut Domctl, _: Args) -> Outcome {
    let asked: Getvcpuinfo = call.payload();
    if asked.vcpu >= dom.max_vcpus {
        return Err(Errno::Inval.into());
    }
    let vcpu = dom.vcpu(asked.vcpu).ok_or(Errno::Srch)?;
    let state = vcpu.runstate.lock().state;
    call.set_payload(&Getvcpuinfo {
        vcpu: asked.vcpu,
        online: vcpu.up.load(Ordering::Acquire).into(),
        blocked: (state == State::Blocked).into(),
        running: (state == State::Running).into(),
        cpu_time: ran_ns(vcpu),
        cpu: Some(vcpu.home.cpu())
            .filter(|cpu| *cpu != NO_CPU)
            .unwrap_or(0),
        ..Getvcpuinfo::ZERO
    });
    Ok(0)
}

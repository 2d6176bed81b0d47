//! What the control domain asks about other domains: control calls and calls on behalf, one function each.
//!
//! Results are the hypervisor's, errors negative, as everywhere here. An ordinary domain may call all of them too: that
//! is how tests see what it is refused.

use crate::abi::domctl::{
    Bitmap, Createdomain, MaxMem, MaxVcpus, Vcpuaffinity, Vcpucontext, XEN_DOMINF_SHUTDOWN,
    XEN_DOMINF_SHUTDOWNMASK, XEN_DOMINF_SHUTDOWNSHIFT, XEN_VCPUAFFINITY_HARD,
};
use crate::abi::xeno::{Audit, XENO_INTERFACE_VERSION, XenoCommand};
use crate::abi::{
    Domctl, DomctlCommand, Getdomaininfo, MmuUpdate, MmuextOp, Physinfo, Sysctl, SysctlCommand,
    VcpuGuestContext, Wire, XenMemoryReservation, memory, nr,
};
use crate::hypercall::{call, mmu_update_for};

/// Result of an operation that wants to be called again: Xen's own number, which the interface does not list.
pub const ERESTART: i64 = 85;

/// Makes a domctl; it holds the answer afterwards.
pub fn domctl(request: &mut Domctl) -> i64 {
    call(nr::DOMCTL, [&raw mut *request as u64, 0, 0, 0, 0])
}

/// A domctl that has no payload.
pub fn simple(command: DomctlCommand, domain: u16) -> i64 {
    domctl(&mut Domctl::new(command, domain))
}

/// A domctl with this payload, and no answer of interest.
pub fn with<T: Wire>(command: DomctlCommand, domain: u16, payload: &T) -> i64 {
    let mut request = Domctl::new(command, domain);
    request.set_payload(payload);
    domctl(&mut request)
}

/// Says on which CPUs a vCPU may run, one bit each.
pub fn set_affinity(domain: u16, vcpu: u32, cpus: u64) -> i64 {
    let wanted = Vcpuaffinity {
        vcpu,
        flags: XEN_VCPUAFFINITY_HARD,
        cpumap_hard: Bitmap {
            bitmap: &raw const cpus as u64,
            nr_bits: 64,
            ..Bitmap::ZERO
        },
        ..Vcpuaffinity::ZERO
    };
    with(DomctlCommand::Setvcpuaffinity, domain, &wanted)
}

/// Makes a sysctl; it holds the answer afterwards.
pub fn sysctl(request: &mut Sysctl) -> i64 {
    call(nr::SYSCTL, [&raw mut *request as u64, 0, 0, 0, 0])
}

/// Creates a domain with the first id that is free: the id, or the error.
pub fn create(wanted: &Createdomain) -> Result<u16, i64> {
    let mut request = Domctl::new(DomctlCommand::Createdomain, 0);
    request.set_payload(wanted);
    match domctl(&mut request) {
        0 => Ok(request.domain),
        error => Err(error),
    }
}

/// What createdomain is asked for an ordinary paravirtualized domain.
pub fn ordinary(vcpus: u32) -> Createdomain {
    Createdomain {
        handle: *b"guest test child",
        max_vcpus: vcpus,
        max_evtchn_port: 1023,
        max_grant_frames: 4,
        max_maptrack_frames: 4,
        grant_opts: 1,
        ..Createdomain::ZERO
    }
}

/// Gives a domain its vCPUs.
pub fn max_vcpus(domain: u16, max: u32) -> i64 {
    with(DomctlCommand::MaxVcpus, domain, &MaxVcpus { max })
}

/// Sets how many frames a domain may have.
pub fn max_mem(domain: u16, frames: u64) -> i64 {
    let payload = MaxMem {
        max_memkb: frames * 4,
    };
    with(DomctlCommand::MaxMem, domain, &payload)
}

/// What a domain is: of this one, not of the next that exists.
pub fn info(domain: u16) -> Result<Getdomaininfo, i64> {
    let mut request = Domctl::new(DomctlCommand::Getdomaininfo, domain);
    match domctl(&mut request) {
        0 if request.domain == domain => Ok(request.payload()),
        0 => Err(-crate::abi::errno::ESRCH),
        error => Err(error),
    }
}

/// The reason a domain has shut down for, if it has.
pub fn shutdown_reason(info: &Getdomaininfo) -> Option<u32> {
    (info.flags & XEN_DOMINF_SHUTDOWN != 0)
        .then_some(info.flags >> XEN_DOMINF_SHUTDOWNSHIFT & XEN_DOMINF_SHUTDOWNMASK)
}

/// Sets a vCPU's state.
pub fn set_context(domain: u16, vcpu: u32, context: &VcpuGuestContext) -> i64 {
    let payload = Vcpucontext {
        vcpu,
        _pad0: 0,
        ctxt: &raw const *context as u64,
    };
    with(DomctlCommand::Setvcpucontext, domain, &payload)
}

/// Reads a vCPU's state.
pub fn get_context(domain: u16, vcpu: u32, context: &mut VcpuGuestContext) -> i64 {
    let payload = Vcpucontext {
        vcpu,
        _pad0: 0,
        ctxt: &raw mut *context as u64,
    };
    with(DomctlCommand::Getvcpucontext, domain, &payload)
}

/// Destroys a domain, asking again for as long as that is the answer.
pub fn destroy(domain: u16) -> i64 {
    loop {
        match simple(DomctlCommand::Destroydomain, domain) {
            error if error == -ERESTART || error == -crate::abi::errno::EAGAIN => {}
            result => return result,
        }
    }
}

/// Frames of the machine that nobody has, those still to be cleaned included.
pub fn free_frames() -> Result<u64, i64> {
    let mut request = Sysctl::new(SysctlCommand::Physinfo);
    match sysctl(&mut request) {
        0 => {
            let info: Physinfo = request.payload();
            Ok(info.free_pages)
        }
        error => Err(error),
    }
}

/// One of our hypervisor's own operations, about what is in `argument`: its answer is there, too.
pub fn xeno_op<T>(command: XenoCommand, argument: &mut T) -> i64 {
    let operation = u64::from(command.number());
    call(nr::XENO_OP, [operation, &raw mut *argument as u64, 0, 0, 0])
}

/// Whether the hypervisor is ours: it answers a call that Xen does not have.
pub fn is_ours() -> bool {
    call(nr::XENO_OP, [0; 5]) != -crate::abi::errno::ENOSYS
}

/// Recounts every frame, where the hypervisor can (ours): what it found. Xen has no such call.
pub fn audit(domain: u16) -> Option<Audit> {
    let mut request = Audit {
        version: XENO_INTERFACE_VERSION,
        domid: domain,
        ..Audit::ZERO
    };
    (xeno_op(XenoCommand::Audit, &mut request) == 0).then_some(request)
}

/// populate_physmap of single frames for a domain: the list holds pseudo-physical numbers and gets machine frames.
pub fn populate(domain: u16, list: &mut [u64]) -> i64 {
    reservation(
        memory::POPULATE_PHYSMAP,
        domain,
        list.as_mut_ptr() as u64,
        list.len() as u64,
    )
}

/// A memory operation on a list of single frames.
pub fn reservation(operation: u64, domain: u16, list: u64, frames: u64) -> i64 {
    let request = XenMemoryReservation {
        extent_start: list,
        nr_extents: frames,
        domid: domain,
        ..XenMemoryReservation::ZERO
    };
    call(
        nr::MEMORY_OP,
        [operation, &raw const request as u64, 0, 0, 0],
    )
}

/// mmu_update of one of our own entries that maps a frame of `domain`.
pub fn map_foreign(entry: u64, value: u64, domain: u16) -> i64 {
    let request = MmuUpdate {
        ptr: entry,
        val: value,
    };
    mmu_update_for(&[request], u64::from(domain)).0
}

/// mmuext_op of one command on a frame of `domain`.
pub fn mmuext_for(cmd: u32, frame: u64, domain: u16) -> i64 {
    let request = MmuextOp {
        cmd,
        arg1: frame,
        ..MmuextOp::ZERO
    };
    let argument = &raw const request as u64;
    call(nr::MMUEXT_OP, [argument, 1, 0, u64::from(domain), 0])
}

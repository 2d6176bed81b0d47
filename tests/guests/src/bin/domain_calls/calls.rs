//! The calls, with their structures filled in.

use guest_runtime::abi::domctl::{
    ArchDomainconfig, Createdomain, Domctl, DomctlCommand, Getdomaininfo, MaxMem, MaxVcpus,
};
use guest_runtime::abi::sysctl::{Getdomaininfolist, Sysctl, SysctlCommand};
use guest_runtime::abi::xeno::{Audit, XENO_INTERFACE_VERSION};
use guest_runtime::abi::{DOMID_SELF, Wire, errno, nr};
use guest_runtime::hypercall;

/// What the tool stack would know the test's domains by.
pub const HANDLE: [u8; 16] = *b"a domain of ours";

/// Makes a domctl.
pub fn domctl(call: &mut Domctl) -> i64 {
    hypercall::call(nr::DOMCTL, [&raw mut *call as u64, 0, 0, 0, 0])
}

/// Makes a sysctl.
pub fn sysctl(call: &mut Sysctl) -> i64 {
    hypercall::call(nr::SYSCTL, [&raw mut *call as u64, 0, 0, 0, 0])
}

/// A domctl with what it takes.
pub fn about<T: Wire>(command: DomctlCommand, domain: u16, payload: &T) -> i64 {
    let mut call = Domctl::new(command, domain);
    call.set_payload(payload);
    domctl(&mut call)
}

/// A domctl that takes nothing.
pub fn plain(command: DomctlCommand, domain: u16) -> i64 {
    domctl(&mut Domctl::new(command, domain))
}

/// A domain that can be had.
pub fn ordinary() -> Createdomain {
    Createdomain {
        handle: HANDLE,
        max_vcpus: 2,
        max_evtchn_port: 1023,
        max_grant_frames: 4,
        max_maptrack_frames: 4,
        grant_opts: 1,
        arch: ArchDomainconfig::ZERO,
        ..Createdomain::ZERO
    }
}

/// Creates a domain; its number, or the error.
pub fn create(wanted: &Createdomain, number: u16) -> Result<u16, i64> {
    let mut call = Domctl::new(DomctlCommand::Createdomain, number);
    call.set_payload(wanted);
    match domctl(&mut call) {
        0 => Ok(call.domain),
        error => Err(error),
    }
}

/// Makes a domain's vCPUs.
pub fn max_vcpus(domain: u16, max: u32) -> i64 {
    about(DomctlCommand::MaxVcpus, domain, &MaxVcpus { max })
}

/// Sets how many frames a domain may have.
pub fn max_frames(domain: u16, frames: u64) -> i64 {
    let max_memkb = frames * 4;
    about(DomctlCommand::MaxMem, domain, &MaxMem { max_memkb })
}

/// Destroys a domain.
pub fn destroy(domain: u16) -> i64 {
    plain(DomctlCommand::Destroydomain, domain)
}

/// The domain of a number, or the next.
pub fn next(domain: u16) -> Result<Getdomaininfo, i64> {
    let mut call = Domctl::new(DomctlCommand::Getdomaininfo, domain);
    match domctl(&mut call) {
        0 => Ok(call.payload()),
        error => Err(error),
    }
}

/// The domain of exactly this number.
pub fn info(domain: u16) -> Option<Getdomaininfo> {
    next(domain).ok().filter(|info| info.domain == domain)
}

/// The numbers of all domains from one on, as the list tells them.
pub fn listed<const N: usize>(first: u16) -> Result<([u16; N], usize), i64> {
    let mut list = [Getdomaininfo::ZERO; N];
    let mut call = Sysctl::new(SysctlCommand::Getdomaininfolist);
    call.set_payload(&Getdomaininfolist {
        first_domain: first,
        max_domains: N as u32,
        buffer: list.as_mut_ptr() as u64,
        ..Getdomaininfolist::ZERO
    });
    match sysctl(&mut call) {
        0 => {
            let count = call.payload::<Getdomaininfolist>().num_domains as usize;
            Ok((list.map(|info| info.domain), count))
        }
        error => Err(error),
    }
}

/// What the audit finds, about a domain; `None` on a hypervisor without one.
pub fn audit(domain: u16) -> Option<Audit> {
    let mut audit = Audit {
        version: XENO_INTERFACE_VERSION,
        domid: domain,
        ..Audit::ZERO
    };
    match hypercall::call(nr::XENO_OP, [0, &raw mut audit as u64, 0, 0, 0]) {
        result if result == -errno::ENOSYS => None,
        _ => Some(audit),
    }
}

/// The same about the caller.
pub fn audit_here() -> Option<Audit> {
    audit(DOMID_SELF as u16)
}

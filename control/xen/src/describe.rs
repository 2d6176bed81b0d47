//! The hypervisor's structures as ours.

use crate::{DomainInfo, MachineInfo, ShutdownReason, VcpuInfo};
use guest_abi::domctl::{
    Getdomaininfo, Getvcpuinfo, XEN_DOMINF_BLOCKED, XEN_DOMINF_DYING, XEN_DOMINF_PAUSED,
    XEN_DOMINF_RUNNING, XEN_DOMINF_SHUTDOWN, XEN_DOMINF_SHUTDOWNMASK, XEN_DOMINF_SHUTDOWNSHIFT,
    XEN_INVALID_MAX_VCPU_ID,
};
use guest_abi::sysctl::{Physinfo, XEN_SYSCTL_PHYSCAP_PV};

pub(crate) fn domain(info: &Getdomaininfo) -> DomainInfo {
    let has = |flag: u32| info.flags & flag != 0;
    let reason = info.flags >> XEN_DOMINF_SHUTDOWNSHIFT & XEN_DOMINF_SHUTDOWNMASK;
    DomainInfo {
        domain: info.domain,
        handle: info.handle,
        dying: has(XEN_DOMINF_DYING),
        paused: has(XEN_DOMINF_PAUSED),
        blocked: has(XEN_DOMINF_BLOCKED),
        running: has(XEN_DOMINF_RUNNING),
        shutdown: has(XEN_DOMINF_SHUTDOWN)
            .then(|| ShutdownReason::from_number(u8::try_from(reason).unwrap_or(u8::MAX))),
        pages: info.tot_pages,
        max_pages: info.max_pages,
        shared_info_frame: info.shared_info_frame,
        cpu_time_ns: info.cpu_time,
        online_vcpus: info.nr_online_vcpus,
        max_vcpu_id: (info.max_vcpu_id != XEN_INVALID_MAX_VCPU_ID).then_some(info.max_vcpu_id),
    }
}

pub(crate) fn vcpu(info: &Getvcpuinfo) -> VcpuInfo {
    VcpuInfo {
        online: info.online != 0,
        blocked: info.blocked != 0,
        running: info.running != 0,
        cpu_time_ns: info.cpu_time,
        cpu: info.cpu,
    }
}

pub(crate) fn machine(info: &Physinfo) -> MachineInfo {
    MachineInfo {
        cpus: info.nr_cpus,
        cpu_khz: info.cpu_khz,
        total_pages: info.total_pages,
        free_pages: info.free_pages,
        scrub_pages: info.scrub_pages,
        outstanding_pages: info.outstanding_pages,
        threads_per_core: info.threads_per_core,
        cores_per_socket: info.cores_per_socket,
        runs_pv: info.capabilities & XEN_SYSCTL_PHYSCAP_PV != 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::State;

    #[test]
    fn a_shutdown_is_told_with_its_reason_until_the_domain_dies() {
        let mut info = Getdomaininfo {
            flags: XEN_DOMINF_SHUTDOWN | XEN_DOMINF_PAUSED | 3 << XEN_DOMINF_SHUTDOWNSHIFT,
            max_vcpu_id: XEN_INVALID_MAX_VCPU_ID,
            ..Getdomaininfo::ZERO
        };
        assert_eq!(
            domain(&info).state(),
            State::Shutdown(ShutdownReason::Crash)
        );
        assert_eq!(domain(&info).max_vcpu_id, None);
        info.flags |= XEN_DOMINF_DYING;
        assert_eq!(domain(&info).state(), State::Dying);
        // A reason without the flag is no shutdown.
        info.flags = 1 << XEN_DOMINF_SHUTDOWNSHIFT;
        assert_eq!(domain(&info).shutdown, None);
    }
}

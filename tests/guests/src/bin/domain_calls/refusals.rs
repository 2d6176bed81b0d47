//! Wrong calls: each with its error, and nothing of them left.

use guest_runtime::abi::domctl::*;
use guest_runtime::abi::sysctl::{Getdomaininfolist, Sysctl, SysctlCommand};
use guest_runtime::abi::{DOMID_INVALID, DOMID_SELF, HOLE_START, errno, nr};
use guest_runtime::{check_eq, hypercall};

use crate::calls::*;

/// A number that no domain of this test has.
const NOBODY: u16 = 4711;

pub fn all() {
    let before = audit_here();
    versions_and_pointers();
    about_nobody();
    about_oneself();
    creating();
    check_eq!("nothing is left of it", audit_here(), before);
}

fn versions_and_pointers() {
    for version in [0u32, 0x14, 0x16, !0] {
        let mut call = Domctl::new(DomctlCommand::Getdomaininfo, 0);
        call.interface_version = version;
        check_eq!("another version", domctl(&mut call), -errno::EACCES);
        let mut call = Sysctl::new(SysctlCommand::Physinfo);
        call.interface_version = version;
        check_eq!("another version", sysctl(&mut call), -errno::EACCES);
    }
    for number in [nr::DOMCTL, nr::SYSCTL] {
        for place in [0, HOLE_START] {
            let result = hypercall::call(number, [place, 0, 0, 0, 0]);
            check_eq!("a call that is nowhere", result, -errno::EFAULT);
        }
    }
    let mut call = Domctl::new(DomctlCommand::Getdomaininfo, 0);
    call.cmd = 9999;
    check_eq!("no such command", domctl(&mut call), -errno::ENOSYS);
    let mut call = Sysctl::new(SysctlCommand::Physinfo);
    call.cmd = 9999;
    check_eq!("no such command", sysctl(&mut call), -errno::ENOSYS);
    let mut call = Sysctl::new(SysctlCommand::Getdomaininfolist);
    call.set_payload(&Getdomaininfolist {
        max_domains: 1,
        buffer: HOLE_START,
        ..Getdomaininfolist::ZERO
    });
    check_eq!(
        "a list of the hypervisor's",
        sysctl(&mut call),
        -errno::EFAULT
    );
}

/// Commands about a domain that there is not.
fn about_nobody() {
    for command in DomctlCommand::ALL {
        if matches!(
            command,
            DomctlCommand::Createdomain | DomctlCommand::Getdomaininfo
        ) {
            continue;
        }
        for domain in [NOBODY, DOMID_SELF as u16, DOMID_INVALID as u16, 0xffff] {
            check_eq!(command.name(), plain(*command, domain), -errno::ESRCH);
        }
    }
    check_eq!(
        "the next from nobody's",
        next(NOBODY).err(),
        Some(-errno::ESRCH)
    );
    check_eq!(
        "the next from no number",
        next(DOMID_SELF as u16).err(),
        Some(-errno::EINVAL)
    );
}

/// What a domain may not do to itself.
fn about_oneself() {
    use DomctlCommand::*;
    for command in [
        Pausedomain,
        Unpausedomain,
        Destroydomain,
        Resumedomain,
        MaxVcpus,
    ] {
        check_eq!(command.name(), plain(command, 0), -errno::EINVAL);
    }
    check_eq!("one's own state", plain(Setvcpucontext, 0), -errno::EINVAL);
    check_eq!(
        "one's own state, read",
        plain(Getvcpucontext, 0),
        -errno::EINVAL
    );
    let beyond = Vcpucontext {
        vcpu: 64,
        ..Vcpucontext::ZERO
    };
    check_eq!(
        "no such vCPU",
        about(Getvcpucontext, 0, &beyond),
        -errno::EINVAL
    );
}

fn creating() {
    let base = ordinary();
    let wrong = |what: &str, wanted: Createdomain| {
        check_eq!(what, create(&wanted, 0), Err(-errno::EINVAL));
    };
    for flag in [
        XEN_DOMCTL_CDF_HVM,
        XEN_DOMCTL_CDF_HAP,
        XEN_DOMCTL_CDF_IOMMU,
        1 << 8,
        1 << 31,
    ] {
        wrong(
            "a flag",
            Createdomain {
                flags: flag,
                ..base
            },
        );
    }
    wrong(
        "options of no use",
        Createdomain {
            iommu_opts: 1,
            ..base
        },
    );
    wrong(
        "no vCPUs",
        Createdomain {
            max_vcpus: 0,
            ..base
        },
    );
    wrong(
        "too many vCPUs",
        Createdomain {
            max_vcpus: 8193,
            ..base
        },
    );
    wrong(
        "no grant table",
        Createdomain {
            max_grant_frames: 0,
            ..base
        },
    );
    wrong(
        "grants of version 0",
        Createdomain {
            grant_opts: 0,
            ..base
        },
    );
    wrong(
        "grants of version 3",
        Createdomain {
            grant_opts: 3,
            ..base
        },
    );
    wrong(
        "grants of more",
        Createdomain {
            grant_opts: 0x11,
            ..base
        },
    );
    wrong(
        "traces",
        Createdomain {
            vmtrace_size: 4096,
            ..base
        },
    );
    let mut emulated = base;
    emulated.arch.emulation_flags = 1;
    check_eq!(
        "a local APIC",
        create(&emulated, 0),
        Err(-errno::EOPNOTSUPP)
    );
    let mut flagged = base;
    flagged.arch.misc_flags = 2;
    wrong("a flag of no meaning", flagged);
    let pool = Createdomain {
        cpupool_id: 7,
        ..base
    };
    check_eq!("another pool", create(&pool, 0), Err(-errno::ESRCH));
}

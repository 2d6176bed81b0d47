//! The control calls, and whole families that are the control domain's.

use guest_runtime::abi::domctl::Createdomain;
use guest_runtime::abi::{Domctl, DomctlCommand, Sysctl, SysctlCommand, VcpuGuestContext};
use guest_runtime::abi::{errno, nr, usage, xeno};
use guest_runtime::hypercall::call;
use guest_runtime::{Global, check_eq, control, frames, say};

use crate::{either, ids};

static CONTEXT: Global<VcpuGuestContext> = Global::new(VcpuGuestContext::ZERO);

/// Compares, and says which command it was when that is wrong.
fn compare(what: &str, command: u32, domain: u16, got: i64, wanted: i64) {
    if !check_eq!(what, got, wanted) {
        say!("  command {command} about domain {domain:#x}");
    }
}

/// Step: every domctl there can be, about every domain.
pub fn domctls(_: [u64; 5]) -> i64 {
    let ids = ids();
    for command in 0..100 {
        for domain in [ids.own, ids.control, ids.other] {
            let mut request = Domctl {
                cmd: command,
                domain,
                ..Domctl::new(DomctlCommand::Getdomaininfo, domain)
            };
            let result = control::domctl(&mut request);
            // Of these Xen looks at the arguments first.
            if !ids.ours && matches!(command, 21 | 38 | 39 | 40 | 46 | 48 | 50) {
                guests::refused("a domctl", result);
            } else {
                compare("a domctl", command, domain, result, -errno::EPERM);
            }
        }
    }
    // Whether there is such a domain is nobody's business here; Xen looks for it first.
    for command in [DomctlCommand::Getdomaininfo, DomctlCommand::Pausedomain] {
        for domain in [ids.nobody, 0x7ff0, 0x7ff2, 0xffff] {
            let result = control::simple(command, domain);
            guests::refused("a domctl about nobody", result);
            if ids.ours {
                compare(
                    "a domctl about nobody",
                    command.number(),
                    domain,
                    result,
                    -errno::EPERM,
                );
            }
        }
    }
    with_arguments();
    versions();
    0
}

/// Those that could do most, with arguments that are right.
fn with_arguments() {
    let ids = ids();
    let created = control::create(&control::ordinary(1));
    check_eq!("createdomain", created, Err(-errno::EPERM));
    let wanted = Createdomain {
        max_vcpus: 0,
        ..control::ordinary(0)
    };
    check_eq!("createdomain", control::create(&wanted), Err(-errno::EPERM));
    for domain in [ids.own, ids.control, ids.other] {
        for (what, result) in [
            ("destroydomain", control::destroy(domain)),
            ("max_mem", control::max_mem(domain, 1 << 20)),
            ("max_vcpus", control::max_vcpus(domain, 4)),
            (
                "pausedomain",
                control::simple(DomctlCommand::Pausedomain, domain),
            ),
            (
                "unpausedomain",
                control::simple(DomctlCommand::Unpausedomain, domain),
            ),
        ] {
            check_eq!(what, result, -errno::EPERM);
        }
        check_eq!(
            "getdomaininfo",
            control::info(domain).map(|i| i.tot_pages),
            Err(-errno::EPERM)
        );
        // SAFETY: no other reference to it is ever made.
        let context = unsafe { &mut *CONTEXT.as_ptr() };
        let marked = VcpuGuestContext {
            flags: 0x5a5a,
            ..VcpuGuestContext::ZERO
        };
        *context = marked;
        let result = control::get_context(domain, 0, context);
        check_eq!("getvcpucontext", result, -errno::EPERM);
        check_eq!("what it leaves", context.flags, 0x5a5a);
        let result = control::set_context(domain, 0, context);
        check_eq!("setvcpucontext", result, -errno::EPERM);
    }
}

/// What is wrong with a call by itself: Xen says that first, ours does not look at it.
fn versions() {
    let mut request = Domctl {
        interface_version: 0x14,
        ..Domctl::new(DomctlCommand::Getdomaininfo, ids().own)
    };
    check_eq!(
        "another version",
        control::domctl(&mut request),
        either(-errno::EACCES, -errno::EPERM)
    );
    let mut request = Sysctl {
        interface_version: 0x14,
        ..Sysctl::new(SysctlCommand::Physinfo)
    };
    check_eq!(
        "another version",
        control::sysctl(&mut request),
        either(-errno::EACCES, -errno::EPERM)
    );
    for number in [nr::DOMCTL, nr::SYSCTL, nr::PLATFORM_OP] {
        let result = call(number, [8, 0, 0, 0, 0]);
        check_eq!(
            "a bad pointer",
            result,
            either(-errno::EFAULT, -errno::EPERM)
        );
    }
}

/// Step: every sysctl there can be.
pub fn sysctls(_: [u64; 5]) -> i64 {
    for command in 0..40 {
        let mut request = Sysctl {
            cmd: command,
            ..Sysctl::new(SysctlCommand::Physinfo)
        };
        compare(
            "a sysctl",
            command,
            0,
            control::sysctl(&mut request),
            -errno::EPERM,
        );
    }
    check_eq!("free frames", control::free_frames(), Err(-errno::EPERM));
    0
}

/// Step: the machine's own families.
pub fn others(_: [u64; 5]) -> i64 {
    let page = frames::allocate();
    for version in [0x0300_0000u64, 0x0300_0001] {
        for command in 0..70 {
            page.clear();
            page.write(0, command | version << 32);
            let result = call(nr::PLATFORM_OP, [page.va(), 0, 0, 0, 0]);
            let wanted = match version {
                0x0300_0001 => -errno::EPERM,
                _ => either(-errno::EACCES, -errno::EPERM), // Xen knows one only.
            };
            compare("a platform_op", command as u32, 0, result, wanted);
        }
    }
    for command in 0..8 {
        page.clear();
        page.write(0, command | 0x01ec_c003 << 32);
        let result = call(nr::MCA, [page.va(), 0, 0, 0, 0]);
        compare("an mca command", command as u32, 0, result, -errno::EPERM);
    }
    page.clear();
    page.write(0, u64::from(xeno::XENO_INTERFACE_VERSION));
    for operation in 0..4 {
        let result = call(nr::XENO_OP, [operation, page.va(), 0, 0, 0]);
        let wanted = either(-errno::ENOSYS, -errno::EPERM);
        compare("a xeno_op", operation as u32, 0, result, wanted);
    }
    // What it used itself anybody may know; what others used, not.
    let ids = ids();
    for (domid, ours) in [
        (ids.own, 0),
        (ids.control, -errno::EPERM),
        (ids.other, -errno::EPERM),
    ] {
        let operation = xeno::XenoCommand::Usage as u64;
        page.clear();
        page.write(
            0,
            u64::from(xeno::XENO_INTERFACE_VERSION) | u64::from(domid) << 32,
        );
        page.write(1, u64::from(usage::USAGE_OF_DOMAIN));
        let result = call(nr::XENO_OP, [operation, page.va(), 0, 0, 0]);
        compare(
            "usage",
            operation as u32,
            domid,
            result,
            either(-errno::ENOSYS, ours),
        );
    }
    frames::release(page);
    // kexec_op, hypfs_op and those that nobody has any more.
    for number in [27, 31, 34, 37, 38, 39, 41, 42] {
        let result = call(number, [0; 5]);
        if !check_eq!("another family", (-4095..0).contains(&result), true) {
            say!("  hypercall {number} answers {result:#x}");
        }
    }
    0
}

//! Domains made, looked at, and destroyed at each stage.

use guest_runtime::abi::domctl::*;
use guest_runtime::abi::sysctl::{Physinfo, SchedId, Sysctl, SysctlCommand};
use guest_runtime::abi::{VGCF_IN_KERNEL, VcpuGuestContext, errno};
use guest_runtime::{check, check_eq};
use guests::accepted;

use crate::calls::*;

const PAUSED: u32 = XEN_DOMINF_PAUSED;
/// All that says something while there is no reason of a shutdown.
const FLAGS: u32 = (1 << XEN_DOMINF_SHUTDOWNSHIFT) - 1;

pub fn all() {
    machine();
    numbers();
    looks();
    pauses();
    states();
    for stage in 0..STAGES.len() {
        destroyed_at(stage);
    }
}

fn machine() {
    let mut call = Sysctl::new(SysctlCommand::Physinfo);
    accepted("physinfo", sysctl(&mut call));
    let info: Physinfo = call.payload();
    check!(
        info.total_pages > info.free_pages && info.free_pages > 0,
        "there is memory"
    );
    check!(
        info.nr_cpus >= 1 && info.max_cpu_id + 1 >= info.nr_cpus,
        "there are CPUs"
    );
    check!(info.capabilities & 2 != 0, "runs these guests");
    check!(info.cpu_khz > 1000, "a clock");
    let mut call = Sysctl::new(SysctlCommand::SchedId);
    accepted("sched_id", sysctl(&mut call));
    check_eq!(
        "a scheduler that tools know",
        call.payload::<SchedId>().sched_id,
        6
    );
}

fn made(number: u16) -> u16 {
    match create(&ordinary(), number) {
        Ok(domain) => domain,
        Err(error) => {
            check_eq!("a domain is created", error, 0);
            0
        }
    }
}

/// Numbers go round, or are asked for.
fn numbers() {
    let first = made(0);
    let second = made(0);
    check_eq!("the next number", second, first + 1);
    accepted("destroy", destroy(first));
    check_eq!("another than was just given back", made(0), first + 2);
    check_eq!("a number asked for", made(100), 100);
    check_eq!(
        "one that is taken",
        create(&ordinary(), 100),
        Err(-errno::EEXIST)
    );
    check_eq!("the number goes on where it was", made(0), first + 3);
    let wanted: [u16; 5] = [0, first + 1, first + 2, first + 3, 100];
    match listed::<8>(0) {
        Ok((found, count)) => check_eq!("the list", &found[..count], &wanted[..]),
        Err(error) => check_eq!("the list", error, 0),
    };
    match listed::<2>(first) {
        Ok((found, count)) => {
            check_eq!(
                "a part of the list",
                &found[..count],
                &[first + 1, first + 2][..]
            )
        }
        Err(error) => check_eq!("a part of the list", error, 0),
    };
    check_eq!(
        "the next there is",
        next(first).map(|i| i.domain),
        Ok(first + 1)
    );
    check_eq!(
        "the next but many",
        next(first + 4).map(|i| i.domain),
        Ok(100)
    );
    check_eq!("no next", next(101).err(), Some(-errno::ESRCH));
    for domain in [first + 1, first + 2, first + 3, 100] {
        accepted("destroy", destroy(domain));
        check_eq!("it is gone", info(domain), None);
    }
    check_eq!("destroy it again", destroy(100), -errno::ESRCH);
}

fn looks() {
    let domain = made(0);
    let Some(fresh) = info(domain) else {
        check!(false, "it is there");
        return;
    };
    check_eq!("paused, and nothing else", fresh.flags & FLAGS, PAUSED);
    check_eq!("no vCPUs", fresh.max_vcpu_id, XEN_INVALID_MAX_VCPU_ID);
    check_eq!("its handle", fresh.handle, HANDLE);
    check_eq!("no memory", (fresh.tot_pages, fresh.max_pages), (0, 0));
    check!(fresh.shared_info_frame != 0, "a shared page");
    accepted("most memory", max_frames(domain, 300));
    for wrong in [0, 1, 3, 64] {
        check_eq!(
            "another number of vCPUs",
            max_vcpus(domain, wrong),
            -errno::EINVAL
        );
    }
    accepted("vCPUs", max_vcpus(domain, 2));
    accepted("vCPUs again", max_vcpus(domain, 2));
    let other = Setdomainhandle { handle: [7; 16] };
    accepted(
        "another handle",
        about(DomctlCommand::Setdomainhandle, domain, &other),
    );
    let now = info(domain).unwrap_or(Getdomaininfo::ZERO);
    check_eq!("its most memory", now.max_pages, 300);
    check_eq!("its vCPUs", (now.max_vcpu_id, now.nr_online_vcpus), (1, 0));
    check_eq!("its handle now", now.handle, [7; 16]);
    vcpus(domain);
    accepted("destroy", destroy(domain));
}

fn vcpus(domain: u16) {
    for (vcpu, result) in [(0, 0), (1, 0), (2, -errno::EINVAL), (!0, -errno::EINVAL)] {
        let mut call = Domctl::new(DomctlCommand::Getvcpuinfo, domain);
        call.set_payload(&Getvcpuinfo {
            vcpu,
            ..Getvcpuinfo::ZERO
        });
        check_eq!("a vCPU", domctl(&mut call), result);
        let info: Getvcpuinfo = call.payload();
        check_eq!(
            "it is down",
            (info.online, info.running, info.cpu_time),
            (0, 0, 0)
        );
    }
}

fn pauses() {
    use DomctlCommand::{Pausedomain, Resumedomain, Unpausedomain};
    let domain = made(0);
    accepted("unpause", plain(Unpausedomain, domain));
    check_eq!("it runs", info(domain).map(|i| i.flags & FLAGS), Some(0));
    check_eq!(
        "unpause again",
        plain(Unpausedomain, domain),
        -errno::EINVAL
    );
    for _ in 0..255 {
        accepted("pause", plain(Pausedomain, domain));
    }
    check_eq!(
        "one pause too many",
        plain(Pausedomain, domain),
        -errno::EOVERFLOW
    );
    for _ in 0..254 {
        accepted("unpause", plain(Unpausedomain, domain));
    }
    check_eq!(
        "still paused",
        info(domain).map(|i| i.flags & FLAGS),
        Some(PAUSED)
    );
    accepted("resume one that did not stop", plain(Resumedomain, domain));
    accepted("destroy", destroy(domain));
}

/// States that a vCPU cannot have.
fn states() {
    let domain = made(0);
    let mut context = VcpuGuestContext::ZERO;
    let set = |vcpu: u32, ctxt: u64| {
        let payload = Vcpucontext {
            vcpu,
            ctxt,
            ..Vcpucontext::ZERO
        };
        about(DomctlCommand::Setvcpucontext, domain, &payload)
    };
    let at = core::hint::black_box(&raw mut context) as u64;
    check_eq!("no vCPU yet", set(0, at), -errno::EINVAL);
    accepted("vCPUs", max_vcpus(domain, 2));
    check_eq!("no such vCPU", set(2, at), -errno::EINVAL);
    check_eq!("nowhere", set(0, 0x10), -errno::EFAULT);
    check_eq!("no root", set(0, at), -errno::EINVAL);
    // SAFETY: ours alone; written past the compiler, which does not see the hypervisor read it.
    let put = |context: VcpuGuestContext| unsafe {
        (at as *mut VcpuGuestContext).write_volatile(context)
    };
    let mut wanted = VcpuGuestContext::ZERO;
    wanted.flags = VGCF_IN_KERNEL;
    put(wanted);
    check_eq!("frame 0 as a root", set(0, at), -errno::EINVAL);
    // Ours, not its.
    wanted.ctrlreg[3] = guest_runtime::page_table::root().maddr();
    put(wanted);
    check_eq!("a root of ours", set(0, at), -errno::EINVAL);
    accepted("no state at all", set(1, 0));
    let read = Vcpucontext {
        ctxt: at,
        ..Vcpucontext::ZERO
    };
    check_eq!(
        "a state that it has not",
        about(DomctlCommand::Getvcpucontext, domain, &read),
        -errno::ENODATA
    );
    accepted("destroy", destroy(domain));
}

/// What a stage is called and how a domain comes to it.
type Stage = (&'static str, fn(u16) -> i64);

const STAGES: [Stage; 6] = [
    ("created", |_| 0),
    ("with its most memory", |domain| max_frames(domain, 1000)),
    ("with vCPUs", |domain| max_vcpus(domain, 2)),
    ("unpaused", |domain| {
        plain(DomctlCommand::Unpausedomain, domain)
    }),
    ("paused again", |domain| {
        plain(DomctlCommand::Pausedomain, domain)
    }),
    ("paused twice", |domain| {
        plain(DomctlCommand::Pausedomain, domain)
    }),
];

/// Destroys a domain when it has come as far as a stage: all is as before.
fn destroyed_at(stage: usize) {
    let before = audit_here();
    let domain = made(0);
    for (what, act) in &STAGES[..=stage] {
        accepted(what, act(domain));
    }
    if let Some(during) = audit(domain) {
        check_eq!("no count is wrong", during.mismatches, 0);
        check!(during.overhead > 0, "it costs ring 0 something");
    }
    accepted("destroy", destroy(domain));
    check_eq!("all is as before", audit_here(), before);
}

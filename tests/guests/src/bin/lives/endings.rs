//! Ends: every reason, in every state, and who is told.

use guest_runtime::abi::domctl::{XEN_DOMINF_BLOCKED, XEN_DOMINF_RUNNING, XEN_DOMINF_SHUTDOWN};
use guest_runtime::abi::{DomctlCommand, ShutdownReason, errno, sched};
use guest_runtime::builder::{self, Child, Plan};
use guest_runtime::hypercall::sched_op;
use guest_runtime::{check, check_eq, child, control, events, hypercall, link};
use guests::channels::{self, VIRQ_DOM_EXC};

use crate::with_child;

/// Step: shuts down for any reason; the answer is what came of it.
fn shut_down([reason, ..]: [u64; 5]) -> i64 {
    sched_op(sched::SHUTDOWN, &mut (reason as u32))
}

/// Every reason is told, also one that nobody has given a meaning, and nothing of the child runs any more.
pub fn every_reason() {
    for reason in [0, 1, 2, 3, 4, 5, 6, 254] {
        with_child(Plan::SMALL, |child| {
            child.start(shut_down, [reason, 0, 0, 0, 0]);
            check_eq!("the reason", child.wait_shutdown(), Some(reason as u32));
            let info = child.info().unwrap_or_default();
            check!(info.flags & XEN_DOMINF_SHUTDOWN != 0, "it has shut down");
            check_eq!(
                "its frames are still there",
                info.tot_pages,
                Plan::SMALL.pages
            );
            // It does not go on by itself, and pausing and letting go is not that either.
            let link = child.link();
            check_eq!("pause", child.pause(), 0);
            check_eq!("unpause", child.run(), 0);
            hypercall::send(child.port());
            child::wait(&[], events::now_ns() + 2_000_000);
            check!(!link.is_done(), "it does nothing any more");
        });
    }
    with_child(Plan::SMALL, |child| {
        // One that was declared for it.
        let mut request = guest_runtime::abi::RemoteShutdown {
            domain_id: child.id,
            reason: ShutdownReason::Reboot.number(),
            ..Default::default()
        };
        let result = sched_op(sched::REMOTE_SHUTDOWN, &mut request);
        check_eq!("remote_shutdown", result, 0);
        check_eq!(
            "the reason",
            child.wait_shutdown(),
            builder::reason(ShutdownReason::Reboot)
        );
    });
}

/// A state that a child can be in when its end comes.
type Enter = fn(&mut Child);

/// Destroys children that run, sleep, poll, are paused, have shut down, or hold ports.
pub fn every_state() {
    let states: [(&str, Enter); 8] = [
        ("waiting", |_| {}),
        ("running", |child| {
            child.start(spin, [0; 5]);
            let counted = child.wait_until(|child| child.link().get(link::FREE) > 0);
            check!(counted, "it runs");
        }),
        ("asleep", |child| {
            child.start(sleep, [0; 5]);
            child.wait_until(|child| child.link().get(link::FREE) > 0);
            child::wait(&[], events::now_ns() + 1_000_000);
        }),
        ("asleep with a timer", |child| {
            child.start(doze, [0; 5]);
            child.wait_until(|child| child.link().get(link::FREE) > 0);
            child::wait(&[], events::now_ns() + 1_000_000);
        }),
        ("paused", |child| {
            child.start(spin, [0; 5]);
            check_eq!("pause", child.pause(), 0);
        }),
        ("paused twice", |child| {
            check_eq!("pause", child.pause(), 0);
            check_eq!("pause", child.pause(), 0);
        }),
        ("shut down", |child| {
            child.start(shut_down, [1, 0, 0, 0, 0]);
            check_eq!("the reason", child.wait_shutdown(), Some(1));
        }),
        ("with many ports", |child| {
            let opened = child.call(open_ports, [300, 0, 0, 0, 0]);
            check_eq!("ports", opened, 300);
        }),
    ];
    for (what, enter) in states {
        let Some(mut child) = builder::running(Plan::SMALL) else {
            return;
        };
        enter(&mut child);
        let id = child.id;
        check!(child.destroy_and_wait(), what);
        check_eq!("a second end", control::destroy(id), -errno::ESRCH);
    }
    let own = guest_runtime::abi::DOMID_SELF as u16;
    for domain in [0, own] {
        let result = control::simple(DomctlCommand::Destroydomain, domain);
        check!(
            result == -errno::EINVAL || result == -errno::ESRCH,
            "nobody destroys itself"
        );
    }
}

/// Step: counts in the shared page for ever.
pub fn spin(_: [u64; 5]) -> i64 {
    loop {
        if let Some(link) = child::link() {
            link.add(link::FREE, 1);
        }
    }
}

/// Step: says that it is there, and sleeps for ever.
fn sleep(_: [u64; 5]) -> i64 {
    if let Some(link) = child::link() {
        link.set(link::FREE, 1);
    }
    loop {
        hypercall::call(guest_runtime::abi::nr::SCHED_OP, [sched::BLOCK, 0, 0, 0, 0]);
    }
}

/// Step: says that it is there, and sleeps until a time that never comes.
fn doze(_: [u64; 5]) -> i64 {
    if let Some(link) = child::link() {
        link.set(link::FREE, 1);
    }
    child::wait(&[], events::now_ns() + 3_600_000_000_000)
}

/// Step: opens ports to the parent, which never binds them.
fn open_ports([count, ..]: [u64; 5]) -> i64 {
    (0..count)
        .filter(|_| channels::alloc_unbound(child::parent()).is_ok())
        .count() as i64
}

/// The control domain is told of a child that stops, and of one that goes.
pub fn events() {
    let port = match channels::bind_virq(VIRQ_DOM_EXC, 0) {
        Ok(port) => port,
        Err(error) => {
            check_eq!("VIRQ_DOM_EXC is bound", error, 0);
            return;
        }
    };
    with_child(Plan::SMALL, |child| {
        events::clear_port(port);
        let flags = child.info().map_or(0, |info| info.flags);
        check!(
            flags & (XEN_DOMINF_BLOCKED | XEN_DOMINF_RUNNING | XEN_DOMINF_SHUTDOWN)
                != XEN_DOMINF_SHUTDOWN,
            "it has not shut down"
        );
        check_eq!("nobody has stopped", events::port_pending(port), false);
        child.start(shut_down, [0; 5]);
        child.wait_shutdown();
        check_eq!("told of an end", events::clear_port(port), true);
        check_eq!("told once", events::clear_port(port), false);
    });
    // Xen takes it off the list first, and tells later.
    child::wait(&[port], events::now_ns() + 1_000_000_000);
    check_eq!("told that it is gone", events::clear_port(port), true);
    check_eq!("the port is closed", channels::close(port), 0);
}

//! An end in ring 0 that serves an ordinary domain. Only ours has one.

use guest_runtime::abi::ends::DOMID_ECHO;
use guest_runtime::abi::grant::*;
use guest_runtime::abi::xeno::{AttachEnd, DetachEnd, XENO_INTERFACE_VERSION, XenoCommand};
use guest_runtime::abi::{errno, nr};
use guest_runtime::builder::{self, Child, Plan};
use guest_runtime::hypercall::call;
use guest_runtime::{check, check_eq, control, events, link};
use guests::accepted;

use crate::{GREF, steps};

const ECHO: u64 = DOMID_ECHO as u64;
const LENT: u64 = GTF_PERMIT_ACCESS as u64;

fn attach(domid: u16, port: u64) -> i64 {
    let mut want = AttachEnd {
        version: XENO_INTERFACE_VERSION,
        domid,
        end: DOMID_ECHO,
        port: port as u32,
        nr_grefs: 1,
        grefs: [GREF as u32, 0, 0, 0],
        ..AttachEnd::ZERO
    };
    let command = u64::from(XenoCommand::AttachEnd.number());
    call(nr::XENO_OP, [command, &raw mut want as u64, 0, 0, 0])
}

fn detach(domid: u16, port: u64) -> i64 {
    let mut want = DetachEnd {
        version: XENO_INTERFACE_VERSION,
        domid,
        port: port as u32,
        ..DetachEnd::ZERO
    };
    let command = u64::from(XenoCommand::DetachEnd.number());
    call(nr::XENO_OP, [command, &raw mut want as u64, 0, 0, 0])
}

/// A child with a ring for the end and a port that waits for it: both.
fn child() -> Option<(Child, u64)> {
    if !control::is_ours() {
        return None;
    }
    let mut child = builder::running(Plan::SMALL)?;
    let frame = child.call(steps::frame, [0; 5]) as u64;
    child.call(steps::entry, [GREF, LENT, ECHO, frame, 0]);
    let port = child.call(steps::open, [ECHO, 0, 0, 0, 0]);
    check!(port > 0, "a port that waits for the end");
    Some((child, port as u64))
}

fn flags(child: &mut Child) -> i64 {
    child.call(steps::flags, [GREF, 0, 0, 0, 0])
}

pub fn of_a_child() {
    let Some((mut child, port)) = child() else {
        return;
    };
    let kind = |child: &mut Child| child.call(steps::kind, [port, 0, 0, 0, 0]);
    for command in [XenoCommand::AttachEnd, XenoCommand::DetachEnd] {
        let command = u64::from(command.number());
        let result = child.call(steps::xeno, [command, 0, 0, 0, 0]);
        check_eq!("not for an ordinary domain", result, -errno::EPERM);
    }
    let bound = child.call(steps::bind, [ECHO, 1, 0, 0, 0]);
    check_eq!("no domain to bind to", bound, -errno::ESRCH);
    check_eq!("unheard", kind(&mut child), 1);
    accepted("attach", attach(child.id, port));
    check_eq!("linked", kind(&mut child), 2);
    for index in 0..100 {
        let answer = child.call(steps::echo, [0, port, index, 0, 0]);
        check_eq!("an answer", answer, 1);
    }
    let used = LENT | u64::from(GTF_READING | GTF_WRITING);
    check_eq!("its grant is used", flags(&mut child), used as i64);
    accepted("detach", detach(child.id, port));
    check_eq!("and not any more", flags(&mut child), LENT as i64);
    check_eq!("it waits again", kind(&mut child), 1);
    accepted("attach again", attach(child.id, port));
    let answer = child.call(steps::echo, [0, port, 100, 0, 0]);
    check_eq!("it goes on where it was", answer, 1);
    check!(child.destroy_and_wait(), "the child is gone");
}

/// The child asks as fast as it can: detached, attached again, paused and destroyed in the middle of it.
pub fn child_dies() {
    let Some((mut child, port)) = child() else {
        return;
    };
    accepted("attach", attach(child.id, port));
    child.start(steps::echo_for_ever, [0, port, 0, 0, 0]);
    let mut seen = 0;
    for _ in 0..5 {
        let further = child.wait_until(|child| child.link().get(link::FREE) > seen + 10);
        check!(further, "it asks");
        seen = child.link().get(link::FREE);
        accepted("detach", detach(child.id, port));
        let result = attach(child.id, port);
        check_eq!("attach", result, 0);
    }
    let until = events::now_ns() + 2_000_000;
    while events::now_ns() < until {}
    check!(child.destroy_and_wait(), "the child is gone");
    check_eq!("nobody's port", attach(4711, port), -errno::ESRCH);
}

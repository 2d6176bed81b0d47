//! Ports between two children.

use guest_runtime::abi::event::{AllocUnbound, PortStatus, Status};
use guest_runtime::abi::{errno, evtchn};
use guest_runtime::builder::Child;
use guest_runtime::hypercall::event_channel;
use guest_runtime::{check, check_eq, child, events, link};
use guests::channels;

use crate::{steps, with_two};

const UNBOUND: i64 = PortStatus::Unbound.number() as i64;
const BOUND: i64 = PortStatus::Interdomain.number() as i64;
const CLOSED: i64 = PortStatus::Closed.number() as i64;

fn one(value: u64) -> [u64; 5] {
    [value, 0, 0, 0, 0]
}

/// Opens a port of `one` to `two` and binds it there: both ends.
fn join(one_end: &mut Child, two_end: &mut Child) -> [u64; 2] {
    let port = one_end.call(steps::open, one(u64::from(two_end.id)));
    check!(port > 0, "a port is opened");
    let end = two_end.call(steps::bind, [u64::from(one_end.id), port as u64, 0, 0, 0]);
    check!(end > 0, "and bound");
    [port as u64, end as u64]
}

/// What the control domain sees of a port of another: kind, and the other end's domain and port.
fn seen(child: &Child, port: u64) -> (i64, u32, u32) {
    let mut status = Status {
        dom: child.id,
        port: port as u32,
        ..Status::default()
    };
    let result = event_channel(evtchn::STATUS, &mut status);
    check_eq!("status on behalf", result, 0);
    (
        i64::from(status.status),
        status.peer & 0xffff,
        status.peer_port,
    )
}

/// Notifications both ways, refusals, and ports that the control domain opens for others.
pub fn between_two() {
    with_two(|mut a, mut b| {
        let [here, there] = join(&mut a, &mut b);
        // A new binding is told once, so that nothing sent before it is lost.
        b.call(steps::take, one(there));
        a.call(steps::take, one(here));
        check_eq!("nothing came", b.call(steps::take, one(there)), 0);
        check_eq!("send", a.call(steps::send, one(here)), 0);
        check_eq!("it came", b.call(steps::take, one(there)), 1);
        check_eq!("once", b.call(steps::take, one(there)), 0);
        check_eq!("send back", b.call(steps::send, one(there)), 0);
        check_eq!("it came back", a.call(steps::take, one(here)), 1);
        check_eq!("one end", a.call(steps::status, one(here)), BOUND);
        check_eq!("the other", b.call(steps::status, one(there)), BOUND);
        check_eq!(
            "as the control domain sees it",
            seen(&a, here),
            (BOUND, u32::from(b.id), there as u32)
        );
        // A port that is taken, one for another domain, and one that nobody opened.
        let taken = b.call(steps::bind, [u64::from(a.id), here, 0, 0, 0]);
        check_eq!("a port that is bound", taken, -errno::EINVAL);
        let ours = channels::bind_interdomain(u64::from(a.id), here as u32);
        check_eq!("somebody else's port", ours, Err(-errno::EINVAL));
        let none = b.call(steps::bind, [u64::from(a.id), 900, 0, 0, 0]);
        check_eq!("no port", none, -errno::EINVAL);
        let own = a.call(steps::open, one(u64::from(a.id)));
        check!(own > 0, "a port for itself");
        let other = b.call(steps::bind, [u64::from(a.id), own as u64, 0, 0, 0]);
        check_eq!("is not for others", other, -errno::EINVAL);
        on_behalf(&mut a, &mut b);
        [Some(a), Some(b)]
    });
}

fn on_behalf(a: &mut Child, b: &mut Child) {
    let mut open = AllocUnbound {
        dom: a.id,
        remote_dom: b.id,
        port: 0,
    };
    let result = event_channel(evtchn::ALLOC_UNBOUND, &mut open);
    check_eq!("a port for two others", result, 0);
    let port = u64::from(open.port);
    check_eq!("it waits", a.call(steps::status, one(port)), UNBOUND);
    let ours = channels::bind_interdomain(u64::from(a.id), open.port);
    check_eq!("it is not for who opened it", ours, Err(-errno::EINVAL));
    let end = b.call(steps::bind, [u64::from(a.id), port, 0, 0, 0]);
    check!(end > 0, "it is for the other");
    b.call(steps::send, one(end as u64));
    check_eq!("it works", a.call(steps::take, one(port)), 1);
    check_eq!("closed", a.call(steps::close, one(port)), 0);
    check_eq!("is closed", seen(a, port).0, CLOSED);
    check_eq!(
        "the other waits",
        b.call(steps::status, one(end as u64)),
        UNBOUND
    );
}

/// One side sends without end while the other closes and binds again.
pub fn closed_while_sending() {
    with_two(|mut a, mut b| {
        let [here, mut there] = join(&mut a, &mut b);
        a.start(steps::send_for_ever, one(here));
        let mut sent = 0;
        for _ in 0..6 {
            let sends = a.wait_until(|a| a.link().get(link::FREE) > sent);
            check!(sends, "it sends");
            sent = a.link().get(link::FREE);
            check_eq!("it comes", b.call(steps::take, one(there)), 1);
            check_eq!("close", b.call(steps::close, one(there)), 0);
            let (kind, peer, _) = seen(&a, here);
            check_eq!(
                "the sender's end waits",
                (kind, peer),
                (UNBOUND, u32::from(b.id))
            );
            b.call(steps::take, one(there));
            child::wait(&[], events::now_ns() + 3_000_000);
            check_eq!("nothing comes", b.call(steps::take, one(there)), 0);
            let again = b.call(steps::bind, [u64::from(a.id), here, 0, 0, 0]);
            check!(again > 0, "it is bound again");
            there = again as u64;
        }
        [Some(a), Some(b)]
    });
}

/// Ports whose other domain goes: they wait for it, for ever; its number alone brings nobody there.
pub fn of_one_that_goes() {
    with_two(|mut a, mut b| {
        let [here, _] = join(&mut a, &mut b);
        let [mine, theirs] = join(&mut b, &mut a);
        a.start(steps::send_for_ever, one(here));
        child::wait(&[], events::now_ns() + 7_000_000);
        check!(mine > 0 && b.destroy_and_wait(), "the other is gone");
        let sent = a.link().get(link::FREE);
        let sends = a.wait_until(|a| a.link().get(link::FREE) > sent);
        check!(sends, "it sends on");
        for port in [here, theirs] {
            check_eq!("a port of nobody", seen(&a, port).0, UNBOUND);
        }
        [Some(a), None]
    });
}

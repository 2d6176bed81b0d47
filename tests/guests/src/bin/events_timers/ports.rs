//! The life of ports of each kind.

use guest_runtime::abi::event::BindPirq;
use guest_runtime::abi::{DOMID_INVALID, DOMID_SELF, errno};
use guest_runtime::{check, check_eq, events, hypercall, skip};
use guests::channels::{
    VIRQ_TIMER, alloc_unbound, bind_interdomain, bind_ipi, bind_vcpu, bind_virq, close, kind,
    notify, status, take_all, unmask,
};
use guests::{accepted, refused};

const BIND_PIRQ: u64 = 2;
const CLOSED: i64 = 0;
const UNBOUND: i64 = 1;
const INTERDOMAIN: i64 = 2;
const PIRQ: i64 = 3;
const VIRQ: i64 = 4;
const IPI: i64 = 5;

pub fn all() {
    virtual_interrupts();
    interprocessor();
    wired();
    interdomain();
    bad_ports();
    reuse();
    exhaustion();
}

fn virtual_interrupts() {
    let Ok(port) = bind_virq(VIRQ_TIMER, 0) else {
        return guest_runtime::check::fail(format_args!("bind_virq"));
    };
    check!(port != 0, "port 0 is never given out");
    check_eq!("its kind", kind(port), VIRQ);
    check_eq!(
        "a second bind",
        bind_virq(VIRQ_TIMER, 0),
        Err(-errno::EEXIST)
    );
    check_eq!(
        "moving a vCPU's own interrupt",
        bind_vcpu(port, 0),
        -errno::EINVAL
    );
    accepted("close", close(port));
    check_eq!("its kind after closing", kind(port), CLOSED);
    let again = bind_virq(VIRQ_TIMER, 0);
    check!(again.is_ok(), "it can be bound again");
    accepted("close", close(again.unwrap_or(0)));
    for (virq, vcpu) in [
        (24, 0),
        (99, 0),
        (u32::MAX, 0),
        (VIRQ_TIMER, 99),
        (VIRQ_TIMER, u32::MAX),
        (2, 1),
    ] {
        check!(
            bind_virq(virq, vcpu).is_err(),
            "a bind of what does not exist"
        );
    }
}

fn interprocessor() {
    let Ok(port) = bind_ipi(0) else {
        return guest_runtime::check::fail(format_args!("bind_ipi"));
    };
    check_eq!("its kind", kind(port), IPI);
    check_eq!("moving it", bind_vcpu(port, 0), -errno::EINVAL);
    check!(
        bind_ipi(99).is_err() && bind_ipi(u32::MAX).is_err(),
        "for a vCPU that does not exist"
    );
    events::clear_port(port);
    accepted("send", notify(port));
    check!(events::port_pending(port), "it is pending here");
    accepted("close", close(port));
    check!(
        !events::port_pending(port),
        "closing clears what is pending"
    );
    refused("send after closing", notify(port));
}

/// A physical interrupt: what status says of its port.
fn wired() {
    const LINE: u32 = 8;
    let mut bind = BindPirq {
        pirq: LINE,
        ..BindPirq::default()
    };
    if hypercall::event_channel(BIND_PIRQ, &mut bind) != 0 {
        return skip!("this hypervisor wants the interrupt mapped first");
    }
    let port = bind.port;
    let told = status(port).map(|s| (i64::from(s.status), s.peer, s.vcpu));
    check_eq!("kind, interrupt and vCPU", told, Ok((PIRQ, LINE, 0)));
    let mut again = BindPirq {
        pirq: LINE,
        ..BindPirq::default()
    };
    check_eq!(
        "a second bind",
        hypercall::event_channel(BIND_PIRQ, &mut again),
        -errno::EEXIST
    );
    accepted("moving it", bind_vcpu(port, 0));
    refused("sending on it", notify(port));
    accepted("close", close(port));
    check_eq!("its kind after closing", kind(port), CLOSED);
}

/// Two ports of one domain joined: each sends to the other; closing one leaves the other unbound.
fn interdomain() {
    let Ok(first) = alloc_unbound(DOMID_SELF) else {
        return guest_runtime::check::fail(format_args!("alloc_unbound"));
    };
    check_eq!("an unbound port", kind(first), UNBOUND);
    accepted("send on an unbound port", notify(first));
    let Ok(second) = bind_interdomain(DOMID_SELF, first) else {
        return guest_runtime::check::fail(format_args!("bind_interdomain"));
    };
    check!(
        events::port_pending(second),
        "binding raises an event at the binder"
    );
    check_eq!(
        "their kinds",
        (kind(first), kind(second)),
        (INTERDOMAIN, INTERDOMAIN)
    );
    let more = status(second).map(|status| status.peer_port);
    check_eq!("the other end as status tells", more, Ok(first));
    check!(
        bind_interdomain(DOMID_SELF, first).is_err(),
        "a port is bound once"
    );
    for (from, to) in [(first, second), (second, first)] {
        events::clear_port(to);
        accepted("send", notify(from));
        check_eq!(
            "who gets it",
            (events::port_pending(from), events::port_pending(to)),
            (false, true)
        );
        events::clear_port(to);
    }
    accepted("moving it", bind_vcpu(first, 0));
    refused(
        "moving it to a vCPU that does not exist",
        bind_vcpu(first, 99),
    );
    accepted("close of one end", close(first));
    check_eq!("the other end is unbound", kind(second), UNBOUND);
    accepted("send to nobody", notify(second));
    let third = bind_interdomain(DOMID_SELF, second);
    check!(third.is_ok(), "it can be bound again");
    accepted("close", close(second));
    check_eq!("the third is unbound", third.map(kind), Ok(UNBOUND));
    accepted("close", close(third.unwrap_or(0)));
    check!(
        alloc_unbound(DOMID_INVALID).is_ok_and(|port| close(port) == 0)
            || alloc_unbound(DOMID_INVALID).is_err(),
        "a port for nobody"
    );
    check!(
        bind_interdomain(77, 1).is_err(),
        "a domain that does not exist"
    );
}

fn bad_ports() {
    for port in [0u32, 4095, 4096, 131_071, 131_072, 1 << 20, u32::MAX] {
        refused("send on what is no port", notify(port));
        refused("close of what is no port", close(port));
        refused("moving what is no port", bind_vcpu(port, 0));
        check!(kind(port) <= 0, "status of what is no port");
        check!(
            bind_interdomain(DOMID_SELF, port).is_err(),
            "binding to what is no port"
        );
    }
    for port in [4096u32, 131_072, u32::MAX] {
        refused("unmasking what is no port", unmask(port));
    }
}

/// Ports are not used up by closing and opening.
fn reuse() {
    let mut highest = 0;
    for _ in 0..5000 {
        let Ok(port) = bind_ipi(0) else {
            return guest_runtime::check::fail(format_args!("ports are used up"));
        };
        highest = highest.max(port);
        close(port);
    }
    check!(highest < 4096, "ports are given out again");
}

/// All ports can be taken; then it is an error, and all can be given back.
fn exhaustion() {
    let mut ports = [0u32; 4200];
    let (taken, error) = take_all(&mut ports);
    check!(
        error == -errno::ENOSPC || error == -errno::ENOMEM,
        "more ports than there are"
    );
    check!(taken >= 256, "there are enough ports");
    let mut sorted = ports;
    sorted[..taken].sort_unstable();
    check!(
        sorted[..taken].windows(2).all(|pair| pair[0] < pair[1]),
        "each port is given out once"
    );
    let closed = ports[..taken]
        .iter()
        .filter(|&&port| close(port) == 0)
        .count();
    check_eq!("ports closed", closed, taken);
    let port = alloc_unbound(DOMID_SELF);
    check!(port.is_ok(), "there are ports again");
    accepted("close", close(port.unwrap_or(0)));
}

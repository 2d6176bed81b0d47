//! Short ways to make event channel operations.

use guest_runtime::abi::event::{
    AllocUnbound, BindInterdomain, BindIpi, BindVcpu, BindVirq, Close, Status, Unmask, Virq,
};
use guest_runtime::abi::{DOMID_SELF, evtchn};
use guest_runtime::hypercall::{event_channel, send};

/// The timer's virtual interrupt.
pub const VIRQ_TIMER: u32 = Virq::Timer.number();

/// The control domain's virtual interrupt that tells of domains that stop or go.
pub const VIRQ_DOM_EXC: u32 = Virq::DomExc.number();

/// Binds a virtual interrupt: the port or the error.
pub fn bind_virq(virq: u32, vcpu: u32) -> Result<u32, i64> {
    let mut bind = BindVirq {
        virq,
        vcpu,
        port: 0,
    };
    port_or(event_channel(evtchn::BIND_VIRQ, &mut bind), bind.port)
}

/// Binds an interprocessor interrupt: the port or the error.
pub fn bind_ipi(vcpu: u32) -> Result<u32, i64> {
    let mut bind = BindIpi { vcpu, port: 0 };
    port_or(event_channel(evtchn::BIND_IPI, &mut bind), bind.port)
}

/// A port of ours that `remote` may bind to.
pub fn alloc_unbound(remote: u64) -> Result<u32, i64> {
    let mut alloc = AllocUnbound {
        dom: DOMID_SELF as u16,
        remote_dom: remote as u16,
        port: 0,
    };
    port_or(event_channel(evtchn::ALLOC_UNBOUND, &mut alloc), alloc.port)
}

/// Binds to a port of `remote`.
pub fn bind_interdomain(remote: u64, remote_port: u32) -> Result<u32, i64> {
    let mut bind = BindInterdomain {
        remote_dom: remote as u16,
        remote_port,
        ..Default::default()
    };
    port_or(
        event_channel(evtchn::BIND_INTERDOMAIN, &mut bind),
        bind.local_port,
    )
}

/// Opens unbound ports until that is refused or the list is full: how many there are now, and the refusal (0 for none).
pub fn take_all(ports: &mut [u32]) -> (usize, i64) {
    for (taken, place) in ports.iter_mut().enumerate() {
        match alloc_unbound(DOMID_SELF) {
            Ok(port) => *place = port,
            Err(error) => return (taken, error),
        }
    }
    (ports.len(), 0)
}

/// What a port of ours is.
pub fn status(port: u32) -> Result<Status, i64> {
    let mut status = Status {
        dom: DOMID_SELF as u16,
        port,
        ..Status::default()
    };
    match event_channel(evtchn::STATUS, &mut status) {
        0 => Ok(status),
        error => Err(error),
    }
}

/// The kind of a port: the number of [`Status::status`], or the error.
pub fn kind(port: u32) -> i64 {
    status(port).map_or_else(|error| error, |status| i64::from(status.status))
}

/// Closes a port.
pub fn close(port: u32) -> i64 {
    event_channel(evtchn::CLOSE, &mut Close { port })
}

/// Unmasks a port.
pub fn unmask(port: u32) -> i64 {
    event_channel(evtchn::UNMASK, &mut Unmask { port })
}

/// Moves a port to a vCPU.
pub fn bind_vcpu(port: u32, vcpu: u32) -> i64 {
    event_channel(evtchn::BIND_VCPU, &mut BindVcpu { port, vcpu })
}

/// Sends on a port.
pub fn notify(port: u32) -> i64 {
    send(port)
}

fn port_or(result: i64, port: u32) -> Result<u32, i64> {
    if result == 0 { Ok(port) } else { Err(result) }
}

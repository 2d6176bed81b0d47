//! Arguments of the event channel operations, and short ways to make them.

use guest_runtime::abi::{DOMID_SELF, evtchn};
use guest_runtime::hypercall::{event_channel, send};

/// The timer's virtual interrupt.
pub const VIRQ_TIMER: u32 = 0;

/// Argument of the operations that bind something of a vCPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct BindVirq {
    /// Which virtual interrupt.
    pub virq: u32,
    /// For which vCPU.
    pub vcpu: u32,
    /// The port, out.
    pub port: u32,
}

/// Argument of alloc_unbound.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct AllocUnbound {
    /// Whose port.
    pub domain: u16,
    /// Who may bind to it.
    pub remote: u16,
    /// The port, out.
    pub port: u32,
}

/// Argument of bind_interdomain.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct BindInterdomain {
    /// Whose port is bound to.
    pub remote: u16,
    /// Not used.
    pub pad: u16,
    /// That port.
    pub remote_port: u32,
    /// The new port here, out.
    pub port: u32,
}

/// Argument of status.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Status {
    /// Whose port.
    pub domain: u16,
    /// Not used.
    pub pad: u16,
    /// Which.
    pub port: u32,
    /// What it is, out: 0 closed, 1 unbound, 2 interdomain, 3 physical, 4 virtual interrupt, 5 IPI.
    pub status: u32,
    /// Where it is delivered, out.
    pub vcpu: u32,
    /// More about it, out.
    pub more: [u32; 2],
}

/// Binds a virtual interrupt: the port or the error.
pub fn bind_virq(virq: u32, vcpu: u32) -> Result<u32, i64> {
    let mut bind = BindVirq { virq, vcpu, port: 0 };
    port_or(event_channel(evtchn::BIND_VIRQ, &mut bind), bind.port)
}

/// Binds an interprocessor interrupt: the port or the error.
pub fn bind_ipi(vcpu: u32) -> Result<u32, i64> {
    let mut bind = [vcpu, 0];
    port_or(event_channel(evtchn::BIND_IPI, &mut bind), bind[1])
}

/// A port of ours that `remote` may bind to.
pub fn alloc_unbound(remote: u64) -> Result<u32, i64> {
    let mut alloc = AllocUnbound { domain: DOMID_SELF as u16, remote: remote as u16, port: 0 };
    port_or(event_channel(evtchn::ALLOC_UNBOUND, &mut alloc), alloc.port)
}

/// Binds to a port of `remote`.
pub fn bind_interdomain(remote: u64, remote_port: u32) -> Result<u32, i64> {
    let mut bind = BindInterdomain { remote: remote as u16, pad: 0, remote_port, port: 0 };
    port_or(event_channel(evtchn::BIND_INTERDOMAIN, &mut bind), bind.port)
}

/// What a port of ours is.
pub fn status(port: u32) -> Result<Status, i64> {
    let mut status = Status { domain: DOMID_SELF as u16, port, ..Status::default() };
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
    event_channel(evtchn::CLOSE, &mut { port })
}

/// Unmasks a port.
pub fn unmask(port: u32) -> i64 {
    event_channel(evtchn::UNMASK, &mut { port })
}

/// Moves a port to a vCPU.
pub fn bind_vcpu(port: u32, vcpu: u32) -> i64 {
    event_channel(evtchn::BIND_VCPU, &mut [port, vcpu])
}

/// Sends on a port.
pub fn notify(port: u32) -> i64 {
    send(port)
}

fn port_or(result: i64, port: u32) -> Result<u32, i64> {
    if result == 0 { Ok(port) } else { Err(result) }
}

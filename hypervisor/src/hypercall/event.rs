//! Event channels: the calls, on the tables of `crate::event`.

use crate::device::pirq::Refused;
use crate::domain::{self, Domain, Guest};
use crate::ends;
use crate::event::{self as bus, links};
use crate::hypercall::{Args, Outcome, Stop, is_self, subject};
use events::{Binding, DomId, EventError, SendTo};
use guest_abi::event::{
    AllocUnbound, BindInterdomain, BindIpi, BindPirq, BindVcpu, BindVirq, Close, EventChannelOp,
    PortStatus, Reset, Send, Status, Unmask,
};
use guest_abi::{Errno, Wire};

impl From<EventError> for Stop {
    fn from(e: EventError) -> Stop {
        Stop::Refused(Errno::from_number(e.errno() as u16).unwrap_or(Errno::Inval))
    }
}

/// `event_channel_op(op, arg)`.
pub fn event_channel_op(g: &mut Guest<'_>, args: Args) -> Outcome {
    let [op, arg, ..] = args;
    match EventChannelOp::from_number(op as u32) {
        Some(EventChannelOp::AllocUnbound) => alloc_unbound(g, arg),
        Some(EventChannelOp::BindInterdomain) => bind_interdomain(g, arg),
        Some(EventChannelOp::BindVirq) => bind_virq(g, arg),
        Some(EventChannelOp::BindPirq) => bind_pirq(g, arg),
        Some(EventChannelOp::BindIpi) => bind_ipi(g, arg),
        Some(EventChannelOp::Close) => {
            let c: Close = g.memory().value(arg)?;
            close(g, c.port, args)
        }
        Some(EventChannelOp::Send) => {
            let s: Send = g.memory().value(arg)?;
            send(g, s.port, args)
        }
        Some(EventChannelOp::Status) => status(g, arg),
        Some(EventChannelOp::BindVcpu) => {
            let b: BindVcpu = g.memory().value(arg)?;
            g.dom.events.lock().bind_vcpu(b.port, b.vcpu)?;
            Ok(0)
        }
        Some(EventChannelOp::Unmask) => {
            let u: Unmask = g.memory().value(arg)?;
            bus::unmask(g.dom, u.port)?;
            Ok(0)
        }
        Some(EventChannelOp::Reset) => reset(g, args),
        // The FIFO form is not offered: every stock kernel falls back to this one.
        _ => Err(Errno::NoSys.into()),
    }
}

/// Runs a binding with storage for one more port of a domain's: a frame is added where all ports are taken.
fn with_room<T>(dom: &Domain, mut bind: impl FnMut() -> Result<T, EventError>) -> Result<T, Stop> {
    loop {
        let wants = || dom.events.lock().wants_bucket();
        // It may be there because another vCPU was faster.
        if wants() && !bus::prepare(dom) && wants() {
            return Err(Errno::NoMem.into());
        }
        match bind() {
            // Another vCPU took the last port meanwhile. A table grows a few times only.
            Err(EventError::NoSpace) if dom.events.lock().wants_bucket() => {}
            outcome => return Ok(outcome?),
        }
    }
}

/// Writes a reply whose place was checked before the call committed.
fn reply<T: Wire>(g: &Guest<'_>, arg: u64, value: &T) -> Outcome {
    g.memory().put(arg, value)?;
    Ok(0)
}

/// Whom a domain number means as the other side of a link: it need not exist.
fn other_side(g: &Guest<'_>, domid: u16) -> DomId {
    DomId(if is_self(g, domid) { g.dom.id.0 } else { domid })
}

fn alloc_unbound(g: &mut Guest<'_>, arg: u64) -> Outcome {
    let mut a: AllocUnbound = g.memory().value(arg)?;
    let dom = subject(g, a.dom)?;
    let remote = other_side(g, a.remote_dom);
    g.memory().check_writable(arg, AllocUnbound::SIZE)?;
    let port = with_room(dom, || {
        let mut table = dom.events.lock();
        Ok(table.plan_alloc_unbound(remote)?.commit(dom))
    })?;
    a.port = port.get();
    reply(g, arg, &a)
}

fn bind_interdomain(g: &mut Guest<'_>, arg: u64) -> Outcome {
    let mut b: BindInterdomain = g.memory().value(arg)?;
    g.memory().check_writable(arg, BindInterdomain::SIZE)?;
    // An end in ring 0 is no domain to bind to: it is bound to by the control domain's word alone.
    let id = frames::DomId(other_side(g, b.remote_dom).0);
    let peer = domain::living(id).ok_or(Errno::Srch)?;
    // The new end is told at once, so that what was sent before it listened is not lost.
    let raised = with_room(g.dom, || {
        links::with_tables(g.dom, peer, |own, other| {
            Ok(own
                .plan_bind_interdomain(other, b.remote_port)?
                .commit(g.dom))
        })
    })?;
    b.local_port = raised.port.get();
    bus::tell(g.dom, raised);
    reply(g, arg, &b)
}

fn bind_virq(g: &mut Guest<'_>, arg: u64) -> Outcome {
    let mut b: BindVirq = g.memory().value(arg)?;
    g.memory().check_writable(arg, BindVirq::SIZE)?;
    b.port = with_room(g.dom, || {
        let mut table = g.dom.events.lock();
        Ok(table.plan_bind_virq(b.virq, b.vcpu)?.commit(g.dom).get())
    })?;
    reply(g, arg, &b)
}

fn bind_ipi(g: &mut Guest<'_>, arg: u64) -> Outcome {
    let mut b: BindIpi = g.memory().value(arg)?;
    g.memory().check_writable(arg, BindIpi::SIZE)?;
    b.port = with_room(g.dom, || {
        let mut table = g.dom.events.lock();
        Ok(table.plan_bind_ipi(b.vcpu)?.commit(g.dom).get())
    })?;
    reply(g, arg, &b)
}

fn bind_pirq(g: &mut Guest<'_>, arg: u64) -> Outcome {
    let mut b: BindPirq = g.memory().value(arg)?;
    if !g.dom.privileged {
        return Err(Errno::Perm.into());
    }
    match crate::device::pirq::may_bind(b.pirq) {
        Ok(()) => {}
        Err(Refused::NotYours) => return Err(Errno::Perm.into()),
        Err(_) => return Err(Errno::Inval.into()),
    }
    g.memory().check_writable(arg, BindPirq::SIZE)?;
    b.port = with_room(g.dom, || {
        let mut table = g.dom.events.lock();
        let port = table.plan_bind_pirq(b.pirq)?.commit(g.dom);
        // With the table locked, as its end is (`links::close`): in the order in which it is bound and closed.
        crate::device::pirq::bound(b.pirq);
        Ok(port.get())
    })?;
    reply(g, arg, &b)
}

/// Closes a port of the caller's.
fn close(g: &Guest<'_>, port: u32, args: Args) -> Outcome {
    match links::close(g.dom, port) {
        Ok(()) => Ok(0),
        // Others changed the link all the time: they go first.
        Err(EventError::Again) => Err(Stop::Again(args)),
        Err(refused) => Err(refused.into()),
    }
}

/// Sends on a port. One table is locked at a time, and nothing else happens before the peer is told.
fn send(g: &mut Guest<'_>, port: u32, args: Args) -> Outcome {
    let table = g.dom.events.lock();
    match table.send(port)? {
        SendTo::Nothing => {}
        SendTo::Local(target) => {
            let raised = target.raise(g.dom);
            drop(table);
            bus::tell(g.dom, raised);
        }
        SendTo::Remote {
            domain,
            port,
            from_port,
        } => {
            // The link may end from here on: its other end knows (`receive`).
            drop(table);
            if let Some(remote) = domain::get(frames::DomId(domain.0)) {
                let from = DomId(g.dom.id.0);
                bus::raise(remote, |table| table.receive(port, from, from_port));
            }
        }
        SendTo::End {
            link, from_port, ..
        } => {
            drop(table);
            let told = ends::event(g.dom, link, from_port);
            g.charge(u64::from(told.units));
            if told.more {
                return Err(Stop::Again(args));
            }
        }
    }
    g.vcpu.account.count_sent();
    Ok(0)
}

fn status(g: &mut Guest<'_>, arg: u64) -> Outcome {
    let mut s: Status = g.memory().value(arg)?;
    let state = subject(g, s.dom)?.events.lock().status(s.port)?;
    s.vcpu = u32::from(state.vcpu.0);
    match state.binding {
        Binding::Free => s.set_plain(PortStatus::Closed),
        Binding::Unbound { remote } => s.set_unbound(remote.0),
        Binding::Interdomain { remote, port } => s.set_interdomain(remote.0, port.get()),
        // No port there, but a number that tells links apart.
        Binding::End { end, link } => s.set_interdomain(end.0, u32::from(link) + 1),
        Binding::Pirq { pirq } => s.set_pirq(u32::from(pirq)),
        Binding::Virq { virq } => s.set_virq(u32::from(virq)),
        Binding::Ipi => s.set_plain(PortStatus::Ipi),
    }
    reply(g, arg, &s)
}

/// Closes every port, in parts: those that are closed are not looked at again. Another's are closed only while it is
/// paused.
fn reset(g: &mut Guest<'_>, args: Args) -> Outcome {
    /// Units of closing a port on top of what an element of a list is.
    const CLOSE_UNITS: u64 = 2;
    let r: Reset = g.memory().value(args[1])?;
    let dom = subject(g, r.dom)?;
    if dom.id != g.dom.id && dom.life.pauses() == 0 {
        return Err(Errno::Inval.into());
    }
    let mut from = 1;
    loop {
        let next = dom.events.lock().next_in_use(from);
        let Some(port) = next else { break };
        if !g.spend() {
            return Err(Stop::Again(args));
        }
        g.charge(CLOSE_UNITS);
        if links::close(dom, port.get()) == Err(EventError::Again) {
            return Err(Stop::Again(args));
        }
        from = port.get() + 1;
    }
    Ok(0)
}

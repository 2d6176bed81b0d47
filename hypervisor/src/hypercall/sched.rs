//! Yield, block, poll, shut down.

use crate::control;
use crate::domain::Guest;
use crate::domain::life::{self, Reason};
use crate::domain::watchdog;
use crate::event::pollers;
use crate::hypercall::{Args, Outcome, subject};
use crate::schedule;
use core::sync::atomic::Ordering;
use events::pollers::Fate;
use events::{Port, SharedBits};
use guest_abi::sched::{Poll, RemoteShutdown, SchedOp, Shutdown, Watchdog};
use guest_abi::{Errno, Wire};

/// Ports one poll may name.
const MAX_POLL: u32 = 128;

/// `sched_op(op, arg)`.
pub fn sched_op(g: &mut Guest<'_>, args: Args) -> Outcome {
    let [op, arg, ..] = args;
    match SchedOp::from_number(op as u32) {
        Some(SchedOp::Yield) => {
            schedule::yield_now(g.vcpu);
            Ok(0)
        }
        Some(SchedOp::Block) => {
            g.vcpu.mask_events(false);
            sleep(g);
            Ok(0)
        }
        Some(SchedOp::Poll) => poll(g, arg),
        Some(SchedOp::Shutdown) => {
            let s: Shutdown = g.memory().value(arg)?;
            control::shutdown(g, Reason(s.reason as u8), args)
        }
        Some(SchedOp::RemoteShutdown) => remote_shutdown(g, arg),
        Some(SchedOp::ShutdownCode) => {
            let s: Shutdown = g.memory().value(arg)?;
            g.dom.life.foretell(Reason(s.reason as u8));
            Ok(0)
        }
        Some(SchedOp::Watchdog) => {
            let w: Watchdog = g.memory().value(arg)?;
            if w.id == 0 {
                return Ok(watchdog::take(g.dom, w.timeout)?);
            }
            watchdog::set(g.dom, w.id, w.timeout)?;
            Ok(0)
        }
        _ => Err(Errno::NoSys.into()),
    }
}

/// The control domain declares another domain stopped.
fn remote_shutdown(g: &Guest<'_>, arg: u64) -> Outcome {
    if !g.dom.privileged {
        return Err(Errno::Perm.into());
    }
    let r: RemoteShutdown = g.memory().value(arg)?;
    let dom = subject(g, r.domain_id)?;
    // Its own end is that of the machine: it has a call for that.
    if dom.id == g.dom.id {
        return Err(Errno::Perm.into());
    }
    life::stop(dom, Reason(r.reason as u8));
    Ok(0)
}

/// Sleeps until an event is pending. A vCPU that has one already keeps its turn; otherwise it is said to sleep first,
/// then looked at again, so that no event falls between.
fn sleep(g: &mut Guest<'_>) {
    let awake = || g.vcpu.event_pending() || g.vcpu.nmi_pending.load(Ordering::Acquire);
    if awake() {
        return;
    }
    schedule::block(g.vcpu);
    g.vcpu.notice.take();
    if awake() {
        schedule::wake(g.vcpu);
    }
}

fn poll(g: &mut Guest<'_>, arg: u64) -> Outcome {
    let p: Poll = g.memory().value(arg)?;
    if p.nr_ports > MAX_POLL {
        return Err(Errno::Inval.into());
    }
    let capacity = g.dom.events.lock().capacity() as u32;
    // Mostly it is one.
    let (mut one, mut many);
    let bytes: &mut [u8] = if p.nr_ports <= 1 {
        one = [0; 4];
        &mut one
    } else {
        many = [0; 4 * MAX_POLL as usize];
        &mut many
    };
    let len = p.nr_ports as usize * 4;
    g.memory().read(p.ports, &mut bytes[..len])?;
    let ports = || {
        bytes[..len]
            .chunks_exact(4)
            .map(|c| u32::read_from(c).unwrap_or(0))
    };
    if ports().any(|p| p >= capacity) {
        return Err(Errno::Inval.into());
    }
    let only = (p.nr_ports == 1).then(|| ports().next());
    let only = only.flatten().and_then(Port::from_claim);
    let ready = || {
        ports().any(|p| Port::from_claim(p).is_some_and(|p| g.dom.is_pending(p)))
            || (g.vcpu.event_pending() && !g.vcpu.events_masked())
            || g.vcpu.nmi_pending.load(Ordering::Acquire)
    };
    if ready() {
        return Ok(0);
    }
    // Said before looked again: a port raised in between finds the poller.
    let sleep = || {
        match p.timeout {
            0 => schedule::block(g.vcpu),
            timeout => schedule::block_until(g.vcpu, timeout),
        }
        g.vcpu.notice.take();
    };
    if pollers::poll(g.vcpu, only, sleep, ready) == Fate::Ended {
        schedule::wake(g.vcpu);
        schedule::end_poll(g.vcpu);
    }
    Ok(0)
}

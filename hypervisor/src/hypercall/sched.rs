//! Yield, block, poll, shut down.

use crate::control;
use crate::domain::Guest;
use crate::hypercall::{Args, Outcome, Stop};
use crate::schedule;
use core::sync::atomic::Ordering;
use events::{Port, SharedBits};
use guest_abi::sched::{Poll, SchedOp, Shutdown, ShutdownReason, Watchdog};
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
            let reason = ShutdownReason::from_number(s.reason).ok_or(Errno::Inval)?;
            g.regs.rax = 0;
            control::shutdown(g, reason);
            Err(Stop::Gone)
        }
        Some(SchedOp::ShutdownCode) => Err(Errno::NoSys.into()),
        Some(SchedOp::Watchdog) => {
            let _: Watchdog = g.memory().value(arg)?;
            Err(Errno::NoSys.into())
        }
        _ => Err(Errno::NoSys.into()),
    }
}

/// Sleeps until an event is pending: said first, then looked, so that no event falls between.
fn sleep(g: &mut Guest<'_>) {
    let now = crate::device::timer::now_ns();
    schedule::block(g.vcpu);
    if g.vcpu.event_pending() {
        schedule::wake(g.vcpu);
    } else {
        g.local.runstate.transition(::sched::State::Blocked, now);
    }
}

fn poll(g: &mut Guest<'_>, arg: u64) -> Outcome {
    let p: Poll = g.memory().value(arg)?;
    if p.nr_ports > MAX_POLL {
        return Err(Errno::Inval.into());
    }
    let capacity = g.dom.events.lock().capacity() as u32;
    let mut bytes = [0u8; 4 * MAX_POLL as usize];
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
    let single = if p.nr_ports == 1 {
        ports().next().map_or(u32::MAX, |p| p + 1)
    } else {
        u32::MAX
    };
    // Said before looked: a port raised in between finds the poller.
    g.vcpu.polling.store(single, Ordering::SeqCst);
    schedule::block(g.vcpu);
    let ready = ports().any(|p| Port::from_claim(p).is_some_and(|p| g.dom.is_pending(p)))
        || (g.vcpu.event_pending() && !g.vcpu.events_masked());
    if ready {
        g.vcpu.polling.store(0, Ordering::SeqCst);
        schedule::wake(g.vcpu);
    } else {
        let now = crate::device::timer::now_ns();
        g.local.runstate.transition(::sched::State::Blocked, now);
        if p.timeout != 0 {
            schedule::set_poll_timeout(g.vcpu, p.timeout);
        }
    }
    Ok(0)
}

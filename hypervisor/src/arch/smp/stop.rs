//! Stopping the other CPUs: at a crash where they are, before the machine ends between two pieces of work.
//!
//! A stopped CPU notes where it was and halts for ever. One that does not answer is left behind after a bounded wait:
//! whoever stops the others goes on whatever they do. Takes no lock: crash reports end here.

use crate::arch::regs::Regs;
use crate::arch::{apic, cpu, exposed, percpu, smp};
use crate::debug::symbols;
use crate::device::timer;
use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::call::{self, Call};

/// How long a CPU has to come to an end of its work, and then to take an NMI.
const ORDERLY_MS: u64 = 500;
const AT_ONCE_MS: u64 = 1000;

/// Nobody stops anybody.
const NO_CPU: u32 = u32::MAX;
/// The CPU for which all others are to stop.
static STOPPER: AtomicU32 = AtomicU32::new(NO_CPU);

/// What a CPU was doing when it stopped.
mod state {
    pub const RUNS: u32 = 0;
    /// Stopped when its work was done.
    pub const IN_ORDER: u32 = 1;
    pub const IN_RING0: u32 = 2;
    pub const IN_GUEST: u32 = 3;
    /// It had begun to report a crash of its own.
    pub const CRASHED: u32 = 4;
}

/// Where a CPU was stopped.
pub(super) struct Place {
    state: AtomicU32,
    rip: AtomicU64,
}

impl Place {
    pub(super) const fn new() -> Place {
        Place {
            state: AtomicU32::new(state::RUNS),
            rip: AtomicU64::new(0),
        }
    }
}

/// Notes how this CPU stops, and stops.
fn end(state: u32, rip: u64) -> ! {
    if let Some(me) = percpu::number() {
        let place = &smp::remote(me).stopped;
        // An NMI may come to one that stopped already; what it noted first counts.
        if place.state.load(Ordering::Relaxed) == state::RUNS {
            place.rip.store(rip, Ordering::Relaxed);
            place.state.store(state, Ordering::Release);
        }
    }
    cpu::halt_for_ever()
}

/// Stops this CPU because another asked it to, between two pieces of work: nobody needs to wait for it any more.
pub fn here() -> ! {
    smp::flush::leave_for_ever();
    smp::ONLINE.remove(percpu::current().id);
    end(state::IN_ORDER, 0)
}

/// Stops this CPU, whose own crash comes second.
pub fn crashed_too(rip: u64) -> ! {
    end(state::CRASHED, rip)
}

/// An NMI came: if it is another CPU's word to stop, this does not return.
pub fn on_nmi(regs: &Regs) {
    let me = percpu::current().id;
    smp::test::play_deaf(me);
    let stopper = STOPPER.load(Ordering::Acquire);
    if stopper == NO_CPU || stopper == me {
        return;
    }
    let in_guest = regs.cs & 3 != 0;
    end(
        if in_guest {
            state::IN_GUEST
        } else {
            state::IN_RING0
        },
        regs.rip,
    )
}

/// Stops the other CPUs where they are. Does not wait for them: [`wait`] does.
pub fn others_at_once() {
    let Some(me) = percpu::number() else {
        return;
    };
    STOPPER.store(me, Ordering::Release);
    for cpu in smp::online().without(me).iter() {
        apic::send_nmi(smp::remote(cpu).apic_id.load(Ordering::Relaxed));
    }
}

/// Waits for CPUs that were told to stop, for so long at most.
fn wait(ms: u64) {
    let others = smp::others();
    timer::wait_ms(ms, || others.iter().all(has_stopped));
}

fn has_stopped(cpu: u32) -> bool {
    smp::remote(cpu).stopped.state.load(Ordering::Acquire) != state::RUNS
}

/// Stops the other CPUs before the machine ends: when their work is done, or else where they are. Of two CPUs that want
/// to end the machine one stops the other. After a crash they have stopped already.
pub fn others() {
    let Some(me) = percpu::number() else {
        return;
    };
    if smp::online().without(me).is_empty() {
        return;
    }
    match STOPPER.compare_exchange(NO_CPU, me, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {}
        Err(stopper) if stopper == me => return,
        Err(_) => here(),
    }
    if !call::ask(smp::others(), Call::Stop, ORDERLY_MS).is_empty() {
        others_at_once();
        wait(AT_ONCE_MS);
    }
}

/// Where a CPU was when it was stopped, as a report says it.
pub struct Whereabouts(u32);

impl fmt::Display for Whereabouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let remote = smp::remote(self.0);
        write!(f, "CPU {}", self.0)?;
        let stopped = remote.stopped.state.load(Ordering::Acquire);
        let doing = match stopped {
            state::RUNS => return f.write_str(" does not answer"),
            state::IN_GUEST => "in the guest, at",
            state::CRASHED => "crashed too, at",
            _ => "at",
        };
        match remote.served() {
            None => f.write_str(": idle")?,
            Some((domain, vcpu)) => write!(f, ": serving domain {domain}, vCPU {vcpu}")?,
        }
        let rip = remote.stopped.rip.load(Ordering::Relaxed);
        if rip == 0 {
            return f.write_str(", crashed too");
        }
        write!(f, ", {doing} {rip:#018x}")?;
        // Names are ring 0's; a guest's address means nothing among them.
        match symbols::lookup(exposed::linked(rip)) {
            Some((name, offset)) if stopped != state::IN_GUEST => {
                write!(f, "  {name}+{offset:#x}")
            }
            _ => Ok(()),
        }
    }
}

/// The other CPUs, once they have stopped or been given up: for a report's lines.
pub fn whereabouts() -> impl Iterator<Item = Whereabouts> {
    let me = percpu::number();
    let others = me.map_or(smp::CpuSet::EMPTY, |me| smp::online().without(me));
    if !others.is_empty() {
        wait(AT_ONCE_MS);
    }
    others.iter().map(Whereabouts)
}

//! Who runs: the pure decisions of the crate `sched` bound to vCPUs, CPUs and timers.
//!
//! Each CPU has a run queue and timers of its own, behind one lock (`cpu`). A vCPU is in those of its home, and loaded nowhere
//! else. Any CPU may change what is in them; where that asks for a new decision, the home is told (`smp::reschedule`) and
//! makes it. Locks: a CPU's, then a vCPU's `runstate`; none but the frame allocator's inside.
//!
//! # Invariants
//! - C1: a vCPU's run state is the one its home's queue has it in.
//! - C2: while somebody waits for the running vCPU's turn to end, the CPU's hardware timer is set for that end at the latest;
//!   for each timer that is set, the home's hardware timer is, or the home is being told (`timers`).
//! - C3: only its home decides that a vCPU runs, and runs it there.

pub mod cpu;
mod idle;
mod timers;

pub use cpu::{kept_frames, runs_vcpus};
pub use idle::idle;
pub use timers::{
    end_poll, set_device_timer, set_period, set_poll_timeout, set_timer, tick, timers_due,
};

use crate::account;
use crate::arch::{percpu, smp};
use crate::boot;
use crate::device::timer;
use crate::domain::{NO_CPU, Vcpu, unfinished};
use crate::event;
use crate::mmu::work;
use ::cpus::loaded;
use ::cpus::set::CpuSet;
use ::sched::{Next, Reservation, RunQueue, VcpuHandle};
use cpu::CpuSched;
use timers::Kind;

/// A turn, while turns go round.
const QUANTUM_NS: u64 = 10_000_000;
/// The shortest turn: what is left of one when a sleeper wakes. Long against a switch, short for who is waited for.
const SHORTEST_NS: u64 = 1_000_000;

/// Makes queue and timers of the CPU that boots. Boot only.
pub fn init() {
    account::open();
    // The devices' timer is set before there is any vCPU to make room for.
    if !cpu::prepare(percpu::current().id) {
        boot::give_up(format_args!(
            "no memory is left for timers; give the machine more"
        ));
    }
}

/// Makes a vCPU known to the scheduler; it starts down.
pub fn add(vcpu: &'static Vcpu) {
    cpu::name(vcpu);
    change(vcpu, |queue, seat, _| {
        let _ = queue.add(seat, Reservation::BEST_EFFORT);
        Next::Keep
    });
}

/// Makes a vCPU unknown to the scheduler: it runs no more, no timer finds it, and its books are closed. It stands still.
pub fn remove(vcpu: &Vcpu) {
    cpu::give(&vcpu.home, |sched, seat| {
        // Whoever calls decides anew anyhow.
        let _ = sched.queue.remove(seat, timer::now_ns());
        for kind in Kind::ALL {
            sched.timers.cancel(kind.of(seat));
        }
    });
    account::vcpu_ends(vcpu);
}

/// Does something with a vCPU's seat, where it is at home; `None` if it was removed.
fn at_home<R>(vcpu: &Vcpu, act: impl FnOnce(&mut CpuSched, VcpuHandle) -> R) -> Option<(u32, R)> {
    loop {
        let home = vcpu.home.cpu();
        if home == NO_CPU {
            return None;
        }
        let mut sched = cpu::of(home).lock();
        // It may have been removed meanwhile.
        if vcpu.home.cpu() == home {
            return sched
                .as_mut()
                .map(|sched| (home, act(sched, vcpu.home.seat())));
        }
    }
}

/// Has a CPU decide anew.
fn ask(cpu: u32) {
    if cpu == percpu::current().id {
        event::reschedule_here();
    } else {
        smp::reschedule(cpu);
    }
}

/// Does something to a vCPU in its queue, and what follows from it (C1).
fn change(vcpu: &Vcpu, act: impl FnOnce(&mut RunQueue<'static>, VcpuHandle, u64) -> Next) {
    let done = at_home(vcpu, |sched, seat| {
        // Under the lock: what a queue is told is never older than what it was told before.
        let now = timer::now_ns();
        let next = act(&mut sched.queue, seat, now);
        note_state(sched, seat, vcpu, now);
        next
    });
    if let Some((home, Next::Decide)) = done {
        ask(home);
    }
}

fn note_state(sched: &CpuSched, seat: VcpuHandle, vcpu: &Vcpu, now: u64) {
    if let Some(state) = sched.queue.state(seat) {
        vcpu.runstate.lock().enter(state, now);
        account::note_state(vcpu, state);
    }
}

/// Wakes a vCPU that sleeps.
pub fn wake(vcpu: &Vcpu) {
    change(vcpu, |queue, seat, now| queue.wake(seat, now));
}

/// The vCPU sleeps until woken.
pub fn block(vcpu: &Vcpu) {
    change(vcpu, |queue, seat, now| queue.block(seat, now));
}

/// The vCPU lets others go first.
pub fn yield_now(vcpu: &Vcpu) {
    change(vcpu, |queue, seat, now| queue.yield_now(seat, now));
}

/// The vCPU takes part.
pub fn up(vcpu: &Vcpu) {
    change(vcpu, |queue, seat, now| queue.up(seat, now));
}

/// The vCPU takes part no more.
pub fn down(vcpu: &Vcpu) {
    change(vcpu, |queue, seat, now| queue.down(seat, now));
}

/// Does something to each of some vCPUs, and what follows from it (C1): for less than each on its own.
fn change_all<'v>(
    vcpus: impl Iterator<Item = &'v Vcpu>,
    act: impl Fn(&mut RunQueue<'static>, VcpuHandle, u64) -> Next,
) {
    let mut asked = CpuSet::EMPTY;
    // Those of one home that come one after the other are done with its lock held.
    let mut held: Option<(u32, cpu::Held, u64)> = None;
    for vcpu in vcpus {
        loop {
            let home = vcpu.home.cpu();
            if home == NO_CPU {
                break;
            }
            if held.as_ref().is_none_or(|(cpu, ..)| *cpu != home) {
                // The one before is released before.
                drop(held.take());
                let sched = cpu::of(home).lock();
                held = Some((home, sched, timer::now_ns()));
            }
            if vcpu.home.cpu() != home {
                continue;
            }
            if let Some((_, sched, now)) = held.as_mut()
                && let Some(sched) = sched.as_mut()
            {
                let seat = vcpu.home.seat();
                if act(&mut sched.queue, seat, *now) == Next::Decide {
                    asked = asked.with(home);
                }
                note_state(sched, seat, vcpu, *now);
            }
            break;
        }
    }
    drop(held);
    asked.iter().for_each(ask);
}

/// Stops vCPUs until they are unpaused as often.
pub fn pause_all<'v>(vcpus: impl Iterator<Item = &'v Vcpu>) {
    change_all(vcpus, |queue, seat, now| queue.pause(seat, now));
}

/// Undoes one [`pause_all`].
pub fn unpause_all<'v>(vcpus: impl Iterator<Item = &'v Vcpu>) {
    change_all(vcpus, |queue, seat, now| queue.unpause(seat, now));
}

/// Stops a vCPU until it is unpaused as often.
pub fn pause(vcpu: &Vcpu) {
    change(vcpu, |queue, seat, now| queue.pause(seat, now));
}

/// The decision of this CPU's queue, and the run states of who ran and who will (C1).
fn next_vcpu() -> Option<&'static Vcpu> {
    cpu::with(percpu::current().id, |sched| {
        let now = timer::now_ns();
        let before = sched.queue.current();
        let next = sched.queue.decide(now).run;
        for seat in [before, next].into_iter().flatten() {
            if let Some(vcpu) = sched.vcpu(seat) {
                note_state(sched, seat, vcpu, now);
            }
        }
        let vcpu = sched.vcpu(next?)?;
        let here = percpu::current().id;
        // Two CPUs with the same state would be the end of all that is promised: rather none.
        assert!(
            loaded::take(&vcpu.loaded_on, here),
            "domain {} vCPU {} is chosen for CPU {here} while it is on another",
            vcpu.domain.id.0,
            vcpu.id
        );
        Some(vcpu)
    })?
}

/// Nobody can run, and nobody is in hand: the queue has none that runs here.
pub fn choose_nobody() {
    let next = next_vcpu();
    debug_assert!(next.is_none());
}

/// Decides who runs on this CPU from now on, if anybody can.
pub fn decide() -> Option<&'static Vcpu> {
    timers_due();
    if !work::in_budget() {
        unfinished::let_others_in();
    }
    // What asked for it before this is in the decision.
    smp::is_rescheduled();
    percpu::current().reschedule.set(false);
    let next = next_vcpu();
    timers::program();
    next
}

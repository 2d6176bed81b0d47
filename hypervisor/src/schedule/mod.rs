//! Who runs: the pure decisions of the crate `reservations` bound to vCPUs, CPUs and timers.
//!
//! Each CPU has a queue of vCPUs and timers of its own, behind one lock (`cpu`); which CPU a vCPU is promised time of is
//! decided before (`placement`). A vCPU is in those of its home, and loaded nowhere
//! else. Any CPU may change what is in them; where that asks for a new decision, the home is told (`smp::reschedule`) and
//! makes it. Locks: a vCPU's `affinity` (`moves`), the placement's, a CPU's, then a vCPU's `runstate`; none but the frame
//! allocator's inside.
//!
//! # Invariants
//! - C1: a vCPU's run state is the one its home's queue has it in.
//! - C2: a CPU's hardware timer is set for the end of its last decision at the latest, if that has one; for each timer that is set, the home's hardware timer is, or the home is being told (`timers`).
//! - C3: only its home decides that a vCPU runs, and runs it there.

mod admission;
pub mod allowance;
pub mod cpu;
mod dues;
pub mod granting;
mod idle;
pub mod moves;
pub mod placement;
pub mod terms;
mod timers;

pub use cpu::{kept_frames, runs_vcpus};
pub use idle::{idle, keep};
pub use timers::{end_poll, set_device_timer, set_period, set_timer, tick, ticks_go_on, wake_soon};

use crate::account;
use crate::arch::cpu::rdtsc;
use crate::arch::{percpu, smp};
use crate::boot;
use crate::device::timer;
use crate::domain::{Domain, NO_CPU, Vcpu, unfinished};
use crate::event;
use crate::mmu::work;
use ::cpus::loaded;
use ::cpus::set::CpuSet;
use ::reservations::{Gone, Kind, Next, Queue, Seat};
use ::sched::{State, VcpuHandle};
use core::sync::atomic::Ordering;
use cpu::CpuSched;

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
    if let Some(reserved) = terms::reserved(vcpu) {
        terms::show(vcpu, &reserved.terms);
    }
    change(vcpu, |_, _, _| Ok(Next::Keep));
}

/// Makes a vCPU unknown to the scheduler: it runs no more, no timer finds it, and its books are closed. It stands still.
pub fn remove(vcpu: &Vcpu) {
    cpu::give(&vcpu.home, Some(vcpu));
    moves::forget(vcpu);
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

/// Has a CPU decide anew for the sake of a domain.
fn ask(cpu: u32, whom: &Domain) {
    if cpu == percpu::current().id {
        event::reschedule_here();
    } else {
        smp::reschedule(cpu, whom.id);
    }
}

/// Has the CPU that a vCPU is on, if any, decide anew: who sleeps is put away then.
pub fn ask_for(vcpu: &Vcpu) {
    match vcpu.loaded_on.load(Ordering::SeqCst) {
        NO_CPU => {}
        cpu => ask(cpu, vcpu.domain),
    }
}

/// What is done to a vCPU in its queue, at a time.
type Act = Result<Next, Gone>;

/// Does something to a vCPU in its queue, and what follows from it (C1).
fn change(vcpu: &Vcpu, act: impl FnOnce(&mut Queue<'static>, u64, Seat) -> Act) {
    change_and(vcpu, act, |_, _| ());
}

/// As [`change`], with something else under the lock.
#[inline]
fn change_and(
    vcpu: &Vcpu,
    act: impl FnOnce(&mut Queue<'static>, u64, Seat) -> Act,
    also: impl FnOnce(&mut CpuSched, VcpuHandle),
) {
    let done = at_home(vcpu, |sched, seat| {
        // Under the lock: what a queue is told is never older than what it was told before.
        let now = timer::now_here();
        let next = act(&mut sched.queue, now, vcpu.home.place());
        note_state(sched, vcpu, now);
        also(sched, seat);
        next
    });
    // Who is at home has a place there.
    if let Some((home, Ok(Next::Decide))) = done {
        ask(home, vcpu.domain);
    }
}

fn note_state(sched: &CpuSched, vcpu: &Vcpu, now: u64) {
    let Ok(state) = sched.queue.state(vcpu.home.place()) else {
        return;
    };
    let state = match state {
        ::reservations::State::Running => State::Running,
        ::reservations::State::Runnable => State::Runnable,
        ::reservations::State::Blocked => State::Blocked,
        ::reservations::State::Offline => State::Offline,
    };
    enters(vcpu, state, now);
}

fn enters(vcpu: &Vcpu, state: State, now: u64) {
    vcpu.runstate.lock().enter(state, now);
    account::note_state(vcpu, state);
}

/// Wakes a vCPU that sleeps.
pub fn wake(vcpu: &Vcpu) {
    change(vcpu, Queue::wake);
}

/// The vCPU sleeps until woken.
pub fn block(vcpu: &Vcpu) {
    change(vcpu, Queue::block);
}

/// As [`block`], of the vCPU in hand, and a poll of its ends at a system time at the latest.
pub fn block_until(vcpu: &Vcpu, deadline: u64) {
    change_and(vcpu, Queue::block, |sched, seat| {
        timers::set_poll(sched, seat, deadline);
    });
    // It is at home here (C3).
    timers::arm(percpu::current().id, deadline, vcpu.domain.id);
}

/// The vCPU lets others of its domain go first.
pub fn yield_now(vcpu: &Vcpu) {
    change(vcpu, Queue::yield_now);
}

/// The vCPU takes part.
pub fn up(vcpu: &Vcpu) {
    change(vcpu, Queue::up);
}

/// The vCPU takes part no more.
pub fn down(vcpu: &Vcpu) {
    change(vcpu, Queue::down);
}

/// Does something with each of some vCPUs where it is at home, at a time; not with those that were removed. Those of one home
/// that come one after the other are done with its lock held.
fn each_at_home<V: core::ops::Deref<Target = Vcpu>>(
    vcpus: impl Iterator<Item = V>,
    mut act: impl FnMut(&mut CpuSched, u32, u64, V),
) {
    let mut held: Option<(u32, cpu::Held, u64)> = None;
    for vcpu in vcpus {
        loop {
            let home = vcpu.home.cpu();
            match &mut held {
                _ if home == NO_CPU => break,
                // It does not change while that is held.
                Some((cpu, sched, now)) if *cpu == home => {
                    if let Some(sched) = sched.as_mut() {
                        act(sched, home, *now, vcpu);
                    }
                    break;
                }
                _ => {
                    // The one before is released before. When this one is held it may have moved, or be removed.
                    drop(held.take());
                    let sched = cpu::of(home).lock();
                    held = Some((home, sched, timer::now_here()));
                }
            }
        }
    }
}

/// Does something to each of some vCPUs of one domain, and what follows from it (C1): for less than each on its own.
fn change_all<'v>(
    vcpus: impl Iterator<Item = &'v Vcpu>,
    act: impl Fn(&mut Queue<'static>, u64, Seat) -> Act,
) {
    let mut asked = CpuSet::EMPTY;
    let mut whom = None;
    each_at_home(vcpus, |sched, home, now, vcpu| {
        if act(&mut sched.queue, now, vcpu.home.place()) == Ok(Next::Decide) {
            asked = asked.with(home);
            whom = Some(vcpu.domain);
        }
        note_state(sched, vcpu, now);
    });
    if let Some(whom) = whom {
        asked.iter().for_each(|cpu| ask(cpu, whom));
    }
}

/// Stops vCPUs until they are unpaused as often.
pub fn pause_all<'v>(vcpus: impl Iterator<Item = &'v Vcpu>) {
    change_all(vcpus, Queue::pause);
}

/// Undoes one [`pause_all`].
pub fn unpause_all<'v>(vcpus: impl Iterator<Item = &'v Vcpu>) {
    change_all(vcpus, Queue::unpause);
}

/// Stops a vCPU until it is unpaused as often.
pub fn pause(vcpu: &Vcpu) {
    change(vcpu, Queue::pause);
}

/// Why a decision is not made yet.
enum NotYet {
    /// Timers are due.
    TimersDue,
    /// More periods began at once than one decision renews.
    More,
}

/// How far a decision has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Nothing was looked at.
    First,
    /// Timers that were due are dealt with.
    NoTimers,
    /// Some periods have begun.
    Rest,
}

/// The decision of this CPU's queue, the hardware timer that it wants where nobody is to run (C2), and the run states of who ran
/// and who will (C1): nobody else's change with it.
fn next_vcpu(part: Part) -> Result<Option<&'static Vcpu>, NotYet> {
    let this = percpu::current();
    let here = this.id;
    let next = cpu::with(here, |sched| {
        let reading = rdtsc();
        let now = timer::ns_at(reading);
        // What the hardware timer is set for is over, and its interrupt not taken yet.
        if part == Part::First && now >= this.timer_deadline.get() {
            return Err(NotYet::TimersDue);
        }
        let before = sched.queue.runs();
        let excused = match part {
            // Whoever was chosen in the part before has not begun.
            Part::Rest => u64::MAX,
            // With nobody to have it back it need not be known in nanoseconds.
            _ => match account::decides(reading) {
                _ if before.is_none() => 0,
                cycles => ns(cycles),
            },
        };
        let next = sched.decide(now, excused);
        let who = |tag: u64| sched.vcpu(VcpuHandle(tag as u32));
        let chosen = next.run.map(|_| next.tag);
        let vcpu = chosen.and_then(who);
        // A name is another's only when who had it is out of the queue.
        if before != chosen {
            // Of who sleeps, or was stopped, that was noted then.
            let ran = |vcpu: &&Vcpu| vcpu.runstate.lock().state == State::Running;
            if let Some(before) = before.and_then(who).filter(ran) {
                note_state(sched, before, now);
            }
            if let Some(vcpu) = vcpu {
                enters(vcpu, State::Running, now);
            }
        }
        if next.until.is_some_and(|until| until <= now) {
            account::decides_in_parts();
            return Err(NotYet::More);
        }
        let Some(vcpu) = vcpu else {
            timers::program_under(sched);
            return Ok(None);
        };
        account::will_run_in(match next.kind {
            Kind::Guaranteed => account::Kind::Guaranteed,
            Kind::Extra | Kind::Idle => account::Kind::Extra,
        });
        // Two CPUs with the same state would be the end of all that is promised: rather none.
        assert!(
            loaded::take(&vcpu.loaded_on, here),
            "domain {} vCPU {} is chosen for CPU {here} while it is on another",
            vcpu.domain.id.0,
            vcpu.id
        );
        Ok(Some(vcpu))
    });
    next.unwrap_or(Ok(None))
}

/// Nobody can run, and nobody is in hand: the queue has none that runs here.
pub fn choose_nobody() {
    let next = next_vcpu(Part::NoTimers);
    debug_assert!(matches!(next, Ok(None)));
}

fn ns(cycles: u64) -> u64 {
    match cycles {
        0 => 0,
        _ => timer::ns_from_ticks(cycles),
    }
}

/// Decides who runs on this CPU from now on, if anybody can; who does not run yet is to [`begin`].
pub fn decide() -> Option<&'static Vcpu> {
    if !work::in_budget() {
        unfinished::let_others_in();
    }
    // What asked for it before this is in the decision.
    let _ = smp::rescheduled();
    percpu::current().reschedule.set(false);
    let mut part = Part::First;
    loop {
        part = match next_vcpu(part) {
            Ok(next) => return next,
            Err(NotYet::TimersDue) => {
                timers::are_due();
                // Who was woken is in the decision to come.
                percpu::current().reschedule.set(false);
                Part::NoTimers
            }
            Err(NotYet::More) => {
                unfinished::let_others_in();
                Part::Rest
            }
        };
    }
}

/// A vCPU that was chosen runs from a reading of the counter on, `anew` if it has not before the decision: until then nothing is
/// taken off its budget but what was worked for it. The decision's end, which follows from that, is when the CPU's timer is due.
pub fn begin(vcpu: &Vcpu, reading: u64, anew: bool) {
    let owed = vcpu.home.take_owed();
    timers::program_after(|sched| {
        if anew || owed != 0 {
            let next = sched.queue.begins(timer::ns_at(reading), anew, ns(owed));
            // It may have nothing left.
            if next == Next::Decide {
                event::reschedule_here();
            }
        }
        account::own_time_ends(sched.queue.budget_ends());
    });
}

//! Who runs: the pure decisions of the crate `sched` bound to vCPUs, timers and the idle loop.
//!
//! One CPU runs vCPUs so far: the queue and the timers are its own, all calls here are made on it, and this module is
//! where that is assumed. Locks: `QUEUE`, then a vCPU's `runstate`; `TIMERS` on its own; all innermost but for the
//! frame allocator's.
//!
//! # Invariants
//! - C1: a vCPU's run state is the one the queue has it in.
//! - C2: while somebody waits for the running vCPU's turn to end, the hardware timer is set for that end at the latest.

pub mod handles;
mod idle;

pub use idle::{RUNS, idle};

use crate::account::{self, Cause};
use crate::arch::percpu;
use crate::boot;
use crate::device::{self, timer};
use crate::domain::{Vcpu, unfinished};
use crate::event;
use crate::memory::record;
use crate::mmu::work;
use crate::sync::{Lock, rank};
use ::cpus::loaded;
use ::sched::{Next, Reservation, RunQueue, State, TimerQueue, TimerRows, TimerSlot, VcpuHandle};
use core::sync::atomic::Ordering;

/// A turn, while turns go round.
const QUANTUM_NS: u64 = 10_000_000;
/// The shortest turn: what is left of one when a sleeper wakes. Long against a switch, short for who is waited for.
const SHORTEST_NS: u64 = 1_000_000;
/// The devices' own timer.
const DEVICE_TIMER: u32 = 0;
/// Timers each vCPU has, behind that.
const TIMERS_EACH: u32 = 3;

/// A vCPU's timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
enum Kind {
    /// The one that its guest sets.
    Own = 0,
    /// Ends a poll.
    Poll = 1,
    /// Ticks.
    Periodic = 2,
}

impl Kind {
    const ALL: [Kind; TIMERS_EACH as usize] = [Kind::Own, Kind::Poll, Kind::Periodic];

    /// The number of a vCPU's.
    const fn of(self, vcpu: VcpuHandle) -> u32 {
        DEVICE_TIMER + 1 + vcpu.0 * TIMERS_EACH + self as u32
    }

    /// Whose a number is that is not the devices'.
    fn from_number(timer: u32) -> Option<(Kind, VcpuHandle)> {
        let timer = timer.checked_sub(DEVICE_TIMER + 1)?;
        let kind = Kind::ALL.get((timer % TIMERS_EACH) as usize)?;
        Some((*kind, VcpuHandle(timer / TIMERS_EACH)))
    }
}

static QUEUE: Lock<Option<RunQueue<'static>>, rank::Queue> = Lock::new(None);
static TIMERS: Lock<Option<TimerQueue<'static>>, rank::Timers> = Lock::new(None);

/// Makes queue and timers. Boot only.
pub fn init() {
    account::open();
    *QUEUE.lock() = Some(RunQueue::new(&mut [], QUANTUM_NS, SHORTEST_NS));
    // The devices' timer is set before there is any vCPU to make room for.
    let first = record::place_row(TimerSlot::EMPTY, TimerRows::PER_ROW);
    let Some(first) = first else {
        boot::give_up(format_args!(
            "no memory is left for timers; give the machine more"
        ));
    };
    *TIMERS.lock() = Some(TimerQueue::new(first));
}

/// Makes a vCPU known to the scheduler; it starts down.
pub fn add(vcpu: &'static Vcpu) {
    handles::name(vcpu.handle, vcpu);
    change(vcpu, |q, _| {
        let _ = q.add(vcpu.handle, Reservation::BEST_EFFORT);
        Next::Keep
    });
}

/// Makes a vCPU unknown to the scheduler: it runs no more, no timer finds it, and its books are closed. It stands still.
pub fn remove(vcpu: &Vcpu) {
    if let Some(queue) = QUEUE.lock().as_mut() {
        // Whoever calls decides anew anyhow.
        let _ = queue.remove(vcpu.handle, timer::now_ns());
    }
    account::vcpu_ends(vcpu);
    handles::name(vcpu.handle, core::ptr::null());
}

/// The other half of [`remove`], when nobody is at work any more who found the vCPU: its timers, which somebody may have
/// set since, are cancelled, and its handle may be another's.
pub fn forget(handle: VcpuHandle) {
    if let Some(timers) = TIMERS.lock().as_mut() {
        for kind in Kind::ALL {
            timers.cancel(kind.of(handle));
        }
    }
    handles::give(handle);
}

/// Does something to a vCPU in the queue, and what follows from it (C1).
fn change(vcpu: &Vcpu, act: impl FnOnce(&mut RunQueue<'static>, u64) -> Next) {
    let now = timer::now_ns();
    let mut queue = QUEUE.lock();
    let Some(queue) = queue.as_mut() else {
        return;
    };
    let next = act(queue, now);
    note_state(queue, vcpu, now);
    if next == Next::Decide {
        event::reschedule_here();
    }
}

fn note_state(queue: &RunQueue<'static>, vcpu: &Vcpu, now: u64) {
    if let Some(state) = queue.state(vcpu.handle) {
        vcpu.runstate.lock().enter(state, now);
        account::note_state(vcpu, state);
    }
}

/// Wakes a vCPU that sleeps.
pub fn wake(vcpu: &Vcpu) {
    change(vcpu, |q, now| q.wake(vcpu.handle, now));
}

/// The vCPU sleeps until woken.
pub fn block(vcpu: &Vcpu) {
    change(vcpu, |q, now| q.block(vcpu.handle, now));
}

/// The vCPU lets others go first.
pub fn yield_now(vcpu: &Vcpu) {
    change(vcpu, |q, now| q.yield_now(vcpu.handle, now));
}

/// The vCPU takes part.
pub fn up(vcpu: &Vcpu) {
    change(vcpu, |q, now| q.up(vcpu.handle, now));
}

/// The vCPU takes part no more.
pub fn down(vcpu: &Vcpu) {
    change(vcpu, |q, now| q.down(vcpu.handle, now));
}

/// Does something to each of some vCPUs, and what follows from it (C1): for less than each on its own.
fn change_all<'v>(
    vcpus: impl Iterator<Item = &'v Vcpu>,
    act: impl Fn(&mut RunQueue<'static>, VcpuHandle, u64) -> Next,
) {
    let now = timer::now_ns();
    let mut queue = QUEUE.lock();
    let Some(queue) = queue.as_mut() else {
        return;
    };
    for vcpu in vcpus {
        if act(queue, vcpu.handle, now) == Next::Decide {
            event::reschedule_here();
        }
        note_state(queue, vcpu, now);
    }
}

/// Stops vCPUs until they are unpaused as often.
pub fn pause_all<'v>(vcpus: impl Iterator<Item = &'v Vcpu>) {
    change_all(vcpus, |queue, handle, now| queue.pause(handle, now));
}

/// Undoes one [`pause_all`].
pub fn unpause_all<'v>(vcpus: impl Iterator<Item = &'v Vcpu>) {
    change_all(vcpus, |queue, handle, now| queue.unpause(handle, now));
}

/// Stops a vCPU until it is unpaused as often.
pub fn pause(vcpu: &Vcpu) {
    change(vcpu, |q, now| q.pause(vcpu.handle, now));
}

/// Sets a vCPU's one-shot timer (system time in nanoseconds), or clears it.
pub fn set_timer(vcpu: &Vcpu, deadline: Option<u64>) {
    if let Some(timers) = TIMERS.lock().as_mut() {
        match deadline {
            // Every vCPU's handle has a slot.
            Some(at) => drop(timers.set(Kind::Own.of(vcpu.handle), at)),
            None => drop(timers.cancel(Kind::Own.of(vcpu.handle))),
        }
    }
    program_timer();
}

/// Sets a vCPU's periodic timer going, its first tick a period (in nanoseconds) from now; 0 stops it.
pub fn set_period(vcpu: &Vcpu, period_ns: u64) {
    vcpu.period_ns.store(period_ns, Ordering::Release);
    if let Some(timers) = TIMERS.lock().as_mut() {
        let timer = Kind::Periodic.of(vcpu.handle);
        match period_ns {
            0 => drop(timers.cancel(timer)),
            // Every vCPU's handle has a slot.
            _ => drop(timers.set(timer, timer::now_ns().saturating_add(period_ns))),
        }
    }
    program_timer();
}

/// A tick of a periodic timer. A vCPU that sleeps or is down is not told, and not woken: Xen's stand still then, too.
fn period_over(vcpu: &'static Vcpu) {
    let period_ns = vcpu.period_ns.load(Ordering::Acquire);
    if period_ns == 0 {
        return;
    }
    // From now, not from when it was due: ticks that were missed are not made up for.
    set_period(vcpu, period_ns);
    let state = vcpu.runstate.lock().state;
    if matches!(state, State::Running | State::Runnable) {
        event::raise_virq(vcpu.domain, events::Virq::TIMER, vcpu.id);
    }
}

/// Wakes a polling vCPU at a system time at the latest.
pub fn set_poll_timeout(vcpu: &Vcpu, deadline: u64) {
    if let Some(timers) = TIMERS.lock().as_mut() {
        let _ = timers.set(Kind::Poll.of(vcpu.handle), deadline);
    }
    program_timer();
}

/// A vCPU polls no more.
pub fn end_poll(vcpu: &Vcpu) {
    if let Some(timers) = TIMERS.lock().as_mut() {
        timers.cancel(Kind::Poll.of(vcpu.handle));
    }
}

/// Has [`device::later`] called at a system time, or earlier if that was asked for.
pub fn set_device_timer(deadline: u64) {
    if let Some(timers) = TIMERS.lock().as_mut() {
        let asked = timers.deadline(DEVICE_TIMER).unwrap_or(u64::MAX);
        let _ = timers.set(DEVICE_TIMER, asked.min(deadline));
    }
    program_timer();
}

/// Tells the vCPUs whose timers are due, and sets the hardware for what comes next.
pub fn timers_due() {
    let now = timer::now_ns();
    let paying = account::paying();
    loop {
        let due = TIMERS.lock().as_mut().and_then(|t| t.pop_due(now));
        let Some((timer, _)) = due else { break };
        let Some((kind, handle)) = Kind::from_number(timer) else {
            account::is_for_control(Cause::Device);
            device::later();
            continue;
        };
        let Some(vcpu) = handles::get(handle) else {
            continue;
        };
        account::is_for(vcpu.domain, Cause::Timer);
        match kind {
            Kind::Periodic => period_over(vcpu),
            Kind::Poll => wake(vcpu),
            Kind::Own => {
                event::raise_virq(vcpu.domain, events::Virq::TIMER, vcpu.id);
                wake(vcpu);
            }
        }
    }
    account::pays_again(paying);
}

/// The timer interrupt.
pub fn tick() {
    percpu::current().timer_deadline.set(u64::MAX);
    timers_due();
    let now = timer::now_ns();
    let (next, cut_for) = match QUEUE.lock().as_mut() {
        Some(queue) => (queue.tick(now), queue.turn_cut_for()),
        None => (Next::Keep, None),
    };
    // If it was none of those timers it was the end of a turn.
    match cut_for.and_then(handles::get) {
        Some(woken) if next == Next::Decide => account::is_for(woken.domain, Cause::Timer),
        _ => account::is_for_whom_it_interrupts(Cause::Timer),
    }
    if next == Next::Decide {
        event::reschedule_here();
    }
    // With a decision to come the timer is set when it has been made.
    if !percpu::current().reschedule.get() {
        program_timer();
    }
}

/// Sets the hardware timer for the nearer of the next vCPU timer and the end of the running vCPU's turn (C2).
fn program_timer() {
    let this = percpu::current();
    let timer = TIMERS.lock().as_ref().and_then(TimerQueue::next_deadline);
    let turn = QUEUE.lock().as_ref().and_then(RunQueue::turn_ends_ns);
    let next = timer.unwrap_or(u64::MAX).min(turn.unwrap_or(u64::MAX));
    if next < this.timer_deadline.get() {
        this.timer_deadline.set(next);
        timer::set_deadline(next);
    }
}

/// The queue's decision, and the run states of who ran and who will (C1).
fn next_vcpu() -> Option<&'static Vcpu> {
    let now = timer::now_ns();
    let mut queue = QUEUE.lock();
    let queue = queue.as_mut()?;
    let before = queue.current().and_then(handles::get);
    let next = queue.decide(now).run.and_then(handles::get);
    for vcpu in [before, next].into_iter().flatten() {
        note_state(queue, vcpu, now);
    }
    if let Some(vcpu) = next {
        let here = percpu::current().id;
        // Two CPUs with the same state would be the end of all that is promised: rather none.
        assert!(
            loaded::take(&vcpu.loaded_on, here),
            "domain {} vCPU {} is chosen for CPU {here} while it is on another",
            vcpu.domain.id.0,
            vcpu.id
        );
    }
    next
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
    percpu::current().reschedule.set(false);
    let next = next_vcpu();
    program_timer();
    next
}

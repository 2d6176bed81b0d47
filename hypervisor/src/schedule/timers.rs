//! Timers of vCPUs, and the devices': in the queue of a vCPU's home, and of CPU 0.
//!
//! # Invariants
//! - T1: [`smp::Remote::armed`] is what a CPU's hardware timer is set for at the latest. Who sets an earlier timer for another
//!   CPU tells it to look. The mirror is written after the queue was looked at, or before: who set a timer in between either
//!   finds the old, later time and tells it, or is found.
//! - T2: of timers that are due, at least one is told at a time, and so few that a section stays short. The others stay the
//!   next deadline, which is past: the hardware timer that is set for it interrupts at once, or has interrupted and waits. What
//!   a decision before that does not know is who is woken by them.

use super::cpu::{self, CpuSched};
use super::{at_home, wake};
use crate::account::{self, Cause};
use crate::arch::{percpu, smp};
use crate::device::{self, timer};
use crate::domain::Vcpu;
use crate::event::{self, pollers};
use ::reservations::Next;
use ::sched::{State, TimerQueue, VcpuHandle};
use core::sync::atomic::Ordering;
use frames::DomId;

/// The devices' own timer, on the CPU that takes their interrupts.
const DEVICE_TIMER: u32 = 0;
const DEVICE_CPU: u32 = 0;
/// Timers each vCPU has, behind that.
const TIMERS_EACH: u32 = 4;
/// After so long no further timer's vCPU is told in a section, in nanoseconds: one takes about a thousand instructions, and as
/// much again for each vCPU that polls for its event.
const TELLING_NS: u64 = 4_000;

/// A vCPU's timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Kind {
    /// The one that its guest sets.
    Own = 0,
    /// Ends a poll.
    Poll = 1,
    /// Ticks.
    Periodic = 2,
    /// Wakes some of its domain's vCPUs whose polls have ended.
    Woken = 3,
}

impl Kind {
    pub const ALL: [Kind; TIMERS_EACH as usize] =
        [Kind::Own, Kind::Poll, Kind::Periodic, Kind::Woken];
    /// The one with the highest number.
    pub const LAST: Kind = Kind::Woken;

    /// The number of the timer of who has a seat.
    pub const fn of(self, seat: VcpuHandle) -> u32 {
        DEVICE_TIMER + 1 + seat.0 * TIMERS_EACH + self as u32
    }

    /// Whose a number is that is not the devices'.
    fn from_number(timer: u32) -> Option<(Kind, VcpuHandle)> {
        let timer = timer.checked_sub(DEVICE_TIMER + 1)?;
        let kind = Kind::ALL.get((timer % TIMERS_EACH) as usize)?;
        Some((*kind, VcpuHandle(timer / TIMERS_EACH)))
    }
}

/// Sets a timer of a vCPU's (system time in nanoseconds), or clears it. Says whether it has a home, and so timers.
fn set(vcpu: &Vcpu, kind: Kind, deadline: Option<u64>) -> bool {
    let home = at_home(vcpu, |sched, seat| match deadline {
        // Every seat has its timers.
        Some(at) => drop(sched.timers.set(kind.of(seat), at)),
        None => drop(sched.timers.cancel(kind.of(seat))),
    });
    if let (Some((home, ())), Some(at)) = (home, deadline) {
        arm(home, at, vcpu.domain.id);
    }
    home.is_some()
}

/// Has a CPU set its hardware timer for a time at the latest, which is in its queue (T1), for a domain.
pub(super) fn arm(cpu: u32, deadline: u64, whom: DomId) {
    let this = percpu::current();
    if cpu == this.id {
        // With a decision to come the timer is set when it has been made.
        if !this.reschedule.get() {
            program();
        }
    } else if deadline < smp::remote(cpu).armed.load(Ordering::SeqCst) {
        smp::reschedule(cpu, whom);
    }
}

/// Sets a vCPU's one-shot timer (system time in nanoseconds), or clears it.
pub fn set_timer(vcpu: &Vcpu, deadline: Option<u64>) {
    set(vcpu, Kind::Own, deadline);
}

/// Sets a vCPU's periodic timer going, its first tick a period (in nanoseconds) from now; 0 stops it.
pub fn set_period(vcpu: &Vcpu, period_ns: u64) {
    vcpu.period_ns.store(period_ns, Ordering::Release);
    let first = timer::now_here().saturating_add(period_ns);
    set(vcpu, Kind::Periodic, (period_ns != 0).then_some(first));
}

/// Sets the next tick of a periodic timer, unless it was stopped meanwhile. From now, not from when one was due: ticks that were
/// missed are not made up for.
fn set_next_tick(vcpu: &Vcpu) {
    let at = at_home(vcpu, |sched, seat| {
        // Under the lock: who stops it has done that before, or cancels this.
        let period_ns = vcpu.period_ns.load(Ordering::Acquire);
        let at = timer::now_ns().saturating_add(period_ns);
        let is_set = period_ns != 0 && sched.timers.set(Kind::Periodic.of(seat), at).is_ok();
        is_set.then_some(at)
    });
    if let Some((home, Some(at))) = at {
        arm(home, at, vcpu.domain.id);
    }
}

/// A tick of a periodic timer is due. Of a vCPU that does not run it is the last until it does ([`ticks_go_on`]): else whoever
/// has many that sleep would have this CPU tick for them all, at nobody's expense.
fn period_over(vcpu: &'static Vcpu) {
    let state = vcpu.runstate.lock().state;
    if state == State::Running {
        tick_of(vcpu);
    }
}

fn tick_of(vcpu: &'static Vcpu) {
    if vcpu.period_ns.load(Ordering::Acquire) != 0 {
        set_next_tick(vcpu);
        event::raise_virq(vcpu.domain, events::Virq::TIMER, vcpu.id);
    }
}

/// A vCPU with a periodic timer runs again: it is told now of a tick that was due meanwhile.
#[cold]
pub fn ticks_go_on(vcpu: &'static Vcpu) {
    let set = at_home(vcpu, |sched, seat| {
        sched.timers.deadline(Kind::Periodic.of(seat)).is_some()
    });
    if let Some((_, false)) = set {
        tick_of(vcpu);
    }
}

/// Wakes a polling vCPU at a system time at the latest. Under the lock of its home, which is to be told ([`arm`]).
pub(super) fn set_poll(sched: &mut CpuSched, seat: VcpuHandle, deadline: u64) {
    // Every seat has its timers.
    let _ = sched.timers.set(Kind::Poll.of(seat), deadline);
}

/// Has [`Pollers::take_turn`](events::pollers::Pollers::take_turn) called for a vCPU's domain, from the timer interrupt of its home,
/// which comes at once. Says whether it has a home.
pub fn wake_soon(vcpu: &Vcpu) -> bool {
    set(vcpu, Kind::Woken, Some(timer::now_here()))
}

/// A vCPU polls no more.
pub fn end_poll(vcpu: &Vcpu) {
    set(vcpu, Kind::Poll, None);
}

/// Has [`device::later`] called at a system time, or earlier if that was asked for.
pub fn set_device_timer(deadline: u64) {
    cpu::with(DEVICE_CPU, |sched| {
        let asked = sched.timers.deadline(DEVICE_TIMER).unwrap_or(u64::MAX);
        let _ = sched.timers.set(DEVICE_TIMER, asked.min(deadline));
    });
    arm(DEVICE_CPU, deadline, DomId(0));
}

/// The next timer that is due: whose and which, or the devices'.
fn pop(sched: &mut CpuSched, now: u64) -> Option<Option<(Kind, &'static Vcpu)>> {
    loop {
        let (timer, _) = sched.timers.pop_due(now)?;
        let Some((kind, seat)) = Kind::from_number(timer) else {
            return Some(None);
        };
        if let Some(vcpu) = sched.vcpu(seat) {
            return Some(Some((kind, vcpu)));
        }
    }
}

/// Tells the vCPUs at home here whose timers are due.
pub(super) fn are_due() {
    // It is asked where a decision is being made.
    let _ = tell_due(timer::now_here());
}

/// Tells the vCPUs at home here whose timers are due at a time, or those for whom there is time (T2). Answers whether the
/// last decision ended by then, and for whose sake if it is not that of who runs.
fn tell_due(now: u64) -> (Next, Option<&'static Vcpu>) {
    let here = percpu::current().id;
    let paying = account::paying();
    loop {
        let looked = cpu::with(here, |sched| {
            let due = pop(sched, now);
            let is_none = |next: Option<u64>| next.is_none_or(|at| at > now);
            // The clock last: mostly it is one timer.
            let is_last = due.is_none()
                || is_none(sched.timers.next_deadline())
                || timer::now_here().saturating_sub(now) > TELLING_NS;
            (due, is_last.then(|| decision_ended(sched, now)))
        });
        let (due, ended) = looked.unwrap_or((None, Some((Next::Keep, None))));
        if let Some(due) = due {
            tell(due);
        }
        if let Some(ended) = ended {
            account::pays_again(paying);
            return ended;
        }
    }
}

fn decision_ended(sched: &CpuSched, now: u64) -> (Next, Option<&'static Vcpu>) {
    let next = sched.queue.expire(now);
    if next == Next::Keep {
        return (next, None);
    }
    let sake = sched.queue.ends_for(now);
    let sake = sake.and_then(|tag| sched.vcpu(VcpuHandle(tag as u32)));
    (next, sake)
}

/// A timer is due: the devices', or of that kind and that vCPU.
fn tell(due: Option<(Kind, &'static Vcpu)>) {
    let Some((kind, vcpu)) = due else {
        account::is_for_control(Cause::Device);
        return device::later();
    };
    account::is_for_vcpu(vcpu, Cause::Timer);
    match kind {
        Kind::Periodic => period_over(vcpu),
        Kind::Poll => {
            // It has no timer that would be to be cleared any more. Woken after that (O1 of `events::pollers`).
            pollers::end(vcpu);
            wake(vcpu);
        }
        Kind::Woken => vcpu.domain.pollers.take_turn(vcpu.domain),
        Kind::Own => {
            event::raise_virq(vcpu.domain, events::Virq::TIMER, vcpu.id);
            wake(vcpu);
        }
    }
}

/// The timer interrupt.
pub fn tick() {
    let this = percpu::current();
    this.timer_deadline.set(u64::MAX);
    smp::remote(this.id).armed.store(u64::MAX, Ordering::SeqCst);
    let (next, sake) = tell_due(timer::now_here());
    // If it was none of those timers it was the end of a turn or a budget: of its own accord, or for the sake
    // of one whose period begins or who woke.
    match sake {
        Some(vcpu) => account::is_for_vcpu(vcpu, Cause::Timer),
        None => account::is_for_whom_it_interrupts(Cause::Timer),
    }
    if next == Next::Decide {
        event::reschedule_here();
    }
    // With a decision to come the timer is set when it has been made.
    if !this.reschedule.get() {
        program();
    }
}

/// Sets this CPU's hardware timer for the nearer of the next timer and the end of the last decision.
pub(super) fn program() {
    program_after(|_| ());
}

/// As [`program`], when something has been done to what is under the CPU's lock.
#[inline]
pub(super) fn program_after(act: impl FnOnce(&mut CpuSched)) {
    cpu::with(percpu::current().id, |sched| {
        act(sched);
        program_under(sched);
    });
}

/// As [`program`], with the CPU's lock held.
pub(super) fn program_under(sched: &CpuSched) {
    let this = percpu::current();
    let timer = TimerQueue::next_deadline(&sched.timers).unwrap_or(u64::MAX);
    let decision = sched.queue.ends_at().unwrap_or(u64::MAX);
    let next = timer.min(decision);
    if next < this.timer_deadline.get() {
        this.timer_deadline.set(next);
        smp::remote(this.id).armed.store(next, Ordering::SeqCst);
        timer::set_deadline(next);
    }
}

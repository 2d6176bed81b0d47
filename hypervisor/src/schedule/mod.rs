//! Who runs: the pure decisions of the crate `sched` bound to vCPUs, timers and the idle loop.
//!
//! One CPU runs domains so far; the queue and the timers are its own. Locks: `QUEUE`, then `TIMERS`; both innermost
//! but for the frame allocator's.

use crate::account;
use crate::arch::{cpu, percpu};
use crate::debug::crash;
use crate::device::{self, timer};
use crate::domain::Vcpu;
use crate::event;
use ::sched::{Decision, Entry, Next, Reservation, RunQueue, TimerQueue, TimerSlot, VcpuHandle};
use alloc::boxed::Box;
use alloc::vec;
use spin::Once;
use spin::mutex::SpinMutex;

/// vCPUs of all domains together.
pub const MAX_VCPUS: usize = 256;
/// A turn, while turns go round.
const QUANTUM_NS: u64 = 10_000_000;
/// Timers from this number on end polls; the ones below are the vCPUs' own.
const POLL_TIMERS: u32 = MAX_VCPUS as u32;
/// The one behind them is the devices' own.
const DEVICE_TIMER: u32 = 2 * MAX_VCPUS as u32;

static QUEUE: SpinMutex<Option<RunQueue<'static>>> = SpinMutex::new(None);
static TIMERS: SpinMutex<Option<TimerQueue<'static>>> = SpinMutex::new(None);
static VCPUS: [Once<&'static Vcpu>; MAX_VCPUS] = [const { Once::new() }; MAX_VCPUS];

/// Makes queue and timers. Boot only.
pub fn init() {
    let entries: &'static mut [Entry] = Box::leak(vec![Entry::EMPTY; MAX_VCPUS].into_boxed_slice());
    let slots: &'static mut [TimerSlot] =
        Box::leak(vec![TimerSlot::EMPTY; DEVICE_TIMER as usize + 1].into_boxed_slice());
    account::open();
    *QUEUE.lock() = Some(RunQueue::new(entries, QUANTUM_NS));
    *TIMERS.lock() = Some(TimerQueue::new(slots));
}

/// A handle that no vCPU has.
pub fn new_handle() -> Option<VcpuHandle> {
    let free = VCPUS.iter().position(|v| !v.is_completed())?;
    Some(VcpuHandle(free as u32))
}

/// Makes a vCPU known to the scheduler; it starts down.
pub fn add(vcpu: &'static Vcpu) {
    if let Some(slot) = VCPUS.get(vcpu.handle.0 as usize) {
        slot.call_once(|| vcpu);
    }
    change(|q, _| {
        let _ = q.add(vcpu.handle, Reservation::BEST_EFFORT);
        Next::Keep
    });
}

fn change(act: impl FnOnce(&mut RunQueue<'static>, u64) -> Next) {
    let now = timer::now_ns();
    let next = QUEUE.lock().as_mut().map(|q| act(q, now));
    if next == Some(Next::Decide) {
        event::reschedule_here();
    }
}

/// Wakes a vCPU that sleeps.
pub fn wake(vcpu: &Vcpu) {
    change(|q, now| q.wake(vcpu.handle, now));
}

/// The vCPU sleeps until woken.
pub fn block(vcpu: &Vcpu) {
    change(|q, now| q.block(vcpu.handle, now));
}

/// The vCPU lets others go first.
pub fn yield_now(vcpu: &Vcpu) {
    change(|q, now| q.yield_now(vcpu.handle, now));
}

/// The vCPU takes part.
pub fn up(vcpu: &Vcpu) {
    change(|q, now| q.up(vcpu.handle, now));
}

/// The vCPU takes part no more.
pub fn down(vcpu: &Vcpu) {
    change(|q, now| q.down(vcpu.handle, now));
}

/// Sets a vCPU's one-shot timer (system time in nanoseconds), or clears it.
pub fn set_timer(vcpu: &Vcpu, deadline: Option<u64>) {
    if let Some(timers) = TIMERS.lock().as_mut() {
        match deadline {
            // Every vCPU's handle has a slot.
            Some(at) => drop(timers.set(vcpu.handle.0, at)),
            None => drop(timers.cancel(vcpu.handle.0)),
        }
    }
    program_timer(None);
}

/// Wakes a polling vCPU at a system time at the latest.
pub fn set_poll_timeout(vcpu: &Vcpu, deadline: u64) {
    if let Some(timers) = TIMERS.lock().as_mut() {
        let _ = timers.set(POLL_TIMERS + vcpu.handle.0, deadline);
    }
    program_timer(None);
}

/// A vCPU polls no more.
pub fn end_poll(vcpu: &Vcpu) {
    if let Some(timers) = TIMERS.lock().as_mut() {
        timers.cancel(POLL_TIMERS + vcpu.handle.0);
    }
}

/// Has [`device::later`] called at a system time, or earlier if that was asked for.
pub fn set_device_timer(deadline: u64) {
    if let Some(timers) = TIMERS.lock().as_mut() {
        let asked = timers.deadline(DEVICE_TIMER).unwrap_or(u64::MAX);
        let _ = timers.set(DEVICE_TIMER, asked.min(deadline));
    }
    program_timer(None);
}

/// Tells the vCPUs whose timers are due, and sets the hardware for what comes next.
pub fn timers_due() {
    let now = timer::now_ns();
    loop {
        let due = TIMERS.lock().as_mut().and_then(|t| t.pop_due(now));
        let Some((handle, _)) = due else { break };
        if handle == DEVICE_TIMER {
            device::later();
            continue;
        }
        let poll = handle >= POLL_TIMERS;
        let vcpu = VCPUS
            .get(handle as usize % MAX_VCPUS)
            .and_then(Once::get)
            .copied();
        if let Some(vcpu) = vcpu {
            if poll {
                wake(vcpu);
                continue;
            }
            event::raise_virq(vcpu.domain, events::Virq::TIMER, vcpu.id);
            wake(vcpu);
        }
    }
}

/// The timer interrupt.
pub fn tick() {
    percpu::current().timer_deadline.set(u64::MAX);
    timers_due();
    change(|q, now| q.tick(now));
    program_timer(None);
}

/// Sets the hardware timer for the nearer of the next vCPU timer and `until`.
fn program_timer(until: Option<u64>) {
    let this = percpu::current();
    let next = TIMERS
        .lock()
        .as_ref()
        .and_then(TimerQueue::next_deadline)
        .unwrap_or(u64::MAX)
        .min(until.unwrap_or(u64::MAX));
    if next < this.timer_deadline.get() {
        this.timer_deadline.set(next);
        timer::set_deadline(next);
    }
}

/// Decides who runs on this CPU. Idles with interrupts open until somebody can.
pub fn decide() -> &'static Vcpu {
    loop {
        percpu::current().reschedule.set(false);
        timers_due();
        let now = timer::now_ns();
        let decision = QUEUE.lock().as_mut().map(|q| q.decide(now));
        if let Some(Decision {
            run: Some(handle),
            until_ns,
        }) = decision
            && let Some(vcpu) = VCPUS.get(handle.0 as usize).and_then(Once::get)
        {
            program_timer(until_ns);
            return vcpu;
        }
        program_timer(None);
        if !percpu::current().reschedule.get() {
            account::idles();
            crash::set_serving_nobody();
            cpu::wait_for_interrupt();
            account::works();
        }
    }
}

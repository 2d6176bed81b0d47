//! A CPU that is stuck in ring 0 is named (crate `cpus`): the one before it in the ring of all CPUs asks it each second.
//!
//! ```text
//!  CPU n, its timer                            CPU n + 1
//!  looks ── IPI_CALL ───────────────────────▶  [`answer`] in the handler, and where it waits for others
//!  looks ten times more, in vain
//!        ── NMI ────────────────────────────▶  [`on_nmi`]: in ring 0, so stuck: its own crash report, from there
//!  looks once more: reports it itself
//! ```
//! What is long and known to end answers on its way (the audit, waits for other CPUs). A CPU that idles is not watched, nor
//! is one that an interrupt wakes, until there is a vCPU to decide on: else each that wakes to look would have the one before
//! it woken to look at it, and so on around the ring. One that gets stuck before that is found when another CPU waits for it.
//!
//! # Invariants
//! - W4: an NMI takes no lock and logs nothing: all it does is look at one word, and begin the crash report, which takes
//!   none either (`crash` R3).
//! - W5: the hardware timer is never later than the next look.

use super::{Remote, call_upon_for_nobody, online, remote};
use crate::arch::regs::Regs;
use crate::arch::{apic, percpu};
use crate::debug::crash;
use crate::device::timer;
use ::cpus::watch::{Look, PATIENCE};
use core::sync::atomic::Ordering;

/// Time between two looks.
const LOOK_NS: u64 = 1_000_000_000;

/// The CPU after this one, in a ring; `None` for one that is alone.
fn neighbour(cpu: u32) -> Option<u32> {
    let others = online().without(cpu);
    let next = others.iter().find(|&other| other > cpu);
    next.or_else(|| others.iter().next())
}

/// The CPU before this one, which looks at it.
fn watcher(cpu: u32) -> Option<u32> {
    let others = online().without(cpu);
    let before = others.iter().filter(|&other| other < cpu).last();
    before.or_else(|| others.iter().last())
}

fn mine() -> &'static Remote {
    remote(percpu::current().id)
}

/// This CPU has something to do from now on.
#[inline]
pub fn works() {
    if mine().watched.works() {
        be_looked_at();
    }
}

/// Tells whoever watches this CPU that it works.
#[cold]
fn be_looked_at() {
    if let Some(watcher) = watcher(percpu::current().id) {
        remote(watcher).told_to_look.store(true, Ordering::Release);
        call_upon_for_nobody(watcher);
    }
}

/// This CPU has nothing to do.
#[inline]
pub fn rests() {
    mine().watched.rests();
}

/// This CPU is not stuck: it takes interrupts, or does what is known to end.
#[inline]
pub fn answer() {
    mine().watched.answer();
}

/// [`apic::IPI_CALL`] came.
pub fn interrupted() {
    answer();
    if mine().told_to_look.swap(false, Ordering::AcqRel) {
        look();
    }
}

/// The timer interrupt came, and everybody else has had it.
pub fn tick() {
    let this = percpu::current();
    let due = this.look_at_ns.get();
    if due == u64::MAX {
        return;
    }
    if timer::now_ns() >= due {
        look();
    } else {
        arm(due);
    }
}

fn look() {
    let this = percpu::current();
    let Some(next) = neighbour(this.id) else {
        return;
    };
    match remote(next).watched.look() {
        Look::NoMore => {
            this.look_at_ns.set(u64::MAX);
            return;
        }
        Look::Again => {}
        Look::Ask => call_upon_for_nobody(next),
        Look::Accuse => apic::send_nmi(remote(next).apic_id.load(Ordering::Relaxed)),
        Look::Deaf => panic!("CPU {next} is stuck, and does not take an NMI either"),
    }
    let next_look = timer::now_ns().saturating_add(LOOK_NS);
    this.look_at_ns.set(next_look);
    arm(next_look);
}

/// Sets the timer, if it is not set for an earlier time (W5).
fn arm(ns: u64) {
    let this = percpu::current();
    if ns < this.timer_deadline.get() {
        this.timer_deadline.set(ns);
        timer::set_deadline(ns);
    }
}

/// An NMI came: does not return if this CPU is stuck in ring 0 (W4).
pub fn on_nmi(regs: &Regs) {
    let in_ring0 = regs.cs & 3 == 0;
    if mine().watched.is_accused() && in_ring0 {
        crash::stuck(regs, u64::from(PATIENCE) * LOOK_NS / 1_000_000_000);
    }
}

//! What a vCPU has to finish before its guest goes on: calls that stopped when their share of time was used up, and
//! tables that its domain let go and that wait to be undone.
//!
//! Each turn of [`attend`] is a section of its own: between two of them interrupts are let in and another vCPU may run.
//!
//! # Invariants
//! - U1: a guest goes on only when none of the tables that its vCPUs let go is left to be undone: so it finds things as
//!   if that had been one step. (Its other vCPUs on other CPUs may see the steps.)
//! - U2: a vCPU that has a validation in progress makes the call again before its guest executes anything: no guest can
//!   leave one behind. Its own events wait meanwhile; nobody else does.
//! - U3: what a call kept to be made again is given up as soon as the call ends otherwise.

use crate::account;
use crate::arch::smp::grace;
use crate::arch::{cpu, percpu};
use crate::debug::sections;
use crate::domain::{Guest, run};
use crate::hypercall;
use crate::mmu::work;
use core::sync::atomic::Ordering;

/// Whether the vCPU in hand has anything to finish.
pub fn has_any(g: &Guest<'_>) -> bool {
    g.local.repeat || !g.dom.undo.is_idle() || work::keeps_any(g.vcpu)
}

/// Schedules, and finishes what whoever goes on has to finish.
#[cold]
#[inline(never)]
pub fn attend(g: &mut Guest<'_>) {
    if percpu::current().measuring.get() {
        sections::came_in(g);
    }
    finish(g);
    // Every way out comes through here, then.
    let this = percpu::current();
    this.unfinished.set(this.measuring.get());
}

fn finish(g: &mut Guest<'_>) {
    let this = percpu::current();
    loop {
        if this.reschedule.get() || g.dom.stopped.load(Ordering::Acquire) {
            if !work::in_budget() {
                // Records of domains may end there (`teardown::bury`).
                let_others_in();
            }
            run::reschedule(g);
        }
        if !this.unfinished.get() {
            return;
        }
        account::goes_on();
        if !work::in_budget() {
            let_others_in();
            continue;
        }
        if !g.dom.undo.is_idle() {
            if !work::undo_some(g.dom) {
                let_others_in();
            }
        } else if g.local.repeat {
            // One's own events may be as urgent as anybody's, but see U2.
            if waits_for_events(g) && !work::keeps_any(g.vcpu) {
                g.local.repeat = false;
                continue;
            }
            let_others_in();
            if this.reschedule.get() {
                continue;
            }
            if let Some(whose) = this.busy.take() {
                work::help(whose);
            } else {
                hypercall::repeat(g);
            }
        } else if work::keeps_any(g.vcpu) {
            // U3.
            work::give_up(g.vcpu);
        } else {
            return;
        }
    }
}

fn waits_for_events(g: &Guest<'_>) -> bool {
    g.vcpu.event_waits() || g.vcpu.nmi_pending.load(Ordering::Acquire) && !g.local.nmi_masked
}

/// The end of a section and the beginning of another, on the way out or where nobody is in hand: nothing that was found by
/// a look-up lives across this (W1 in `domain::teardown`). Graces of others are passed here.
/// Nothing is locked (J2 of `sync`).
#[track_caller]
pub fn let_others_in() {
    grace::pass();
    change_section();
}

/// The same in the middle of a call: what it found stays good. Graces of others are passed when it is over. At boot, where
/// nobody is in hand, there is nobody to let in.
#[track_caller]
pub fn breathe() {
    let this = percpu::current();
    if this.current.get().is_none() {
        return;
    }
    this.holds.set(true);
    change_section();
    this.holds.set(false);
}

#[track_caller]
fn change_section() {
    sections::end();
    cpu::let_interrupts_in();
    sections::begin();
    work::begin_section();
}

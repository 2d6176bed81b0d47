//! What a CPU does on which nobody is to run: it waits, and looks for a vCPU.
//!
//! At first it keeps the vCPU that fell asleep last ([`keep`]): if that is the one to run next, as most often, nothing of it
//! has to be put away and loaded again. Whatever else ends the wait has it put away, and the CPU waits with nobody
//! ([`idle`]): another CPU's wish to have the vCPU stand still, its domain's end, a request to flush, the machine's parking.
//!
//! # Invariants
//! - I1: from the last look at [`percpu::Cpu::reschedule`] until the CPU waits interrupts are off, so that what sets it in
//!   between ends the wait at once.
//! - I2: a CPU keeps who sleeps for one wait at most, and nobody who is to stand still already: who finds a vCPU on a CPU
//!   that it wants to stand still has that CPU decide anew (`life::is_still`).

use super::{decide, runs_vcpus};
use crate::account;
use crate::arch::{cpu, percpu, smp, trap};
use crate::debug::{crash, sections};
use crate::domain::{Guest, Vcpu, park, run, switch, teardown, unfinished};
use crate::mmu::work;
use ::sched::State;

/// Waits for a vCPU to run, and runs it. On a fresh stack (`switch::on_fresh_stack`).
pub extern "C" fn idle() -> ! {
    let this = percpu::current();
    loop {
        // Interrupts are off until it waits: who parks the machine and is not seen here ends that.
        park::stay_if_asked();
        if !this.reschedule.get() {
            wait();
        }
        work::begin_section();
        trap::tell_nmis();
        smp::test::storm();
        smp::test::be_stuck();
        // Whoever becomes ready asks for a decision: unless one is asked for there is nobody.
        if !runs_vcpus(this.id) {
            this.reschedule.set(false);
        }
        if this.reschedule.get() {
            smp::watch::works();
            teardown::bury(unfinished::let_others_in);
            if let Some(vcpu) = decide() {
                // SAFETY: this function's contract: nothing lies above its frame.
                unsafe { switch::start(vcpu) };
            }
        }
    }
}

/// Waits once with the vCPU in hand, if that sleeps, and answers who is to run then. `None` if it is to be put away: nobody
/// is to run, or was all the time.
pub fn keep(g: &Guest<'_>) -> Option<&'static Vcpu> {
    let this = percpu::current();
    let sleeps = g.vcpu.runstate.lock().state == State::Blocked;
    // Interrupts are off until it waits, as in `idle`.
    if !sleeps || this.reschedule.get() || park::is_asked() {
        return None;
    }
    run::publish(g);
    crash::set_serving_nobody();
    wait();
    work::begin_section();
    trap::tell_nmis();
    if !this.reschedule.get() {
        return None;
    }
    smp::watch::works();
    teardown::bury(unfinished::let_others_in);
    decide()
}

/// Waits for an interrupt. Not inlined: reports of crashes name it.
#[inline(never)]
fn wait() {
    account::idles();
    sections::end();
    smp::watch::rests();
    cpu::wait_for_interrupt();
    sections::begin();
    sections::is_for(sections::Kind::Waiting);
    account::works();
}

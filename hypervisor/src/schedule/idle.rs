//! What a CPU does on which no vCPU is loaded: it looks for one, and waits.
//!
//! # Invariants
//! - I1: from the last look at [`percpu::Cpu::reschedule`] until the CPU waits interrupts are off, so that what sets it in
//!   between ends the wait at once.

use super::{decide, runs_vcpus};
use crate::account;
use crate::arch::{cpu, percpu, smp, trap};
use crate::debug::sections;
use crate::domain::{park, switch, teardown, unfinished};
use crate::mmu::work;

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
            teardown::bury(unfinished::let_others_in);
            if let Some(vcpu) = decide() {
                // SAFETY: this function's contract: nothing lies above its frame.
                unsafe { switch::start(vcpu) };
            }
        }
    }
}

fn wait() {
    account::idles();
    sections::end();
    smp::watch::rests();
    cpu::wait_for_interrupt();
    smp::watch::works();
    sections::begin();
    sections::is_for(sections::Kind::Waiting);
    account::works();
}

//! What happens to the machine when its control domain ends.

pub mod restart;

use crate::account::report;
use crate::boot;
use crate::debug::sections;
use crate::device::power;
use crate::domain::life::{self, Reason};
use crate::domain::{Domain, Guest, crash, park};
use crate::hypercall::{Args, Outcome, Stop};
use crate::mmu::audit;
use crate::{error, info};
use boot_info::params::{LogLevel, OnCrash};
use core::sync::atomic::{AtomicBool, Ordering};
use guest_abi::sched::ShutdownReason;

/// What is to be said when the control domain ends: who used what, and with everything logged, whether all counts are
/// right. The machine is parked: what other CPUs still did would be in the accounts and not in their books.
pub fn last_words(g: &Guest<'_>) {
    debug_assert!(park::is_ours(), "others go on while the books are closed");
    sections::report();
    report::say();
    if boot::params().loglvl == LogLevel::Debug && audit::run_and_say(Some(g)).is_none() {
        info!("audit: not enough memory for its counters");
    }
}

/// A domain shuts itself down: with the control domain goes the machine, any other waits for the control domain to look
/// after it.
pub fn shutdown(g: &mut Guest<'_>, said: Reason, args: Args) -> Outcome {
    // What is to be said is about the whole machine, and another CPU may be about to say it.
    if g.dom.privileged && !park::all_but(g.vcpu) {
        return Err(Stop::Again(args));
    }
    g.regs.rax = 0;
    shut_down(g, said);
    Err(Stop::Gone)
}

fn shut_down(g: &mut Guest<'_>, said: Reason) {
    let reason = g.dom.life.reason(said);
    info!("domain {} shuts down: {}", g.dom.id.0, reason.name());
    if !g.dom.privileged && reason.known() != Some(ShutdownReason::Crash) {
        return life::stop(g.dom, reason);
    }
    if g.dom.privileged {
        last_words(g);
    }
    match reason.known() {
        Some(ShutdownReason::Crash) => crash::domain(g, "it asked for it (shutdown code crash)"),
        Some(ShutdownReason::Poweroff) => power::power_off(),
        Some(ShutdownReason::Reboot | ShutdownReason::SoftReset) => power::reboot(),
        _ => {
            g.dom.stopped.store(true, Ordering::Release);
            crate::event::reschedule_here();
        }
    }
}

/// Set when the control domain crashed, as against having shut itself down.
static CRASHED: AtomicBool = AtomicBool::new(false);

/// A domain crashes.
pub fn note_crash(dom: &Domain) {
    if dom.privileged {
        CRASHED.store(true, Ordering::Release);
    }
}

/// A domain runs no more. Without its control domain the machine cannot go on: it gets another, or it ends.
pub fn domain_stopped(dom: &Domain) {
    if !dom.privileged {
        return;
    }
    error!("the control domain is gone");
    let params = boot::params();
    let wanted = params
        .dom0_crash
        .filter(|_| CRASHED.swap(false, Ordering::AcqRel));
    match wanted {
        Some(OnCrash::Restart) => restart::try_again(),
        Some(OnCrash::Reboot) => power::reboot(),
        Some(OnCrash::Halt) => power::stay_halted(),
        None => {}
    }
    if params.noreboot || params.exit_port.is_some() {
        power::halt(true);
    }
    power::reboot()
}

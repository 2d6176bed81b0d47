//! What happens to the machine when its control domain ends.

use crate::account;
use crate::boot;
use crate::device::power;
use crate::domain::{Domain, Guest, crash};
use crate::mmu::audit;
use crate::{error, info};
use boot_info::params::LogLevel;
use core::sync::atomic::Ordering;
use guest_abi::sched::ShutdownReason;

/// What is to be said when the control domain ends: who used what, and with everything logged, whether all counts are
/// right.
pub fn last_words(g: &Guest<'_>) {
    account::report(g.dom.vcpus());
    if boot::params().loglvl == LogLevel::Debug && audit::run_and_say(g).is_none() {
        info!("audit: not enough memory for its counters");
    }
}

/// A domain shuts itself down.
pub fn shutdown(g: &mut Guest<'_>, reason: ShutdownReason) {
    info!("domain {} shuts down: {}", g.dom.id.0, reason.name());
    if g.dom.privileged {
        last_words(g);
    }
    match reason {
        ShutdownReason::Crash => crash::domain(g, "it asked for it (shutdown code crash)"),
        ShutdownReason::Poweroff if g.dom.privileged => power::power_off(),
        ShutdownReason::Reboot | ShutdownReason::SoftReset if g.dom.privileged => power::reboot(),
        _ => {
            g.dom.stopped.store(true, Ordering::Release);
            crate::event::reschedule_here();
        }
    }
}

/// A domain runs no more. Without its control domain the machine cannot go on.
pub fn domain_stopped(dom: &Domain) {
    if !dom.privileged {
        return;
    }
    error!("the control domain is gone");
    if boot::params().noreboot || boot::params().exit_port.is_some() {
        power::halt(true);
    }
    power::reboot()
}

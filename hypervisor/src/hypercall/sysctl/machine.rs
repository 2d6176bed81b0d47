//! The machine: its CPUs and its memory.

use crate::arch::{cpu, smp};
use crate::boot;
use crate::device::timer;
use crate::domain::Guest;
use crate::hypercall::Outcome;
use crate::layout::PAGE;
use crate::memory::{alloc, frame_table};
use crate::policy::cpuid;
use guest_abi::domctl::XEN_SCHEDULER_CREDIT2;
use guest_abi::sysctl::{
    Physinfo, SchedId, Sysctl, XEN_SYSCTL_PHYSCAP_GNTTAB_V1, XEN_SYSCTL_PHYSCAP_PV,
};

/// `physinfo`.
pub fn physinfo(_: &mut Guest<'_>, call: &mut Sysctl) -> Outcome {
    let cpus = smp::online().iter().count() as u32;
    call.set_payload(&Physinfo {
        threads_per_core: 1,
        cores_per_socket: 1,
        nr_cpus: cpus,
        max_cpu_id: cpus.saturating_sub(1),
        nr_nodes: 1,
        cpu_khz: tsc_khz(),
        capabilities: XEN_SYSCTL_PHYSCAP_PV | XEN_SYSCTL_PHYSCAP_GNTTAB_V1,
        total_pages: boot::boot_info().memory.usable_bytes() / PAGE,
        free_pages: alloc::free_frames(),
        max_mfn: frame_table::end().saturating_sub(1),
        hw_cap: cpuid::feature_words(cpu::cpuid),
        ..Physinfo::ZERO
    });
    Ok(0)
}

/// Ticks of the time-stamp counter in a millisecond.
fn tsc_khz() -> u32 {
    let ticks = timer::clock().scale.ticks_from_ns(1_000_000);
    u32::try_from(ticks).unwrap_or(u32::MAX)
}

/// `sched_id`: ours goes round in turns and answers to the name of the one that tools expect.
pub fn sched_id(_: &mut Guest<'_>, call: &mut Sysctl) -> Outcome {
    call.set_payload(&SchedId {
        sched_id: XEN_SCHEDULER_CREDIT2,
    });
    Ok(0)
}

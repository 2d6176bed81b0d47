//! What a vCPU is promised, as it is told.

use super::cpu::CpuSched;
use super::{at_home, each_at_home};
use crate::device::timer;
use crate::domain::Vcpu;
use ::reservations::{Extra, Terms};
use ::sched::Shown;

/// What a vCPU is promised, and where.
#[derive(Clone, Copy)]
pub struct Reserved {
    /// Its CPU.
    pub cpu: u32,
    /// What is in force.
    pub terms: Terms,
    /// What will be, and when.
    pub coming: Option<(Terms, u64)>,
}

impl Reserved {
    /// What a vCPU is promised that is at home with a CPU.
    pub(super) fn read(sched: &CpuSched, cpu: u32, now: u64, vcpu: &Vcpu) -> Option<Reserved> {
        let (terms, coming) = sched.queue.promised(now, vcpu.home.place()).ok()?;
        Some(Reserved { cpu, terms, coming })
    }
}

/// What a vCPU is promised; `None` if it has been removed.
pub fn reserved(vcpu: &Vcpu) -> Option<Reserved> {
    let has = at_home(vcpu, |sched, _| {
        Reserved::read(sched, vcpu.home.cpu(), timer::now_ns(), vcpu)
    });
    has.and_then(|(_, has)| has)
}

/// What each of some vCPUs is promised, one after the other; nothing of those that were removed.
pub fn each_reserved(vcpus: impl Iterator<Item = &'static Vcpu>, mut told: impl FnMut(Reserved)) {
    each_at_home(vcpus, |sched, home, now, vcpu| {
        if let Some(has) = Reserved::read(sched, home, now, vcpu) {
            told(has);
        }
    });
}

/// Shows who reads a vCPU's account what it was granted: under the placement's lock, or before anybody else knows it.
pub(super) fn show(vcpu: &Vcpu, granted: &Terms) {
    vcpu.account.has_terms(&Shown {
        // Neither is longer than a second.
        slice_ns: granted.slice() as u32,
        period_ns: granted.period() as u32,
        weight: granted.weight().into(),
        extra: granted.extra() == Extra::ByWeight,
    });
}

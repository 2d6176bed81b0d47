//! What a vCPU is promised, as it is told.

use super::at_home;
use crate::device::timer;
use crate::domain::Vcpu;
use ::reservations::{Extra, Terms};
use ::sched::Shown;

/// What a vCPU is promised, and where.
pub struct Reserved {
    /// Its CPU.
    pub cpu: u32,
    /// What is in force.
    pub terms: Terms,
    /// What will be, and when.
    pub coming: Option<(Terms, u64)>,
}

/// What a vCPU is promised; `None` if it has been removed.
pub fn reserved(vcpu: &Vcpu) -> Option<Reserved> {
    let (cpu, (terms, coming)) = at_home(vcpu, |sched, _| {
        let place = vcpu.home.place();
        let (terms, _) = sched.queue.terms(place).ok()?;
        Some((terms, sched.queue.coming(place).ok()?))
    })
    .and_then(|(cpu, told)| Some((cpu, told?)))?;
    // The queue notes the change when it next looks at it: of one that sleeps, when it wakes.
    match coming {
        Some((terms, at)) if at <= timer::now_ns() => Some(Reserved {
            cpu,
            terms,
            coming: None,
        }),
        _ => Some(Reserved { cpu, terms, coming }),
    }
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

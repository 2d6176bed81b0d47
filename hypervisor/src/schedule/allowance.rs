//! What domains may reserve for themselves.

use super::terms::Reserved;
use super::{each_at_home, placement};
use crate::domain::{Domain, MAX_VCPUS};
use ::reservations::request::NANOSECONDS;
use ::reservations::{Allowance, Charge, Charges, Exceeded, Rules, Terms};
use arrayvec::ArrayVec;
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicU16, AtomicU64};

/// What a domain may reserve for itself: written and read under the lock.
#[derive(Default)]
pub struct May {
    rate: AtomicU64,
    weight: AtomicU16,
}

impl May {
    /// Nothing.
    pub const fn new() -> May {
        May {
            rate: AtomicU64::new(0),
            weight: AtomicU16::new(0),
        }
    }

    /// In nanoseconds of each second, and the largest weight.
    pub fn told(&self) -> (u64, u16) {
        (self.rate.load(Relaxed), self.weight.load(Relaxed))
    }

    fn is(&self) -> Allowance {
        let (rate, weight) = self.told();
        let rate = Charge::of_ticks(rate, NANOSECONDS);
        Allowance { rate, weight }
    }
}

/// Says what a domain may reserve for itself from now on: nanoseconds of each second, and the largest weight.
pub fn allow(dom: &Domain, rate: u64, weight: u16) {
    let _placement = placement::lock();
    dom.allowance.rate.store(rate, Relaxed);
    dom.allowance.weight.store(weight, Relaxed);
}

/// Whether a domain may have these terms by its own wish, for those of its vCPUs that are named, by the bits of their
/// numbers; then the largest slice that they may have in the same period. Under the placement's lock (P3).
pub(super) fn is_allowed(
    dom: &Domain,
    named: u64,
    to: &Terms,
    rules: &Rules,
) -> Result<u64, Exceeded> {
    let mut held: ArrayVec<Charge, MAX_VCPUS> = ArrayVec::new();
    let mut others = Charge::NOTHING;
    let (mut charges, mut charges_to_come) = (Charges::default(), Charges::default());
    each_at_home(dom.vcpus(), |sched, home, now, vcpu| {
        let Some(has) = Reserved::read(sched, home, now, vcpu) else {
            return;
        };
        let in_force = charges.of(&has.terms, rules);
        if named >> vcpu.id & 1 == 1 {
            // There are no more vCPUs than it has room for.
            let _ = held.try_push(in_force);
        } else {
            let coming = has.coming.map_or(Charge::NOTHING, |(terms, _)| {
                charges_to_come.of(&terms, rules)
            });
            others = others.and(in_force.at_least(coming));
        }
    });
    let allowance = dom.allowance.is();
    allowance.permits(rules, to, &held, others)?;
    let largest = allowance.largest_slice(rules, to.period(), &held, others);
    // None is told where one of them still has more than each could have; these they may.
    Ok(largest.max(to.slice()))
}

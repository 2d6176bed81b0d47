//! What domains may reserve for themselves.

use super::placement;
use super::terms::reserved;
use crate::domain::{Domain, MAX_VCPUS, Vcpu};
use ::reservations::request::NANOSECONDS;
use ::reservations::{Allowance, Charge, Exceeded, Rules, Terms};
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

/// Whether a domain may have these terms for those of its vCPUs that it asks for by its own wish. Under the placement's lock (P2).
pub(super) fn is_allowed(
    dom: &Domain,
    asking: impl Iterator<Item = &'static Vcpu>,
    to: &Terms,
    rules: &Rules,
) -> Result<(), Exceeded> {
    let mut named = [Charge::NOTHING; MAX_VCPUS];
    let mut number = 0;
    let mut others = Charge::NOTHING;
    // A bit each: there are no more vCPUs than that.
    const _: () = assert!(MAX_VCPUS <= 64);
    let is_named = asking.fold(0_u64, |named, vcpu| named | 1 << vcpu.id);
    for vcpu in dom.vcpus() {
        let Some(has) = reserved(vcpu) else { continue };
        let in_force = has.terms.charge(rules);
        match named.get_mut(number) {
            Some(place) if is_named >> vcpu.id & 1 == 1 => {
                *place = in_force;
                number += 1;
            }
            _ => {
                let coming = has
                    .coming
                    .map_or(Charge::NOTHING, |(terms, _)| terms.charge(rules));
                others = others.and(in_force.at_least(coming));
            }
        }
    }
    let named = named.get(..number).unwrap_or_default();
    dom.allowance.is().permits(rules, to, named, others)
}

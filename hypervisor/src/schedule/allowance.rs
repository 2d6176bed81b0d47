//! What domains may reserve for themselves.

use super::dues;
use super::placement::{self, Books};
use crate::device::timer;
use crate::domain::{Domain, MAX_VCPUS};
use ::reservations::request::NANOSECONDS;
use ::reservations::{Allowance, Charge, Exceeded, Terms};
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
    books: &Books,
    dom: &Domain,
    named: u64,
    to: &Terms,
) -> Result<u64, Exceeded> {
    let mut held: ArrayVec<Charge, MAX_VCPUS> = ArrayVec::new();
    let mut others = Charge::NOTHING;
    let now = timer::now_ns();
    for vcpu in dom.vcpus() {
        let Some((home, charged)) = dues::of(books, vcpu) else {
            continue;
        };
        let comes = || dues::comes(home, vcpu);
        if named >> vcpu.id & 1 == 1 {
            // There are no more vCPUs than it has room for.
            let _ = held.try_push(charged.in_force(now, comes));
        } else {
            others = others.and(charged.most(now, comes));
        }
    }
    let (allowance, rules) = (dom.allowance.is(), books.placement.rules());
    allowance.permits(rules, to, &held, others)?;
    let largest = allowance.largest_slice(rules, to.period(), &held, others);
    // None is told where one of them still has more than each could have; these they may.
    Ok(largest.max(to.slice()))
}

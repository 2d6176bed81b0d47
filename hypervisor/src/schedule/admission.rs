//! What a vCPU is promised to begin with, and of which CPU.

use super::placement::{self, nr_cpus, open};
use crate::boot;
use crate::device::timer;
use crate::domain::{Domain, NO_CPU};
use crate::warn;
use ::cpus::set::CpuSet;
use ::reservations::{Charge, Extra, Refusal, Rules, Terms};
use boot_info::params::Dom0Cpu;
use core::sync::atomic::Ordering::Relaxed;

/// What the control domain's vCPUs are promised where nothing is said: enough to answer within a period whoever else runs,
/// and little enough that it is no loss to the others.
const USUAL_SLICE_NS: u64 = 2_000_000;
const USUAL_PERIOD_NS: u64 = 20_000_000;
/// Its part in left-over time: twice that of others, for it works for them.
const USUAL_WEIGHT: u16 = 2 * Terms::USUAL_WEIGHT;
/// All that it is promised of a CPU where nothing is said, in millionths.
const USUAL_MOST_PPM: u32 = 500_000;

/// What a vCPU of a domain is promised to begin with.
fn first_terms(dom: &Domain, rules: &Rules) -> Terms {
    let best_effort = |weight| {
        let terms = Terms::best_effort(rules, weight);
        // Neither weight that is asked for here is zero.
        terms.unwrap_or_else(|_| boot::give_up(format_args!("no weight")))
    };
    if !dom.privileged {
        return best_effort(dom.weight.load(Relaxed));
    }
    let usual = Charge::of_ppm(USUAL_MOST_PPM);
    let (slice, period, extra, most) = match boot::params().dom0_cpu {
        Dom0Cpu::None => return best_effort(USUAL_WEIGHT),
        Dom0Cpu::Usual => (USUAL_SLICE_NS, USUAL_PERIOD_NS, Extra::ByWeight, usual),
        Dom0Cpu::Slice {
            slice_ns,
            period_ns,
            extra,
        } => {
            let extra = if extra { Extra::ByWeight } else { Extra::Never };
            (slice_ns, period_ns, extra, Charge::WHOLE)
        }
    };
    let each = dom.max_vcpus.div_ceil(nr_cpus());
    let most = most.at_most(rules.capacity());
    match Terms::new(rules, slice, period, extra, USUAL_WEIGHT) {
        Ok(terms) => terms.within(rules, each, most),
        Err(why) => {
            warn!(
                "the command line's `dom0_cpu=` cannot be had ({why:?}): the control domain is promised nothing"
            );
            best_effort(USUAL_WEIGHT)
        }
    }
}

/// A CPU for a vCPU that is to be made, and what it is promised there; `None` if no CPU takes any. The control domain's go
/// round, so that each has a CPU that the others begin on last; others go where none of their domain are, if there is room.
pub(super) fn admit(dom: &Domain, id: u32) -> Option<(u32, Terms)> {
    let taken = dom.vcpus().map(|vcpu| vcpu.home.cpu());
    let taken = taken.filter(|cpu| *cpu != NO_CPU);
    let taken = taken.fold(CpuSet::EMPTY, |set, cpu| set.with(cpu));
    let own = open().nth((id % nr_cpus()) as usize);
    let preferred = |cpu: usize| match dom.privileged {
        true => own == Some(cpu as u32),
        false => !taken.contains(cpu as u32),
    };
    let mut books = placement::lock();
    let placement = &mut books.as_mut()?.placement;
    let mut terms = first_terms(dom, placement.rules());
    loop {
        match placement.admit(timer::now_ns(), &terms, |_| true, preferred) {
            Ok(cpu) => return Some((cpu as u32, terms)),
            Err(Refusal::NoCpu) => return None,
            // What the control domain had before it crashed is not paid for yet, and it asks for very much.
            Err(Refusal::NoRoom { .. }) if terms.slice() != 0 => {
                let weight = terms.weight();
                terms = Terms::best_effort(placement.rules(), weight).ok()?;
            }
            Err(Refusal::NoRoom { .. }) => return None,
        }
    }
}

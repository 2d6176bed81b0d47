//! `xeno_op`: reservations of CPU time.
//!
//! What is asked for is decoded and checked by the crate `reservations`; who asks, and whether the domain and the vCPU are
//! there, is checked here. All vCPUs that are named get the terms, or none does.

use crate::arch::smp;
use crate::domain::{Domain, Guest, Vcpu};
use crate::hypercall::{Args, Outcome, Stop, subject};
use crate::schedule::granting::{self, NotGranted};
use crate::schedule::moves::{self, Way};
use crate::schedule::terms::{self, Reserved};
use crate::schedule::{allowance, placement};
use ::cpus::set::CpuSet;
use ::reservations::request::{self, Asked, NANOSECONDS};
use ::reservations::{Refusal, Rules, Search};
use guest_abi::reserve::{
    SCHED_ALL_VCPUS, SCHED_CPU_ONLINE, SCHED_NO_CPU, SchedAllow, SchedCpu, SchedGet, SchedRules,
    SchedSet, SchedTerms,
};
use guest_abi::xeno::XENO_INTERFACE_VERSION;
use guest_abi::{Errno, Wire};

/// Units of looking at, or changing, what one vCPU is promised.
const ONE: u64 = 3;

fn check_version(version: u32) -> Result<(), Errno> {
    match version {
        XENO_INTERFACE_VERSION => Ok(()),
        _ => Err(Errno::Inval),
    }
}

/// `sched_rules`: what holds for all reservations, and the quantum, which the control domain may set.
pub fn rules(g: &mut Guest<'_>, arg: u64) -> Outcome {
    let want: SchedRules = g.memory().value(arg)?;
    check_version(want.version)?;
    if want.set != 0 && !g.dom.privileged {
        return Err(Errno::Perm.into());
    }
    g.memory().check_writable(arg, SchedRules::SIZE)?;
    let mut rules = placement::rules();
    if let Some(new) = request::rules_wanted(&want, &rules)? {
        placement::set_quantum(new);
        rules = new;
    }
    let answer = SchedRules {
        version: want.version,
        set: want.set,
        ..request::rules_told(&rules, placement::nr_cpus())
    };
    g.memory().put(arg, &answer)?;
    Ok(0)
}

/// `sched_get`: what a vCPU has. A domain asks for itself, the control domain for any.
pub fn get(g: &mut Guest<'_>, arg: u64) -> Outcome {
    let want: SchedGet = g.memory().value(arg)?;
    check_version(want.version)?;
    let dom = subject(g, want.domid)?;
    check_vcpu(dom, want.vcpu)?;
    g.memory().check_writable(arg, SchedGet::SIZE)?;
    let mut all = named(dom, want.vcpu).filter_map(terms::reserved);
    let first = all.next().ok_or(Errno::Srch)?;
    let (allowed, weight) = dom.allowance.told();
    let mut answer = SchedGet {
        version: want.version,
        domid: want.domid,
        vcpu: want.vcpu,
        cpu: first.cpu,
        nr_vcpus: 1,
        nr_alike: 1,
        terms: request::told(&first.terms),
        allowed,
        allowed_weight: weight.into(),
        periods_from: dom.periods_from,
        ..SchedGet::ZERO
    };
    let mut coming_at = first.coming.map_or(0, |(_, at)| at);
    for other in all {
        answer.nr_vcpus += 1;
        if is_alike(&first, &other) {
            answer.nr_alike += 1;
            coming_at = coming_at.max(other.coming.map_or(0, |(_, at)| at));
        }
        if other.cpu != answer.cpu {
            answer.cpu = SCHED_NO_CPU;
        }
    }
    answer.coming = first
        .coming
        .map_or(SchedTerms::ZERO, |(terms, _)| request::told(&terms));
    answer.coming_at = coming_at;
    g.charge(u64::from(answer.nr_vcpus));
    g.memory().put(arg, &answer)?;
    Ok(0)
}

fn is_alike(one: &Reserved, other: &Reserved) -> bool {
    let coming = |of: &Reserved| of.coming.map(|(terms, _)| terms);
    one.terms == other.terms && coming(one) == coming(other)
}

/// `sched_set`: gives a vCPU, or all of a domain's, other terms; a domain its own, within what it is allowed. What would
/// have been granted to several is looked for in
/// parts: what is known of it is in the arguments beyond the second.
pub fn set(g: &mut Guest<'_>, args: Args) -> Outcome {
    let [op, arg, fits, does_not, last] = args;
    // Whoever is allowed nothing hears that before anything else.
    let for_itself = (!g.dom.privileged).then_some(g.dom);
    if for_itself.is_some_and(|dom| dom.allowance.told() == (0, 0)) {
        return Err(Errno::Perm.into());
    }
    let want: SchedSet = g.memory().value(arg)?;
    check_version(want.version)?;
    let dom = subject(g, want.domid)?;
    check_vcpu(dom, want.vcpu)?;
    g.memory().check_writable(arg, SchedSet::SIZE)?;
    let rules = placement::rules();
    let mut answer = request::blank(&want);
    let asked = match Asked::read(&want.terms, &rules) {
        Ok(asked) => asked,
        Err(refused) => {
            answer.refusal = refused.reason;
            g.memory().put(arg, &answer)?;
            return Err(refused.errno.into());
        }
    };
    if dom.is_dying() {
        return Err(Errno::Srch.into());
    }
    let number = named(dom, want.vcpu).count() as u64;
    g.charge(number * ONE);
    let granted = granting::grant(named(dom, want.vcpu), &asked.terms, for_itself);
    let (mut vcpu, mut why) = match granted {
        Ok(in_force_at) => {
            answer.in_force_at = in_force_at;
            g.memory().put(arg, &answer)?;
            return Ok(0);
        }
        Err(NotGranted::Refused(vcpu, why)) => (vcpu, why),
        Err(NotGranted::NotAllowed(exceeded)) => {
            asked.is_not_allowed(&mut answer, &rules, exceeded);
            g.memory().put(arg, &answer)?;
            return Err(Errno::Perm.into());
        }
    };
    let may = granting::Allowed::of(named(dom, want.vcpu));
    if matches!(why, Refusal::NoRoom { .. }) {
        g.charge(number * ONE);
        match granting::would_move(named(dom, want.vcpu), &may, &asked.terms) {
            // Room was given up meanwhile.
            Ok(None) => return Err(Stop::Again([op, arg, fits, does_not, last])),
            Ok(Some((vcpu, cpu))) => {
                let there = CpuSet::EMPTY.with(cpu);
                // With what it has; it is asked for there again. One that moves itself is there by then.
                match moves::to_one_of(g.vcpu, vcpu, &there, &there) {
                    Way::Done | Way::Again => {
                        return Err(Stop::Again([op, arg, fits, does_not, last]));
                    }
                    Way::NoMemory => return Err(Errno::NoMem.into()),
                    // Another has taken it.
                    Way::NoRoom => {}
                }
            }
            Err(refused) => (vcpu, why) = refused,
        }
    }
    if number > 1
        && let Refusal::NoRoom { largest_slice, .. } = &mut why
    {
        let search = Search::resume(&asked.terms, &rules, (fits, does_not));
        match search_on(dom, want.vcpu, &may, &asked, &rules, search) {
            Ok(largest) => *largest_slice = largest,
            Err(search) => {
                g.charge(number * ONE);
                let (fits, does_not) = search.parts();
                return Err(Stop::Again([op, arg, fits, does_not, last]));
            }
        }
    }
    if let Refusal::NoRoom {
        largest_slice,
        largest_slice_soon,
    } = &mut why
    {
        *largest_slice_soon = (*largest_slice_soon).max(*largest_slice);
    }
    let errno = asked.refuse(&mut answer, &rules, vcpu, why);
    g.memory().put(arg, &answer)?;
    Err(errno.into())
}

/// One trial more; the largest slice that all would be granted when there is no doubt left, or what is known by now.
fn search_on(
    dom: &'static Domain,
    vcpu: u32,
    may: &granting::Allowed,
    asked: &Asked,
    rules: &Rules,
    mut search: Search,
) -> Result<u64, Search> {
    let Some(slice) = search.next() else {
        return Ok(search.largest());
    };
    let terms = asked.terms.with_slice(rules, slice);
    let would = |terms| granting::would_move(named(dom, vcpu), may, &terms);
    let fits = terms.is_ok_and(|terms| would(terms).is_ok());
    search.note(slice, fits);
    Err(search)
}

/// `sched_allow`: what a domain may reserve for itself.
pub fn allow(g: &mut Guest<'_>, arg: u64) -> Outcome {
    let want: SchedAllow = g.memory().value(arg)?;
    check_version(want.version)?;
    let dom = subject(g, want.domid)?;
    let (rate, weight) = request::allowance(&want)?;
    allowance::allow(dom, rate, weight);
    Ok(0)
}

/// `sched_cpu`: what is reserved of a CPU.
pub fn cpu(g: &mut Guest<'_>, arg: u64) -> Outcome {
    let want: SchedCpu = g.memory().value(arg)?;
    check_version(want.version)?;
    if !smp::online().contains(want.cpu) {
        return Err(Errno::Inval.into());
    }
    g.memory().check_writable(arg, SchedCpu::SIZE)?;
    let mut answer = SchedCpu {
        version: want.version,
        cpu: want.cpu,
        ..SchedCpu::ZERO
    };
    // A CPU that runs no vCPUs has no books.
    if let Some(promised) = placement::promised(want.cpu) {
        answer.flags = if promised.online { SCHED_CPU_ONLINE } else { 0 };
        answer.nr_vcpus = promised.nr_vcpus;
        answer.capacity = promised.capacity.of(NANOSECONDS);
        answer.charged = promised.charged.of_rounded_up(NANOSECONDS);
        answer.departing = promised.departing.of_rounded_up(NANOSECONDS);
    }
    g.memory().put(arg, &answer)?;
    Ok(0)
}

/// Whether a domain has the vCPU that was named, or any if all were.
fn check_vcpu(dom: &Domain, vcpu: u32) -> Result<(), Errno> {
    if named(dom, vcpu).next().is_some() {
        Ok(())
    } else {
        Err(Errno::Inval)
    }
}

/// Those of a domain's vCPUs that were named.
fn named(dom: &Domain, vcpu: u32) -> impl Iterator<Item = &'static Vcpu> {
    dom.vcpus()
        .filter(move |one| vcpu == SCHED_ALL_VCPUS || one.id == vcpu)
}

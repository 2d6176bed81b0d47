//! `xeno_op`: reservations of CPU time.
//!
//! What is asked for is decoded and checked by the crate `reservations`; who asks, and whether the domain and the vCPU are
//! there, is checked here. All vCPUs that are named get the terms, or none does.

use crate::arch::smp;
use crate::domain::{Domain, Guest, Vcpu};
use crate::hypercall::{Args, Outcome, Stop, subject};
use crate::schedule::granting::{self, Granted, NotGranted};
use crate::schedule::moves::{self, Way};
use crate::schedule::terms::{self, Reserved};
use crate::schedule::{allowance, placement};
use ::reservations::request::{self, Asked, NANOSECONDS};
use ::reservations::{Refusal, Rules, Search, Standing};
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
    let (allowed, weight) = dom.allowance.told();
    let mut answer = SchedGet {
        version: want.version,
        domid: want.domid,
        vcpu: want.vcpu,
        allowed,
        allowed_weight: weight.into(),
        periods_from: dom.periods_from,
        ..SchedGet::ZERO
    };
    let mut first = None;
    terms::each_reserved(named(dom, want.vcpu), |has| {
        answer.nr_vcpus += 1;
        let first = first.get_or_insert(has);
        if is_alike(first, &has) {
            answer.nr_alike += 1;
            let at = has.coming.map_or(0, |(_, at)| at);
            answer.coming_at = answer.coming_at.max(at);
        }
        answer.cpu = match first.cpu == has.cpu && answer.cpu != SCHED_NO_CPU {
            true => has.cpu,
            false => SCHED_NO_CPU,
        };
    });
    let first = first.ok_or(Errno::Srch)?;
    answer.terms = request::told(&first.terms);
    answer.coming = first
        .coming
        .map_or(SchedTerms::ZERO, |(terms, _)| request::told(&terms));
    g.charge(u64::from(answer.nr_vcpus));
    g.memory().put(arg, &answer)?;
    Ok(0)
}

fn is_alike(one: &Reserved, other: &Reserved) -> bool {
    let coming = |of: &Reserved| of.coming.map(|(terms, _)| terms);
    one.terms == other.terms && coming(one) == coming(other)
}

/// What is asked for, checked, and for whom.
struct Wish {
    dom: &'static Domain,
    vcpu: u32,
    asked: Asked,
    rules: Rules,
    for_itself: bool,
}

impl Wish {
    fn vcpus(&self) -> impl Iterator<Item = &'static Vcpu> + Clone {
        named(self.dom, self.vcpu)
    }
}

/// Why a wish is not fulfilled.
enum No {
    NotGranted(NotGranted),
    Stop(Stop),
}

impl From<Stop> for No {
    fn from(stop: Stop) -> No {
        No::Stop(stop)
    }
}

impl From<Errno> for No {
    fn from(errno: Errno) -> No {
        No::Stop(errno.into())
    }
}

/// `sched_set`: gives a vCPU, or all of a domain's, other terms; a domain its own, within what it is allowed. What was granted
/// to many is given in parts, and what would have been granted to several is looked for in parts: what is known of it is in
/// the arguments beyond the second.
pub fn set(g: &mut Guest<'_>, args: Args) -> Outcome {
    let [_, arg, ..] = args;
    // Whoever is allowed nothing hears that before anything else.
    let for_itself = !g.dom.privileged;
    if for_itself && g.dom.allowance.told() == (0, 0) {
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
    let wish = Wish {
        dom,
        vcpu: want.vcpu,
        asked,
        rules,
        for_itself,
    };
    let outcome = match fulfil(g, &wish, args) {
        Ok(in_force_at) => {
            answer.in_force_at = in_force_at;
            Ok(0)
        }
        Err(No::Stop(stop)) => return Err(stop),
        Err(No::NotGranted(NotGranted::Refused(vcpu, why))) => {
            Err(wish.asked.refuse(&mut answer, &rules, vcpu, why).into())
        }
        Err(No::NotGranted(NotGranted::NotAllowed(exceeded))) => {
            wish.asked.is_not_allowed(&mut answer, &rules, exceeded);
            Err(Errno::Perm.into())
        }
    };
    g.memory().put(arg, &answer)?;
    outcome
}

/// One section of it: a part of what was granted; a trial for what would have been; or the decision. When it is in force.
fn fulfil(g: &mut Guest<'_>, wish: &Wish, args: Args) -> Result<u64, No> {
    let [op, arg, fits, does_not, begun] = args;
    let again = |fits, does_not, begun| Stop::Again([op, arg, fits, does_not, begun]);
    let number = wish.vcpus().count() as u64;
    g.charge(number * ONE);
    if begun != 0 {
        return match granting::go_on(begun) {
            Standing::UnderWay => Err(Stop::Again(args).into()),
            Standing::Over => Ok(granting::in_force_at(wish.vcpus())),
            Standing::NeverBegun => Err(Errno::Inval.into()),
        };
    }
    let terms = &wish.asked.terms;
    let may = granting::Allowed::of(wish.vcpus());
    let search = Search::resume(terms, &wish.rules, (fits, does_not));
    // It begins when all were refused it; when there is no doubt left they are asked for once more.
    let has_begun = number > 1 && (fits, does_not) != (0, 0);
    if let Some(slice) = search.next().filter(|_| has_begun) {
        let (fits, does_not) = search_on(wish, &may, search, slice).parts();
        return Err(again(fits, does_not, 0).into());
    }
    match granting::grant(wish.dom, wish.vcpus(), &may, terms, wish.for_itself) {
        Ok(Granted::All(in_force_at)) => Ok(in_force_at),
        Ok(Granted::Begun(begun)) => Err(again(fits, does_not, begun).into()),
        Ok(Granted::Busy) => Err(Stop::Again(args).into()),
        Ok(Granted::Goes(vcpu, cpu)) => {
            // With what it has; it is asked for there again. One that moves itself is there by then.
            Err(match moves::to(vcpu, cpu) {
                // Or another has taken the room, or it may not run there any more.
                Way::Done | Way::Again | Way::NoRoom => Stop::Again(args).into(),
                Way::NoMemory => Errno::NoMem.into(),
            })
        }
        Err(NotGranted::Refused(vcpu, why @ Refusal::NoRoom { .. })) if number > 1 => {
            if search.next().is_some() {
                let (fits, does_not) = search.parts();
                return Err(again(fits, does_not, 0).into());
            }
            let why = why.of_several(search.largest());
            Err(No::NotGranted(NotGranted::Refused(vcpu, why)))
        }
        Err(refused) => Err(No::NotGranted(refused)),
    }
}

/// One trial more; what is known then.
fn search_on(wish: &Wish, may: &granting::Allowed, mut search: Search, slice: u64) -> Search {
    let terms = wish.asked.terms.with_slice(&wish.rules, slice);
    let would = |terms| granting::would_grant(wish.vcpus(), may, &terms);
    // Unless another change is under way: then the same again.
    if let Some(fits) = terms.map_or(Some(false), would) {
        search.note(slice, fits);
    }
    search
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
fn named(dom: &Domain, vcpu: u32) -> impl Iterator<Item = &'static Vcpu> + Clone {
    dom.vcpus()
        .filter(move |one| vcpu == SCHED_ALL_VCPUS || one.id == vcpu)
}

//! `xeno_op`: reservations of CPU time.
//!
//! What is asked for is decoded and checked here as it will be when reservations are kept. None is yet: turns go round.
//! So whatever is right is answered `-EOPNOTSUPP` where it would be granted or told, and nothing is pretended; whatever
//! is wrong is answered as it always will be.

use crate::domain::Guest;
use crate::hypercall::{Outcome, subject};
use ::reservations::Rules;
use ::reservations::request::{self, Asked, NANOSECONDS};
use guest_abi::reserve::{SCHED_ALL_VCPUS, SchedCpu, SchedGet, SchedRules, SchedSet};
use guest_abi::xeno::XENO_INTERFACE_VERSION;
use guest_abi::{Errno, Wire};

/// B, in nanoseconds: no section is to be longer (`hypercall::BUDGET`).
const SECTION_NS: u64 = 20_000;
/// The quantum, in nanoseconds.
const QUANTUM_NS: u64 = 10_000_000;
/// What of each CPU nobody can reserve, in millionths.
const RESERVE_PPM: u32 = 20_000;

/// The rules by which requests are checked.
const RULES: Rules = match Rules::new(NANOSECONDS, SECTION_NS, QUANTUM_NS, RESERVE_PPM) {
    Ok(rules) => rules,
    Err(_) => panic!("the rules make no sense"),
};

/// What is right and cannot be had: no queue keeps reservations yet.
const NOT_IN_FORCE: Errno = Errno::OpNotSupp;

fn check_version(version: u32) -> Result<(), Errno> {
    match version {
        XENO_INTERFACE_VERSION => Ok(()),
        _ => Err(Errno::Inval),
    }
}

/// `sched_rules`: what holds for all reservations, and the quantum.
pub fn rules(g: &mut Guest<'_>, arg: u64) -> Outcome {
    let want: SchedRules = g.memory().value(arg)?;
    check_version(want.version)?;
    g.memory().check_writable(arg, SchedRules::SIZE)?;
    request::rules_wanted(&want, &RULES)?;
    Err(NOT_IN_FORCE.into())
}

/// `sched_get`: what a vCPU has. A domain asks for itself, the control domain for any.
pub fn get(g: &mut Guest<'_>, arg: u64) -> Outcome {
    let want: SchedGet = g.memory().value(arg)?;
    check_version(want.version)?;
    let dom = subject(g, want.domid)?;
    check_vcpu(dom, want.vcpu)?;
    g.memory().check_writable(arg, SchedGet::SIZE)?;
    Err(NOT_IN_FORCE.into())
}

/// `sched_set`: gives a vCPU, or all of a domain's, other terms.
pub fn set(g: &mut Guest<'_>, arg: u64) -> Outcome {
    let want: SchedSet = g.memory().value(arg)?;
    check_version(want.version)?;
    let dom = subject(g, want.domid)?;
    check_vcpu(dom, want.vcpu)?;
    g.memory().check_writable(arg, SchedSet::SIZE)?;
    match Asked::read(&want.terms, &RULES) {
        Ok(_) => Err(NOT_IN_FORCE.into()),
        Err(refused) => {
            let mut answer = request::blank(&want);
            answer.refusal = refused.reason;
            g.memory().put(arg, &answer)?;
            Err(refused.errno.into())
        }
    }
}

/// `sched_cpu`: what is reserved of a CPU.
pub fn cpu(g: &mut Guest<'_>, arg: u64) -> Outcome {
    let want: SchedCpu = g.memory().value(arg)?;
    check_version(want.version)?;
    if !crate::arch::smp::online().contains(want.cpu) {
        return Err(Errno::Inval.into());
    }
    g.memory().check_writable(arg, SchedCpu::SIZE)?;
    Err(NOT_IN_FORCE.into())
}

/// Whether a domain has the vCPU that was named, or any if all were.
fn check_vcpu(dom: &crate::domain::Domain, vcpu: u32) -> Result<(), Errno> {
    let named = if vcpu == SCHED_ALL_VCPUS { 0 } else { vcpu };
    let there = named < dom.max_vcpus && dom.vcpu(named).is_some();
    if there { Ok(()) } else { Err(Errno::Inval) }
}

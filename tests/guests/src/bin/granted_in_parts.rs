//! Asks for terms for 64 vCPUs, which are given in parts, while another domain asks for its own 64, and while vCPUs of both are
//! moved, given weights and destroyed. Proves that all of a domain's have what was granted or none has, that what is refused
//! changes nothing, and that in the end nothing is charged that nobody has.
//!
//! xtask: seconds=120
//! xtask: parallel=2
//! xtask: parallel_full=4
#![cfg_attr(target_os = "none", no_std, no_main)]

use guest_runtime::abi::domctl::{SchedulerOp, XEN_DOMCTL_SCHEDOP_PUTINFO, XEN_SCHEDULER_CREDIT2};
use guest_runtime::abi::reserve::{
    SCHED_ALL_VCPUS, SCHED_EXTRA, SCHED_LARGEST_RATE, SCHED_REFUSED_NO_ROOM, SchedAllow,
    SchedRules, SchedSet, SchedTerms,
};
use guest_runtime::abi::xeno::{XENO_INTERFACE_VERSION, XenoCommand};
use guest_runtime::abi::{DOMID_SELF, DomctlCommand, errno};
use guest_runtime::builder::{self, Child, Plan};
use guest_runtime::control::xeno_op;
use guest_runtime::{check, check_eq, child, control, guest, link, say, skip};
use guests::accepted;
use guests::reservations::{of, of_cpu, question, settle_on};

guest!(granted_in_parts, main);

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;
/// As many as a domain may have.
const VCPUS: u32 = 64;
/// Of those, some that are looked at: in the first part, in a later one, and the last.
const LOOKED_AT: [u32; 3] = [1, 40, VCPUS - 1];
/// Slices of a second each: 64 of them fit one CPU beside 64 others, but for the last, which fits nowhere.
const SLICES: [u64; 4] = [MS, 4 * MS, 2 * MS, 900 * MS];
const WEIGHT: u16 = 300;
const ROUNDS: u64 = 120;
/// Times that a domain is destroyed while it asks.
const LIVES: usize = 4;

/// Words of the page that a child shares with its parent: how often it was granted what it asked for, how often it was refused,
/// and how often that was not as it must be.
const GRANTED: usize = link::FREE;
const REFUSED: usize = link::FREE + 1;
const WRONG: usize = link::FREE + 2;

/// Asks for terms for all of a domain's vCPUs.
fn ask(domid: u16, slice: u64) -> (i64, SchedSet) {
    let mut wish = SchedSet {
        version: XENO_INTERFACE_VERSION,
        domid,
        vcpu: SCHED_ALL_VCPUS,
        terms: SchedTerms {
            slice,
            period: SECOND,
            weight: WEIGHT.into(),
            flags: SCHED_EXTRA,
        },
        ..SchedSet::ZERO
    };
    (xeno_op(XenoCommand::SchedSet, &mut wish), wish)
}

/// The slice that a vCPU was granted last, in force by now or not; `None` if the question was refused.
fn granted(domid: u16, vcpu: u32) -> Option<u64> {
    let mut has = question(domid, vcpu);
    let told = xeno_op(XenoCommand::SchedGet, &mut has);
    let last = match has.coming == SchedTerms::ZERO {
        true => has.terms,
        false => has.coming,
    };
    (told == 0).then_some(last.slice)
}

/// Asks for itself again and again, and looks at what it has then. So often, or for ever.
fn asks([rounds, ..]: [u64; 5]) -> i64 {
    let Some(link) = child::link() else {
        return -1;
    };
    let own = DOMID_SELF as u16;
    let mut has = LOOKED_AT.map(|vcpu| granted(own, vcpu));
    let mut round = 0;
    while rounds == 0 || round < rounds {
        let slice = SLICES[round as usize % SLICES.len()];
        let fits = slice < SLICES[3];
        let (result, _) = ask(own, slice);
        if result == 0 {
            has = [Some(slice); 3];
            link.add(GRANTED, 1);
        } else {
            link.add(REFUSED, 1);
        }
        // What its first vCPU, which runs, gives up is free a period later: there may be no room for what fits otherwise.
        let good = match result {
            0 => fits,
            refused => refused == -errno::ENOSPC,
        };
        let same = LOOKED_AT.map(|vcpu| granted(own, vcpu)) == has;
        link.add(WRONG, u64::from(!good || !same));
        round += 1;
    }
    0
}

fn main() {
    if xeno_op(XenoCommand::SchedGet, &mut question(0, 0)) == -errno::ENOSYS {
        skip!("another hypervisor, which keeps no reservations");
        return;
    }
    let mut rules = SchedRules {
        version: XENO_INTERFACE_VERSION,
        ..SchedRules::ZERO
    };
    accepted("rules", xeno_op(XenoCommand::SchedRules, &mut rules));
    let cpus = rules.nr_cpus;
    settle_on(cpus);
    let charged = || (0..cpus).fold(0, |sum, cpu| sum + of_cpu(cpu).charged);
    let before = charged();
    let Ok(other) = control::create(&control::ordinary(VCPUS)) else {
        check!(false, "a domain is created");
        return;
    };
    accepted("vCPUs", control::max_vcpus(other, VCPUS));
    both_ask(other);
    for _ in 0..LIVES {
        goes_while_it_asks();
    }
    // They gave up much, which is free a period later.
    settle_on(cpus);
    given(other, 1);
    accepted("it is destroyed", control::destroy(other));
    settle_on(cpus);
    check_eq!("all is given back", charged(), before);
}

/// A domain that may reserve for itself what there is.
fn allowed_child() -> Option<Child> {
    let plan = Plan {
        vcpus: VCPUS,
        ..Plan::SMALL
    };
    let child = builder::running(plan)?;
    let mut allow = SchedAllow {
        version: XENO_INTERFACE_VERSION,
        domid: child.id,
        rate: SCHED_LARGEST_RATE,
        weight: WEIGHT.into(),
        ..SchedAllow::ZERO
    };
    let allowed = xeno_op(XenoCommand::SchedAllow, &mut allow);
    accepted("it is allowed what it likes", allowed);
    Some(child)
}

/// The terms of all of a domain's vCPUs, which have the same.
fn all_alike(what: &str, domid: u16) -> SchedTerms {
    let has = of(domid, SCHED_ALL_VCPUS);
    check_eq!(what, (has.nr_vcpus, has.nr_alike), (VCPUS, VCPUS));
    has.terms
}

/// Another domain, which does not run, is given terms; nobody else gives it any.
fn given(other: u16, round: u64) {
    let slice = SLICES[round as usize % SLICES.len()];
    let before = all_alike("all are alike", other);
    let (result, wish) = ask(other, slice);
    if slice < SLICES[3] {
        check_eq!("it is granted", (result, wish.refusal), (0, 0));
        check_eq!("all have it", all_alike("all of them", other), wish.terms);
    } else {
        let refused = (-errno::ENOSPC, SCHED_REFUSED_NO_ROOM);
        check_eq!("so much is not there", (result, wish.refusal), refused);
        check!(wish.largest_slice > 0, "but something");
        let after = all_alike("who is refused", other);
        check_eq!("has what it had", after, before);
    }
}

/// What else is done to vCPUs: each gets a weight, and one is moved.
fn disturb(other: u16, child: u16, round: u64) {
    let vcpu = (round * 7 % u64::from(VCPUS)) as u32;
    for domid in [other, child] {
        let mask = [1, 2, !0][(round / 3) as usize % 3];
        let result = control::set_affinity(domid, vcpu, mask);
        // One CPU may be all there is, and full.
        let good = [0, -errno::EINVAL, -errno::ENOSPC].contains(&result);
        check!(good, "it is moved, or stays");
    }
    let slice = all_alike("before", other).slice;
    let op = SchedulerOp {
        sched_id: XEN_SCHEDULER_CREDIT2,
        cmd: XEN_DOMCTL_SCHEDOP_PUTINFO,
        weight: 100 + round as u16,
        ..SchedulerOp::ZERO
    };
    let result = control::with(DomctlCommand::SchedulerOp, other, &op);
    accepted("a weight", result);
    let has = all_alike("each has the weight", other);
    let expected = (slice, u32::from(op.weight));
    check_eq!("and the slice it had", (has.slice, has.weight), expected);
}

fn both_ask(other: u16) {
    let Some(mut child) = allowed_child() else {
        return;
    };
    child.start(asks, [ROUNDS, 0, 0, 0, 0]);
    for round in 0..ROUNDS {
        given(other, round);
        disturb(other, child.id, round);
    }
    let ended = child.wait_until(|child| child.link().is_done());
    check!(ended, "it comes to its end");
    let [granted, refused, wrong] = [GRANTED, REFUSED, WRONG].map(|word| child.link().get(word));
    say!("another domain was granted {granted} and refused {refused}");
    check!(granted > 0 && refused > 0, "it was granted and refused");
    check_eq!("all or nothing, each time", wrong, 0);
    let _ = child.answer();
    check!(child.destroy_and_wait(), "it is gone");
}

/// A domain is destroyed while it asks for all its vCPUs, wherever it is in that.
fn goes_while_it_asks() {
    let Some(mut child) = allowed_child() else {
        return;
    };
    child.start(asks, [0; 5]);
    let begun = child.wait_until(|child| child.link().get(GRANTED) > 2);
    check!(begun, "it asks");
    check_eq!("not once wrong", child.link().get(WRONG), 0);
    check!(child.destroy_and_wait(), "it is gone");
}

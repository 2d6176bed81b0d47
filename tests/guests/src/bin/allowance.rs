//! Attacks what a domain may reserve for itself: nothing to begin with, then what the control domain allowed, by whatever way
//! it asks. Proves that what its vCPUs have in force and what they were granted never come to more, and that a refusal
//! changes nothing.
#![cfg_attr(target_os = "none", no_std, no_main)]

use guest_runtime::abi::reserve::{
    SCHED_ALL_VCPUS, SCHED_EXTRA, SCHED_GRANTED, SCHED_LARGEST_RATE, SCHED_REFUSED_NOT_ALLOWED,
    SCHED_SET_QUANTUM, SchedAllow, SchedRules, SchedSet, SchedTerms,
};
use guest_runtime::abi::xeno::{XENO_INTERFACE_VERSION, XenoCommand};
use guest_runtime::abi::{DOMID_SELF, errno};
use guest_runtime::builder::{self, Child, Plan};
use guest_runtime::control::xeno_op;
use guest_runtime::{check, check_eq, child, guest, link, skip};
use guests::reservations::{of as has, settle};

guest!(allowance, main);

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;
/// A quarter of a CPU, and room for the longest section in each of two vCPUs' periods.
const QUARTER: u64 = SECOND / 4 + 2 * SECOND / 100;
const PERIOD: u64 = 20 * MS;
const WEIGHT: u32 = 300;
/// The word of the shared page where a child leaves the largest slice it was told.
const LARGEST: usize = link::FREE;

/// A wish: the domain, the vCPU, the slice, and the weight with a part in left-over time, or 0.
fn wish([domid, vcpu, slice, period, weight]: [u64; 5]) -> SchedSet {
    let (weight, flags) = match weight {
        0 => (256, 0),
        weight => (weight as u32, SCHED_EXTRA),
    };
    SchedSet {
        version: XENO_INTERFACE_VERSION,
        domid: domid as u16,
        vcpu: vcpu as u32,
        terms: SchedTerms {
            slice,
            period,
            weight,
            flags,
        },
        ..SchedSet::ZERO
    }
}

/// Step of a child: makes a wish. The error in the lower half, the reason in the upper.
fn ask(words: [u64; 5]) -> i64 {
    let mut set = wish(words);
    let result = xeno_op(XenoCommand::SchedSet, &mut set);
    if let Some(link) = child::link() {
        link.set(LARGEST, set.largest_slice);
    }
    both(result, set.refusal)
}

/// What [`ask`] answers.
fn both(result: i64, refusal: u32) -> i64 {
    -result | i64::from(refusal) << 32
}

/// Step of a child: asks for the rules, setting what is said; for what it has; and to be allowed more.
fn questions([set, quantum, ..]: [u64; 5]) -> i64 {
    let mut rules = SchedRules {
        version: XENO_INTERFACE_VERSION,
        set: set as u32,
        quantum,
        ..SchedRules::ZERO
    };
    let result = xeno_op(XenoCommand::SchedRules, &mut rules);
    if let Some(link) = child::link() {
        link.set(LARGEST, rules.quantum);
    }
    result
}

/// Step of a child: allows itself what it likes.
fn help_itself([rate, weight, ..]: [u64; 5]) -> i64 {
    xeno_op(
        XenoCommand::SchedAllow,
        &mut allowance(DOMID_SELF as u16, rate, weight as u32),
    )
}

fn allowance(domid: u16, rate: u64, weight: u32) -> SchedAllow {
    SchedAllow {
        version: XENO_INTERFACE_VERSION,
        domid,
        rate,
        weight,
        ..SchedAllow::ZERO
    }
}

fn allow(domid: u16, rate: u64, weight: u32) -> i64 {
    xeno_op(XenoCommand::SchedAllow, &mut allowance(domid, rate, weight))
}

fn main() {
    if allow(0, 0, 0) == -errno::ENOSYS {
        skip!("another hypervisor, which keeps no reservations");
        return;
    }
    wrong_calls();
    let plan = Plan {
        vcpus: 2,
        ..Plan::SMALL
    };
    let Some(mut child) = builder::running(plan) else {
        return;
    };
    nothing_to_begin_with(&mut child);
    what_is_allowed(&mut child);
    what_is_given_up_counts_until_it_is(&mut child);
    others_are_not_its_own(&mut child);
    what_is_taken_back_stays_until_it_asks(&mut child);
    check!(child.destroy_and_wait(), "it is gone");
}

fn wrong_calls() {
    let mut wrong = allowance(0, 0, 0);
    wrong.version += 1;
    let result = xeno_op(XenoCommand::SchedAllow, &mut wrong);
    check_eq!("another version", result, -errno::EINVAL);
    check_eq!("nobody's", allow(0x7000, 0, 0), -errno::ESRCH);
    let most = SCHED_LARGEST_RATE;
    for (rate, weight, flags, error) in [
        (most + 1, 0, 0, errno::ERANGE),
        (u64::MAX, 0, 0, errno::ERANGE),
        (0, 65_536, 0, errno::EINVAL),
        (0, 0, 1, errno::EINVAL),
    ] {
        let mut wrong = SchedAllow {
            flags,
            ..allowance(0, rate, weight)
        };
        let result = xeno_op(XenoCommand::SchedAllow, &mut wrong);
        check_eq!("a wrong allowance", result, -error);
    }
    check_eq!(
        "and none is given",
        (has(0, 0).allowed, has(0, 0).allowed_weight),
        (0, 0)
    );
}

const ITSELF: u64 = DOMID_SELF;
const NOT_ALLOWED: i64 = errno::EPERM | (SCHED_REFUSED_NOT_ALLOWED as i64) << 32;

/// What a child has, for comparison.
fn of(child: &Child) -> [(SchedTerms, SchedTerms); 2] {
    [0, 1].map(|vcpu| {
        let has = has(child.id, vcpu);
        (has.terms, has.coming)
    })
}

fn nothing_to_begin_with(child: &mut Child) {
    let before = of(child);
    for words in [
        [ITSELF, 0, MS, PERIOD, 0],
        [ITSELF, 0, 0, 0, 1],
        // Not even what is wrong with it is told.
        [ITSELF, 99, PERIOD, MS, 0],
        [0x7000, 0, MS, PERIOD, 0],
    ] {
        check_eq!("nothing is allowed", child.call(ask, words), errno::EPERM);
    }
    let more = child.call(help_itself, [SECOND, u64::from(WEIGHT), 0, 0, 0]);
    check_eq!("it allows itself nothing", more, -errno::EPERM);
    check_eq!("and nothing changed", of(child), before);
    let told = child.call(questions, [0; 5]);
    check_eq!("the rules are told", told, 0);
    check!(child.link().get(LARGEST) >= MS / 1000, "the quantum is");
    let set = child.call(questions, [u64::from(SCHED_SET_QUANTUM), MS, 0, 0, 0]);
    check_eq!("it sets no quantum", set, -errno::EPERM);
}

fn largest(child: &Child) -> u64 {
    child.link().get(LARGEST)
}

fn what_is_allowed(child: &mut Child) {
    check_eq!("allow", allow(child.id, QUARTER, WEIGHT), 0);
    let told = has(child.id, 0);
    let told = (told.allowed, told.allowed_weight);
    check_eq!("what is allowed is told", told, (QUARTER, WEIGHT));
    let everybody = u64::from(SCHED_ALL_VCPUS);
    for vcpu in [0, 1, everybody] {
        let before = of(child);
        let all = [ITSELF, vcpu, PERIOD, PERIOD, 0];
        check_eq!("a whole CPU", child.call(ask, all), NOT_ALLOWED);
        let most = largest(child);
        check!(most >= MS, "how much it may have is told");
        let more = [ITSELF, vcpu, most + 1, PERIOD, 0];
        check_eq!("a nanosecond more", child.call(ask, more), NOT_ALLOWED);
        check_eq!("and nothing changed", of(child), before);
        let granted = child.call(ask, [ITSELF, vcpu, most, PERIOD, 0]);
        check_eq!("the most is granted", granted, both(0, SCHED_GRANTED));
        settle();
        let none = child.call(ask, [ITSELF, vcpu, 0, 0, u64::from(WEIGHT)]);
        check_eq!("and given back", none, 0);
        settle();
    }
    let heavier = [ITSELF, 0, 0, 0, u64::from(WEIGHT) + 1];
    check_eq!("a larger weight", child.call(ask, heavier), NOT_ALLOWED);
    check_eq!("for which no slice helps", largest(child), 0);
    let wrong = child.call(ask, [ITSELF, 0, PERIOD, MS, 0]);
    check!(
        wrong & 0xffff_ffff == errno::EINVAL,
        "what is wrong is told"
    );
}

/// One gives up its slice in a period's time and the other takes it at once, and back, and so on: both would have it.
fn what_is_given_up_counts_until_it_is(child: &mut Child) {
    let slice = SECOND / 5;
    let takes = |child: &mut Child, vcpu| child.call(ask, [ITSELF, vcpu, slice, SECOND, 0]);
    let leaves = |child: &mut Child, vcpu| child.call(ask, [ITSELF, vcpu, 0, 0, 1]);
    check_eq!("one takes it", takes(child, 0), 0);
    settle();
    check_eq!("and gives it up", leaves(child, 0), 0);
    let first = has(child.id, 0);
    let in_force = (first.terms.slice, first.coming.slice, first.coming.flags);
    check_eq!("at its period's end", in_force, (slice, 0, SCHED_EXTRA));
    check_eq!(
        "until then the other has to wait",
        takes(child, 1),
        NOT_ALLOWED
    );
    let both = largest(child) + slice;
    check!(
        (SECOND / 4..QUARTER).contains(&both),
        "the rest is left for it"
    );
    settle();
    check_eq!("then it is the other's", takes(child, 1), 0);
    check_eq!("and not the first one's", takes(child, 0), NOT_ALLOWED);
    check_eq!("given back", leaves(child, 1), 0);
    settle();
}

fn others_are_not_its_own(child: &mut Child) {
    let other = builder::running(Plan::SMALL);
    let Some(mut other) = other else { return };
    check_eq!("allow", allow(other.id, QUARTER, WEIGHT), 0);
    for domid in [0, u64::from(other.id), 0x7000] {
        let result = child.call(ask, [domid, 0, MS, PERIOD, 0]);
        check_eq!("for another", result, errno::EPERM);
    }
    let result = other.call(ask, [u64::from(other.id), 0, MS, PERIOD, 0]);
    check_eq!("for itself by its number", result, 0);
    check!(other.destroy_and_wait(), "it is gone");
}

/// A smaller allowance takes nothing away; the next wish has to be within it.
fn what_is_taken_back_stays_until_it_asks(child: &mut Child) {
    check_eq!("a slice", child.call(ask, [ITSELF, 0, MS, PERIOD, 0]), 0);
    settle();
    check_eq!("allow less", allow(child.id, SECOND / 100, 0), 0);
    check_eq!("it is kept", has(child.id, 0).terms.slice, MS);
    let again = child.call(ask, [ITSELF, 0, MS, PERIOD, 0]);
    check_eq!("and not granted again", again, NOT_ALLOWED);
    check_eq!("allow nothing", allow(child.id, 0, 0), 0);
    let again = child.call(ask, [ITSELF, 0, MS, PERIOD, 0]);
    check_eq!("nor anything", again, errno::EPERM);
}

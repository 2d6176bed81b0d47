//! Asks for reservations of CPU time. Those that cannot be had, each wrong in one way, have their error and their reason;
//! where there is no room the most there is is told, and granted; what was granted is in force from the next period on,
//! and then the vCPU runs its slice in each period, by its own account.
//!
//! xtask: seconds=120
#![cfg_attr(target_os = "none", no_std, no_main)]

use guest_runtime::abi::reserve::{
    SCHED_ALL_VCPUS, SCHED_CPU_ONLINE, SCHED_EXTRA, SCHED_IN_QUANTA, SCHED_REFUSED_FLAGS,
    SCHED_REFUSED_NEVER_RUNS, SCHED_REFUSED_NO_ROOM, SCHED_REFUSED_OVERFLOW, SCHED_REFUSED_PERIOD,
    SCHED_REFUSED_SLICE, SCHED_REFUSED_TOO_SHORT, SCHED_REFUSED_WEIGHT, SCHED_SET_QUANTUM,
    SchedCpu, SchedGet, SchedRules, SchedSet, SchedTerms,
};
use guest_runtime::abi::xeno::{XENO_INTERFACE_VERSION, XenoCommand};
use guest_runtime::abi::{DOMID_SELF, errno, nr};
use guest_runtime::control::xeno_op;
use guest_runtime::events::now_ns;
use guest_runtime::hypercall::call;
use guest_runtime::{check, check_eq, guest, say, skip};
use guests::accepted;
use guests::accounts::{usage_of, used};
use guests::reservations::{self, of_cpu, question};

guest!(reserve, main);

const MS: u64 = 1_000_000;
const SELF: u16 = DOMID_SELF as u16;

fn wish(slice: u64, period: u64, weight: u32, flags: u32) -> SchedSet {
    SchedSet {
        version: XENO_INTERFACE_VERSION,
        domid: DOMID_SELF as u16,
        vcpu: SCHED_ALL_VCPUS,
        terms: SchedTerms {
            slice,
            period,
            weight,
            flags,
        },
        // What was left here comes back as nothing.
        largest_slice: 77,
        ..SchedSet::ZERO
    }
}

fn main() {
    if xeno_op(XenoCommand::SchedGet, &mut question(SELF, 0)) == -errno::ENOSYS {
        skip!("another hypervisor, which keeps no reservations");
        return;
    }
    let first = of(0).terms;
    wrong_terms();
    wrong_questions();
    check_eq!("nothing has changed", of(0).terms, first);
    wrong_rules();
    the_rules_are_told_and_the_quantum_can_be_set();
    it_has_a_guarantee_by_default();
    what_is_offered_is_granted();
    the_slice_is_kept_to();
    what_is_beyond_the_slice_is_extra();
    check_eq!("its own again", set(first), 0);
}

/// Each with its number and its reason.
fn wrong_terms() {
    let quanta = SCHED_IN_QUANTA;
    for (slice, period, weight, flags, error, reason) in [
        (MS, 0, 256, 0, errno::ERANGE, SCHED_REFUSED_PERIOD),
        (MS, 1001 * MS, 256, 0, errno::ERANGE, SCHED_REFUSED_PERIOD),
        (21 * MS, 20 * MS, 256, 0, errno::EINVAL, SCHED_REFUSED_SLICE),
        (1, 20 * MS, 256, 0, errno::ERANGE, SCHED_REFUSED_TOO_SHORT),
        (0, MS, 256, 0, errno::EINVAL, SCHED_REFUSED_NEVER_RUNS),
        (MS, 20 * MS, 0, 0, errno::EINVAL, SCHED_REFUSED_WEIGHT),
        (MS, 20 * MS, 1 << 16, 0, errno::EINVAL, SCHED_REFUSED_WEIGHT),
        (
            1,
            u64::MAX,
            256,
            quanta,
            errno::EOVERFLOW,
            SCHED_REFUSED_OVERFLOW,
        ),
        (
            1,
            4,
            256,
            quanta | SCHED_EXTRA,
            errno::EINVAL,
            SCHED_REFUSED_FLAGS,
        ),
        (
            MS,
            20 * MS,
            256,
            1 << 31,
            errno::EINVAL,
            SCHED_REFUSED_FLAGS,
        ),
    ] {
        let mut wrong = wish(slice, period, weight, flags);
        let told = (xeno_op(XenoCommand::SchedSet, &mut wrong), wrong.refusal);
        if !check_eq!("wrong terms", told, (-error, reason)) {
            say!("  slice {slice} period {period} weight {weight} flags {flags:#x}");
        }
        check_eq!("and no amount is told", wrong.largest_slice, 0);
    }
}

fn wrong_questions() {
    let right = wish(5 * MS, 20 * MS, 256, 0);
    let ask_set = |mut wrong: SchedSet| xeno_op(XenoCommand::SchedSet, &mut wrong);
    let version = XENO_INTERFACE_VERSION + 1;
    let wrong = SchedSet { version, ..right };
    check_eq!("another version", ask_set(wrong), -errno::EINVAL);
    let wrong = SchedSet {
        domid: 0x7000,
        ..right
    };
    check_eq!("nobody", ask_set(wrong), -errno::ESRCH);
    let wrong = SchedSet {
        vcpu: 1000,
        ..right
    };
    check_eq!("a vCPU it has not", ask_set(wrong), -errno::EINVAL);
    let get = xeno_op(XenoCommand::SchedGet, &mut question(SELF, 1000));
    check_eq!("what a vCPU has that is not there", get, -errno::EINVAL);
    let mut cpu = SchedCpu {
        version: XENO_INTERFACE_VERSION,
        cpu: 5000,
        ..SchedCpu::ZERO
    };
    let cpu = xeno_op(XenoCommand::SchedCpu, &mut cpu);
    check_eq!("a CPU there is not", cpu, -errno::EINVAL);
    for operation in [
        XenoCommand::SchedRules,
        XenoCommand::SchedGet,
        XenoCommand::SchedSet,
        XenoCommand::SchedCpu,
    ] {
        let refused = call(nr::XENO_OP, [u64::from(operation.number()), 0, 0, 0, 0]);
        check_eq!("no memory", refused, -errno::EFAULT);
    }
}

fn wrong_rules() {
    for (set, quantum, error) in [
        (SCHED_SET_QUANTUM, 0, errno::ERANGE),
        (SCHED_SET_QUANTUM, 1001 * MS, errno::ERANGE),
        (SCHED_SET_QUANTUM, u64::MAX, errno::ERANGE),
        (SCHED_SET_QUANTUM << 1, MS, errno::EINVAL),
    ] {
        let mut wrong = SchedRules {
            version: XENO_INTERFACE_VERSION,
            set,
            quantum,
            ..SchedRules::ZERO
        };
        let told = xeno_op(XenoCommand::SchedRules, &mut wrong);
        check_eq!("wrong rules", told, -error);
    }
}

fn rules(set: u32, quantum: u64) -> SchedRules {
    let mut rules = SchedRules {
        version: XENO_INTERFACE_VERSION,
        set,
        quantum,
        ..SchedRules::ZERO
    };
    accepted("rules", xeno_op(XenoCommand::SchedRules, &mut rules));
    rules
}

fn of(vcpu: u32) -> SchedGet {
    reservations::of(SELF, vcpu)
}

/// Asks for terms; what comes of it.
fn set(terms: SchedTerms) -> i64 {
    xeno_op(
        XenoCommand::SchedSet,
        &mut SchedSet {
            terms,
            ..wish(0, 0, 0, 0)
        },
    )
}

fn the_rules_are_told_and_the_quantum_can_be_set() {
    let told = rules(0, 0);
    check!(told.section != 0 && told.quantum >= told.section, "rules");
    check_eq!("ten sections", told.shortest_period, 10 * told.section);
    check_eq!("a second", told.longest_period, 1000 * MS);
    check!(told.nr_cpus >= 1 && told.reserve_ppm < 1_000_000, "CPUs");
    let other = rules(SCHED_SET_QUANTUM, 3 * MS);
    check_eq!("it is set", rules(0, 0).quantum, 3 * MS);
    check_eq!("and nothing else", other.section, told.section);
    // Two of three milliseconds in ten.
    let mut quanta = wish(2, 10, 256, SCHED_IN_QUANTA);
    check_eq!("in quanta", xeno_op(XenoCommand::SchedSet, &mut quanta), 0);
    let has = of(0);
    let latest = if has.coming == SchedTerms::ZERO {
        has.terms
    } else {
        has.coming
    };
    check_eq!(
        "told in time",
        (latest.slice, latest.period),
        (6 * MS, 30 * MS)
    );
    rules(SCHED_SET_QUANTUM, told.quantum);
}

/// The control domain, which this is, is promised something and takes part in the rest.
fn it_has_a_guarantee_by_default() {
    let cpu = of_cpu(0);
    check_eq!("it takes vCPUs", cpu.flags, SCHED_CPU_ONLINE);
    check!(cpu.nr_vcpus >= 1, "and has this one");
    check!(
        cpu.charged > 0 && cpu.charged <= cpu.capacity,
        "which is charged"
    );
    check!(cpu.departing <= cpu.charged, "of which some may be going");
    let all = of(SCHED_ALL_VCPUS);
    check_eq!("all are alike", all.nr_alike, all.nr_vcpus);
}

/// Waits until nothing is coming.
fn settle() -> SchedGet {
    loop {
        let has = of(0);
        if has.coming == SchedTerms::ZERO {
            return has;
        }
    }
}

fn what_is_offered_is_granted() {
    for period in [20 * MS, 1000 * MS, 300_000] {
        settle();
        let mut all = wish(period, period, 256, SCHED_EXTRA);
        let refused = xeno_op(XenoCommand::SchedSet, &mut all);
        check_eq!("a whole CPU", refused, -errno::ENOSPC);
        check_eq!("no room", all.refusal, SCHED_REFUSED_NO_ROOM);
        check!(all.largest_slice < period, "less is there");
        check!(all.largest_slice_soon >= all.largest_slice, "and more soon");
        let before = of(0);
        let more = wish(all.largest_slice + 1, period, 256, SCHED_EXTRA);
        check_eq!("a nanosecond more", set(more.terms), -errno::ENOSPC);
        check_eq!("changes nothing", of(0), before);
        let mut most = wish(all.largest_slice, period, 256, SCHED_EXTRA);
        check_eq!("the most", xeno_op(XenoCommand::SchedSet, &mut most), 0);
        check_eq!("is granted", most.refusal, 0);
        let cpu = of_cpu(0);
        // What can be is rounded down, what is up.
        check!(cpu.charged <= cpu.capacity + 1, "and not too much");
        check!(of(0).coming_at <= now_ns() + 1125 * MS, "it comes in time");
        let has = settle();
        check_eq!("and is there", has.terms, most.terms);
        check!(now_ns() >= most.in_force_at, "not before it was said");
    }
}

/// A quarter and no more: what it used in whole periods is the slice, by its account, whatever it wants.
fn the_slice_is_kept_to() {
    const PERIODS: u64 = 40;
    let rules = rules(0, 0);
    for (slice, period) in [(5 * MS, 20 * MS), (MS, 10 * MS)] {
        check_eq!("a part", set(wish(slice, period, 256, 0).terms), 0);
        settle();
        // Its periods are longer, with more in each, until they lie on the domain's grid: eight of 9/8 at most.
        let in_phase = now_ns() + 10 * period;
        while now_ns() < in_phase {}
        // From the beginning of a period, which is when it runs again after a while.
        let mut before = now_ns();
        loop {
            let now = now_ns();
            if now > before + period / 4 {
                break;
            }
            before = now;
        }
        let (begun, first) = (now_ns(), usage_of(DOMID_SELF as u16, 0));
        while now_ns() < begun + PERIODS * period - period / 2 {}
        let (ended, last) = (now_ns(), usage_of(DOMID_SELF as u16, 0));
        // The last period's slice is used in part: up to one more.
        let cycles = used(&last) - used(&first);
        let ns = u128::from(cycles) * 1_000_000_000 / u128::from(last.tsc_hz);
        let (ns, whole) = (ns as u64, (ended - begun) / period * slice);
        say!("{slice} in {period}: {ns} ns of {} ns", ended - begun);
        let most = whole + slice + rules.section;
        check!(ns <= most, "no more than its slice");
        check!(ns + slice >= whole, "and no less");
        let own = last.guaranteed - first.guaranteed;
        check_eq!("all of it its own", own, cycles);
    }
}

/// With a part in the rest, and nobody else there: it runs on, and its account says from where on it was not its own.
fn what_is_beyond_the_slice_is_extra() {
    const PERIODS: u64 = 20;
    let (slice, period) = (5 * MS, 20 * MS);
    check_eq!(
        "a part",
        set(wish(slice, period, 256, SCHED_EXTRA).terms),
        0
    );
    settle();
    let (begun, first) = (now_ns(), usage_of(DOMID_SELF as u16, 0));
    while now_ns() < begun + PERIODS * period {}
    let last = usage_of(DOMID_SELF as u16, 0);
    let all = used(&last) - used(&first);
    check_eq!("all is its", all, last.at - first.at);
    let (own, rest) = (last.guaranteed - first.guaranteed, last.extra - first.extra);
    check_eq!("in two kinds", own + rest, all);
    let ns = u128::from(own) * 1_000_000_000 / u128::from(last.tsc_hz);
    say!("{slice} in {period}, alone: {ns} ns its own");
    // Whole periods, from anywhere in one.
    let off = u128::from(PERIODS * slice).abs_diff(ns);
    check!(
        off <= u128::from(slice),
        "a slice in each period is its own"
    );
}

//! Asks for reservations of CPU time that cannot be had, each wrong in one way: each has its error and its reason, and
//! what could be had is not pretended to be granted while no queue keeps reservations.
#![cfg_attr(target_os = "none", no_std, no_main)]

use guest_runtime::abi::reserve::{
    SCHED_ALL_VCPUS, SCHED_EXTRA, SCHED_IN_QUANTA, SCHED_REFUSED_FLAGS, SCHED_REFUSED_NEVER_RUNS,
    SCHED_REFUSED_OVERFLOW, SCHED_REFUSED_PERIOD, SCHED_REFUSED_SLICE, SCHED_REFUSED_TOO_SHORT,
    SCHED_REFUSED_WEIGHT, SCHED_SET_QUANTUM, SchedCpu, SchedGet, SchedRules, SchedSet, SchedTerms,
};
use guest_runtime::abi::xeno::{XENO_INTERFACE_VERSION, XenoCommand};
use guest_runtime::abi::{DOMID_SELF, errno, nr};
use guest_runtime::hypercall::call;
use guest_runtime::{check_eq, guest, say, skip};

guest!(reserve, main);

const MS: u64 = 1_000_000;

fn ask<T>(operation: XenoCommand, argument: &mut T) -> i64 {
    let operation = u64::from(operation.number());
    call(nr::XENO_OP, [operation, &raw mut *argument as u64, 0, 0, 0])
}

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

fn question(vcpu: u32) -> SchedGet {
    SchedGet {
        version: XENO_INTERFACE_VERSION,
        domid: DOMID_SELF as u16,
        vcpu,
        ..SchedGet::ZERO
    }
}

fn main() {
    if ask(XenoCommand::SchedGet, &mut question(0)) == -errno::ENOSYS {
        skip!("another hypervisor, which keeps no reservations");
        return;
    }
    wrong_terms();
    wrong_questions();
    wrong_rules();
    nothing_is_pretended();
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
        let told = (ask(XenoCommand::SchedSet, &mut wrong), wrong.refusal);
        if !check_eq!("wrong terms", told, (-error, reason)) {
            say!("  slice {slice} period {period} weight {weight} flags {flags:#x}");
        }
        check_eq!("and no amount is told", wrong.largest_slice, 0);
    }
}

fn wrong_questions() {
    let right = wish(5 * MS, 20 * MS, 256, 0);
    let ask_set = |mut wrong: SchedSet| ask(XenoCommand::SchedSet, &mut wrong);
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
    let get = ask(XenoCommand::SchedGet, &mut question(1000));
    check_eq!("what a vCPU has that is not there", get, -errno::EINVAL);
    let mut cpu = SchedCpu {
        version: XENO_INTERFACE_VERSION,
        cpu: 5000,
        ..SchedCpu::ZERO
    };
    let cpu = ask(XenoCommand::SchedCpu, &mut cpu);
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
        let told = ask(XenoCommand::SchedRules, &mut wrong);
        check_eq!("wrong rules", told, -error);
    }
}

/// Right questions: the answer is that it is not done here, and nothing is told.
fn nothing_is_pretended() {
    let mut set = wish(5 * MS, 20 * MS, 256, 0);
    let before = set;
    let told = ask(XenoCommand::SchedSet, &mut set);
    check_eq!("a reservation", (told, set), (-errno::EOPNOTSUPP, before));
    let mut get = question(SCHED_ALL_VCPUS);
    let told = ask(XenoCommand::SchedGet, &mut get);
    check_eq!("what is reserved", told, -errno::EOPNOTSUPP);
    check_eq!("is not told", get, question(SCHED_ALL_VCPUS));
}

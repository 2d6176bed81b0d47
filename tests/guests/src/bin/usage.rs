//! Asks what was used, and compares it with clocks of its own: what a domain used between two questions, with what its
//! CPU idled and kept for itself, is the time between them, to the cycle; so are its frames times that time.
#![cfg_attr(target_os = "none", no_std, no_main)]

use guest_runtime::abi::usage::{
    BOOKS_OF_MACHINE, Books, USAGE_BESIDES, USAGE_NO_CPU, USAGE_OF_DOMAIN, Usage,
};
use guest_runtime::abi::xeno::{XENO_INTERFACE_VERSION, XenoCommand};
use guest_runtime::abi::{DOMID_SELF, errno, nr};
use guest_runtime::control::xeno_op;
use guest_runtime::hypercall::call;
use guest_runtime::{check, check_eq, guest, skip};
use guests::accounts::{self, books_of, used};

guest!(usage, main);

fn question(vcpu: u32) -> Usage {
    accounts::question(DOMID_SELF as u16, vcpu)
}

fn of(vcpu: u32) -> Usage {
    accounts::usage_of(DOMID_SELF as u16, vcpu)
}

fn frame_cycles([low, high]: [u64; 2]) -> u128 {
    u128::from(high) << 64 | u128::from(low)
}

fn main() {
    if !accounts::are_kept(DOMID_SELF as u16) {
        skip!("another hypervisor, which keeps no such accounts");
        return;
    }
    a_vcpu_that_runs_throughout();
    what_is_done_shows_where_it_belongs();
    the_sum_is_the_whole();
    memory_over_time();
    wrong_questions();
}

/// Nothing else runs: between two answers the vCPU used what passed.
fn a_vcpu_that_runs_throughout() {
    for _ in 0..20 {
        let (first, last) = (of(0), of(0));
        check_eq!("its cycles", used(&last) - used(&first), last.at - first.at);
        check_eq!("it is on a CPU", last.cpu, 0);
        check_eq!("up to when", last.open_since, last.at);
        check_eq!("whose time", last.guaranteed + last.extra, used(&last));
    }
    check_eq!(
        "another than the domain",
        of(USAGE_OF_DOMAIN).cpu,
        USAGE_NO_CPU
    );
    let besides = of(USAGE_BESIDES);
    check_eq!(
        "all besides is elsewhere",
        used(&besides),
        besides.elsewhere
    );
}

/// A long stretch in the kernel is the kernel's, and of 1000 calls each takes something.
fn what_is_done_shows_where_it_belongs() {
    let before = of(0);
    // SAFETY: reads a counter.
    let now = || unsafe { core::arch::x86_64::_rdtsc() };
    let begun = now();
    while now() - begun < 2_000_000 {}
    let spun = of(0);
    check!(
        spun.kernel - before.kernel >= 2_000_000,
        "spinning is the kernel's"
    );
    check_eq!("nothing is the user's", spun.user, before.user);
    for _ in 0..1000 {
        call(nr::XEN_VERSION, [0; 5]);
    }
    let called = of(0);
    // A call takes ring 0 a hundred instructions at the very least, each a cycle or more.
    check!(
        called.hypervisor[0] - spun.hypervisor[0] >= 100_000,
        "calls are paid"
    );
    check_eq!("and nothing else", called.hypervisor[1], spun.hypervisor[1]);
}

/// Books of each CPU and of all add up, and accounts hold what was sold.
fn the_sum_is_the_whole() {
    let all = books_of(BOOKS_OF_MACHINE);
    check_eq!(
        "all CPUs' time",
        all.idle + all.machine + all.sold,
        all.elapsed
    );
    check_eq!("what was sold is held", all.held + all.departed, all.sold);
    for cpu in 0..all.nr_cpus {
        let (one, domain) = (books_of(cpu), of(USAGE_OF_DOMAIN));
        check_eq!(
            "one CPU's time",
            one.idle + one.machine + one.sold,
            one.last - one.first
        );
        check_eq!("which is what elapsed", one.elapsed, one.last - one.first);
        check!(one.last <= domain.at, "it is not of later");
    }
    let (first, last) = (books_of(0), books_of(0));
    check!(last.last > first.last, "time passes");
    check_eq!(
        "and is sold",
        last.sold - first.sold,
        last.last - first.last
    );
}

/// Frames times cycles, while their number stays and when it changes.
fn memory_over_time() {
    let (first, last) = (of(USAGE_OF_DOMAIN), of(USAGE_OF_DOMAIN));
    check_eq!("frames stay", first.frames, last.frames);
    check!(
        first.frames > 0 && first.frames_peak >= first.frames,
        "it has some"
    );
    check!(
        first.overhead > 0 && first.overhead_peak >= first.overhead,
        "it costs some"
    );
    let time = u128::from(last.at - first.at);
    check_eq!(
        "frames times cycles",
        frame_cycles(last.frame_cycles) - frame_cycles(first.frame_cycles),
        u128::from(first.frames) * time
    );
    check_eq!(
        "overhead times cycles",
        frame_cycles(last.overhead_cycles) - frame_cycles(first.overhead_cycles),
        u128::from(first.overhead) * time
    );
}

fn wrong_questions() {
    let mut wrong = question(0);
    wrong.version += 1;
    check_eq!(
        "another version",
        xeno_op(XenoCommand::Usage, &mut wrong),
        -errno::EINVAL
    );
    check_eq!(
        "a vCPU it has not",
        xeno_op(XenoCommand::Usage, &mut question(1000)),
        -errno::EINVAL
    );
    let mut nobody = question(0);
    nobody.domid = 0x7000;
    check_eq!(
        "nobody's",
        xeno_op(XenoCommand::Usage, &mut nobody),
        -errno::ESRCH
    );
    check_eq!("and nothing is written", (nobody.at, nobody.kernel), (0, 0));
    let operation = XenoCommand::Usage as u64;
    let refused = call(nr::XENO_OP, [operation, 0, 0, 0, 0]);
    check_eq!("no memory", refused, -errno::EFAULT);
    let mut wrong = Books {
        version: XENO_INTERFACE_VERSION,
        cpu: 5000,
        ..Books::ZERO
    };
    check_eq!(
        "a CPU there is not",
        xeno_op(XenoCommand::Books, &mut wrong),
        -errno::EINVAL
    );
    wrong.version = 7;
    check_eq!(
        "another version",
        xeno_op(XenoCommand::Books, &mut wrong),
        -errno::EINVAL
    );
}

//! `xeno_op`: who used what.

use crate::account::area::tsc_hz;
use crate::account::{self, books};
use crate::device::timer;
use crate::domain::{Domain, Guest, Vcpu};
use crate::hypercall::{Outcome, subject};
use ::cpus::loaded::NOWHERE;
use ::sched::Held;
use core::sync::atomic::Ordering;
use guest_abi::usage::{
    USAGE_BESIDES, USAGE_CAUSES, USAGE_NO_CPU, USAGE_OF_DOMAIN, Usage, UsageFrame,
};
use guest_abi::xeno::XENO_INTERFACE_VERSION;
use guest_abi::{Errno, Wire};

const _: () = assert!(USAGE_CAUSES == ::sched::CAUSES);

/// `usage`: what a domain or a vCPU used. A domain asks for itself, the control domain for any.
pub fn usage(g: &mut Guest<'_>, arg: u64) -> Outcome {
    let want: Usage = g.memory().value(arg)?;
    if want.version != XENO_INTERFACE_VERSION {
        return Err(Errno::Inval.into());
    }
    let dom = subject(g, want.domid)?;
    g.memory().check_writable(arg, Usage::SIZE)?;
    let at = account::settle().last;
    // What other CPUs noted by theirs is told by the one counter that all can be compared with.
    let now = timer::offset().machine(at);
    let mut answer = Usage {
        version: XENO_INTERFACE_VERSION,
        domid: dom.id.0,
        vcpu: want.vcpu,
        cpu: USAGE_NO_CPU,
        tsc_hz: tsc_hz(),
        at,
        ..Usage::ZERO
    };
    let used = match want.vcpu {
        USAGE_OF_DOMAIN => {
            put_memory(&mut answer, dom, now);
            g.charge(u64::from(dom.max_vcpus));
            if let Some((number, had)) = books::of(dom) {
                (answer.books, answer.books_used) = (number, had);
            }
            of_all(g, dom, now)
        }
        USAGE_BESIDES => dom.account.usage(),
        id => {
            let vcpu = (id < dom.max_vcpus).then(|| dom.vcpu(id)).flatten();
            let vcpu = vcpu.ok_or(Errno::Inval)?;
            put_place(&mut answer, vcpu);
            account::usage_of_vcpu(vcpu, now)
        }
    };
    (answer.user, answer.kernel) = (used.user, used.kernel);
    answer.hypervisor = used.hypervisor;
    (answer.guaranteed, answer.extra) = (used.guaranteed, used.extra);
    (answer.elsewhere, answer.stolen) = (used.elsewhere, used.stolen);
    answer.switches = used.switches;
    answer.events_sent = used.events_sent;
    answer.events_received = used.events_received;
    (answer.grants_used, answer.grants_lent) = (used.grants_used, used.grants_lent);
    g.memory().put(arg, &answer)?;
    Ok(0)
}

/// vCPUs whose accounts are added up in one section.
const AT_ONCE: usize = 16;

/// What a domain used, its vCPUs' included, of which there are up to 64. Between two sections no record goes that is at work here,
/// and what is entered meanwhile is told if its account is read later.
fn of_all(g: &Guest<'_>, dom: &Domain, now: u64) -> ::sched::Usage {
    let mut sum = dom.account.usage();
    for (n, vcpu) in dom.vcpus().enumerate() {
        if n != 0 && n.is_multiple_of(AT_ONCE) {
            g.let_others_in();
        }
        sum.add(&account::usage_of_vcpu(vcpu, now));
    }
    sum
}

/// `usage_frame`: where a domain's accounts can be read. A domain asks for itself, the control domain for any.
pub fn usage_frame(g: &mut Guest<'_>, arg: u64) -> Outcome {
    let want: UsageFrame = g.memory().value(arg)?;
    if want.version != XENO_INTERFACE_VERSION {
        return Err(Errno::Inval.into());
    }
    let area = subject(g, want.domid)?.usage_area;
    let frame = area.frames().nth(want.index as usize);
    let answer = UsageFrame {
        nr_frames: area.frames().count() as u32,
        mfn: frame.ok_or(Errno::Inval)?.0,
        ..want
    };
    g.memory().put(arg, &answer)?;
    Ok(0)
}

/// Where a vCPU is, and up to when its account is.
fn put_place(answer: &mut Usage, vcpu: &Vcpu) {
    if let Some(since) = vcpu.account.open_since() {
        answer.open_since = since;
    }
    match vcpu.loaded_on.load(Ordering::Acquire) {
        NOWHERE => answer.cpu = USAGE_NO_CPU,
        cpu => answer.cpu = cpu,
    }
}

/// Frames times cycles: the lower half, and the upper.
pub fn halves(held: &Held, at: u64) -> [u64; 2] {
    let sum = held.over_time_until(at);
    [sum as u64, (sum >> 64) as u64]
}

fn put_memory(answer: &mut Usage, dom: &Domain, now: u64) {
    let (frames, charged) = dom.frames.lock().held();
    answer.frames = frames.now();
    answer.frames_peak = frames.peak();
    answer.frame_cycles = halves(&frames, now);
    answer.overhead = charged.now();
    answer.overhead_peak = charged.peak();
    answer.overhead_cycles = halves(&charged, now);
}

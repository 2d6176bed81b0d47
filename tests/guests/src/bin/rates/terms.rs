//! Gives domains their shares: by our own operation, or as caps of Xen's credit2.

use guest_runtime::abi::domctl::{
    SchedulerOp, TscInfo, XEN_DOMCTL_SCHEDOP_PUTINFO, XEN_SCHEDULER_CREDIT2,
};
use guest_runtime::abi::reserve::{
    SCHED_ALL_VCPUS, SCHED_EXTRA, SCHED_SET_QUANTUM, SCHED_USUAL_WEIGHT, SchedRules, SchedSet,
    SchedTerms,
};
use guest_runtime::abi::xeno::{XENO_INTERFACE_VERSION, XenoCommand};
use guest_runtime::abi::{DomctlCommand, errno};
use guest_runtime::control::xeno_op;
use guest_runtime::{check, check_eq, control, say};

use crate::load::Share;

/// `TscInfo::tsc_mode`: it reads the machine's.
const NEVER_EMULATED: u32 = 2;

/// Whether shares are kept here, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeper {
    /// Reservations of ours.
    Ours,
    /// Ours, and it keeps none yet: turns go round.
    OursInTurns,
    /// Xen's caps.
    Caps,
}

/// Which it is.
pub fn keeper() -> Keeper {
    if !control::is_ours() {
        return Keeper::Caps;
    }
    let mut rules = SchedRules {
        version: XENO_INTERFACE_VERSION,
        ..SchedRules::ZERO
    };
    match xeno_op(XenoCommand::SchedRules, &mut rules) {
        0 => Keeper::Ours,
        _ => Keeper::OursInTurns,
    }
}

/// Makes it the machine's quantum: a turn in left-over time.
pub fn set_quantum(keeper: Keeper, quantum: u64) {
    if keeper != Keeper::Ours {
        return;
    }
    let mut rules = SchedRules {
        version: XENO_INTERFACE_VERSION,
        set: SCHED_SET_QUANTUM,
        quantum,
        ..SchedRules::ZERO
    };
    check_eq!(
        "the quantum",
        xeno_op(XenoCommand::SchedRules, &mut rules),
        0
    );
}

/// Waits until nothing is charged any more of what domains had that are gone: a period may have to end first.
pub fn settle(keeper: Keeper) {
    if keeper == Keeper::Ours {
        guests::reservations::settle();
    }
}

/// Where the periods of a domain's vCPUs begin, give or take whole ones: system time. 0 where nobody says.
pub fn periods_from(keeper: Keeper, domain: u16) -> u64 {
    match keeper {
        Keeper::Ours => guests::reservations::of(domain, 0).periods_from,
        _ => 0,
    }
}

/// Gives a domain that is paused its share.
pub fn give(keeper: Keeper, domain: u16, share: Share) {
    match keeper {
        Keeper::Ours => reserve(domain, share),
        Keeper::OursInTurns => {}
        Keeper::Caps => cap(domain, share),
    }
}

fn reserve(domain: u16, share: Share) {
    let mut set = SchedSet {
        version: XENO_INTERFACE_VERSION,
        domid: domain,
        vcpu: SCHED_ALL_VCPUS,
        terms: SchedTerms {
            slice: share.slice,
            period: share.period,
            weight: SCHED_USUAL_WEIGHT,
            flags: if share.extra { SCHED_EXTRA } else { 0 },
        },
        ..SchedSet::ZERO
    };
    let result = xeno_op(XenoCommand::SchedSet, &mut set);
    if !check_eq!("a share is granted", (result, set.refusal), (0, 0)) {
        say!(
            "  {share:?}: the largest slice is {} ns now, {} soon",
            set.largest_slice,
            set.largest_slice_soon
        );
    }
}

/// Caps are whole percents; who may have more has none.
fn cap(domain: u16, share: Share) {
    let cap = if share.extra {
        0
    } else {
        share.slice * 100 / share.period
    };
    if !share.extra {
        let exact = cap > 0 && cap * share.period == share.slice * 100;
        check!(exact, "a cap is a whole percent");
    }
    let op = SchedulerOp {
        sched_id: XEN_SCHEDULER_CREDIT2,
        cmd: XEN_DOMCTL_SCHEDOP_PUTINFO,
        weight: 256,
        cap: cap as u16,
        ..SchedulerOp::ZERO
    };
    let result = control::with(DomctlCommand::SchedulerOp, domain, &op);
    check_eq!("a cap is set", result, 0);
    let clock = TscInfo {
        tsc_mode: NEVER_EMULATED,
        ..TscInfo::ZERO
    };
    let result = control::with(DomctlCommand::Settscinfo, domain, &clock);
    check!(
        result == 0 || result == -errno::EINVAL,
        "the clock is the machine's"
    );
}

//! Where vCPUs run, what share they have, what their clock is: kept, told, and honoured where there is a choice.

use super::another;
use crate::arch::smp;
use crate::device;
use crate::domain::{Domain, Guest, Vcpu};
use crate::hypercall::sysctl::tsc_khz;
use crate::hypercall::{Args, Outcome, Stop, bitmap, cpu_policy};
use crate::schedule::granting::{self, Granted};
use crate::schedule::moves::{self, Way};
use crate::schedule::terms;
use ::reservations::Standing;
use core::sync::atomic::Ordering;
use guest_abi::Errno;
use guest_abi::domctl::{
    AddressSize, CpuPolicy, Domctl, Nodeaffinity, SchedulerOp, Settimeoffset, TscInfo,
    Vcpuaffinity, XEN_DOMCTL_SCHEDOP_GETINFO, XEN_DOMCTL_SCHEDOP_PUTINFO, XEN_SCHEDULER_CREDIT2,
    XEN_VCPUAFFINITY_HARD, XEN_VCPUAFFINITY_SOFT,
};

/// Time-stamp counter: as is best, never emulated.
const TSC_DEFAULT: u32 = 0;
const TSC_NEVER_EMULATE: u32 = 2;
const TSC_ALWAYS_EMULATE: u32 = 1;

fn vcpu_of(dom: &Domain, id: u32) -> Result<&'static Vcpu, Errno> {
    if id >= dom.max_vcpus {
        return Err(Errno::Inval);
    }
    dom.vcpu(id).ok_or(Errno::Srch)
}

/// What an affinity call names, if it makes sense. A flag of neither map asks for nothing and is no error.
fn affinity(dom: &Domain, call: &Domctl) -> Result<(Vcpuaffinity, &'static Vcpu), Errno> {
    let asked: Vcpuaffinity = call.payload();
    let vcpu = vcpu_of(dom, asked.vcpu)?;
    let lacks = |flag: u32, map: u64| asked.flags & flag != 0 && map == 0;
    if asked.flags == 0
        || lacks(XEN_VCPUAFFINITY_HARD, asked.cpumap_hard.bitmap)
        || lacks(XEN_VCPUAFFINITY_SOFT, asked.cpumap_soft.bitmap)
    {
        return Err(Errno::Inval);
    }
    Ok((asked, vcpu))
}

/// `setvcpuaffinity`. Of the hard one each vCPU is at home with a CPU, if any of those runs vCPUs; of the soft one what is set
/// is kept and told, and looked at when a vCPU has to move.
pub fn set_affinity(g: &mut Guest<'_>, dom: &'static Domain, call: &Domctl, args: Args) -> Outcome {
    let (asked, vcpu) = affinity(dom, call)?;
    let online = smp::online();
    let said = |flag: u32, map| match asked.flags & flag {
        0 => Ok(None),
        _ => bitmap::check_writable(g, map).and_then(|()| bitmap::read(g, map).map(Some)),
    };
    let hard = said(XEN_VCPUAFFINITY_HARD, &asked.cpumap_hard)?;
    let soft = said(XEN_VCPUAFFINITY_SOFT, &asked.cpumap_soft)?;
    if hard.is_some_and(|hard| hard.and(&online).is_empty()) {
        return Err(Errno::Inval.into());
    }
    match moves::set_affinity(vcpu, hard, soft) {
        Way::Done => {}
        Way::Again => return Err(Stop::Again(args)),
        Way::NoRoom => return Err(Errno::NoSpc.into()),
        Way::NoMemory => return Err(Errno::NoMem.into()),
    }
    // Only now: when the call is made again it is to say what it said.
    if let Some(hard) = hard {
        bitmap::write(g, &asked.cpumap_hard, hard.and(&online))?;
    }
    if let Some(soft) = soft {
        let hard = hard.unwrap_or_else(|| vcpu.affinity.lock().hard);
        bitmap::write(g, &asked.cpumap_soft, soft.and(&hard).and(&online))?;
    }
    Ok(0)
}

/// `getvcpuaffinity`.
pub fn get_affinity(g: &mut Guest<'_>, dom: &'static Domain, call: &Domctl, _: Args) -> Outcome {
    let (asked, vcpu) = affinity(dom, call)?;
    let set = *vcpu.affinity.lock();
    if asked.flags & XEN_VCPUAFFINITY_HARD != 0 {
        bitmap::write(g, &asked.cpumap_hard, set.hard)?;
    }
    if asked.flags & XEN_VCPUAFFINITY_SOFT != 0 {
        bitmap::write(g, &asked.cpumap_soft, set.soft)?;
    }
    Ok(0)
}

/// `setnodeaffinity`: there is one node, and it must be among them.
pub fn set_nodes(g: &mut Guest<'_>, _: &'static Domain, call: &Domctl, _: Args) -> Outcome {
    let Nodeaffinity { nodemap } = call.payload();
    if !bitmap::read(g, &nodemap)?.contains(0) {
        return Err(Errno::Inval.into());
    }
    Ok(0)
}

/// `getnodeaffinity`.
pub fn get_nodes(g: &mut Guest<'_>, _: &'static Domain, call: &Domctl, _: Args) -> Outcome {
    let Nodeaffinity { nodemap } = call.payload();
    bitmap::write(g, &nodemap, ::cpus::set::CpuSet::EMPTY.with(0))?;
    Ok(0)
}

/// In the last argument of `scheduler_op` when it is made again, with the number of what was begun. What the control domain may
/// say there itself only keeps its own weights from being set.
const BEGUN: u64 = u64::from_be_bytes(*b"weighed\0");

/// `scheduler_op`: the weight is that of each vCPU in time that nobody reserved, as `sched_set` can say it, too; then the
/// first one's is told. A cap is what `sched_set` is for.
pub fn scheduler(
    g: &mut Guest<'_>,
    dom: &'static Domain,
    call: &mut Domctl,
    args: Args,
) -> Outcome {
    let mut asked: SchedulerOp = call.payload();
    if asked.sched_id != XEN_SCHEDULER_CREDIT2 {
        return Err(Errno::Inval.into());
    }
    match asked.cmd {
        XEN_DOMCTL_SCHEDOP_PUTINFO => {
            if asked.weight != 0 {
                g.charge(dom.vcpus().count() as u64);
                weigh(dom, asked.weight, args)?;
            }
        }
        XEN_DOMCTL_SCHEDOP_GETINFO => {
            let first = dom.vcpus().find_map(terms::reserved);
            let first = first.map(|has| has.coming.map_or(has.terms, |(coming, _)| coming));
            let to_come = dom.weight.load(Ordering::Relaxed);
            asked.weight = first.map_or(to_come, |terms| terms.weight());
            asked.cap = 0;
            call.set_payload(&asked);
        }
        _ => return Err(Errno::Inval.into()),
    }
    Ok(0)
}

/// A part of giving a domain's vCPUs a weight.
fn weigh(dom: &'static Domain, weight: u16, args: Args) -> Result<(), Stop> {
    let [call, a, b, c, begun] = args;
    match granting::go_on(begun ^ BEGUN) {
        Standing::Over => return Ok(()),
        Standing::UnderWay => return Err(Stop::Again(args)),
        Standing::NeverBegun => {}
    }
    match granting::weigh(dom, weight) {
        Granted::Begun(number) => Err(Stop::Again([call, a, b, c, number ^ BEGUN])),
        Granted::Busy => Err(Stop::Again(args)),
        Granted::All(_) | Granted::Goes(..) => Ok(()),
    }
}

/// `settscinfo`: the counter is the CPU's own, whatever is preferred; only its emulation would be something else.
pub fn set_tsc(g: &mut Guest<'_>, dom: &'static Domain, call: &Domctl, _: Args) -> Outcome {
    let asked: TscInfo = call.payload();
    another(g, dom)?;
    match asked.tsc_mode {
        TSC_DEFAULT | TSC_NEVER_EMULATE => {
            dom.tsc_mode.store(asked.tsc_mode, Ordering::Relaxed);
            Ok(0)
        }
        TSC_ALWAYS_EMULATE => Err(Errno::OpNotSupp.into()),
        _ => Err(Errno::Inval.into()),
    }
}

/// `gettscinfo`. Of a counter that is never to be emulated there is no rate to keep: that is told as zeros.
pub fn get_tsc(g: &mut Guest<'_>, dom: &'static Domain, call: &mut Domctl, _: Args) -> Outcome {
    another(g, dom)?;
    let tsc_mode = dom.tsc_mode.load(Ordering::Relaxed);
    let (gtsc_khz, elapsed_nsec) = match tsc_mode {
        TSC_NEVER_EMULATE => (0, 0),
        _ => (tsc_khz(), device::timer::now_ns()),
    };
    call.set_payload(&TscInfo {
        tsc_mode,
        gtsc_khz,
        elapsed_nsec,
        ..TscInfo::ZERO
    });
    Ok(0)
}

/// `set_address_size`: 64 bits are all there is.
pub fn set_address_size(_: &mut Guest<'_>, _: &'static Domain, call: &Domctl, _: Args) -> Outcome {
    let AddressSize { size } = call.payload();
    match size {
        64 => Ok(0),
        32 => Err(Errno::OpNotSupp.into()),
        _ => Err(Errno::Inval.into()),
    }
}

/// `get_address_size`.
pub fn get_address_size(
    _: &mut Guest<'_>,
    _: &'static Domain,
    call: &mut Domctl,
    _: Args,
) -> Outcome {
    call.set_payload(&AddressSize { size: 64 });
    Ok(0)
}

/// `settimeoffset`.
pub fn set_time_offset(_: &mut Guest<'_>, dom: &'static Domain, call: &Domctl, _: Args) -> Outcome {
    let Settimeoffset {
        time_offset_seconds,
    } = call.payload();
    dom.time_offset
        .store(time_offset_seconds, Ordering::Relaxed);
    if !dom.is_dying() {
        let (seconds, nanoseconds) = device::wall_clock_base();
        dom.put_wall_clock(seconds, nanoseconds);
    }
    Ok(0)
}

/// `get_cpu_policy`: what the domain is shown, which is what all are.
pub fn get_policy(g: &mut Guest<'_>, _: &'static Domain, call: &mut Domctl, _: Args) -> Outcome {
    let mut asked: CpuPolicy = call.payload();
    let lists = cpu_policy::Lists {
        leaves: asked.leaves,
        nr_leaves: asked.nr_leaves,
        msrs: asked.msrs,
        nr_msrs: asked.nr_msrs,
    };
    let written = cpu_policy::write(g, crate::policy::cpuid::answer, &lists)?;
    (asked.nr_leaves, asked.nr_msrs) = (written.nr_leaves, written.nr_msrs);
    call.set_payload(&asked);
    Ok(0)
}

/// `set_cpu_policy`: looked at and not taken: what guests are shown is chosen by `crate::policy`, for all the same.
pub fn set_policy(g: &mut Guest<'_>, dom: &'static Domain, call: &mut Domctl, _: Args) -> Outcome {
    let mut asked: CpuPolicy = call.payload();
    another(g, dom)?;
    if dom.life.has_begun() {
        return Err(Errno::Exist.into());
    }
    let lists = cpu_policy::Lists {
        leaves: asked.leaves,
        nr_leaves: asked.nr_leaves,
        msrs: asked.msrs,
        nr_msrs: asked.nr_msrs,
    };
    cpu_policy::look(g, &lists)?;
    (asked.err_leaf, asked.err_subleaf, asked.err_msr) = (!0, !0, !0);
    call.set_payload(&asked);
    Ok(0)
}

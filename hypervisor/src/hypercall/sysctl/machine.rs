//! The machine: its CPUs and its memory.

use crate::account;
use crate::arch::cpu::CpuidResult;
use crate::arch::{cpu, smp};
use crate::boot;
use crate::device::timer;
use crate::domain::{Guest, all};
use crate::hypercall::{Outcome, bitmap, cpu_policy};
use crate::layout::PAGE;
use crate::memory::{alloc, frame_table};
use crate::policy::cpuid;
use ::cpus::set::CpuSet;
use guest_abi::domctl::XEN_SCHEDULER_CREDIT2;
use guest_abi::sysctl::{
    Availheap, CpuFeatureset, CpuLevellingCaps, CpuPolicy, Cpuinfo, CpupoolOp, Cputopo,
    Cputopoinfo, Getcpuinfo, Meminfo, Numainfo, Physinfo, SchedId, Sysctl,
    XEN_SYSCTL_CPU_FEATURESET_HOST, XEN_SYSCTL_CPU_FEATURESET_PV, XEN_SYSCTL_CPU_FEATURESET_PV_MAX,
    XEN_SYSCTL_CPU_FEATURESET_RAW, XEN_SYSCTL_CPU_POLICY_HOST, XEN_SYSCTL_CPU_POLICY_PV_DEFAULT,
    XEN_SYSCTL_CPU_POLICY_PV_MAX, XEN_SYSCTL_CPU_POLICY_RAW, XEN_SYSCTL_CPUPOOL_OP_FREEINFO,
    XEN_SYSCTL_CPUPOOL_OP_INFO, XEN_SYSCTL_PHYSCAP_GNTTAB_V1, XEN_SYSCTL_PHYSCAP_PV,
};
use guest_abi::{Errno, Wire};

/// Words of a feature set.
const FEATURE_WORDS: usize = 19;
/// How far a node is from itself, in the firmware's measure.
const NEAR: u32 = 10;

/// `physinfo`.
pub fn physinfo(_: &mut Guest<'_>, call: &mut Sysctl) -> Outcome {
    let cpus = smp::online().iter().count() as u32;
    call.set_payload(&Physinfo {
        threads_per_core: 1,
        cores_per_socket: 1,
        nr_cpus: cpus,
        max_cpu_id: cpus.saturating_sub(1),
        nr_nodes: 1,
        cpu_khz: tsc_khz(),
        capabilities: XEN_SYSCTL_PHYSCAP_PV | XEN_SYSCTL_PHYSCAP_GNTTAB_V1,
        total_pages: boot::boot_info().memory.usable_bytes() / PAGE,
        free_pages: alloc::free_frames(),
        max_mfn: frame_table::end().saturating_sub(1),
        hw_cap: cpuid::feature_words(cpu::cpuid),
        ..Physinfo::ZERO
    });
    Ok(0)
}

/// Ticks of the time-stamp counter in a millisecond.
pub fn tsc_khz() -> u32 {
    let ticks = timer::clock().scale.ticks_from_ns(1_000_000);
    u32::try_from(ticks).unwrap_or(u32::MAX)
}

/// `sched_id`: ours answers to the name of the one that tools expect.
pub fn sched_id(_: &mut Guest<'_>, call: &mut Sysctl) -> Outcome {
    call.set_payload(&SchedId {
        sched_id: XEN_SCHEDULER_CREDIT2,
    });
    Ok(0)
}

/// Writes elements of a list as far as there is room; how many were written.
fn put_list<T: Wire>(
    g: &Guest<'_>,
    at: u64,
    room: u32,
    all: impl Iterator<Item = T>,
) -> Result<u32, Errno> {
    let mut written = 0;
    for element in all.take(room as usize) {
        let place = at.wrapping_add(u64::from(written) * T::SIZE as u64);
        g.memory().put(place, &element)?;
        written += 1;
    }
    Ok(written)
}

fn nr_cpus() -> u32 {
    smp::online().iter().last().map_or(1, |last| last + 1)
}

/// `cputopoinfo`: each CPU a core of its own.
pub fn cpu_topology(g: &mut Guest<'_>, call: &mut Sysctl) -> Outcome {
    let mut asked: Cputopoinfo = call.payload();
    let cpus = nr_cpus();
    if asked.cputopo != 0 {
        let all = (0..cpus).map(|core| Cputopo {
            core,
            ..Cputopo::ZERO
        });
        put_list(g, asked.cputopo, asked.num_cpus, all)?;
    }
    asked.num_cpus = cpus;
    call.set_payload(&asked);
    Ok(0)
}

/// `numainfo`: all memory is one node.
pub fn nodes(g: &mut Guest<'_>, call: &mut Sysctl) -> Outcome {
    let mut asked: Numainfo = call.payload();
    let room = asked.num_nodes.min(1);
    if asked.meminfo != 0 {
        let node = Meminfo {
            memsize: boot::boot_info().memory.usable_bytes(),
            memfree: alloc::free_frames() * PAGE,
        };
        put_list(g, asked.meminfo, room, core::iter::once(node))?;
    }
    if asked.distance != 0 {
        put_list(g, asked.distance, room, core::iter::once(NEAR))?;
    }
    asked.num_nodes = 1;
    call.set_payload(&asked);
    Ok(0)
}

/// `availheap`: what is free of one width of addresses, on the one node there is.
pub fn free_memory(_: &mut Guest<'_>, call: &mut Sysctl) -> Outcome {
    let mut asked: Availheap = call.payload();
    let most = match asked.max_bitwidth {
        0 => u32::MAX,
        bits => bits,
    };
    let free = match asked.node {
        -1 | 0 => alloc::free_frames_between(asked.min_bitwidth, most),
        _ => 0,
    };
    asked.avail_bytes = free * PAGE;
    call.set_payload(&asked);
    Ok(0)
}

/// `cpupool_op`: there is one pool, of all CPUs.
pub fn pools(g: &mut Guest<'_>, call: &mut Sysctl) -> Outcome {
    let mut asked: CpupoolOp = call.payload();
    match asked.op {
        XEN_SYSCTL_CPUPOOL_OP_INFO => {
            if asked.cpupool_id != 0 {
                return Err(Errno::NoEnt.into());
            }
            asked.sched_id = XEN_SCHEDULER_CREDIT2;
            asked.n_dom = all().count() as u32;
            bitmap::write(g, &asked.cpumap, smp::online())?;
            call.set_payload(&asked);
            Ok(0)
        }
        XEN_SYSCTL_CPUPOOL_OP_FREEINFO => {
            bitmap::write(g, &asked.cpumap, CpuSet::EMPTY)?;
            Ok(0)
        }
        _ => Err(Errno::OpNotSupp.into()),
    }
}

/// `getcpuinfo`: how long CPUs had nothing to do.
pub fn idle_times(g: &mut Guest<'_>, call: &mut Sysctl) -> Outcome {
    let mut asked: Getcpuinfo = call.payload();
    let scale = timer::clock().scale;
    let idle = |cpu| Cpuinfo {
        idletime: scale.ns_from_ticks(account::idle_cycles(cpu)),
    };
    asked.nr_cpus = put_list(g, asked.info, asked.max_cpus, (0..nr_cpus()).map(idle))?;
    call.set_payload(&asked);
    Ok(0)
}

/// `get_cpu_levelling_caps`: user mode sees the CPU's own.
pub fn levelling(_: &mut Guest<'_>, call: &mut Sysctl) -> Outcome {
    call.set_payload(&CpuLevellingCaps { caps: 0 });
    Ok(0)
}

/// `get_cpu_featureset`.
pub fn features(g: &mut Guest<'_>, call: &mut Sysctl) -> Outcome {
    let mut asked: CpuFeatureset = call.payload();
    let words: [u32; FEATURE_WORDS] = match asked.index {
        XEN_SYSCTL_CPU_FEATURESET_RAW | XEN_SYSCTL_CPU_FEATURESET_HOST => {
            cpuid::feature_words(cpu::cpuid)
        }
        XEN_SYSCTL_CPU_FEATURESET_PV | XEN_SYSCTL_CPU_FEATURESET_PV_MAX => {
            cpuid::feature_words(cpuid::answer)
        }
        _ => return Err(Errno::OpNotSupp.into()),
    };
    let room = asked.nr_features;
    asked.nr_features = match asked.features {
        0 => FEATURE_WORDS as u32,
        at => put_list(g, at, room, words.into_iter())?,
    };
    let cut = asked.features != 0 && (room as usize) < FEATURE_WORDS;
    call.set_payload(&asked);
    if cut {
        return Err(Errno::NoBufs.into());
    }
    Ok(0)
}

/// `get_cpu_policy`.
pub fn policy(g: &mut Guest<'_>, call: &mut Sysctl) -> Outcome {
    let mut asked: CpuPolicy = call.payload();
    if asked._rsvd != 0 {
        return Err(Errno::Inval.into());
    }
    let ask: fn(u32, u32) -> CpuidResult = match asked.index {
        XEN_SYSCTL_CPU_POLICY_RAW | XEN_SYSCTL_CPU_POLICY_HOST => cpu::cpuid,
        XEN_SYSCTL_CPU_POLICY_PV_MAX | XEN_SYSCTL_CPU_POLICY_PV_DEFAULT => cpuid::answer,
        3 | 5 => return Err(Errno::OpNotSupp.into()),
        _ => return Err(Errno::Inval.into()),
    };
    let lists = cpu_policy::Lists {
        leaves: asked.leaves,
        nr_leaves: asked.nr_leaves,
        msrs: asked.msrs,
        nr_msrs: asked.nr_msrs,
    };
    let written = cpu_policy::write(g, ask, &lists)?;
    (asked.nr_leaves, asked.nr_msrs) = (written.nr_leaves, written.nr_msrs);
    call.set_payload(&asked);
    Ok(0)
}

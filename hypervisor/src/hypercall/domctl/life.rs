//! Creating, sizing, pausing and destroying domains.

use super::another;
use crate::domain::create::{self, Wanted};
use crate::domain::teardown::{self, Progress};
use crate::domain::{self, Domain, Guest, MAX_VCPUS, life, table};
use crate::hypercall::{Args, Outcome, Stop, page};
use crate::info;
use crate::mmu::hold_writable;
use core::sync::atomic::Ordering;
use frames::{DomId, Mfn};
use guest_abi::Errno;
use guest_abi::domctl::{
    Createdomain, Domctl, HypercallInit, MaxMem, MaxVcpus, Setdomainhandle,
    XEN_DOMCTL_CDF_XS_DOMAIN, XEN_DOMCTL_GRANT_VERSION_MASK, XEN_X86_MSR_RELAXED,
};
use guest_abi::domid::DOMID_FIRST_END;

/// Frames of a grant table and of its maps where the call does not say.
const USUAL_GRANT_FRAMES: i32 = 64;
const USUAL_MAPTRACK_FRAMES: i32 = 1024;
/// The most maps' storage a domain is allowed for, in frames: what an ordinary one has use for is far less.
const MOST_MAPTRACK: u64 = 128;
/// Frames of ring 0's for event channels and whatever else a domain asks for.
const OTHER_OVERHEAD: u64 = 64;
/// A scheduler's pool of CPUs: there is one.
const ONLY_POOL: u32 = 0;
/// KiB in a frame, as a power of two.
const KIB_SHIFT: u32 = 2;

/// `createdomain`: an empty domain, paused. A number of 0 or beyond the ordinary ones asks for one that is free.
pub fn create(g: &mut Guest<'_>, call: &mut Domctl, args: Args) -> Outcome {
    let wanted: Createdomain = call.payload();
    let limits = acceptable(&wanted)?;
    let number = match call.domain {
        0 | DOMID_FIRST_END.. => table::claim_next()?,
        asked => match table::claim(DomId(asked)) {
            // Another CPU is about to let it go, or to show whose it is.
            Err(Errno::Exist) if domain::get(DomId(asked)).is_none() => {
                return Err(Stop::Again(args));
            }
            claimed => claimed?,
        },
    };
    let max_overhead = OTHER_OVERHEAD + limits.0 + limits.1.min(MOST_MAPTRACK);
    let wanted = Wanted {
        privileged: false,
        max_vcpus: wanted.max_vcpus,
        max_pages: 0,
        max_overhead,
        max_ports: (wanted.max_evtchn_port as usize).saturating_add(1),
        grant_frames: (limits.0 as usize).min(grants::MAX_TABLE_FRAMES),
        handle_frames: (limits.1 as usize).min(grants::MAX_HANDLE_FRAMES),
        handle: wanted.handle,
        serves_store: wanted.flags & XEN_DOMCTL_CDF_XS_DOMAIN != 0,
        pauses: 1,
    };
    let made = create::domain(number, &wanted, || g.let_others_in());
    let domain = made.map_err(|_| Errno::NoMem)?;
    call.domain = domain.id.0;
    Ok(0)
}

/// Whether a domain of this kind can be had; the frames that its grant table and its maps may have.
fn acceptable(wanted: &Createdomain) -> Result<(u64, u64), Errno> {
    let or_usual = |frames: i32, usual: i32| if frames < 0 { usual } else { frames };
    let grant_frames = or_usual(wanted.max_grant_frames, USUAL_GRANT_FRAMES);
    let maptrack = or_usual(wanted.max_maptrack_frames, USUAL_MAPTRACK_FRAMES);
    let version = wanted.grant_opts & XEN_DOMCTL_GRANT_VERSION_MASK;
    let good = wanted.flags & !XEN_DOMCTL_CDF_XS_DOMAIN == 0
        && wanted.iommu_opts == 0
        && (1..=MAX_VCPUS as u32).contains(&wanted.max_vcpus)
        && wanted.vmtrace_size == 0
        && wanted.arch.misc_flags & !XEN_X86_MSR_RELAXED == 0
        && wanted.grant_opts & !XEN_DOMCTL_GRANT_VERSION_MASK == 0
        && (1..=2).contains(&version)
        && grant_frames >= 1;
    if !good {
        return Err(Errno::Inval);
    }
    if wanted.arch.emulation_flags != 0 {
        return Err(Errno::OpNotSupp);
    }
    if wanted.cpupool_id != ONLY_POOL {
        return Err(Errno::Srch);
    }
    Ok((grant_frames as u64, maptrack as u64))
}

/// `max_vcpus`: makes the vCPUs, as many as the domain was created for.
pub fn max_vcpus(g: &mut Guest<'_>, dom: &'static Domain, call: &Domctl, args: Args) -> Outcome {
    let MaxVcpus { max } = call.payload();
    another(g, dom)?;
    if max != dom.max_vcpus {
        return Err(Errno::Inval.into());
    }
    for id in 0..max {
        if dom.vcpu(id).is_some() {
            continue;
        }
        if !g.spend() {
            return Err(Stop::Again(args));
        }
        // Each takes a handful of frames, cleared, and its addresses in the exposed area: two sections.
        const UNITS: u64 = 80;
        g.note_section();
        create::vcpu(dom, id).map_err(|_| Errno::NoMem)?;
        g.charge(UNITS);
    }
    Ok(0)
}

/// `max_mem`. It may be less than the domain has: it gets no more until it has given up as much.
pub fn max_mem(_: &mut Guest<'_>, dom: &'static Domain, call: &Domctl, _: Args) -> Outcome {
    let MaxMem { max_memkb } = call.payload();
    let frames = (max_memkb >> KIB_SHIFT).min(u64::from(u32::MAX) - 1);
    dom.max_pages.store(frames, Ordering::Release);
    Ok(0)
}

/// In the last argument of `pausedomain` when it is made again, with the domain's serial number: it has been counted. What
/// the control domain may say there itself only keeps its own pause from being counted.
const COUNTED: u64 = u64::from_be_bytes(*b"counted\0") << 8;

/// `pausedomain`: answers when the domain stands still.
pub fn pause(g: &mut Guest<'_>, dom: &'static Domain, _: &Domctl, args: Args) -> Outcome {
    if dom.id == g.dom.id {
        return Err(Errno::Inval.into());
    }
    let counted = COUNTED ^ dom.serial;
    if args[4] != counted {
        life::pause(dom)?;
    }
    // Another may have let it go on meanwhile.
    if life::stands_still(dom) || dom.life.pauses() == 0 {
        return Ok(0);
    }
    let [command, a, b, c, _] = args;
    Err(Stop::Again([command, a, b, c, counted]))
}

/// `unpausedomain`.
pub fn unpause(_: &mut Guest<'_>, dom: &'static Domain, _: &Domctl, _: Args) -> Outcome {
    life::unpause(dom)?;
    Ok(0)
}

/// `resumedomain`.
pub fn resume(g: &mut Guest<'_>, dom: &'static Domain, _: &Domctl, _: Args) -> Outcome {
    if dom.id == g.dom.id {
        return Err(Errno::Inval.into());
    }
    life::resume(dom);
    Ok(0)
}

/// `destroydomain`: made again by itself until all is given back. A domain that others hold frames of is left, and
/// listed, until they let go.
pub fn destroy(g: &mut Guest<'_>, dom: &'static Domain, _: &Domctl, args: Args) -> Outcome {
    if dom.id == g.dom.id {
        return Err(Errno::Inval.into());
    }
    if !dom.is_dying() {
        info!("domain {} is destroyed", dom.id.0);
    }
    life::begin_to_die(dom);
    loop {
        match teardown::step(dom) {
            Progress::Done => return Ok(0),
            Progress::More if g.spend() => {}
            Progress::More | Progress::Wait => return Err(Stop::Again(args)),
        }
    }
}

/// `setdomainhandle`.
pub fn set_handle(_: &mut Guest<'_>, dom: &'static Domain, call: &Domctl, _: Args) -> Outcome {
    let Setdomainhandle { handle } = call.payload();
    *dom.handle.lock() = handle;
    Ok(0)
}

/// `hypercall_init`: fills a page with stubs, for kernels that want to call through one.
pub fn hypercall_init(_: &mut Guest<'_>, dom: &'static Domain, call: &Domctl, _: Args) -> Outcome {
    let HypercallInit { gmfn } = call.payload();
    let frame = hold_writable(dom.id, Mfn(gmfn)).map_err(|_| Errno::Inval)?;
    page::fill(frame.mfn());
    Ok(0)
}

//! The domain itself, before it has memory: its record, its exposed area, its vCPUs.

use super::DOM0;
use super::error::BuildError;
use crate::arch::paging::{NoFrame, bits};
use crate::arch::walk_cache::WalkCache;
use crate::domain::exposed_area::{self, OWN_DESCRIPTORS, TRANSIT};
use crate::domain::{Domain, Local, MAX_VCPUS, Transit, Vcpu, register, run};
use crate::hypercall::grant::DomainGrants;
use crate::layout::PAGE;
use crate::memory::{alloc as frame_alloc, frame_table, phys};
use crate::{device, event, info, schedule};
use ::sched::{Runstate, State};
use alloc::boxed::Box;
use boot_info::Params;
use boot_info::params::Choice;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64};
use frames::Mfn;
use spin::Once;
use spin::mutex::SpinMutex;

/// vCPUs whose vcpu_info has a place in shared_info; the guest has to give the others one before they can run.
const INFOS_SHARED: u32 = 32;
/// Bytes of a vcpu_info.
const INFO_BYTES: u64 = 64;
/// vcpu_info: event delivery masked.
const UPCALL_MASKED: u64 = 0x100;

/// Makes the domain and its vCPUs, without memory yet; the first vCPU.
pub(super) fn new_domain(params: &Params, frames: u64) -> Result<&'static Vcpu, BuildError> {
    let isolated = match params.isolate {
        Choice::Yes => true,
        Choice::No => false,
        Choice::Auto => device::cpu_has_meltdown(),
    };
    let exposed_l3 = exposed_area::new_l3()?;
    let ring0_root = exposed_area::new_ring0_root(exposed_l3)?;
    let shared_info = frame_alloc::take(DOM0, 0, 64).ok_or(NoFrame)?;
    // Ring 0 writes it for as long as the domain lives.
    if let Some(frame) = frame_table::get(shared_info) {
        frame
            .get_writable(Some(DOM0))
            .map_err(|_| BuildError::Refused)?;
    }
    let spare_infos = match params.dom0_max_vcpus > INFOS_SHARED {
        true => Some(new_infos()?),
        false => None,
    };
    let domain: &'static Domain = Box::leak(Box::new(Domain {
        id: DOM0,
        privileged: true,
        pages: AtomicU64::new(0),
        max_pages: AtomicU64::new(params.dom0_mem.max.map_or(frames, |b| b / PAGE).max(frames)),
        overhead: AtomicU64::new(0),
        max_overhead: params.dom0_overhead / PAGE,
        shared_info,
        spare_infos,
        ring0_root,
        exposed_l3,
        isolated,
        events: SpinMutex::new(event::DomainEvents::new(
            events::DomId(DOM0.0),
            params.dom0_max_vcpus as usize,
        )),
        grants: SpinMutex::new(DomainGrants::new(
            grants::MAX_TABLE_FRAMES,
            grants::MAX_HANDLE_FRAMES,
        )),
        assists: AtomicU64::new(0),
        generation: AtomicU64::new(0),
        stopped: AtomicBool::new(false),
        vcpus: [const { Once::new() }; MAX_VCPUS],
        bring_up: SpinMutex::new(()),
        max_vcpus: params.dom0_max_vcpus,
    }));
    register(domain);
    info!(
        "domain 0: {} address space",
        if isolated { "isolated" } else { "shared" }
    );
    if !event::prepare(domain) {
        return Err(BuildError::NoFrame);
    }
    // A grant table has a frame before its owner asks for more.
    domain.grants.lock().grow(domain).ok_or(NoFrame)?;
    // The control domain's own wired interrupts, one number each.
    let pirqs = alloc::vec![None; device::pirq::MAX as usize].into_boxed_slice();
    domain.events.lock().set_pirqs(Box::leak(pirqs));
    // Upcalls are masked until the guest says otherwise.
    for id in 0..u64::from(INFOS_SHARED) {
        phys::write_u64(shared_info.0 * PAGE + id * INFO_BYTES, UPCALL_MASKED);
    }
    let spare = spare_infos.unwrap_or(shared_info);
    for id in 0..domain.max_vcpus {
        let page = if id < INFOS_SHARED {
            shared_info
        } else {
            spare
        };
        let slot = u64::from(id % INFOS_SHARED);
        new_vcpu(domain, id, page.0 * PAGE + slot * INFO_BYTES)?;
    }
    info!("domain 0: {} vCPUs", domain.max_vcpus);
    domain.vcpu(0).ok_or(BuildError::NoFrame)
}

/// A page of ring 0's own for the infos of vCPUs that have no place in shared_info, so that what is written there on
/// their behalf, until the guest gives them one, is nobody else's. The vCPUs do not run before that.
fn new_infos() -> Result<Mfn, BuildError> {
    let page = frame_alloc::take_ring0().ok_or(NoFrame)?;
    for slot in 0..u64::from(INFOS_SHARED) {
        phys::write_u64(page.0 * PAGE + slot * INFO_BYTES, UPCALL_MASKED);
    }
    Ok(page)
}

// Every vCPU has its place.
const _: () = assert!(MAX_VCPUS <= 2 * INFOS_SHARED as usize);
const _: () = assert!(MAX_VCPUS == Params::MAX_VCPUS as usize && MAX_VCPUS <= events::MAX_VCPUS);

/// Makes one vCPU, down and not initialised, whose vcpu_info is at physical address `info`.
fn new_vcpu(domain: &'static Domain, id: u32, info: u64) -> Result<(), BuildError> {
    let area = exposed_area::vcpu_area(id);
    let own = exposed_area::new_page(domain.exposed_l3, area + OWN_DESCRIPTORS)?;
    crate::arch::exposed::fill_own_page(own, crate::arch::exposed::block(0));
    for page in 0..OWN_DESCRIPTORS / PAGE {
        let empty = crate::hypercall::descriptor::empty_page();
        exposed_area::map(domain.exposed_l3, area + page * PAGE, Some(empty), bits::RO)?;
    }
    let transit = exposed_area::new_page(domain.exposed_l3, area + TRANSIT)?;
    let vcpu: &'static Vcpu = Box::leak(Box::new(Vcpu {
        id,
        domain,
        handle: schedule::new_handle().ok_or(BuildError::NoFrame)?,
        transit: Transit::new(transit, area + TRANSIT),
        area,
        own_descriptors: own,
        info: AtomicU64::new(0),
        info_words: AtomicPtr::new(core::ptr::null_mut()),
        walks: WalkCache::new(),
        info_moved: AtomicBool::new(false),
        initialised: AtomicBool::new(false),
        up: AtomicBool::new(false),
        period_ns: AtomicU64::new(0),
        nmi_pending: AtomicBool::new(false),
        runstate: SpinMutex::new(Runstate::new(State::Offline, device::timer::now_ns())),
        runstate_area: AtomicU64::new(0),
        time_area: AtomicU64::new(0),
        polling: AtomicU32::new(0),
        kicked: AtomicBool::new(false),
        local: UnsafeCell::new(Local::new()),
    }));
    vcpu.set_info(info);
    run::map_vcpu_info(vcpu)?;
    vcpu.transit.set_vcpu_info(area, info % PAGE);
    vcpu.transit.set_stack_ok(false);
    if let Some(slot) = domain.vcpus.get(id as usize) {
        slot.call_once(|| vcpu);
    }
    schedule::add(vcpu);
    Ok(())
}

//! Making a domain and its vCPUs, before it has memory: records, exposed area, the shared page, storage for the first
//! event channels and grants. The control domain's builder and its calls for others come here.

use crate::account::anchors;
use crate::account::area::Area;
use crate::arch::exposed;
use crate::arch::fpu::{self, FpuState};
use crate::arch::paging::{NoFrame, bits};
use crate::arch::walk_cache::WalkCache;
use crate::domain::allotment::Allotment;
use crate::domain::exposed_area::{self, OWN_DESCRIPTORS, TRANSIT, VCPU_INFO};
use crate::domain::life::{self, Life};
use crate::domain::local::Traps;
use crate::domain::table::Claimed;
use crate::domain::watchdog::Watchdogs;
use crate::domain::{Affinity, Domain, Local, MAX_VCPUS, NO_CPU, Transit, Vcpu, unfinished};
use crate::ends::DomainEnds;
use crate::hypercall::descriptor;
use crate::hypercall::grant::{self, DomainGrants};
use crate::layout::PAGE;
use crate::memory::owned::{List, OwnedFrames};
use crate::memory::pieces::{Charge, Pieces};
use crate::memory::record;
use crate::memory::{alloc, frame_table, m2p, phys};
use crate::schedule::allowance::May;
use crate::schedule::cpu::Home;
use crate::sync::Lock;
use crate::{boot, device, event, schedule};
use ::cpus::notice::Notice;
use ::reservations::Terms;
use ::sched::{Runstate, Sold, State};
use arrayvec::ArrayVec;
use boot_info::params::Choice;
use core::cell::UnsafeCell;
use core::sync::atomic::{
    AtomicBool, AtomicI64, AtomicPtr, AtomicU16, AtomicU32, AtomicU64, Ordering,
};
use events::pollers::{Polled, Pollers};
use frames::table::UndoList;
use frames::{DomId, Mfn};
use guest_abi::usage_area::usage_area_frames;

/// vCPUs whose vcpu_info has a place in shared_info; the guest has to give the others one before they can run.
const INFOS_SHARED: u32 = 32;
/// Bytes of a vcpu_info.
const INFO_BYTES: u64 = 64;
/// The next domain's serial number.
static SERIALS: AtomicU64 = AtomicU64::new(1);
/// vcpu_info: event delivery masked.
const UPCALL_MASKED: u64 = 0x100;

// Every vCPU has its place.
const _: () = assert!(MAX_VCPUS <= 2 * INFOS_SHARED as usize && MAX_VCPUS <= events::MAX_VCPUS);

/// What a domain is to be.
pub struct Wanted {
    /// Whether it is the control domain.
    pub privileged: bool,
    /// vCPUs it may have, from 1 to [`MAX_VCPUS`].
    pub max_vcpus: u32,
    /// Frames it may have.
    pub max_pages: u64,
    /// Frames of ring 0's that it may cause to be used, beside those that it consists of.
    pub max_overhead: u64,
    /// Event channels it may have, port 0 counted.
    pub max_ports: usize,
    /// Frames its grant table may have.
    pub grant_frames: usize,
    /// Frames of storage for handles of what it maps of others' grants.
    pub handle_frames: usize,
    /// What the tool stack knows it by.
    pub handle: [u8; 16],
    /// Whether it serves the store.
    pub serves_store: bool,
    /// How often it is paused to begin with.
    pub pauses: u32,
}

/// Frames that a domain consists of: its usage area, the table of its exposed area, the page for infos.
const OF_DOMAIN: usize = usage_area_frames(MAX_VCPUS) + 2;
/// Frames that a vCPU consists of: its own page, tables.
const OF_VCPU: usize = 1 + exposed_area::VCPU_TABLES;
const MOST_FRESH: usize = if OF_DOMAIN > OF_VCPU {
    OF_DOMAIN
} else {
    OF_VCPU
};

/// Frames of ring 0's own that go back unless they are put to use.
#[derive(Default)]
struct Fresh {
    frames: ArrayVec<Mfn, MOST_FRESH>,
}

impl Fresh {
    /// Takes one more.
    fn take(&mut self) -> Result<Mfn, NoFrame> {
        let frame = alloc::take_ring0().ok_or(NoFrame)?;
        self.add(frame);
        Ok(frame)
    }

    fn add(&mut self, frame: Mfn) {
        self.frames.push(frame);
    }

    /// All are put to use: how many there were.
    fn keep(mut self) -> u64 {
        core::mem::take(&mut self.frames).len() as u64
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        self.frames.iter().for_each(|f| alloc::give_ring0(*f));
    }
}

/// Whether a domain runs with ring 0 unmapped.
fn is_isolated() -> bool {
    match boot::params().isolate {
        Choice::Yes => true,
        Choice::No => false,
        Choice::Auto => device::cpu_has_meltdown(),
    }
}

/// Makes a domain without vCPUs and without memory, and makes it known under a number. Without enough memory nothing is
/// left of it. `between` lets others in: what it consists of is cleared in one section, and put together in another.
pub fn domain(
    number: Claimed,
    wanted: &Wanted,
    between: impl FnOnce(),
) -> Result<&'static Domain, NoFrame> {
    let id = number.id();
    let mut fresh = Fresh::default();
    let exposed_l3 = exposed_area::new_l3()?;
    fresh.add(exposed_l3);
    let spare_infos = match wanted.max_vcpus > INFOS_SHARED {
        true => Some(new_infos()?),
        false => None,
    };
    spare_infos.into_iter().for_each(|page| fresh.add(page));
    let serial = SERIALS.fetch_add(1, Ordering::Relaxed);
    let area = Area::make(id, serial, wanted.max_vcpus).ok_or(NoFrame)?;
    area.frames().for_each(|frame| fresh.add(frame));
    between();
    let pages = OwnPages::take(id).ok_or(NoFrame)?;
    let own = Own {
        serial,
        area,
        shared_info: pages.shared_info,
        spare_infos,
        exposed_l3,
    };
    let made = new_record(id, wanted, own);
    let domain = record::place(made).ok_or(NoFrame)?;
    // What can fail comes before it is known: what is known does not go at once (W1 in `teardown`).
    if !event::prepare(domain) {
        // SAFETY: made above, and known to nobody.
        unsafe { record::end(domain) };
        return Err(NoFrame);
    }
    number.register(domain);
    domain.count_fixed(fresh.keep() + record::frames_of::<Domain>());
    pages.give_to(domain);
    Ok(domain)
}

/// Pages that a domain owns from the beginning. They go back unless it comes to be.
struct OwnPages {
    shared_info: Mfn,
    /// The first of its grant table, which has one before its owner asks for more.
    grants: Mfn,
    given: bool,
}

impl OwnPages {
    fn take(owner: DomId) -> Option<OwnPages> {
        let shared_info = new_shared_page(owner)?;
        let Some(grants) = grant::new_page(owner) else {
            give_shared_page(shared_info);
            return None;
        };
        Some(OwnPages {
            shared_info,
            grants,
            given: false,
        })
    }

    /// The domain is known under the number for which they were taken.
    fn give_to(mut self, domain: &Domain) {
        self.given = true;
        for page in [self.shared_info, self.grants] {
            domain.frames.lock().insert(page, List::Live);
        }
        let added = grant::add_page(domain, self.grants);
        debug_assert!(added, "a table without frames has room for one");
    }
}

impl Drop for OwnPages {
    fn drop(&mut self) {
        if !self.given {
            give_shared_page(self.shared_info);
            alloc::give_ring0(self.grants);
        }
    }
}

/// What is a domain's own from the beginning.
struct Own {
    serial: u64,
    area: Area,
    shared_info: Mfn,
    spare_infos: Option<Mfn>,
    exposed_l3: Mfn,
}

fn new_record(id: DomId, wanted: &Wanted, own: Own) -> Domain {
    let area = own.area;
    let mut ports = event::DomainEvents::new(events::DomId(id.0), wanted.max_vcpus as usize);
    ports.set_limit(wanted.max_ports);
    Domain {
        id,
        serial: own.serial,
        periods_from: device::timer::now_ns(),
        privileged: wanted.privileged,
        pages: AtomicU64::new(0),
        max_pages: AtomicU64::new(wanted.max_pages),
        allotment: Allotment::new(),
        overhead: AtomicU64::new(0),
        max_overhead: AtomicU64::new(wanted.max_overhead),
        pieces: Pieces::new(),
        frames: Lock::new(OwnedFrames::new(area.held(), area.overhead())),
        shared_info: own.shared_info,
        spare_infos: own.spare_infos,
        exposed_l3: own.exposed_l3,
        isolated: is_isolated(),
        events: Lock::new(ports),
        grants: Lock::new(DomainGrants::new(wanted.grant_frames, wanted.handle_frames)),
        ends: DomainEnds::new(),
        assists: AtomicU64::new(0),
        undo: UndoList::new(),
        generation: AtomicU64::new(0),
        stopped: AtomicBool::new(false),
        life: Life::new(wanted.pauses),
        watchdogs: Watchdogs::new(),
        handle: Lock::new(wanted.handle),
        serves_store: wanted.serves_store,
        weight: AtomicU16::new(Terms::USUAL_WEIGHT),
        allowance: May::new(),
        account: area.besides(),
        sold: Sold::new(),
        usage_area: area,
        anchor: anchors::Place::new(),
        tsc_mode: AtomicU32::new(0),
        permissions: Lock::new(None),
        time_offset: AtomicI64::new(0),
        pollers: Pollers::new(),
        vcpus: [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_VCPUS],
        ended: AtomicPtr::new(core::ptr::null_mut()),
        bring_up: Lock::new(()),
        max_vcpus: wanted.max_vcpus,
    }
}

/// The page a domain shares with us. Ring 0 writes it for as long as the domain lives.
fn new_shared_page(owner: DomId) -> Option<Mfn> {
    let page = alloc::take(owner, 0, 64)?;
    m2p::set(page, m2p::INVALID);
    // A fresh frame can be had as memory.
    let _ = frame_table::get(page)?.get_writable(Some(owner));
    // Upcalls are masked until the guest says otherwise.
    mask_upcalls(page);
    Some(page)
}

/// Gives back what [`new_shared_page`] made for a domain that came to nothing.
fn give_shared_page(page: Mfn) {
    let clock = crate::arch::percpu::flush_clock();
    if let Some(frame) = frame_table::get(page) {
        let _ = frame.put_writable(clock);
    }
    alloc::give_ring0(page);
}

fn mask_upcalls(page: Mfn) {
    for slot in 0..u64::from(INFOS_SHARED) {
        phys::write_u64(page.0 * PAGE + slot * INFO_BYTES, UPCALL_MASKED);
    }
}

/// A page of ring 0's own for the infos of vCPUs that have no place in shared_info, so that what is written there on
/// their behalf, until the guest gives them one, is nobody else's. The vCPUs do not run before that.
fn new_infos() -> Result<Mfn, NoFrame> {
    let page = alloc::take_ring0().ok_or(NoFrame)?;
    mask_upcalls(page);
    Ok(page)
}

/// Where a vCPU's vcpu_info lies to begin with.
fn first_info(domain: &Domain, id: u32) -> u64 {
    let page = match domain.spare_infos {
        Some(spare) if id >= INFOS_SHARED => spare,
        _ => domain.shared_info,
    };
    page.0 * PAGE + u64::from(id % INFOS_SHARED) * INFO_BYTES
}

/// Makes one vCPU, down and not initialised, of a number that the domain may have, if there is none yet. Without enough
/// memory nothing is left of it.
pub fn vcpu(domain: &'static Domain, id: u32) -> Result<&'static Vcpu, NoFrame> {
    // Whatever takes memory comes before the lock: what is fresh may have to be flushed (`sync` J2).
    if let Some(made) = domain.vcpu(id) {
        return Ok(made);
    }
    let mut fresh = Fresh::default();
    let own = fresh.take()?;
    for _ in 0..exposed_area::missing_tables(domain.exposed_l3, id) {
        fresh.take()?;
    }
    exposed::fill_own_page(own, exposed::block(0));
    // Nothing of the domain is locked: an interrupt may stop this very domain (`domain::watchdog`), if another vCPU of it runs.
    unfinished::breathe();
    let local = new_local(domain)?;
    unfinished::breathe();
    let Some(home) = schedule::cpu::take(domain, id) else {
        end_local(domain, local);
        return Err(NoFrame);
    };
    let made = domain.place(new_vcpu(domain, id, home, own, local), Charge::Fixed);
    let vcpu = match made {
        Ok(vcpu) => vcpu,
        Err(vcpu) => {
            unmake(domain, vcpu);
            return Err(NoFrame);
        }
    };
    unfinished::breathe();
    let alone = domain.bring_up.lock();
    // Another may have made it meanwhile, or begun to take the domain apart.
    let others = domain.vcpu(id);
    if domain.is_dying() || others.is_some() || show(domain, vcpu, &mut fresh).is_err() {
        drop(alone);
        unmake(domain, domain.take_back(vcpu));
        return others.ok_or(NoFrame);
    }
    let vcpu: &'static Vcpu = vcpu;
    let info = first_info(domain, id);
    vcpu.set_info(info);
    vcpu.transit.set_vcpu_info(vcpu.area, info % PAGE);
    vcpu.transit.set_stack_ok(false);
    schedule::add(vcpu);
    life::join(vcpu);
    if let Some(slot) = domain.vcpus.get(id as usize) {
        let record: *const Vcpu = vcpu;
        slot.store(record.cast_mut(), Ordering::Release);
    }
    Ok(vcpu)
}

/// Maps what the exposed area has of a vCPU. The frames for that were taken: the vCPU's own page, and tables. Under
/// [`Domain::bring_up`]; refused before anything is changed, if at all.
fn show(domain: &Domain, vcpu: &Vcpu, fresh: &mut Fresh) -> Result<(), NoFrame> {
    let l3 = domain.exposed_l3;
    // None is missing that was not a while ago: they stay as long as the domain.
    if exposed_area::missing_tables(l3, vcpu.id) >= fresh.frames.len() {
        return Err(NoFrame);
    }
    let own = fresh.frames.swap_remove(0);
    domain.count_fixed(1);
    let mut tables = || {
        let frame = fresh.frames.pop();
        domain.count_fixed(u64::from(frame.is_some()));
        frame
    };
    let mut map = |offset: u64, frame: Mfn, leaf: u64| {
        exposed_area::map_new(l3, vcpu.area + offset, frame, leaf, &mut tables)
    };
    for page in 0..OWN_DESCRIPTORS / PAGE {
        map(page * PAGE, descriptor::empty_page(), bits::RO)?;
    }
    let info = first_info(domain, vcpu.id);
    map(VCPU_INFO, Mfn(info / PAGE), bits::RW)?;
    map(OWN_DESCRIPTORS, own, bits::RW)
}

/// Gives back what a vCPU consists of that nobody was told of, but for its own page.
fn unmake(domain: &Domain, vcpu: Vcpu) {
    schedule::cpu::give_unused(&vcpu.home);
    end_local(domain, vcpu.local.into_inner());
}

/// What a vCPU has of its own, of memory charged to its domain.
fn new_local(domain: &Domain) -> Result<Local, NoFrame> {
    let traps = domain.place(Traps::NONE, Charge::Fixed);
    let traps = traps.map_err(|_| NoFrame)?;
    unfinished::breathe();
    match domain.place_bytes(fpu::bytes(), Charge::Fixed) {
        Some(area) => Ok(Local::new(traps, FpuState::new(area))),
        None => {
            domain.take_back(traps);
            Err(NoFrame)
        }
    }
}

/// Gives back what [`new_local`] took.
pub(super) fn end_local(domain: &Domain, local: Local) {
    domain.take_back(local.traps);
    domain.take_back_bytes(local.fpu.into_memory());
}

fn new_vcpu(domain: &'static Domain, id: u32, home: Home, own: Mfn, local: Local) -> Vcpu {
    let area = exposed_area::vcpu_area(id);
    Vcpu {
        id,
        domain,
        home,
        transit: Transit::new(own, area + OWN_DESCRIPTORS + TRANSIT),
        area,
        own_descriptors: own,
        info: AtomicU64::new(0),
        info_words: AtomicPtr::new(core::ptr::null_mut()),
        walks: WalkCache::new(),
        kept: Lock::default(),
        info_moved: AtomicBool::new(false),
        initialised: AtomicBool::new(false),
        affinity: Lock::new(Affinity {
            hard: ::cpus::set::CpuSet::ALL,
            soft: ::cpus::set::CpuSet::ALL,
        }),
        held: AtomicBool::new(false),
        parked: AtomicBool::new(false),
        next_ended: AtomicPtr::new(core::ptr::null_mut()),
        up: AtomicBool::new(false),
        period_ns: AtomicU64::new(0),
        nmi_pending: AtomicBool::new(false),
        runstate: Lock::new(Runstate::new(State::Offline, device::timer::now_ns())),
        account: domain.usage_area.row(id),
        runstate_area: AtomicU64::new(0),
        time_area: AtomicU64::new(0),
        time: Lock::new(()),
        time_shown: AtomicU64::new(0),
        polling: Polled::new(),
        loaded_on: AtomicU32::new(NO_CPU),
        notice: Notice::new(),
        local: UnsafeCell::new(local),
    }
}

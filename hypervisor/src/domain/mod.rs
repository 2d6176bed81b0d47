//! Domains and their vCPUs: what each owns, and who may touch it.
//!
//! # Invariants
//! - D1: a vCPU's [`Local`] state is touched only by the CPU that it is loaded on ([`Vcpu::loaded_on`]), through the one
//!   [`Guest`] that its exit made; while it is loaded on none, by who holds [`Domain::bring_up`], and only where no CPU
//!   may take it up meanwhile: it was never initialised, or it is down, or it is held still (`life`); and when its domain
//!   dies and it stands still, by whoever takes that apart.
//! - D2: a vCPU's kernel root is a validated L4 table of its domain on which the vCPU holds a reference; so is its
//!   user root if it has one. The CPU never runs the vCPU on any other root.
//! - D3: `Transit::user` says which of the two modes the guest is in, and GS bases are swapped accordingly.
//! - D4: a CPU has anything of a domain in force (root, exposed area, descriptor tables) only while a vCPU of it is loaded
//!   there: a domain none of whose vCPUs is loaded can be taken apart.

pub mod allotment;
pub mod crash;
pub mod create;
pub mod exposed_area;
pub mod guest;
pub mod initial;
pub mod inject;
pub mod life;
pub mod local;
pub mod park;
pub mod permissions;
pub mod run;
pub mod shared;
pub mod switch;
pub mod table;
pub mod teardown;
pub mod unfinished;
pub mod watchdog;

use crate::account::anchors;
use crate::account::area::Area;
use crate::arch::walk_cache::WalkCache;
use crate::domain::allotment::Allotment;
use crate::ends::DomainEnds;
use crate::event::DomainEvents;
use crate::hypercall::grant::DomainGrants;
use crate::layout::PAGE;
use crate::memory::owned::OwnedFrames;
use crate::memory::pieces::Pieces;
use crate::memory::{alloc, phys};
use crate::mmu::work::Kept;
use crate::schedule;
use crate::sync::{Lock, rank};
use ::cpus::notice::Notice;
use core::cell::UnsafeCell;
use core::sync::atomic::{
    AtomicBool, AtomicI64, AtomicPtr, AtomicU16, AtomicU32, AtomicU64, Ordering,
};
use events::pollers::{Polled, Pollers};
use frames::table::UndoList;
use frames::{DomId, Mfn};
pub use guest::Guest;
pub use local::Local;
use sched::{Runstate, SharedAccount, Sold, VcpuAccount};
pub use table::{all, control, get, living};

/// vCPUs a domain may have.
pub const MAX_VCPUS: usize = 64;

/// One domain.
pub struct Domain {
    /// Its number, which may be another's when it is gone.
    pub id: DomId,
    /// Which of all domains that there ever were it is: no other has had it or will.
    pub serial: u64,
    /// Periods of its vCPUs begin whole periods from here, the time when it was made: not all domains' at once.
    pub periods_from: u64,
    /// Whether it is the control domain.
    pub privileged: bool,
    /// Frames it holds.
    pub pages: AtomicU64,
    /// Frames it may hold.
    pub max_pages: AtomicU64,
    /// What bounds and describes its memory besides.
    pub allotment: Allotment,
    /// Frames of ring 0's that exist because of it: storage for its event channels and the like.
    pub overhead: AtomicU64,
    /// How many of those there may be.
    pub max_overhead: AtomicU64,
    /// Frames of those that hold what needs less than one.
    pub pieces: Pieces,
    /// Its frames, for whoever takes it apart.
    pub frames: Lock<OwnedFrames, rank::Owned>,
    /// The page it shares with us.
    pub shared_info: Mfn,
    /// A page of ring 0's own for the infos of vCPUs that have no place in it, if there are such.
    pub spare_infos: Option<Mfn>,
    /// L3 table of the exposed area.
    pub exposed_l3: Mfn,
    /// Whether ring 0 is unmapped while this domain runs.
    pub isolated: bool,
    /// Event channels.
    pub events: Lock<DomainEvents, rank::Events>,
    /// What it lends and what it has borrowed.
    pub grants: Lock<DomainGrants, rank::Grants>,
    /// Its links to ends in ring 0.
    pub ends: DomainEnds,
    /// Assists it switched on, one bit each.
    pub assists: AtomicU64,
    /// Tables, its own or another's, that its vCPUs let go and that wait to be undone. None of its vCPUs goes on in its
    /// guest before they are (`unfinished`).
    pub undo: UndoList,
    /// Counts changes of its upper-level page-table entries. Wide, so that no guest sees it come round again.
    pub generation: AtomicU64,
    /// Set when it was crashed or shut down; it does not run any more, unless it is resumed.
    pub stopped: AtomicBool,
    /// Where it is in its life.
    pub life: life::Life,
    /// When it is declared stopped unless it says otherwise before.
    pub watchdogs: watchdog::Watchdogs,
    /// What the tool stack knows it by.
    pub handle: Lock<[u8; 16], rank::Settings>,
    /// Whether it serves the store.
    pub serves_store: bool,
    /// The part in time that nobody reserved with which its vCPUs begin.
    pub weight: AtomicU16,
    /// What it may reserve for itself.
    pub allowance: schedule::allowance::May,
    /// What was done for it while none of its vCPUs was in hand, and what those used that it has no more.
    pub account: &'static SharedAccount,
    /// All that was put into that and into those of its vCPUs, for the books.
    pub sold: Sold,
    /// Where that lies, and the accounts of its vCPUs: it may read them there.
    pub usage_area: Area,
    /// What is remembered of its chain in the usage record.
    pub anchor: anchors::Place,
    /// Which kind of time-stamp counter was asked for: kept and told, always the CPU's own.
    pub tsc_mode: AtomicU32,
    /// What it may reach of devices, if anything.
    pub permissions: Lock<Option<&'static mut permissions::Permissions>, rank::Settings>,
    /// Seconds by which its time of day differs from the machine's.
    pub time_offset: AtomicI64,
    /// Which of its vCPUs poll.
    pub pollers: Pollers,
    vcpus: [AtomicPtr<Vcpu>; MAX_VCPUS],
    /// The first of those that are found no more and whose records have not ended (`teardown`).
    ended: AtomicPtr<Vcpu>,
    /// Held while a vCPU is initialised, brought up or taken down: who may do so depends on the others. Before
    /// every other lock.
    pub bring_up: Lock<(), rank::BringUp>,
    /// vCPU ids from this on do not exist.
    pub max_vcpus: u32,
}

// It is charged in whole frames: one more is 4 KiB more of every guest. What needs room can have it in `Domain::pieces`.
const _: () = assert!(
    size_of::<Domain>() as u64 <= PAGE,
    "a domain's record fits into a frame"
);

impl Domain {
    /// A zeroed frame of ring 0's, charged to this domain; `None` when it has had its share or there is none.
    pub fn take_charged(&self) -> Option<Mfn> {
        let most = self.max_overhead.load(Ordering::Acquire);
        let within = |held: u64| (held < most).then_some(held + 1);
        self.overhead
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, within)
            .ok()?;
        let frame = alloc::take_ring0();
        match frame {
            Some(_) => self.frames.lock().charge(1),
            None => {
                self.overhead.fetch_sub(1, Ordering::AcqRel);
            }
        }
        frame
    }

    /// Gives back a frame of [`Self::take_charged`] that nothing refers to.
    pub fn give_charged(&self, frame: Mfn) {
        alloc::give_ring0(frame);
        self.overhead.fetch_sub(1, Ordering::AcqRel);
        self.frames.lock().discharge(1);
    }

    /// Counts frames of ring 0's that the domain or a vCPU consists of: on top of what it may cause itself.
    pub fn count_fixed(&self, frames: u64) {
        self.max_overhead.fetch_add(frames, Ordering::AcqRel);
        self.overhead.fetch_add(frames, Ordering::AcqRel);
        self.frames.lock().charge(frames);
    }

    /// Says that frames of [`Self::count_fixed`] are given back.
    pub fn uncount_fixed(&self, frames: u64) {
        self.overhead.fetch_sub(frames, Ordering::AcqRel);
        self.frames.lock().discharge(frames);
        self.max_overhead.fetch_sub(frames, Ordering::AcqRel);
    }

    /// A vCPU by its number. Good until this CPU is between two pieces of work, as its domain is.
    pub fn vcpu(&self, id: u32) -> Option<&'static Vcpu> {
        let slot = self.vcpus.get(id as usize)?;
        // SAFETY: null, or a record that `create::add_vcpu` put there; who takes it out ends it only when no CPU
        // is at work any more that looked here before (W1 in `teardown`).
        unsafe { slot.load(Ordering::Acquire).as_ref() }
    }

    /// The vCPUs there are.
    pub fn vcpus(&self) -> impl Iterator<Item = &'static Vcpu> + Clone + '_ {
        (0..self.max_vcpus).filter_map(|id| self.vcpu(id))
    }

    /// The vCPUs that are found no more and whose records have not ended. For who takes the domain apart, and while nobody
    /// does.
    pub fn ended_vcpus(&self) -> impl Iterator<Item = &'static Vcpu> + use<> {
        // SAFETY: null, or a record that `teardown` put there, which takes it out before it ends it.
        let named = |place: &AtomicPtr<Vcpu>| unsafe { place.load(Ordering::Acquire).as_ref() };
        core::iter::successors(named(&self.ended), move |vcpu| named(&vcpu.next_ended))
    }

    /// Whether the control domain lets it map frames that are no memory: all of a range.
    pub fn may_reach_frames(&self, range: &core::ops::RangeInclusive<u64>) -> bool {
        let mut permissions = self.permissions.lock();
        permissions
            .as_mut()
            .is_some_and(|p| p.frames().contains(range))
    }

    /// Whether the control domain lets it use ports: all of a range.
    pub fn may_reach_ports(&self, range: &core::ops::RangeInclusive<u64>) -> bool {
        let mut permissions = self.permissions.lock();
        permissions
            .as_mut()
            .is_some_and(|p| p.ports().contains(range))
    }

    /// Whether it is being destroyed, or is, but for frames that others refer to.
    #[inline]
    pub fn is_dying(&self) -> bool {
        self.life.is_dying()
    }
}

/// CPUs a vCPU was asked to run on.
#[derive(Clone, Copy, Debug)]
pub struct Affinity {
    /// On no others.
    pub hard: ::cpus::set::CpuSet,
    /// Rather than on others.
    pub soft: ::cpus::set::CpuSet,
}

/// In [`Vcpu::loaded_on`]: on none.
pub const NO_CPU: u32 = ::cpus::loaded::NOWHERE;

/// One virtual CPU.
pub struct Vcpu {
    /// Its number in the domain.
    pub id: u32,
    /// Whose it is.
    pub domain: &'static Domain,
    /// The CPU in whose queue it is.
    pub home: schedule::cpu::Home,
    /// The words for the entry code.
    pub transit: Transit,
    /// First address of its descriptor tables in the exposed area.
    pub area: u64,
    /// Our own page of its descriptor table.
    pub own_descriptors: Mfn,
    /// Physical address of its vcpu_info.
    pub info: AtomicU64,
    /// The same as ring 0 sees it.
    info_words: AtomicPtr<AtomicU64>,
    /// Whether the guest has said where it is to be; then the vCPU holds a writable reference on its frame.
    pub info_moved: AtomicBool,
    /// Whether it has been given a state to start from: from then on [`Local`] is its own CPU's (D1).
    pub initialised: AtomicBool,
    /// The CPUs it may and should run on, as it was asked for.
    pub affinity: Lock<Affinity, rank::Settings>,
    /// Whether it is held still for a call about its state. Changed under [`Domain::bring_up`].
    pub held: AtomicBool,
    /// Whether it is paused while the machine is parked ([`park`]). Changed under [`Domain::bring_up`].
    pub parked: AtomicBool,
    /// The next of [`Domain::ended_vcpus`].
    next_ended: AtomicPtr<Vcpu>,
    /// Whether it takes part. Changed under [`Domain::bring_up`].
    pub up: AtomicBool,
    /// Nanoseconds from one tick of its periodic timer to the next, 0 for none.
    pub period_ns: AtomicU64,
    /// An NMI waits for it.
    pub nmi_pending: AtomicBool,
    /// Where its time went. Follows the run queue (`schedule`), whose lock is taken first.
    pub runstate: Lock<Runstate, rank::RunState>,
    /// What it used.
    pub account: &'static VcpuAccount,
    /// Guest address where the run state is published, 0 for nowhere.
    pub runstate_area: AtomicU64,
    /// Guest address where time is published besides vcpu_info, 0 for nowhere.
    pub time_area: AtomicU64,
    /// Held while time is written where the guest reads it: a sibling's call does so, too, and its CPU's may be another time.
    pub time: Lock<(), rank::Time>,
    /// The clock that both show, as [`Offset::word`](::clock::Offset::word) says it: they are written only where another is
    /// to be. 0 for one that the CPU that loads the vCPU next is to write. By the CPU it is loaded on, but for that.
    pub time_shown: AtomicU64,
    /// Where its kernel's tables were found lately. Touched by its own CPU only (D1).
    pub walks: WalkCache,
    /// What it polls. Written by its domain's `pollers`.
    pub polling: Polled,
    /// The CPU it is loaded on, or [`NO_CPU`] (D1; `cpus::loaded`). Set by that CPU: under the lock under which it chose the
    /// vCPU, and again when nothing of the vCPU or of its domain is left on it.
    pub loaded_on: AtomicU32,
    /// Whether it was told of what another CPU or an interrupt has for it since it looked last.
    pub notice: Notice,
    /// What its call in hand keeps until it is made again.
    pub kept: Lock<Kept, rank::Kept>,
    local: UnsafeCell<Local>,
}

// SAFETY: all fields are atomics, constants or cells of their own; `local` is reached under D1.
unsafe impl Sync for Vcpu {}

impl Vcpu {
    /// The state only the running CPU may touch.
    ///
    /// # Safety
    /// D1: the caller is the exit path of the CPU this vCPU is loaded on, or holds `bring_up` and the vCPU is loaded on none
    /// and will not be, or takes its domain apart.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn local(&self) -> &mut Local {
        // SAFETY: the caller's contract makes the reference unique.
        unsafe { &mut *self.local.get() }
    }
}

/// The words shared with the entry code: see `entry.s`. In them lies what the two hot transitions need.
#[derive(Clone, Copy)]
pub struct Transit {
    words: &'static [AtomicU64; 512],
    /// Their address in the exposed area.
    pub address: u64,
}

/// Why a vCPU has to come to ring 0 proper with every transition: bits of one byte of its transit page.
#[derive(Clone, Copy, Debug)]
#[repr(u64)]
pub enum Slow {
    /// An NMI is being handled, and its end has to be seen.
    NmiMasked = 1 << 8,
    /// The I/O privilege level lies in the flags.
    IoplInFlags = 1 << 9,
}

impl Transit {
    const USER: u64 = 0x00;
    const KERNEL_CR3: u64 = 0x08;
    const USER_CR3: u64 = 0x10;
    const KERNEL_SP: u64 = 0x18;
    const SYSCALL: u64 = 0x20;
    const VCPU_INFO: u64 = 0x28;
    const CYCLES_KERNEL: u64 = 0x30;
    const CYCLES_USER: u64 = 0x38;
    const LEFT: u64 = 0x40;
    const FLAG_USER: u64 = 1 << 0;
    const FLAG_MASK_EVENTS: u64 = 1 << 16;
    const FLAG_BAD_STACK: u64 = 1 << 24;

    /// The second half of a frame of ring 0's own, which is mapped at `address` in the exposed area.
    pub fn new(frame: Mfn, address: u64) -> Transit {
        Transit {
            words: phys::page(frame),
            address,
        }
    }

    #[inline]
    fn word(self, offset: u64) -> &'static AtomicU64 {
        &self.words[((exposed_area::TRANSIT + offset) / 8) as usize & 511]
    }

    fn set_flag(self, flag: u64, on: bool) {
        let word = self.word(Self::USER);
        if on {
            word.fetch_or(flag, Ordering::Relaxed);
        } else {
            word.fetch_and(!flag, Ordering::Relaxed);
        }
    }

    /// Takes the cycles that the guest used since they were last taken. To be called in ring 0 for a vCPU in hand, when
    /// none of its intervals is open.
    pub fn take_cycles(self) -> sched::Guest {
        let take = |offset| self.word(offset).swap(0, Ordering::Relaxed);
        sched::Guest {
            user: take(Self::CYCLES_USER),
            kernel: take(Self::CYCLES_KERNEL),
        }
    }

    /// Time stamp of the last exit to the guest.
    #[inline]
    pub fn left(self) -> u64 {
        self.word(Self::LEFT).load(Ordering::Relaxed)
    }

    /// The guest came back from the mode that it is in. The exit has taken its own reading off the mode's cycles.
    #[inline]
    pub fn close(self, user: bool, entered: u64) {
        let of_mode = self.word(Self::CYCLES_KERNEL + 8 * u64::from(user));
        let cycles = of_mode.load(Ordering::Relaxed);
        of_mode.store(cycles.wrapping_add(entered), Ordering::Relaxed);
    }

    /// Physical address of the kernel's root.
    #[inline]
    pub fn kernel_root(self) -> u64 {
        self.word(Self::KERNEL_CR3).load(Ordering::Relaxed)
    }

    /// Whether the guest is in its user mode (D3).
    #[inline]
    pub fn is_user(self) -> bool {
        self.word(Self::USER).load(Ordering::Relaxed) & Self::FLAG_USER != 0
    }

    /// Records the mode. The caller swaps GS (D3).
    #[inline]
    pub fn set_user(self, user: bool) {
        self.set_flag(Self::FLAG_USER, user);
    }

    /// The system-call callback and whether it masks events.
    pub fn set_syscall(self, address: u64, masks: bool) {
        self.word(Self::SYSCALL).store(address, Ordering::Relaxed);
        // Without a callback there is nothing fast to do: the flag is one of those the fast path asks for.
        self.set_flag(Self::FLAG_MASK_EVENTS, masks && address != 0);
    }

    /// The roots of the two modes; 0 for no user root.
    pub fn set_roots(self, kernel: Mfn, user: Option<Mfn>) {
        self.word(Self::KERNEL_CR3)
            .store(kernel.0 * PAGE, Ordering::Relaxed);
        self.word(Self::USER_CR3)
            .store(user.map_or(0, |m| m.0 * PAGE), Ordering::Relaxed);
    }

    /// Where the entry code finds vcpu_info: `offset` in the page mapped behind the vCPU's area.
    pub fn set_vcpu_info(self, area: u64, offset: u64) {
        self.word(Self::VCPU_INFO)
            .store(area + exposed_area::VCPU_INFO + offset, Ordering::Relaxed);
    }

    /// Says whether there is this reason to take neither of the fast transitions; with none left they are taken again.
    pub fn set_slow(self, why: Slow, slow: bool) {
        self.set_flag(why as u64, slow);
    }

    /// Whether frames may be written below the kernel's stack without looking.
    pub fn set_stack_ok(self, good: bool) {
        self.set_flag(Self::FLAG_BAD_STACK, !good);
    }

    /// The kernel's stack, already aligned.
    pub fn set_kernel_sp(self, sp: u64) {
        self.word(Self::KERNEL_SP).store(sp, Ordering::Relaxed);
    }
}

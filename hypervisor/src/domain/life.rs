//! A domain's life: paused by the control domain, shut down by itself, dying.
//!
//! ```text
//!            unpause               shutdown, crash            destroy
//!  created ───────────▶ running ────────────────────▶ down ─────────▶ dying ──▶ gone
//!  (paused)  ◀─────────         ◀────────────────────                   │        ▲
//!              pause                   resume                           └ left ──┘
//! ```
//! Destroying is possible at every moment. A domain whose frames others still refer to is *left*: it stays listed until
//! the last of them is given back.
//!
//! # Invariants
//! - L1: a vCPU runs only while its domain's pauses are zero, it is not shut down and not dying, and no call about its state
//!   has it held: each of the four pauses it once in the run queue.
//! - L2: pauses, shutdown, the vCPUs there are and who is held change under [`Domain::bring_up`].
//! - L3: a vCPU that was paused stands still when it is loaded on no CPU ([`is_still`]): until then a CPU has its state in
//!   hand, or works for it in ring 0.

use crate::arch::smp::grace::{self, Grace};
use crate::domain::{Domain, Vcpu};
use crate::{event, schedule};
use ::cpus::loaded;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use guest_abi::Errno;
use guest_abi::sched::ShutdownReason;

/// Pauses that the control domain may have in force for one domain.
const MAX_PAUSES: u32 = 255;
/// No reason: it has not shut down.
const NOT_DOWN: u32 = u32::MAX;

/// Where destroying is: steps of `domain::teardown`, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stage {
    /// Not begun.
    Alive,
    /// Whoever found it alive has done with it, and its vCPUs have left the CPUs.
    Stopping,
    /// Ports are being closed.
    Ports,
    /// Grants are being given back.
    Grants,
    /// vCPUs are given back what they refer to, and are made unknown.
    Vcpus,
    /// Whoever found one of them has done with it: their records are being given back, and what others write for them.
    Records,
    /// Frames are being given back.
    Frames,
    /// Nothing is left but frames that others refer to.
    Left,
    /// Not even that: it is being made unknown.
    Buried,
}

const STAGES: [Stage; 9] = [
    Stage::Alive,
    Stage::Stopping,
    Stage::Ports,
    Stage::Grants,
    Stage::Vcpus,
    Stage::Records,
    Stage::Frames,
    Stage::Left,
    Stage::Buried,
];

/// Why a domain stopped: mostly a [`ShutdownReason`], but whatever it says is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason(pub u8);

impl Reason {
    /// What the interface knows it as.
    pub fn known(self) -> Option<ShutdownReason> {
        ShutdownReason::from_number(u32::from(self.0))
    }

    /// Its name, for messages.
    pub fn name(self) -> &'static str {
        self.known().map_or("unknown", |known| known.name())
    }
}

impl From<ShutdownReason> for Reason {
    fn from(reason: ShutdownReason) -> Reason {
        Reason(reason.number() as u8)
    }
}

/// A domain's state in this.
pub struct Life {
    pauses: AtomicU32,
    shutdown: AtomicU32,
    /// What it said beforehand that the reason of its next shutdown will be.
    foretold: AtomicU32,
    begun: AtomicBool,
    stage: AtomicU8,
    /// What the stage waits for, if it is one that waits.
    grace: AtomicU64,
    /// Somebody takes its steps right now.
    busy: AtomicBool,
}

impl Life {
    /// Of a domain that is paused so often.
    pub const fn new(pauses: u32) -> Life {
        Life {
            pauses: AtomicU32::new(pauses),
            shutdown: AtomicU32::new(NOT_DOWN),
            foretold: AtomicU32::new(NOT_DOWN),
            begun: AtomicBool::new(pauses == 0),
            stage: AtomicU8::new(Stage::Alive as u8),
            grace: AtomicU64::new(Grace::NEVER.word()),
            busy: AtomicBool::new(false),
        }
    }

    /// How often the control domain has paused it.
    pub fn pauses(&self) -> u32 {
        self.pauses.load(Ordering::Acquire)
    }

    /// Whether it was ever let run.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Why it shut down, if it did.
    pub fn shutdown(&self) -> Option<u32> {
        match self.shutdown.load(Ordering::Acquire) {
            NOT_DOWN => None,
            reason => Some(reason),
        }
    }

    /// Says what its next shutdown will be for, whatever that then says itself.
    pub fn foretell(&self, reason: Reason) {
        self.foretold.store(u32::from(reason.0), Ordering::Release);
    }

    /// What a shutdown is for: what was foretold, if anything was.
    pub fn reason(&self, said: Reason) -> Reason {
        match self.foretold.load(Ordering::Acquire) {
            NOT_DOWN => said,
            foretold => Reason(foretold as u8),
        }
    }

    /// Whether destroying has begun.
    #[inline]
    pub fn is_dying(&self) -> bool {
        self.stage.load(Ordering::Acquire) != Stage::Alive as u8
    }

    /// Where destroying is.
    pub fn stage(&self) -> Stage {
        let number = usize::from(self.stage.load(Ordering::Acquire));
        STAGES.get(number).copied().unwrap_or(Stage::Buried)
    }

    /// Goes on to a stage.
    pub fn set_stage(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Release);
    }

    /// Has the stage that comes or has come wait for whoever found what was made unknown.
    pub fn begin_grace(&self) {
        self.grace.store(grace::begin().word(), Ordering::Release);
    }

    /// Whether they all have done.
    pub fn grace_is_over(&self) -> bool {
        grace::is_over(Grace::from_word(self.grace.load(Ordering::Acquire)))
    }

    /// Takes the right to make the domain unknown, of which nothing is left; false if somebody else has it.
    pub fn begin_burial(&self) -> bool {
        let (left, buried) = (Stage::Left as u8, Stage::Buried as u8);
        self.stage
            .compare_exchange(left, buried, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Takes the right to make the steps; false if somebody else has it.
    pub fn begin_step(&self) -> bool {
        !self.busy.swap(true, Ordering::AcqRel)
    }

    /// Gives it back.
    pub fn end_step(&self) {
        self.busy.store(false, Ordering::Release);
    }

    /// How many reasons there are for its vCPUs not to run (L1).
    fn reasons(&self) -> usize {
        usize::from(self.pauses() != 0)
            + usize::from(self.shutdown().is_some())
            + usize::from(self.is_dying())
    }
}

/// Brings a new vCPU to where the others are (L1). Under `bring_up`.
pub fn join(vcpu: &Vcpu) {
    for _ in 0..vcpu.domain.life.reasons() {
        schedule::pause(vcpu);
    }
}

fn pause_all(dom: &Domain) {
    schedule::pause_all(dom.vcpus());
}

fn unpause_all(dom: &Domain) {
    schedule::unpause_all(dom.vcpus());
}

/// Pauses a domain once more.
///
/// # Errors
/// `-EOVERFLOW` beyond what anybody would count.
pub fn pause(dom: &Domain) -> Result<(), Errno> {
    let _alone = dom.bring_up.lock();
    let pauses = dom.life.pauses();
    if pauses >= MAX_PAUSES {
        return Err(Errno::Overflow);
    }
    dom.life.pauses.store(pauses + 1, Ordering::Release);
    if pauses == 0 {
        pause_all(dom);
    }
    Ok(())
}

/// Undoes one [`pause`].
///
/// # Errors
/// `-EINVAL` if it is not paused.
pub fn unpause(dom: &Domain) -> Result<(), Errno> {
    let _alone = dom.bring_up.lock();
    let pauses = dom.life.pauses().checked_sub(1).ok_or(Errno::Inval)?;
    dom.life.pauses.store(pauses, Ordering::Release);
    if pauses == 0 {
        dom.life.begun.store(true, Ordering::Release);
        unpause_all(dom);
    }
    Ok(())
}

/// A domain other than the control domain stops, for a reason of the interface's: its vCPUs run no more, and the control
/// domain is told. Whose vCPU is in hand finds it on the way out.
pub fn stop(dom: &Domain, reason: Reason) {
    {
        let _alone = dom.bring_up.lock();
        if dom.life.shutdown().is_some() {
            return;
        }
        dom.life
            .shutdown
            .store(u32::from(dom.life.reason(reason).0), Ordering::Release);
        dom.stopped.store(true, Ordering::Release);
        pause_all(dom);
    }
    tell_control();
    event::reschedule_here();
}

/// Lets a domain go on that shut down: one that wanted to be moved and was not.
pub fn resume(dom: &Domain) {
    let _alone = dom.bring_up.lock();
    if dom.life.shutdown().is_none() {
        return;
    }
    dom.life.shutdown.store(NOT_DOWN, Ordering::Release);
    dom.life.foretold.store(NOT_DOWN, Ordering::Release);
    dom.stopped.store(false, Ordering::Release);
    unpause_all(dom);
}

/// Begins to destroy a domain: from here on nobody new finds it ([`crate::domain::living`]), and its vCPUs stand still.
pub fn begin_to_die(dom: &Domain) {
    let _alone = dom.bring_up.lock();
    if dom.is_dying() {
        return;
    }
    pause_all(dom);
    dom.life.set_stage(Stage::Stopping);
    // Never over until it has begun: nobody takes the next step before.
    dom.life.begin_grace();
}

/// Whether a vCPU that was paused stands still (L3). If it does not, the CPU that has it is asked to put it away: it may
/// keep it while it waits (`schedule::keep`).
pub fn is_still(vcpu: &Vcpu) -> bool {
    let still = loaded::is_still(&vcpu.loaded_on);
    if !still {
        schedule::ask_for(vcpu);
    }
    still
}

/// Whether all vCPUs of a domain stand still that was paused or is dying (L3).
pub fn stands_still(dom: &Domain) -> bool {
    // All are asked for at once.
    dom.vcpus().fold(true, |still, vcpu| is_still(vcpu) & still)
}

/// Has a vCPU stand still for a call about its state, which `by` makes: until [`let_go`].
///
/// # Errors
/// `-EAGAIN` while it does not yet, or while `by` is to stand still itself: the call is to be made again, and the vCPU stays
/// paused meanwhile.
pub fn hold_still(by: &Vcpu, vcpu: &Vcpu) -> Result<(), Errno> {
    let _alone = vcpu.domain.bring_up.lock();
    // Two of one domain that hold each other would never go on.
    if by.held.load(Ordering::Acquire) {
        return Err(Errno::Again);
    }
    if !vcpu.held.swap(true, Ordering::AcqRel) {
        schedule::pause(vcpu);
    }
    is_still(vcpu).then_some(()).ok_or(Errno::Again)
}

/// Whether a vCPU is held still. As long as `bring_up` is locked, which it is here, it stays so (L2).
pub fn is_held_still(vcpu: &Vcpu) -> bool {
    vcpu.held.load(Ordering::Acquire) && is_still(vcpu)
}

/// The call about a vCPU's state is over. Another may be about it too: that finds it let go, and holds it anew.
pub fn let_go(vcpu: &Vcpu) {
    let _alone = vcpu.domain.bring_up.lock();
    if vcpu.held.swap(false, Ordering::AcqRel) {
        schedule::unpause_all(core::iter::once(vcpu));
    }
}

/// Tells the control domain that some domain stopped or went.
pub fn tell_control() {
    if let Some(control) = crate::domain::control() {
        event::raise_virq(control, events::Virq::DOM_EXC, 0);
    }
}

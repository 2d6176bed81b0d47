//! A vCPU changes its home, because it may no longer run where it is.
//!
//! ```text
//!  who asks                                          the CPU that it is on
//!  a seat with the new home
//!  paused; [`Home::want`]
//!  is it on no CPU?                                  leaves it; does it want another home?
//!  whoever takes the wish moves it, and unpauses it
//! ```
//!
//! # Invariants
//! - V1: a wish comes with a pause that was made for it, and is there until that ends. So a vCPU that is found on no CPU while
//!   it has a wish stays so until whoever takes the wish is done.
//! - V2: no wish is forgotten: it is made before who asks looks whether the vCPU is on a CPU, and looked for after it has left
//!   one. So two that want each other moved both go on.
//! - V3: homes change under the placement's lock and both CPUs', in the order of their numbers.
//! - V4: a wish is made, and taken and fulfilled in one hold, under the vCPU's affinity; only who removes the vCPU takes it
//!   away without. So whoever holds that and sees no wish knows that the home stays what it is. A wish for the sake of room goes
//!   where the vCPU may run by what is set, and nothing else is set while there is a wish, or for another home than it has:
//!   a vCPU is where it may run from when that is set until somebody wants to set something else.

use super::cpu::{self, CpuSched, Home};
use super::placement;
use super::timers::Kind;
use super::{ask, pause, runs_vcpus, unpause_all};
use crate::arch::smp;
use crate::device::timer;
use crate::domain::{Affinity, NO_CPU, Vcpu, life};
use crate::sync;
use ::cpus::set::CpuSet;
use ::reservations::Terms;
use core::sync::atomic::{Ordering, fence};

/// What became of a vCPU's way to where it may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It is at home there.
    Done,
    /// The call is to be made again.
    Again,
    /// None of those CPUs has room for what it was promised.
    NoRoom,
    /// There is no memory for its place there.
    NoMemory,
}

/// Sets where a vCPU may run, and where it likes to, as far as either is said: when it is at home with one of the CPUs that
/// `hard` has, if any of them runs vCPUs. If it changes for that, to one that it likes if one of those has room.
pub fn set_affinity(vcpu: &'static Vcpu, hard: Option<CpuSet>, soft: Option<CpuSet>) -> Way {
    if let Some(hard) = &hard {
        let liked = soft.unwrap_or_else(|| vcpu.affinity.lock().soft);
        match to_one_of(vcpu, hard, &liked, |_| true) {
            Way::Done => {}
            way => return way,
        }
    }
    let mut set = vcpu.affinity.lock();
    if let Some(hard) = hard {
        // Another call may have moved it since, or be about to (V4).
        if vcpu.home.wants_another() || !is_one_of(vcpu, &that_run(&hard)) {
            return Way::Again;
        }
        set.hard = hard;
    }
    if let Some(soft) = soft {
        set.soft = soft;
    }
    Way::Done
}

/// Has a vCPU be at home with a CPU, if it still may run there.
pub fn to(vcpu: &'static Vcpu, cpu: u32) -> Way {
    let there = CpuSet::EMPTY.with(cpu);
    to_one_of(vcpu, &there, &there, |set| set.hard.contains(cpu))
}

/// Has a vCPU be at home with one of the CPUs that `hard` has, if any of them runs vCPUs, and if it `may` by what is set; with
/// one that `soft` has, too, if it changes and there is one.
fn to_one_of(
    vcpu: &'static Vcpu,
    hard: &CpuSet,
    soft: &CpuSet,
    may: impl FnOnce(&Affinity) -> bool,
) -> Way {
    let allowed = that_run(hard);
    if !vcpu.home.wants_another() && !is_one_of(vcpu, &allowed) {
        let liked = placement::room_on(vcpu, &allowed.and(soft));
        let Some(best) = liked.or_else(|| placement::room_on(vcpu, &allowed)) else {
            return Way::NoRoom;
        };
        let Some(seat) = cpu::take_to_move(best) else {
            return Way::NoMemory;
        };
        want(vcpu, &seat, may);
    }
    try_move(vcpu);
    if !vcpu.home.wants_another() && is_one_of(vcpu, &allowed) {
        Way::Done
    } else {
        Way::Again
    }
}

/// Those of some CPUs that run vCPUs.
fn that_run(cpus: &CpuSet) -> CpuSet {
    let runs = smp::online().iter().filter(|cpu| runs_vcpus(*cpu));
    runs.fold(CpuSet::EMPTY, CpuSet::with).and(cpus)
}

/// Whether a vCPU is at home with one of some CPUs that run vCPUs, if there are any. One that was removed is nowhere else.
fn is_one_of(vcpu: &Vcpu, allowed: &CpuSet) -> bool {
    let home = vcpu.home.cpu();
    home == NO_CPU || allowed.is_empty() || allowed.contains(home)
}

/// A vCPU wants another home: a seat there that is its own, or given back if it wants one by now, or does not want this one.
fn want(vcpu: &'static Vcpu, seat: &Home, may: impl FnOnce(&Affinity) -> bool) {
    let set = vcpu.affinity.lock();
    if vcpu.home.wants_another() || !may(&set) {
        return cpu::give_seat(seat);
    }
    pause(vcpu);
    vcpu.home.want(seat);
    if vcpu.home.cpu() == NO_CPU {
        // It was removed meanwhile, perhaps before it could be seen that it wants anything.
        forget(vcpu);
    }
}

/// A vCPU that is removed wants nothing.
pub(super) fn forget(vcpu: &Vcpu) {
    if let Some(seat) = vcpu.home.take_wish() {
        cpu::give_seat(&seat);
    }
}

/// A vCPU has left this CPU.
#[inline]
pub fn left(vcpu: &'static Vcpu) {
    // The look comes after what says so (V2).
    fence(Ordering::SeqCst);
    if vcpu.home.wants_another() {
        try_move(vcpu);
    }
}

/// Moves a vCPU that wants another home, if it is on no CPU.
#[cold]
fn try_move(vcpu: &'static Vcpu) {
    fence(Ordering::SeqCst);
    let set = vcpu.affinity.lock();
    // In this order: that it is on no CPU says nothing while no pause holds (V1).
    if !vcpu.home.wants_another() || !life::is_still(vcpu) {
        return;
    }
    // Or it was removed meanwhile.
    let Some(to) = vcpu.home.take_wish() else {
        return;
    };
    move_to(vcpu, &to);
    drop(set);
    unpause_all(core::iter::once(vcpu));
    // Its timers are there, too.
    ask(to.cpu(), vcpu.domain);
}

/// Moves a vCPU that is paused (V1), or gives its new seat back.
fn move_to(vcpu: &'static Vcpu, to: &Home) {
    let mut is_seated = false;
    loop {
        let from = vcpu.home.cpu();
        if from == NO_CPU || from == to.cpu() {
            break;
        }
        let mut is_other = false;
        let granted = || {
            // Its home is what it is from here on (V3).
            is_other = vcpu.home.cpu() != from;
            let terms = cpu::with(from, |sched| sched.queue.granted(vcpu.home.place()));
            terms?.ok().filter(|_| !is_other)
        };
        placement::go(vcpu, (from, to.cpu()), granted, |terms| {
            let paid_for_at = carry(vcpu, from, to, terms);
            is_seated = paid_for_at.is_some();
            paid_for_at
        });
        if !is_other {
            break;
        }
    }
    if !is_seated {
        cpu::give_seat(to);
    }
}

/// From one CPU's tables to another's; answers when what the vCPU took of the one is paid for.
fn carry(vcpu: &'static Vcpu, from: u32, to: &Home, terms: &Terms) -> Option<u64> {
    let (low, high) = (from.min(to.cpu()), from.max(to.cpu()));
    let (mut low, mut high) = sync::lock_pair(cpu::of(low), cpu::of(high));
    let (low, high) = (low.as_mut()?, high.as_mut()?);
    let (old, new): (&mut CpuSched, &mut CpuSched) = if from < to.cpu() {
        (low, high)
    } else {
        (high, low)
    };
    let now = timer::now_ns();
    // It is paused and on no CPU, though a part of a decision may have chosen it before.
    let (carried, paid_for_at) = old.queue.carry_off(now, vcpu.home.place()).ok()?;
    let carried = carried.named(u64::from(to.seat().0));
    let sibling = cpu::sibling_on(vcpu.domain, to.cpu());
    let arrived = new.queue.arrive_from(now, &carried, *terms, sibling);
    // Whoever has a seat finds a place (Q4).
    let (place, _) = arrived.ok()?;
    let before = vcpu.home.seat();
    for kind in Kind::ALL {
        if let Some(at) = old.timers.deadline(kind.of(before)) {
            let _ = new.timers.set(kind.of(to.seat()), at);
            old.timers.cancel(kind.of(before));
        }
    }
    old.leave(before);
    new.name(to.seat(), vcpu);
    vcpu.home.is_now(to, place);
    Some(paid_for_at)
}

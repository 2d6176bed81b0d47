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
//! - V1: who takes a wish has a pause in force that was made for it, and ends it. A vCPU that is found on no CPU after that
//!   stays so until that end; what was found before says nothing.
//! - V2: no wish is forgotten: it is made before who asks looks whether the vCPU is on a CPU, and looked for after it has left
//!   one. So two that want each other moved both go on.
//! - V3: homes change under the placement's lock and both CPUs', in the order of their numbers.

use super::cpu::{self, CpuSched, Home};
use super::placement;
use super::timers::Kind;
use super::{ask, pause, runs_vcpus, unpause_all};
use crate::arch::smp;
use crate::device::timer;
use crate::domain::{NO_CPU, Vcpu, life};
use crate::sync;
use ::cpus::set::CpuSet;
use ::reservations::Terms;
use core::sync::atomic::{Ordering, fence};

/// What became of a vCPU's way to where it may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It is at home where it may run, or goes there by itself.
    Done,
    /// The call is to be made again.
    Again,
    /// None of those CPUs has room for what it was promised.
    NoRoom,
    /// There is no memory for its place there.
    NoMemory,
}

/// Has a vCPU be at home with one of the CPUs that `hard` has, if any of them runs vCPUs; with one that `soft` has, too, if
/// it changes and there is one. `by` is the vCPU in hand.
pub fn to_one_of(by: &Vcpu, vcpu: &'static Vcpu, hard: &CpuSet, soft: &CpuSet) -> Way {
    let runs = smp::online().iter().filter(|cpu| runs_vcpus(*cpu));
    let allowed = runs.fold(CpuSet::EMPTY, CpuSet::with).and(hard);
    let is_there = || {
        let home = vcpu.home.cpu();
        home == NO_CPU || allowed.is_empty() || allowed.contains(home)
    };
    if !vcpu.home.wants_another() && !is_there() {
        let liked = placement::room_on(vcpu, &allowed.and(soft));
        let Some(best) = liked.or_else(|| placement::room_on(vcpu, &allowed)) else {
            return Way::NoRoom;
        };
        let Some(seat) = cpu::take_to_move(best) else {
            return Way::NoMemory;
        };
        want(vcpu, &seat);
    }
    try_move(vcpu);
    // Who has taken the wish may still be about to fulfil it.
    let is_fulfilled = !vcpu.home.wants_another() && is_there();
    if is_fulfilled || core::ptr::eq(by, vcpu) {
        Way::Done
    } else {
        Way::Again
    }
}

/// A vCPU wants another home: a seat there that is its own.
fn want(vcpu: &'static Vcpu, seat: &Home) {
    pause(vcpu);
    if let Some(before) = vcpu.home.want(seat) {
        cpu::give_seat(&before);
        // That one's pause holds for this.
        unpause_all(core::iter::once(vcpu));
    }
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
    while life::is_still(vcpu)
        && let Some(to) = vcpu.home.take_wish()
    {
        // The look before was perhaps before the pause that this wish came with, and it was taken up in between. Now that
        // pause holds.
        if !life::is_still(vcpu) {
            wish_again(vcpu, &to);
            continue;
        }
        move_to(vcpu, &to);
        unpause_all(core::iter::once(vcpu));
        // Its timers are there, too.
        return ask(to.cpu(), vcpu.domain);
    }
}

/// A wish that was taken while the vCPU was on a CPU is there again, with its pause, unless there is a newer one. Whoever calls
/// looks again whether it still is (V2).
fn wish_again(vcpu: &'static Vcpu, seat: &Home) {
    if !vcpu.home.want_again(seat) {
        cpu::give_seat(seat);
        // The newer one has a pause of its own.
        unpause_all(core::iter::once(vcpu));
    } else if vcpu.home.cpu() == NO_CPU {
        forget(vcpu);
    }
    fence(Ordering::SeqCst);
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

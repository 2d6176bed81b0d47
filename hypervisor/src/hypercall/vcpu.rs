//! Virtual processors: state, timers, and where they publish what.

pub mod initialise;

use crate::arch::guest_memory::Fault;
use crate::control;
use crate::device::{self, timer};
use crate::domain::{Guest, Vcpu, life, run};
use crate::event;
use crate::hypercall::{Args, Outcome, Stop, trap};
use crate::layout::{PAGE, guest_range_ok};
use crate::memory::phys;
use crate::mmu::hold_writable;
use crate::schedule;
use ::sched::Runstate;
use clock::PvClock;
use core::ops::RangeInclusive;
use core::sync::atomic::{Ordering, fence};
use frames::Mfn;
use guest_abi::Errno;
use guest_abi::sched::ShutdownReason;
use guest_abi::vcpu::{
    RegisterMemoryArea, RegisterVcpuInfo, SetPeriodicTimer, SetSingleshotTimer,
    VCPU_SSHOTTMR_FUTURE, VcpuOp,
};
use guest_abi::vm_assist::VmAssistType;

/// Bytes of a vcpu_info.
const INFO_BYTES: u64 = 64;
/// Periods of the periodic timer, in nanoseconds: a millisecond at least, as Xen has it, and no more than a time
/// stamp can be away.
const PERIODS_NS: RangeInclusive<u64> = 1_000_000..=i64::MAX as u64;

/// `vcpu_op(op, vcpu, arg)`.
pub fn vcpu_op(g: &mut Guest<'_>, args: Args) -> Outcome {
    let [op, id, arg, ..] = args;
    let vcpu = g.dom.vcpu(id as u32).ok_or(Errno::NoEnt)?;
    match VcpuOp::from_number(op as u32).ok_or(Errno::NoSys)? {
        VcpuOp::Initialise => initialise::initialise(g, vcpu, args),
        VcpuOp::Up => bring_up(g, vcpu),
        VcpuOp::Down => take_down(g, vcpu, args),
        VcpuOp::IsUp => Ok(u64::from(vcpu.up.load(Ordering::Acquire))),
        VcpuOp::GetRunstateInfo => {
            let now = vcpu.runstate.lock().snapshot(timer::now_ns());
            put_runstate(g, arg, &now)?;
            Ok(0)
        }
        VcpuOp::RegisterRunstateMemoryArea => {
            let area: RegisterMemoryArea = g.memory().value(arg)?;
            if !guest_range_ok(area.addr, 48) {
                return Err(Errno::Fault.into());
            }
            // Another vCPU's own tables may map something else there, or nothing: it writes there itself, later.
            let record = *vcpu.runstate.lock();
            put_runstate(g, area.addr, &record)?;
            vcpu.runstate_area.store(area.addr, Ordering::Release);
            Ok(0)
        }
        VcpuOp::RegisterVcpuTimeMemoryArea => {
            let area: RegisterMemoryArea = g.memory().value(arg)?;
            g.memory().check_writable(area.addr, 32)?;
            vcpu.time_area.store(area.addr, Ordering::Release);
            publish_time_of(g, vcpu);
            Ok(0)
        }
        VcpuOp::SetPeriodicTimer => {
            let timer: SetPeriodicTimer = g.memory().value(arg)?;
            if !PERIODS_NS.contains(&timer.period_ns) {
                return Err(Errno::Inval.into());
            }
            schedule::set_period(vcpu, timer.period_ns);
            Ok(0)
        }
        VcpuOp::StopPeriodicTimer => {
            schedule::set_period(vcpu, 0);
            Ok(0)
        }
        VcpuOp::SetSingleshotTimer => {
            own(g, vcpu)?;
            let timer: SetSingleshotTimer = g.memory().value(arg)?;
            if timer.flags & VCPU_SSHOTTMR_FUTURE != 0 && timer.timeout_abs_ns <= timer::now_ns() {
                return Err(Errno::Time.into());
            }
            set_timer(vcpu, timer.timeout_abs_ns);
            Ok(0)
        }
        VcpuOp::StopSingleshotTimer => {
            own(g, vcpu)?;
            schedule::set_timer(vcpu, None);
            Ok(0)
        }
        VcpuOp::RegisterVcpuInfo => register_info(g, vcpu, args),
        VcpuOp::SendNmi => {
            if arg != 0 {
                return Err(Errno::Inval.into());
            }
            event::send_nmi(vcpu);
            Ok(0)
        }
        // Only vCPUs that are pinned to a CPU have one to tell of.
        VcpuOp::GetPhysid => Err(Errno::Inval.into()),
    }
}

/// Lets a vCPU run that has a state to start from, or to go on from.
fn bring_up(g: &Guest<'_>, vcpu: &Vcpu) -> Outcome {
    let _alone = g.dom.bring_up.lock();
    if !vcpu.initialised.load(Ordering::Acquire) {
        return Err(Errno::Inval.into());
    }
    if !vcpu.up.swap(true, Ordering::AcqRel) {
        schedule::up(vcpu);
    }
    Ok(0)
}

/// Takes a vCPU out; it keeps its state. One that takes itself out has left when the call returns, which is when it is
/// brought up again.
fn take_down(g: &mut Guest<'_>, vcpu: &Vcpu, args: Args) -> Outcome {
    let alone = g.dom.bring_up.lock();
    let others_up = g
        .dom
        .vcpus()
        .any(|v| v.id != vcpu.id && v.up.load(Ordering::Acquire));
    if !others_up {
        // The last vCPU going down is how a kernel without another way out says that it is done.
        drop(alone);
        return control::shutdown(g, ShutdownReason::Poweroff.into(), args);
    }
    if vcpu.up.swap(false, Ordering::AcqRel) {
        // Where it runs is this CPU, if it runs: the way out puts it away.
        schedule::down(vcpu);
    }
    Ok(0)
}

fn own(g: &Guest<'_>, vcpu: &Vcpu) -> Result<(), Errno> {
    if core::ptr::eq(g.vcpu, vcpu) {
        Ok(())
    } else {
        Err(Errno::Inval)
    }
}

/// A deadline that has passed fires at once.
fn set_timer(vcpu: &'static Vcpu, deadline: u64) {
    if deadline <= timer::now_ns() {
        schedule::set_timer(vcpu, None);
        event::raise_virq(vcpu.domain, events::Virq::TIMER, vcpu.id);
    } else {
        schedule::set_timer(vcpu, Some(deadline));
    }
}

/// `set_timer_op(deadline)`: 0 turns the timer off.
pub fn set_timer_op(g: &mut Guest<'_>, args: Args) -> Outcome {
    if args[0] == 0 {
        schedule::set_timer(g.vcpu, None);
    } else {
        set_timer(g.vcpu, args[0]);
    }
    Ok(0)
}

/// Moves a vCPU's vcpu_info to a place of the guest's choice, once.
fn register_info(g: &mut Guest<'_>, vcpu: &'static Vcpu, args: Args) -> Outcome {
    let r: RegisterVcpuInfo = g.memory().value(args[2])?;
    let offset = u64::from(r.offset);
    // One that may be running on another CPU would miss events in between.
    let may_move = || {
        let is_own = core::ptr::eq(g.vcpu, vcpu);
        let may_run = !is_own && vcpu.up.load(Ordering::Acquire);
        if may_run || vcpu.info_moved.load(Ordering::Acquire) {
            return Err(Errno::Inval.into());
        }
        // One that was taken down is about to leave its CPU.
        let is_still = is_own || life::is_still(vcpu);
        is_still.then_some(()).ok_or(Stop::Again(args))
    };
    may_move()?;
    if offset > PAGE - INFO_BYTES || offset % 8 != 0 {
        return Err(Errno::Inval.into());
    }
    let mfn = Mfn(r.mfn);
    // Held for as long as the domain lives: the page can never become a table. Before the lock: it may have to be flushed.
    let page = hold_writable(g.dom.id, mfn).map_err(|_| Errno::Inval)?;
    let _alone = g.dom.bring_up.lock();
    may_move()?;
    let old = vcpu.info.load(Ordering::Acquire);
    let new = mfn.0 * PAGE + offset;
    phys::copy_phys(new, old, INFO_BYTES);
    page.keep();
    vcpu.set_info(new);
    vcpu.info_moved.store(true, Ordering::Release);
    // The tables below the alias's address were made with the vCPU.
    let _ = run::map_vcpu_info(vcpu);
    // Where roots are shared nothing else ends the entry code's translation of the old place.
    crate::arch::percpu::flush_here();
    vcpu.transit.set_vcpu_info(vcpu.area, offset);
    event::rescan(g.dom, events::VcpuId(vcpu.id as u16));
    Ok(0)
}

fn put_runstate(g: &Guest<'_>, at: u64, state: &Runstate) -> Result<(), Errno> {
    let mut bytes = [0u8; 48];
    let mut words = state.words();
    let flagged = trap::has_assist(g, VmAssistType::RunstateUpdateFlag);
    if flagged {
        let entry = words[1] | Runstate::UPDATE_FLAG;
        g.memory().put(at.wrapping_add(8), &entry)?;
    }
    for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    if flagged {
        words[1] |= Runstate::UPDATE_FLAG;
        bytes[8..16].copy_from_slice(&words[1].to_le_bytes());
        g.memory().write(at, &bytes)?;
        let entry = words[1] & !Runstate::UPDATE_FLAG;
        g.memory().put(at.wrapping_add(8), &entry)?;
    } else {
        g.memory().write(at, &bytes)?;
    }
    Ok(())
}

/// Writes the run state where the guest registered it. An area that is no longer mapped is skipped.
pub fn publish_runstate(g: &Guest<'_>) {
    let now = *g.vcpu.runstate.lock();
    let _ = put_runstate(g, g.vcpu.runstate_area.load(Ordering::Relaxed), &now);
}

/// Writes the clock of this CPU into vcpu_info and the registered area, if they do not show it already: that they are not
/// touched while it stays the same is what the *stable* flag promises.
#[inline]
pub fn publish_time(g: &Guest<'_>) {
    let shown = g.vcpu.time_shown.load(Ordering::Relaxed);
    if shown != timer::offset().word() {
        publish_time_of(g, g.vcpu);
    }
}

/// Writes a registered area, which siblings read while this goes on: version odd, contents, version even (C6 of `clock`).
fn put_time_area(g: &Guest<'_>, area: u64, page: &PvClock) -> Result<(), Fault> {
    let [first, rest @ ..] = page.words();
    let mut contents = [0; 24];
    for (to, word) in contents.chunks_exact_mut(8).zip(rest) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    let odd = u64::from(page.version.wrapping_sub(1));
    g.memory().write(area, &odd.to_le_bytes())?;
    // Each pairs with the guest's barriers: no word of the contents is seen with the version of another page.
    fence(Ordering::Release);
    g.memory().write(area + 8, &contents)?;
    fence(Ordering::Release);
    g.memory().write(area, &first.to_le_bytes())
}

/// Writes it, for a vCPU of the caller's domain whose area the caller sees. Another than its own writes again when it is
/// loaded next: on a CPU whose counter is off, until then its time is another CPU's.
#[inline(never)]
fn publish_time_of(g: &Guest<'_>, vcpu: &Vcpu) {
    let flags = if device::facts::tsc_is_stable() {
        PvClock::TSC_STABLE
    } else {
        0
    };
    let one_writer = vcpu.time.lock();
    let page = vcpu.put_time(flags, &one_writer);
    // Said before the lock was taken by whoever registers it: no older one is written after that.
    let area = vcpu.time_area.load(Ordering::Acquire);
    // One that is not mapped just now, or not all of it, is written another time.
    let written = area == 0 || put_time_area(g, area, &page).is_ok();
    if written && core::ptr::eq(vcpu, g.vcpu) {
        let shown = timer::offset().word();
        vcpu.time_shown.store(shown, Ordering::Relaxed);
    }
}

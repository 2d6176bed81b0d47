//! Virtual processors: state, timers, and where they publish what.

use crate::control;
use crate::device::{self, timer};
use crate::domain::{Guest, Vcpu, run};
use crate::event;
use crate::hypercall::{Args, Outcome, Stop, trap};
use crate::layout::{PAGE, guest_range_ok};
use crate::memory::phys;
use crate::mmu::hold_writable;
use crate::schedule;
use ::sched::Runstate;
use clock::PvClock;
use core::sync::atomic::Ordering;
use frames::Mfn;
use guest_abi::Errno;
use guest_abi::sched::ShutdownReason;
use guest_abi::vcpu::{
    RegisterMemoryArea, RegisterVcpuInfo, SetSingleshotTimer, VCPU_SSHOTTMR_FUTURE, VcpuOp,
};
use guest_abi::vm_assist::VmAssistType;

/// Bytes of a vcpu_info.
const INFO_BYTES: u64 = 64;

/// `vcpu_op(op, vcpu, arg)`.
pub fn vcpu_op(g: &mut Guest<'_>, args: Args) -> Outcome {
    let [op, id, arg, ..] = args;
    let id = id as u32;
    if id >= g.dom.max_vcpus {
        return Err(Errno::NoEnt.into());
    }
    let vcpu = g.dom.vcpu(id).ok_or(Errno::NoEnt)?;
    match VcpuOp::from_number(op as u32) {
        Some(VcpuOp::IsUp) => Ok(u64::from(id == g.vcpu.id)),
        Some(VcpuOp::GetRunstateInfo) => {
            let now = g.local.runstate.snapshot(timer::now_ns());
            put_runstate(g, arg, &now)?;
            Ok(0)
        }
        Some(VcpuOp::RegisterRunstateMemoryArea) => {
            let area: RegisterMemoryArea = g.memory().value(arg)?;
            if !guest_range_ok(area.addr, 48) {
                return Err(Errno::Fault.into());
            }
            put_runstate(g, area.addr, &g.local.runstate)?;
            g.local.runstate_area = area.addr;
            Ok(0)
        }
        Some(VcpuOp::RegisterVcpuTimeMemoryArea) => {
            let area: RegisterMemoryArea = g.memory().value(arg)?;
            g.memory().check_writable(area.addr, 32)?;
            g.local.time_area = area.addr;
            publish_time(g);
            Ok(0)
        }
        Some(VcpuOp::StopPeriodicTimer) => Ok(0),
        Some(VcpuOp::SetPeriodicTimer) => Err(Errno::NoSys.into()),
        Some(VcpuOp::SetSingleshotTimer) => {
            let timer: SetSingleshotTimer = g.memory().value(arg)?;
            own(g, vcpu)?;
            if timer.flags & VCPU_SSHOTTMR_FUTURE != 0 && timer.timeout_abs_ns <= timer::now_ns() {
                return Err(Errno::Time.into());
            }
            set_timer(vcpu, timer.timeout_abs_ns);
            Ok(0)
        }
        Some(VcpuOp::StopSingleshotTimer) => {
            own(g, vcpu)?;
            schedule::set_timer(vcpu, None);
            Ok(0)
        }
        Some(VcpuOp::RegisterVcpuInfo) => register_info(g, vcpu, arg),
        // One vCPU, which runs: it is initialised and up.
        Some(VcpuOp::Initialise) => Err(Errno::Exist.into()),
        Some(VcpuOp::Up) => Ok(0),
        Some(VcpuOp::Down) => {
            // The last vCPU going down is how a kernel without another way out says that it is done.
            g.regs.rax = 0;
            control::shutdown(g, ShutdownReason::Poweroff);
            Err(Stop::Gone)
        }
        _ => Err(Errno::NoSys.into()),
    }
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
fn register_info(g: &mut Guest<'_>, vcpu: &'static Vcpu, arg: u64) -> Outcome {
    let r: RegisterVcpuInfo = g.memory().value(arg)?;
    let offset = u64::from(r.offset);
    let old = vcpu.info.load(Ordering::Acquire);
    let in_shared_page = old / PAGE == g.dom.shared_info.0;
    if !in_shared_page || offset > PAGE - INFO_BYTES || offset % 8 != 0 {
        return Err(Errno::Inval.into());
    }
    let mfn = Mfn(r.mfn);
    // Held for as long as the domain lives: the page can never become a table.
    let page = hold_writable(g.dom.id, mfn).map_err(|_| Errno::Inval)?;
    let new = mfn.0 * PAGE + offset;
    phys::copy_phys(new, old, INFO_BYTES);
    page.keep();
    vcpu.set_info(new);
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
    let _ = put_runstate(g, g.local.runstate_area, &g.local.runstate);
}

/// Writes the clock into vcpu_info and the registered area.
pub fn publish_time(g: &Guest<'_>) {
    let clock = timer::clock();
    let flags = if device::facts::tsc_is_stable() {
        PvClock::TSC_STABLE
    } else {
        0
    };
    g.vcpu.put_time(&clock, flags);
    if g.local.time_area != 0 {
        let words = PvClock::new(&clock, flags, 2).words();
        let mut bytes = [0u8; 32];
        for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        let _ = g.memory().write(g.local.time_area, &bytes);
    }
}

//! The state of another domain's vCPU, given and read.

use super::another;
use crate::arch::cpu;
use crate::arch::regs::flags;
use crate::domain::local::Callback;
use crate::domain::{Domain, Guest, Local, Vcpu, life, teardown};
use crate::hypercall::vcpu::initialise;
use crate::hypercall::{Args, Outcome, Stop};
use crate::layout::PAGE;
use core::sync::atomic::Ordering;
use guest_abi::context::{
    CpuUserRegs, TI_MASK_EVENTS, TrapInfo, VGCF_FAILSAFE_DISABLES_EVENTS, VGCF_I387_VALID,
    VGCF_IN_KERNEL, VGCF_ONLINE, VGCF_SYSCALL_DISABLES_EVENTS, VcpuGuestContext,
};
use guest_abi::domctl::{Domctl, Vcpucontext};
use guest_abi::{Errno, Wire};

/// `setvcpucontext`: the state a vCPU starts from. No context at all puts it back to before it had one.
pub fn set(g: &mut Guest<'_>, dom: &'static Domain, call: &Domctl, args: Args) -> Outcome {
    let Vcpucontext { vcpu, ctxt, .. } = call.payload();
    another(g, dom)?;
    let vcpu = dom.vcpu(vcpu).ok_or(Errno::Inval)?;
    if ctxt == 0 {
        return held_still(g, vcpu, args, || reset(dom, vcpu));
    }
    let context = initialise::read(g, ctxt);
    held_still(g, vcpu, args, || {
        initialise::give_state(dom, vcpu, &context?, initialise::By::Control)
    })
}

/// Does something about the state of a vCPU while that stands still (D1): the call is made again until it does.
fn held_still(
    g: &Guest<'_>,
    vcpu: &'static Vcpu,
    args: Args,
    act: impl FnOnce() -> Result<(), Errno>,
) -> Outcome {
    match life::hold_still(g.vcpu, vcpu).and_then(|()| act()) {
        // It stays as it is meanwhile.
        Err(Errno::Again) => Err(Stop::Again(args)),
        done => {
            life::let_go(vcpu);
            Ok(done.map(|()| 0)?)
        }
    }
}

/// Takes a vCPU down and its state away.
fn reset(dom: &'static Domain, vcpu: &'static Vcpu) -> Result<(), Errno> {
    let _alone = dom.bring_up.lock();
    if !life::is_held_still(vcpu) {
        return Err(Errno::Again);
    }
    if vcpu.up.swap(false, Ordering::AcqRel) {
        crate::schedule::down(vcpu);
    }
    teardown::release_state(dom, vcpu);
    Ok(())
}

/// `getvcpucontext`.
pub fn get(g: &mut Guest<'_>, dom: &'static Domain, call: &Domctl, args: Args) -> Outcome {
    let Vcpucontext { vcpu, ctxt, .. } = call.payload();
    let vcpu = dom.vcpu(vcpu).ok_or(Errno::Inval)?;
    if core::ptr::eq(vcpu, g.vcpu) {
        return Err(Errno::Inval.into());
    }
    let mut bytes = [0u8; VcpuGuestContext::SIZE];
    held_still(g, vcpu, args, || {
        let _alone = dom.bring_up.lock();
        if !vcpu.initialised.load(Ordering::Acquire) {
            return Err(Errno::NoData);
        }
        if !life::is_held_still(vcpu) {
            return Err(Errno::Again);
        }
        // SAFETY: D1: it is held still, and `bring_up` is locked. Read only.
        let local: &Local = unsafe { vcpu.local() };
        let context = read(vcpu, local);
        context.write_to(&mut bytes).ok_or(Errno::Inval)
    })?;
    g.memory().write(ctxt, &bytes)?;
    Ok(0)
}

/// A vCPU's state in the interface's form.
fn read(vcpu: &Vcpu, local: &Local) -> VcpuGuestContext {
    let flag = |on: bool, flag: u64| if on { flag } else { 0 };
    let masks = |callback: &Callback, bit| flag(callback.masks_events, bit);
    let mut c = VcpuGuestContext::ZERO;
    c.fpu_ctxt = local.fpu.fxsave();
    c.flags = VGCF_I387_VALID
        | flag(!vcpu.transit.is_user(), VGCF_IN_KERNEL)
        | flag(vcpu.up.load(Ordering::Acquire), VGCF_ONLINE)
        | masks(&local.failsafe_callback, VGCF_FAILSAFE_DISABLES_EVENTS)
        | masks(&local.syscall_callback, VGCF_SYSCALL_DISABLES_EVENTS);
    c.user_regs = registers(local);
    for (vector, info) in (0..=u8::MAX).zip(&mut c.trap_ctxt) {
        let trap = local.traps.get(vector);
        if trap.address != 0 {
            *info = TrapInfo {
                vector,
                flags: trap.dpl | if trap.masks_events { TI_MASK_EVENTS } else { 0 },
                cs: trap.cs,
                address: trap.address,
                ..TrapInfo::ZERO
            };
        }
    }
    c.ldt_base = local.ldt_base;
    c.ldt_ents = u64::from(local.ldt_entries);
    for (to, frame) in c.gdt_frames.iter_mut().zip(&local.gdt) {
        *to = frame.map_or(0, |frame| frame.0);
    }
    c.gdt_ents = u64::from(local.gdt_entries);
    c.kernel_ss = u64::from(local.kernel_ss);
    c.kernel_sp = local.kernel_sp;
    c.ctrlreg[0] = cpu::read_cr0() & !8 | flag(local.task_switched, 8);
    c.ctrlreg[1] = local.user_root.map_or(0, |root| root.0 * PAGE);
    c.ctrlreg[2] = local.cr2;
    c.ctrlreg[3] = local.kernel_root.0 * PAGE;
    c.ctrlreg[4] = local.cr4;
    c.debugreg = local.debug;
    c.event_callback_eip = local.event_callback.address;
    c.failsafe_callback_eip = local.failsafe_callback.address;
    c.syscall_callback_eip = local.syscall_callback.address;
    if vcpu.id == 0 {
        c.vm_assist = vcpu.domain.assists.load(Ordering::Acquire);
    }
    c.fs_base = local.fs_base;
    c.gs_base_kernel = local.gs_base_kernel;
    c.gs_base_user = local.gs_base_user;
    c
}

fn registers(local: &Local) -> CpuUserRegs {
    let r = &local.regs;
    let [ds, es, fs, gs] = local.selectors;
    CpuUserRegs {
        r15: r.r15,
        r14: r.r14,
        r13: r.r13,
        r12: r.r12,
        rbp: r.rbp,
        rbx: r.rbx,
        r11: r.r11,
        r10: r.r10,
        r9: r.r9,
        r8: r.r8,
        rax: r.rax,
        rcx: r.rcx,
        rdx: r.rdx,
        rsi: r.rsi,
        rdi: r.rdi,
        rip: r.rip,
        cs: r.cs as u16,
        rflags: r.rflags & !flags::IOPL | u64::from(local.iopl) << flags::IOPL_SHIFT,
        rsp: r.rsp,
        ss: r.ss as u16,
        es,
        ds,
        fs,
        gs,
        ..CpuUserRegs::ZERO
    }
}

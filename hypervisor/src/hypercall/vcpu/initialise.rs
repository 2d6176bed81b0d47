//! Giving a vCPU the state it starts from, by its own domain or by the control domain.
//!
//! The structure is copied once; every field is checked, and every frame it names is held, before the vCPU is touched:
//! a call that is refused leaves no reference and no field behind.

use crate::arch::regs::{Regs, flags};
use crate::domain::local::Callback;
use crate::domain::{Domain, Guest, Local, Vcpu, life};
use crate::hypercall::descriptor::{self, Gdt};
use crate::hypercall::{Args, BUDGET, Outcome, Stop, debug_registers, trap};
use crate::layout::is_canonical;
use crate::mmu::{HeldRoot, hold_root, show_m2p, work};
use crate::policy::control;
use crate::schedule;
use core::sync::atomic::Ordering;
use frames::Mfn;
use guest_abi::context::{
    CpuUserRegs, VGCF_FAILSAFE_DISABLES_EVENTS, VGCF_I387_VALID, VGCF_IN_KERNEL, VGCF_ONLINE,
    VGCF_SYSCALL_DISABLES_EVENTS, VcpuGuestContext, xen_cr3_to_pfn,
};
use guest_abi::vm_assist::VmAssistType;
use guest_abi::{Errno, Wire};

/// `VCPUOP_initialise`.
pub fn initialise(g: &mut Guest<'_>, vcpu: &'static Vcpu, args: Args) -> Outcome {
    let arg = args[2];
    let info = vcpu.info.load(Ordering::Acquire) / crate::layout::PAGE;
    if info != g.dom.shared_info.0 && !vcpu.info_moved.load(Ordering::Acquire) {
        return Err(Errno::Inval.into());
    }
    let context = read(g, arg)?;
    match give_state(g.dom, vcpu, &context, By::Guest) {
        Ok(()) => Ok(0),
        Err(Errno::Again) => Err(Stop::Again(args)),
        Err(errno) => Err(errno.into()),
    }
}

/// Units of copying a description and judging it, and of putting what it says in force.
const READ: u64 = 30;
const PUT: i32 = 50;

// All that a call needs at once there is when it is made again (`hypercall::BUDGET`), in a list of calls too.
const _: () =
    assert!(READ as i32 + work::DESCRIPTOR_PAGE + 8 < BUDGET && READ as i32 + PUT + 8 < BUDGET);

/// Copies a description.
pub fn read(g: &mut Guest<'_>, at: u64) -> Result<VcpuGuestContext, Errno> {
    g.charge(READ);
    let mut bytes = [0u8; VcpuGuestContext::SIZE];
    g.memory().read(at, &mut bytes)?;
    VcpuGuestContext::read_from(&bytes).ok_or(Errno::Inval)
}

/// Who gives a vCPU its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Its own domain, once.
    Guest,
    /// The control domain, which holds it still: again, too, if it refers to what it referred to before.
    Control,
}

/// Gives a vCPU its state, or changes nothing. What it refers to is held in the name of its own domain.
///
/// # Errors
/// `-EEXIST` from the domain itself for a vCPU that has a state; `-EOPNOTSUPP` for one that has other tables;
/// `-EINVAL` for what cannot be a state; `-EAGAIN`: the call is to be made again.
pub fn give_state(
    dom: &'static Domain,
    vcpu: &'static Vcpu,
    context: &VcpuGuestContext,
    by: By,
) -> Result<(), Errno> {
    let has_state = vcpu.initialised.load(Ordering::Acquire);
    if has_state && by == By::Guest {
        return Err(Errno::Exist);
    }
    if !is_acceptable(context) {
        return Err(Errno::Inval);
    }
    // Before the lock: tables are validated here, and others' flushes are waited for.
    let referred = match has_state {
        true => None,
        false => Some(Referred::hold(dom, context)?),
    };
    let _alone = dom.bring_up.lock();
    if vcpu.initialised.load(Ordering::Acquire) != has_state {
        // Another was faster: to be judged anew.
        return Err(Errno::Again);
    }
    if let Some(referred) = referred {
        // SAFETY: D1: never initialised, and `bring_up` is held.
        let local = unsafe { vcpu.local() };
        referred.install(vcpu, local);
        set_state(vcpu, local, context);
    } else {
        if !life::is_held_still(vcpu) {
            return Err(Errno::Again);
        }
        // SAFETY: D1: it is held still, and `bring_up` is locked.
        let local = unsafe { vcpu.local() };
        if !refers_to_the_same(local, context) {
            return Err(Errno::OpNotSupp);
        }
        // Whatever call it was in is over.
        local.repeat = false;
        work::give_up(vcpu);
        set_state(vcpu, local, context);
    }
    if by == By::Control && vcpu.id == 0 {
        dom.assists
            .store(context.vm_assist & KNOWN_ASSISTS, Ordering::Release);
        let (seconds, nanoseconds) = crate::device::wall_clock_base();
        dom.put_wall_clock(seconds, nanoseconds);
    }
    vcpu.put_time(0, &vcpu.time.lock());
    vcpu.initialised.store(true, Ordering::Release);
    let online = context.flags & VGCF_ONLINE != 0;
    if online && !vcpu.up.swap(true, Ordering::AcqRel) {
        schedule::up(vcpu);
    } else if !online && vcpu.up.swap(false, Ordering::AcqRel) {
        schedule::down(vcpu);
    }
    Ok(())
}

/// Assists that a domain can be given, one bit each.
const KNOWN_ASSISTS: u64 = {
    let mut known = 0;
    let mut i = 0;
    while i < VmAssistType::ALL.len() {
        known |= 1 << VmAssistType::ALL[i].number();
        i += 1;
    }
    known
};

/// Whether a vCPU that has a state refers to the tables that a description names: changing them is not offered.
fn refers_to_the_same(local: &Local, c: &VcpuGuestContext) -> bool {
    let root = |cr3| Mfn(xen_cr3_to_pfn(cr3));
    let frames = local.gdt.iter().zip(&c.gdt_frames);
    root(c.ctrlreg[3]) == local.kernel_root
        && local.user_root == (c.ctrlreg[1] != 0).then(|| root(c.ctrlreg[1]))
        && u64::from(local.gdt_entries) == c.gdt_ents
        && frames
            .into_iter()
            .all(|(have, named)| have.is_none_or(|have| have.0 == *named))
        && local.ldt_base == c.ldt_base
        && u64::from(local.ldt_entries) == c.ldt_ents
}

/// Everything that can be judged by looking at it.
fn is_acceptable(c: &VcpuGuestContext) -> bool {
    let regs = &c.user_regs;
    let addresses = [
        regs.rip,
        regs.rsp,
        c.kernel_sp,
        c.event_callback_eip,
        c.failsafe_callback_eip,
        c.syscall_callback_eip,
        c.fs_base,
        c.gs_base_kernel,
        c.gs_base_user,
    ];
    let handlers = c.trap_ctxt.iter().map(|t| t.address);
    addresses.into_iter().chain(handlers).all(is_canonical)
        && descriptor::ldt_ok(c.ldt_base, c.ldt_ents)
        && (c.flags & VGCF_IN_KERNEL != 0 || c.ctrlreg[1] != 0)
}

/// What the new state refers to, held for the vCPU.
struct Referred {
    gdt: Gdt,
    kernel: HeldRoot,
    user: Option<HeldRoot>,
}

impl Referred {
    /// Takes all of it or, as what was taken goes with its values, nothing. `-EAGAIN`: the call is to be made again.
    fn hold(dom: &'static Domain, c: &VcpuGuestContext) -> Result<Referred, Errno> {
        let root = |cr3| hold_root(dom.id, Mfn(xen_cr3_to_pfn(cr3)));
        let kernel = root(c.ctrlreg[3])?;
        let user = match c.ctrlreg[1] {
            0 => None,
            cr3 => match root(cr3) {
                Err(Errno::Again) => {
                    work::park_root(kernel);
                    return Err(Errno::Again);
                }
                user => Some(user?),
            },
        };
        let gdt = match Gdt::hold(dom, &c.gdt_frames, c.gdt_ents) {
            Ok(gdt) if work::has_room_for(PUT) => return Ok(Referred { gdt, kernel, user }),
            Err(refused) if refused != Errno::Again => return Err(refused),
            gdt => gdt,
        };
        // Held, so that the next time there is less to do.
        work::park_root(kernel);
        user.into_iter().for_each(work::park_root);
        let _ = gdt.map(Gdt::park);
        Err(Errno::Again)
    }

    /// Makes it the vCPU's (D2).
    fn install(self, vcpu: &Vcpu, local: &mut Local) {
        self.gdt.install(vcpu, local);
        local.kernel_root = self.kernel.keep();
        local.user_root = self.user.map(HeldRoot::keep);
        // One table for both modes is the kernel's first of all.
        if let Some(user) = local.user_root {
            show_m2p(user, false);
        }
        show_m2p(local.kernel_root, true);
        vcpu.transit.set_roots(local.kernel_root, local.user_root);
    }
}

/// Sets everything that is not held.
fn set_state(vcpu: &Vcpu, local: &mut Local, c: &VcpuGuestContext) {
    local.regs = general(&c.user_regs);
    let r = &c.user_regs;
    local.selectors = [r.ds, r.es, r.fs, r.gs];
    // In the flags stands the virtual level; the real one is never a guest's.
    local.iopl = (r.rflags >> 12 & 3) as u8;
    vcpu.transit.set_user(c.flags & VGCF_IN_KERNEL == 0);
    for (vector, info) in (0..=u8::MAX).zip(&c.trap_ctxt) {
        local.traps.set(vector, trap::trap_entry(info));
    }
    let callback = |address, flag| Callback {
        address,
        masks_events: c.flags & flag != 0,
    };
    local.event_callback = Callback {
        address: c.event_callback_eip,
        masks_events: true,
    };
    local.failsafe_callback = callback(c.failsafe_callback_eip, VGCF_FAILSAFE_DISABLES_EVENTS);
    local.syscall_callback = callback(c.syscall_callback_eip, VGCF_SYSCALL_DISABLES_EVENTS);
    let syscall = local.syscall_callback;
    vcpu.transit
        .set_syscall(syscall.address, syscall.masks_events);
    trap::set_kernel_stack(vcpu, local, c.kernel_ss as u16, c.kernel_sp);
    descriptor::name_ldt(vcpu, local, c.ldt_base, c.ldt_ents as u32);
    // A selector that names a descriptor brings its own base, when it is loaded.
    local.selectors_fresh = true;
    local.fs_base = c.fs_base;
    local.gs_base_user = c.gs_base_user;
    local.gs_base_kernel = c.gs_base_kernel;
    for number in [0, 1, 2, 3, 6, 7] {
        // As Xen has it: a value that the call for it would refuse leaves the register as it is at the start.
        if let Ok((number, value)) = debug_registers::accepted(number, c.debugreg[number as usize])
        {
            local.debug[usize::from(number)] = value;
        }
    }
    control::set_initial(local, &c.ctrlreg);
    if c.flags & VGCF_I387_VALID != 0 {
        local.fpu.load_fxsave(&c.fpu_ctxt);
    }
}

/// General registers as they will be loaded; what must not reach the CPU is taken out on the way out as well.
fn general(r: &CpuUserRegs) -> Regs {
    Regs {
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
        rdi: r.rdi,
        rsi: r.rsi,
        rdx: r.rdx,
        rcx: r.rcx,
        rax: r.rax,
        rip: r.rip,
        cs: u64::from(trap::guest_selector(r.cs)),
        rflags: r.rflags & !(flags::IOPL | flags::VM | flags::VIF_VIP | flags::NT) | flags::IF,
        rsp: r.rsp,
        ss: u64::from(trap::guest_selector(r.ss)),
        ..Regs::default()
    }
}

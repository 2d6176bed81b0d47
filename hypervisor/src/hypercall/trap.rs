//! Traps, callbacks, stacks, segment bases, assists, and the return from all of them.

use crate::arch::cpu::{self, msr};
use crate::arch::regs::flags;
use crate::domain::inject::{self, vector};
use crate::domain::local::{Callback, Trap, Traps};
use crate::domain::{Guest, Local, Slow, Vcpu, crash};
use crate::hypercall::{Args, Outcome, Stop};
use crate::layout::{guest_range_ok, is_canonical};
use core::sync::atomic::Ordering;
use guest_abi::callback::{
    CALLBACKF_MASK_EVENTS, CallbackOp, CallbackRegister, CallbackType, CallbackUnregister,
};
use guest_abi::context::TrapInfo;
use guest_abi::vm_assist::{VmAssistCommand, VmAssistType};
use guest_abi::{Errno, Wire};

/// Selectors a guest may name for code and stacks run at privilege level 3; our own descriptors refuse anything less.
pub const fn guest_selector(selector: u16) -> u16 {
    selector | 3
}

/// `set_trap_table(list)`: merges handlers; a null list clears all.
pub fn set_trap_table(g: &mut Guest<'_>, args: Args) -> Outcome {
    let list = args[0];
    if list == 0 {
        *g.local.traps = Traps::NONE;
        return Ok(0);
    }
    // One entry per vector and the end is all that makes sense; a longer list is taken in parts.
    for i in 0..257u64 {
        let at = list.wrapping_add(i * TrapInfo::SIZE as u64);
        let info: TrapInfo = g.memory().value(at)?;
        if info.address == 0 {
            return Ok(0);
        }
        if !is_canonical(info.address) {
            return Err(Errno::Inval.into());
        }
        if !g.spend() {
            return Err(Stop::Again([at, args[1], args[2], args[3], args[4]]));
        }
        g.local.traps.set(info.vector, trap_entry(&info));
    }
    Ok(0)
}

/// What is kept of an entry of the interface's table.
pub fn trap_entry(info: &TrapInfo) -> Trap {
    Trap {
        address: info.address,
        cs: guest_selector(info.cs),
        dpl: info.dpl(),
        masks_events: info.masks_events(),
    }
}

/// `callback_op(op, arg)`.
pub fn callback_op(g: &mut Guest<'_>, args: Args) -> Outcome {
    match CallbackOp::from_number(args[0] as u32) {
        Some(CallbackOp::Register) => {
            let arg: CallbackRegister = g.memory().value(args[1])?;
            if !is_canonical(arg.address) {
                return Err(Errno::Inval.into());
            }
            set_callback(
                g,
                arg.kind,
                Callback {
                    address: arg.address,
                    masks_events: arg.flags & CALLBACKF_MASK_EVENTS != 0,
                },
            )
        }
        Some(CallbackOp::Unregister) => {
            let arg: CallbackUnregister = g.memory().value(args[1])?;
            match CallbackType::from_number(arg.kind) {
                Some(CallbackType::Event | CallbackType::Failsafe | CallbackType::Syscall) => {
                    Err(Errno::Inval.into())
                }
                _ => set_callback(g, arg.kind, Callback::default()),
            }
        }
        None => Err(Errno::NoSys.into()),
    }
}

fn set_callback(g: &mut Guest<'_>, kind: u16, callback: Callback) -> Outcome {
    match CallbackType::from_number(kind) {
        Some(CallbackType::Event) => g.local.event_callback = callback,
        Some(CallbackType::Failsafe) => g.local.failsafe_callback = callback,
        Some(CallbackType::Syscall) => {
            g.local.syscall_callback = callback;
            g.vcpu
                .transit
                .set_syscall(callback.address, callback.masks_events);
        }
        Some(CallbackType::Sysenter) => g.local.sysenter_callback = callback,
        Some(CallbackType::Syscall32) => g.local.syscall32_callback = callback,
        Some(CallbackType::Nmi) => {
            let handler = Trap {
                address: callback.address,
                cs: guest_abi::segment::FLAT_KERNEL_CS,
                dpl: 0,
                masks_events: true,
            };
            g.local.traps.set(vector::NMI, handler);
        }
        Some(CallbackType::SysenterDeprecated) | None => return Err(Errno::NoSys.into()),
    }
    Ok(0)
}

/// `stack_switch(ss, rsp)`: the kernel's stack for entries from user mode.
pub fn stack_switch(g: &mut Guest<'_>, args: Args) -> Outcome {
    set_kernel_stack(g.vcpu, g.local, args[0] as u16, args[1]);
    Ok(0)
}

/// Records the kernel's stack for entries from user mode, for ring 0 and for the fast path.
pub fn set_kernel_stack(vcpu: &Vcpu, local: &mut Local, ss: u16, sp: u64) {
    local.kernel_ss = guest_selector(ss);
    local.kernel_sp = sp;
    let aligned = sp & !15;
    vcpu.transit.set_kernel_sp(aligned);
    // The fast path writes below it without looking: where that could touch our addresses it is not taken.
    let good = guest_range_ok(aligned.wrapping_sub(128), 128);
    vcpu.transit.set_stack_ok(good);
}

/// `fpu_taskswitch(set)`.
pub fn fpu_taskswitch(g: &mut Guest<'_>, args: Args) -> Outcome {
    g.local.task_switched = args[0] != 0;
    cpu::set_task_switched(g.local.task_switched);
    Ok(0)
}

/// `set_segment_base(which, base)`.
pub fn set_segment_base(g: &mut Guest<'_>, args: Args) -> Outcome {
    let (which, base) = (args[0], args[1]);
    if which <= 2 && !is_canonical(base) {
        return Err(Errno::Inval.into());
    }
    // The user's GS base is in force only in user mode, and this call comes from kernel mode.
    match which {
        0 => {
            g.local.fs_base = base;
            // SAFETY: canonical; ring 0 does not use FS.
            unsafe { cpu::wrmsr(msr::FS_BASE, base) };
        }
        1 => {
            g.local.gs_base_user = base;
            // SAFETY: canonical; in kernel mode (D3) the shadow register holds the user's base.
            unsafe { cpu::wrmsr(msr::KERNEL_GS_BASE, base) };
        }
        2 => {
            g.local.gs_base_kernel = base;
            // SAFETY: canonical; ring 0 does not use GS.
            unsafe { cpu::wrmsr(msr::GS_BASE, base) };
        }
        3 => {
            // Loads the selector into the user's GS: swap, load, swap back. A bad one loads null.
            cpu::swapgs();
            cpu::load_gs(base as u16);
            g.local.gs_base_user = cpu::rdmsr(msr::GS_BASE);
            cpu::swapgs();
        }
        _ => return Err(Errno::Inval.into()),
    }
    Ok(0)
}

/// `vm_assist(command, assist)`.
pub fn vm_assist(g: &mut Guest<'_>, args: Args) -> Outcome {
    let Some(assist) = VmAssistType::from_number(args[1] as u32) else {
        return Err(Errno::Inval.into());
    };
    let bit = 1u64 << assist.number();
    match VmAssistCommand::from_number(args[0] as u32) {
        Some(VmAssistCommand::Enable) => g.dom.assists.fetch_or(bit, Ordering::Relaxed),
        Some(VmAssistCommand::Disable) => g.dom.assists.fetch_and(!bit, Ordering::Relaxed),
        None => return Err(Errno::NoSys.into()),
    };
    if assist == VmAssistType::ArchitecturalIopl {
        // The fast transitions know nothing of a privilege level in the flags.
        let on = has_assist(g, assist);
        g.dom
            .vcpus()
            .for_each(|vcpu| vcpu.transit.set_slow(Slow::IoplInFlags, on));
    }
    Ok(0)
}

/// The I/O privilege level as the vCPU's frames show it, in its place in the flags: nothing unless the domain asked for
/// it there.
pub fn shown_iopl(g: &Guest<'_>) -> u64 {
    if has_assist(g, VmAssistType::ArchitecturalIopl) {
        u64::from(g.local.iopl) << flags::IOPL_SHIFT
    } else {
        0
    }
}

/// Whether the vCPU's I/O privilege level is enough for the mode it is in. Kernel mode counts as level 0 where the
/// domain takes the level from the flags, else as level 1, so that a kernel must ask for it.
pub fn may_do_io(g: &Guest<'_>) -> bool {
    let level = match g.is_user() {
        true => 3,
        false if has_assist(g, VmAssistType::ArchitecturalIopl) => 0,
        false => 1,
    };
    g.local.iopl >= level
}

/// Whether the domain switched an assist on.
pub fn has_assist(g: &Guest<'_>, assist: VmAssistType) -> bool {
    g.dom.assists.load(Ordering::Relaxed) >> assist.number() & 1 == 1
}

/// `iret()`: nine words on the kernel's stack become the guest's registers.
pub fn iret(g: &mut Guest<'_>, _args: Args) -> Outcome {
    let mut bytes = [0u8; 72];
    if g.memory().read(g.regs.rsp, &mut bytes).is_err() {
        crash::domain(g, "its iret frame cannot be read");
        return Err(Stop::Gone);
    }
    let word = |i: usize| u64::read_from(&bytes[i * 8..]).unwrap_or(0);
    let (rax, r11, rcx) = (word(0), word(1), word(2));
    let (rip, cs, rflags, rsp, ss) = (
        word(4),
        word(5) & 0xffff,
        word(6),
        word(7),
        word(8) & 0xffff,
    );
    if cs & 3 == 3 && !g.enter_user_mode() {
        crash::domain(g, "it returns to user mode and has no user root");
        return Err(Stop::Gone);
    }
    if g.local.nmi_masked {
        g.local.nmi_masked = false;
        g.vcpu.transit.set_slow(Slow::NmiMasked, false);
    }
    if has_assist(g, VmAssistType::ArchitecturalIopl) {
        g.local.iopl = (rflags >> flags::IOPL_SHIFT & 3) as u8;
    }
    // Pre-existing guest state that must not reach the CPU is taken out on the way out (`run::leave`).
    let r = &mut *g.regs;
    r.rax = rax;
    r.r11 = r11;
    r.rcx = rcx;
    r.rip = rip;
    r.cs = cs | 3;
    r.rflags = rflags;
    r.rsp = rsp;
    r.ss = ss | 3;
    g.vcpu.mask_events(rflags & flags::IF == 0);
    if !is_canonical(rip) {
        // As the CPU would: the return itself faults, seen in the target context.
        inject::general_protection(g);
    }
    Err(Stop::Gone)
}

//! The way out to a guest: scheduling, event delivery, the root to load.

use crate::account;
use crate::arch::regs::Regs;
use crate::arch::{paging, percpu};
use crate::debug::crash;
use crate::domain::{Guest, Vcpu, exposed_area, inject, park, switch, teardown, unfinished};
use crate::event::pollers;
use crate::layout::{PAGE, is_canonical};
use crate::mmu::work;
use crate::schedule;
use crate::sync;
use core::sync::atomic::Ordering;
use guest_abi::segment::{FLAT_RING3_CS64, FLAT_RING3_SS64};

/// First work of an exit.
#[inline]
pub fn enter(g: &mut Guest<'_>) {
    work::begin_section();
    account::guest_left(g);
    if !g.dom.isolated {
        // The fast transitions change roots on their own: what is in force follows from the mode (D2, D3).
        percpu::current().root.set(root(g));
    }
}

/// First work of an exit that the entry code knows to be from the guest's kernel (D3).
#[inline]
pub fn enter_from_kernel(g: &mut Guest<'_>) {
    work::begin_section();
    account::kernel_called(g);
    if !g.dom.isolated {
        percpu::current().root.set(g.vcpu.transit.kernel_root());
    }
}

/// Physical address of the root the guest will go on with.
#[inline]
fn root(g: &Guest<'_>) -> u64 {
    if g.is_user() {
        g.root().0 * PAGE
    } else {
        g.vcpu.transit.kernel_root()
    }
}

/// Last work before a guest goes on: on the same CPU perhaps another than came in.
pub fn leave(g: &mut Guest<'_>) {
    prepare(g);
    sanitize(g.regs);
}

/// As [`leave`], after a hypercall. Says whether `sysretq` gives the guest its frame.
#[inline]
pub fn leave_call(g: &mut Guest<'_>) -> bool {
    prepare(g);
    let by_sysret = is_sysret_frame(g.regs);
    if !by_sysret {
        sanitize(g.regs);
    }
    by_sysret
}

#[inline(always)]
fn prepare(g: &mut Guest<'_>) {
    sync::assert_none("a guest goes on");
    let this = percpu::current();
    // What ring 0 touched for this vCPU is reported to it, not to whoever runs next.
    let watched = this.watched.get();
    if watched != 0 {
        this.watched.set(0);
        g.local.debug[6] |= watched;
    }
    // One branch for what is seldom.
    if this.reschedule.get() | this.unfinished.get() | g.dom.stopped.load(Ordering::Acquire) {
        unfinished::attend(g);
    }
    // Before the look (T1 of the crate `cpus`).
    g.vcpu.notice.take();
    if g.vcpu.event_waits() || g.vcpu.nmi_pending.load(Ordering::Acquire) {
        deliver(g);
    }
    let root = root(g);
    g.regs.exit_cr3 = if g.dom.isolated {
        root
    } else if this.root.get() != root {
        this.root.set(root);
        root
    } else {
        0
    };
}

/// Calls the guest's handlers of what waits for it.
#[inline(never)]
fn deliver(g: &mut Guest<'_>) {
    if g.vcpu.nmi_pending.load(Ordering::Acquire) && !g.local.nmi_masked {
        inject::nmi(g);
    }
    if g.vcpu.event_waits() {
        inject::event(g);
    }
    while g.dom.stopped.load(Ordering::Acquire) {
        // A frame that could not be delivered.
        unfinished::attend(g);
    }
}

/// Whether `sysretq` gives the guest the frame, and the frame is fit to be given as it is (`sanitize`): what is taken
/// from RCX and R11 is what is to be in RIP and RFLAGS, and the selectors are the flat ones.
#[inline]
fn is_sysret_frame(regs: &Regs) -> bool {
    use crate::arch::regs::flags;
    // It cannot restore RF, and with TF would trap before the guest's next instruction rather than after it.
    const NOT_BY_SYSRET: u64 = flags::RF | flags::TF;
    const NEVER: u64 = flags::IOPL | flags::VM | flags::VIF_VIP;
    const ALWAYS: u64 = flags::IF | flags::ALWAYS;
    regs.rip == regs.rcx
        && is_canonical(regs.rip)
        && regs.rflags == regs.r11
        && regs.rflags & (NOT_BY_SYSRET | NEVER | ALWAYS) == ALWAYS
        && regs.cs == u64::from(FLAT_RING3_CS64)
        && regs.ss == u64::from(FLAT_RING3_SS64)
}

/// Nothing in the frame may let the guest out of privilege level 3 or hold interrupts off, and the return itself must
/// not fault for a reason we could have seen.
fn sanitize(regs: &mut Regs) {
    use crate::arch::regs::flags;
    regs.rflags &= !(flags::IOPL | flags::VM | flags::VIF_VIP);
    regs.rflags |= flags::IF | flags::ALWAYS;
    regs.cs |= 3;
    regs.ss |= 3;
    if !is_canonical(regs.rip) {
        // Not reached by any path that checks; were it, the return would fault in ring 0 (and be handled there).
        regs.rip &= (1 << 47) - 1;
    }
}

/// Decides anew. If another vCPU is to run it takes the place of the one in hand; if none is, this does not return.
#[inline(never)]
pub(super) fn reschedule(g: &mut Guest<'_>) {
    loop {
        teardown::bury(unfinished::let_others_in);
        let machine_ends = g.dom.stopped.load(Ordering::Acquire) && g.dom.privileged;
        // Whoever comes second is put away below.
        if machine_ends && park::all_but(g.vcpu) {
            for vcpu in g.dom.vcpus() {
                schedule::down(vcpu);
            }
            crate::control::domain_stopped(g.dom);
        }
        let Some(next) = schedule::decide().or_else(|| schedule::keep(g)) else {
            switch::put_away(g);
            switch::vacate();
            switch::on_fresh_stack(schedule::idle);
        };
        if !core::ptr::eq(next, g.vcpu) {
            account::switches();
            switch::exchange(g, next);
        } else {
            serve(g);
        }
        // It may have nothing left of its budget, after all.
        let stays = !percpu::current().reschedule.get();
        if stays && !g.dom.stopped.load(Ordering::Acquire) {
            return;
        }
    }
}

/// The vCPU in hand was chosen to run, whether it was in hand before or not.
pub(super) fn serve(g: &Guest<'_>) {
    // Whatever it polled for, it runs now.
    if pollers::end(g.vcpu) {
        schedule::end_poll(g.vcpu);
    }
    if g.vcpu.period_ns.load(Ordering::Relaxed) != 0 {
        schedule::ticks_go_on(g.vcpu);
    }
    let (reading, anew) = account::works_for(g.vcpu);
    schedule::begin(g.vcpu, reading, anew);
    crash::set_serving(g.dom.id.0, g.vcpu.id);
    publish(g);
}

/// Writes the run state where the guest wants to see it.
pub fn publish(g: &Guest<'_>) {
    if g.vcpu.runstate_area.load(Ordering::Relaxed) != 0 {
        crate::hypercall::vcpu::publish_runstate(g);
    }
}

/// Maps the vCPU's vcpu_info page into the exposed area for the entry code.
pub fn map_vcpu_info(vcpu: &Vcpu) -> Result<(), paging::NoFrame> {
    let phys = vcpu.info.load(Ordering::Acquire);
    exposed_area::map(
        vcpu.domain.exposed_l3,
        vcpu.area + exposed_area::VCPU_INFO,
        Some(frames::Mfn(phys / PAGE)),
        paging::bits::RW,
    )
}

//! The way out to a guest: scheduling, event delivery, the root to load; and the switch from one vCPU to another.

use crate::account;
use crate::arch::cpu::msr;
use crate::arch::regs::Regs;
use crate::arch::{cpu, exposed, fpu, leftovers, paging, pcid, percpu, smp};
use crate::debug::{crash, crash_test, sections};
use crate::domain::{Guest, Vcpu, exposed_area, inject, teardown, unfinished};
use crate::hypercall::descriptor;
use crate::info;
use crate::layout::{PAGE, is_canonical};
use crate::memory::usage;
use crate::mmu::work;
use crate::schedule;
use crate::sync;
use core::arch::asm;
use core::sync::atomic::Ordering;
use guest_abi::segment::{FLAT_RING3_CS64, FLAT_RING3_SS64};

/// First work of an exit.
#[inline]
pub fn enter(g: &mut Guest<'_>) {
    work::begin_section();
    if g.is_user() {
        account::user_left(g);
    }
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
    account::guest_left(g);
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

/// Decides anew and, if another vCPU is to run, puts it in place of the one in hand.
#[inline(never)]
pub(super) fn reschedule(g: &mut Guest<'_>) {
    let this = percpu::current();
    loop {
        teardown::bury(unfinished::let_others_in);
        if g.dom.stopped.load(Ordering::Acquire) && g.dom.privileged {
            for vcpu in g.dom.vcpus() {
                schedule::down(vcpu);
            }
            crate::control::domain_stopped(g.dom);
        }
        let next = schedule::decide();
        if !core::ptr::eq(next, g.vcpu) {
            put_away(g);
            // SAFETY: D1: `next` is not running anywhere (one CPU runs vCPUs, and it has just put the one it ran
            // away), and from here on runs on this CPU.
            let local = unsafe { next.local() };
            this.current.set(Some(next));
            g.vcpu = next;
            g.dom = next.domain;
            g.local = local;
            *g.regs = g.local.regs;
            take_up(g);
        }
        // Whatever it polled for, it runs now.
        if g.vcpu.polling.swap(0, Ordering::AcqRel) != 0 {
            schedule::end_poll(g.vcpu);
        }
        account::works_for(g.vcpu);
        crash::set_serving(g.dom.id.0, g.vcpu.id);
        publish(g);
        if !g.dom.stopped.load(Ordering::Acquire) {
            return;
        }
    }
}

/// Writes the run state where the guest wants to see it.
fn publish(g: &Guest<'_>) {
    if g.vcpu.runstate_area.load(Ordering::Relaxed) != 0 {
        crate::hypercall::vcpu::publish_runstate(g);
    }
}

/// Saves what only the CPU holds of a vCPU that leaves it. The other vCPUs see that it does not run.
fn put_away(g: &mut Guest<'_>) {
    publish(g);
    g.local.regs = *g.regs;
    g.local.selectors = cpu::read_selectors();
    fpu::save(&mut g.local.fpu);
    // With FSGSBASE off, bases change only through us and through selector loads; read what is in force.
    g.local.fs_base = cpu::rdmsr(msr::FS_BASE);
    let (active, shadow) = (cpu::rdmsr(msr::GS_BASE), cpu::rdmsr(msr::KERNEL_GS_BASE));
    let (user, kernel) = if g.is_user() {
        (active, shadow)
    } else {
        (shadow, active)
    };
    g.local.gs_base_user = user;
    g.local.gs_base_kernel = kernel;
}

/// Loads a vCPU onto this CPU.
fn take_up(g: &mut Guest<'_>) {
    let this = percpu::current();
    let isolated = g.dom.isolated;
    let ring0_root = this.isolated_root.get();
    let root = if isolated { ring0_root } else { g.root() };
    let is_new = this.last_domain.replace(Some(g.dom.serial)) != Some(g.dom.serial);
    if is_new {
        // Whatever happens until this domain's own table is loaded finds one that is there in every root.
        exposed::load_idle_gdt(this.id);
        if isolated {
            exposed_area::show_in(ring0_root, g.dom.exposed_l3);
        }
    }
    exposed::set_tss(g.vcpu.own_descriptors, this.block);
    // SAFETY: either ring 0's own root for this domain, which has all of ring 0's slots, or a validated root of a
    // domain that shares roots, whose reserved slots were filled by `init_root`.
    unsafe { smp::flush::load_guest_root(root.0 * PAGE, g.dom.id) };
    let hv_root = if isolated {
        pcid::entry_root(ring0_root.0 * PAGE)
    } else {
        0
    };
    exposed::set_entry(this.id, hv_root, g.vcpu.transit.address);
    // SAFETY: the vCPU's own page follows its descriptor pages in the domain's exposed area, which every root of the
    // domain maps; its TSS was made this CPU's above.
    unsafe { exposed::load_gdt(g.vcpu.area) };
    exposed::load_ldt(g.local.ldt_entries);
    if is_new {
        leftovers::between_domains();
    }
    load_segments(g);
    // SAFETY: the guest's own debug state and TSC_AUX; CR4 keeps ring 0's features.
    unsafe {
        if g.local.tsc_aux_used {
            cpu::wrmsr(msr::TSC_AUX, g.local.tsc_aux);
        }
    }
    crate::policy::control::load_cr4(g);
    crate::hypercall::debug_registers::load(g);
    fpu::restore(&g.local.fpu);
    cpu::set_task_switched(g.local.task_switched);
    crate::hypercall::vcpu::publish_time(g);
    let this = percpu::current();
    this.unfinished
        .set(unfinished::has_any(g) || this.measuring.get());
}

/// Loads selectors and bases. The null selectors of a fresh vCPU cannot fault; those of a guest may, since its tables
/// may have changed while it was away: then it is told, by its failsafe callback.
fn load_segments(g: &mut Guest<'_>) {
    let wanted = g.local.selectors;
    for selector in wanted {
        descriptor::bring_in_ldt(g, selector);
    }
    let good = [
        cpu::load_ds(wanted[0]),
        cpu::load_es(wanted[1]),
        cpu::load_fs(wanted[2]),
        cpu::load_gs(wanted[3]),
    ];
    if core::mem::take(&mut g.local.selectors_fresh) {
        let names_descriptor = |selector: u16| selector & !3 != 0;
        if names_descriptor(wanted[2]) {
            g.local.fs_base = cpu::rdmsr(msr::FS_BASE);
        }
        if names_descriptor(wanted[3]) {
            g.local.gs_base_user = cpu::rdmsr(msr::GS_BASE);
        }
    }
    let (active, shadow) = if g.is_user() {
        (g.local.gs_base_user, g.local.gs_base_kernel)
    } else {
        (g.local.gs_base_kernel, g.local.gs_base_user)
    };
    // SAFETY: canonical, checked when the guest set them; ring 0 uses neither FS nor GS.
    unsafe {
        cpu::wrmsr(msr::FS_BASE, g.local.fs_base);
        cpu::wrmsr(msr::GS_BASE, active);
        cpu::wrmsr(msr::KERNEL_GS_BASE, shadow);
    }
    if good.contains(&false) {
        inject::failsafe(g, wanted);
    }
}

/// Leaves this CPU to nobody: ring 0's own root and tables, and nothing of the vCPU that was in hand.
pub fn vacate() {
    let this = percpu::current();
    account::works();
    crash::set_serving_nobody();
    let root = paging::root().0 * PAGE;
    // SAFETY: ring 0's own root, which maps everything of its own; nothing of a guest's is used until `take_up`.
    unsafe { cpu::write_cr3(root) };
    this.root.set(root);
    percpu::flush_here();
    exposed::load_idle_gdt(this.id);
    exposed::load_ldt(0);
    exposed::set_entry(this.id, 0, 0);
    this.current.set(None);
    this.last_domain.set(None);
    this.unfinished.set(false);
    this.budget.set(i32::MAX);
}

/// Abandons this CPU's stack and goes on with `next` at its top.
pub fn on_fresh_stack(next: extern "C" fn() -> !) -> ! {
    let top = percpu::area(percpu::current().id) + percpu::MAIN_TOP;
    // SAFETY: the CPU's own main stack, which is in use; whatever lies there belongs to callers that are not returned
    // to and hold nothing that must be dropped.
    unsafe {
        asm!(
            "mov rsp, {stack}",
            "xor ebp, ebp",
            "call {next}",
            "ud2",
            stack = in(reg) top,
            next = in(reg) next as *const (),
            options(noreturn)
        );
    }
}

/// Enters the first vCPU on this CPU.
pub fn start(vcpu: &'static Vcpu) -> ! {
    let this = percpu::current();
    let frame = (percpu::area(this.id) + percpu::MAIN_TOP) as *mut Regs;
    // The place where every exit from a guest builds its frame. This function's own frames lie there too, so the
    // registers are made elsewhere and moved at the very end.
    let frame = frame.wrapping_sub(1);
    schedule::up(vcpu);
    this.current.set(Some(vcpu));
    // SAFETY: D1: nothing runs yet.
    let local = unsafe { vcpu.local() };
    let mut regs = local.regs;
    let mut g = Guest {
        regs: &mut regs,
        vcpu,
        dom: vcpu.domain,
        local,
    };
    usage::report(vcpu.domain.pages.load(Ordering::Relaxed));
    info!(
        "domain {} begins at tick {}",
        vcpu.domain.id.0,
        cpu::rdtsc()
    );
    vcpu.up.store(true, Ordering::Release);
    let first = schedule::decide();
    debug_assert!(core::ptr::eq(first, vcpu));
    sections::start();
    take_up(&mut g);
    account::works_for(g.vcpu);
    crash::set_serving(g.dom.id.0, g.vcpu.id);
    leave(&mut g);
    if let Some(how) = crate::boot::params().crash_test {
        crash_test::crash(how);
    }
    // SAFETY: from here nothing of this stack is used again but `regs`, which is copied to the top while the stack
    // pointer is below both places. The registers are named, so that none is overwritten before it is used.
    unsafe {
        asm!(
            "lea rsp, [rsi - 4096]",
            "rep movsq",
            "lea rsp, [rdi - {size}]",
            "jmp rax",
            size = const size_of::<Regs>(),
            in("rsi") &raw const regs,
            in("rdi") frame,
            in("rcx") size_of::<Regs>() / 8,
            in("rax") exposed::exit_address(this.id),
            options(noreturn)
        );
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

//! From one vCPU to another on a CPU, and from nobody to one and back.
//!
//! ```text
//!  idle, nobody loaded ──────────────── start ───────────────▶ a guest runs, its vCPU loaded
//!        ▲                                                       │           │ ▲
//!        └──── on_fresh_stack ◀─── vacate ◀─── put_away ─────────┘           └─┘ exchange, or `schedule::keep`
//! ```
//! A vCPU is loaded on a CPU from before anything of its state is touched there until nothing of it or of its domain is in
//! force any more: neither registers nor root, descriptor tables nor transit page (D1, D4 in `domain`).

use crate::account;
use crate::arch::cpu::msr;
use crate::arch::regs::Regs;
use crate::arch::{cpu, exposed, fpu, leftovers, paging, pcid, percpu, smp};
use crate::debug::{crash, crash_test, sections};
use crate::domain::{Guest, Vcpu, exposed_area, inject, run, unfinished};
use crate::hypercall::descriptor;
use crate::info;
use crate::layout::PAGE;
use crate::memory::usage;
use crate::mmu::work;
use crate::schedule;
use ::cpus::loaded;
use core::arch::asm;
use core::sync::atomic::Ordering;

/// Bytes of a frame on top of a CPU's stack, where every exit from a guest builds it.
const FRAME: u64 = (size_of::<Regs>() as u64).next_multiple_of(16);

/// Puts a vCPU, which the scheduler chose for this CPU, in place of the one in hand.
pub fn exchange(g: &mut Guest<'_>, next: &'static Vcpu) {
    put_away(g);
    let last = g.vcpu;
    percpu::current().current.set(Some(next));
    g.vcpu = next;
    g.dom = next.domain;
    // SAFETY: D1: loaded here when it was chosen, and whoever was in hand before is not touched from here on.
    g.local = unsafe { next.local() };
    *g.regs = g.local.regs;
    take_up(g);
    // That enters in the books what is in the last one's transit page: before another CPU may run it.
    run::serve(g);
    unload(last);
}

/// Lets other CPUs have a vCPU of which nothing is left here (D4).
fn unload(vcpu: &'static Vcpu) {
    loaded::leave(&vcpu.loaded_on);
    schedule::moves::left(vcpu);
}

/// Saves what only the CPU holds of a vCPU that leaves it. The other vCPUs see that it does not run.
pub fn put_away(g: &mut Guest<'_>) {
    run::publish(g);
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

/// Leaves this CPU to nobody: ring 0's own root and tables, and nothing of the vCPU that was in hand. Its state is to be put
/// away before, unless nobody will ask for it.
pub fn vacate() {
    let this = percpu::current();
    account::works();
    crash::set_serving_nobody();
    // SAFETY: ring 0's own root, which maps everything of its own; nothing of a guest's is used until `take_up`.
    unsafe { smp::flush::load_own_root(paging::root().0 * PAGE) };
    exposed::load_idle_gdt(this.id);
    exposed::load_ldt(0);
    exposed::set_entry(this.id, 0, 0);
    this.unfinished.set(false);
    this.budget.set(i32::MAX);
    if let Some(vcpu) = this.current.take() {
        unload(vcpu);
    }
}

/// Abandons this CPU's stack and goes on with `next`, below where an exit's frame is built.
pub fn on_fresh_stack(next: extern "C" fn() -> !) -> ! {
    let top = percpu::area(percpu::current().id) + percpu::MAIN_TOP - FRAME;
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

/// Begins with the control domain's first vCPU, on this CPU.
pub fn begin(vcpu: &'static Vcpu) -> ! {
    usage::report(vcpu.domain.pages.load(Ordering::Relaxed));
    info!(
        "domain {} begins at tick {}",
        vcpu.domain.id.0,
        cpu::rdtsc()
    );
    vcpu.up.store(true, Ordering::Release);
    schedule::up(vcpu);
    percpu::current().reschedule.set(true);
    sections::start();
    smp::watch::works();
    on_fresh_stack(schedule::idle)
}

/// Enters a vCPU's guest from where no vCPU is loaded.
///
/// # Safety
/// On a stack that [`on_fresh_stack`] began.
pub unsafe fn start(vcpu: &'static Vcpu) -> ! {
    let this = percpu::current();
    work::begin_section();
    this.current.set(Some(vcpu));
    let frame = (percpu::area(this.id) + percpu::MAIN_TOP) as *mut Regs;
    let frame = frame.wrapping_sub(1);
    // SAFETY: D1: loaded here when it was chosen.
    let local = unsafe { vcpu.local() };
    // SAFETY: the top of this CPU's stack: the caller's contract leaves it to the frame. Any bytes make registers.
    let regs = unsafe { &mut *frame };
    *regs = local.regs;
    let mut g = Guest {
        regs,
        vcpu,
        dom: vcpu.domain,
        local,
    };
    take_up(&mut g);
    run::serve(&g);
    run::leave(&mut g);
    crash_test::on_entry();
    // SAFETY: from here nothing of this stack is used again but the frame at its top, which is as an exit leaves it.
    unsafe {
        asm!(
            "mov rsp, {frame}",
            "jmp {exit}",
            frame = in(reg) frame,
            exit = in(reg) exposed::exit_address(this.id),
            options(noreturn)
        );
    }
}

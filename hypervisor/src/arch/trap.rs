//! Where exits from guests and exceptions in ring 0 arrive, and where they are sent.

use crate::account;
use crate::arch::regs::{Regs, VEC_SYSCALL, VEC_SYSCALL32, VEC_SYSENTER};
use crate::arch::{apic, cpu, debug, exposed, percpu, smp};
use crate::debug::{crash as ring0_crash, sections};
use crate::device::{self, pic, pirq};
use crate::domain::inject::{self, pf, vector};
use crate::domain::{Guest, crash, run};
use crate::hypercall::{self, descriptor};
use crate::layout::EXPOSED_VCPUS;
use crate::mmu::{self, trapped};
use crate::policy::privileged::{self, Emulated};
use crate::{event, info, schedule};

/// Vector of the console's input.
pub const CONSOLE_VECTOR: u8 = 0xee;

/// Sets up what interrupts ring 0 itself wants.
pub fn init() {
    schedule::init();
    mmu::set_l1tf(device::cpu_has_l1tf());
    device::listen_to_console();
}

/// An exit from a guest: system call, fault, interrupt.
#[unsafe(no_mangle)]
extern "C" fn trap_from_guest(regs: &mut Regs) {
    // SAFETY: the exit path of this CPU, once per exit, with the frame the entry code built.
    let Some(mut g) = (unsafe { Guest::here(regs) }) else {
        ring0_crash::fatal_exception(regs, cpu::read_cr2());
    };
    run::enter(&mut g);
    if is_returning_for_ever(&mut g) {
        crash::domain(
            &mut g,
            "it cannot be returned to: a selector of its own does not load",
        );
    } else {
        handle(&mut g);
    }
    run::leave(&mut g);
}

/// A hypercall of a guest's kernel. Says whether the guest goes on as `sysretq` does it.
#[unsafe(no_mangle)]
extern "C" fn hypercall_from_guest(regs: &mut Regs) -> bool {
    // SAFETY: as in `trap_from_guest`.
    let Some(mut g) = (unsafe { Guest::here(regs) }) else {
        ring0_crash::fatal_exception(regs, cpu::read_cr2());
    };
    run::enter_from_kernel(&mut g);
    // It executed the call.
    g.local.failed_returns = 0;
    hypercall::dispatch(&mut g);
    run::leave_call(&mut g)
}

/// Returns that fault one after another before the guest executes anything: a page of the local descriptor table for
/// each of two selectors, the fault itself, and the same for its handler.
const MAX_FAILED_RETURNS: u8 = 8;
/// In place of a root: this exit is a return that faulted, and the guest has executed nothing since the last exit. (A
/// fast transition that faulted began with a call of the guest's.)
const FAILED_RETURN: u64 = 1;

/// Counts returns that fault in a row. A handler that cannot be entered either would be called for ever: its call is
/// such a return.
fn is_returning_for_ever(g: &mut Guest<'_>) -> bool {
    if g.regs.exit_cr3 != FAILED_RETURN {
        g.local.failed_returns = 0;
        return false;
    }
    g.local.failed_returns = g.local.failed_returns.saturating_add(1);
    g.local.failed_returns > MAX_FAILED_RETURNS
}

fn handle(g: &mut Guest<'_>) {
    match g.regs.vector {
        VEC_SYSCALL if !g.is_user() => hypercall::dispatch(g),
        VEC_SYSCALL => system_call(g),
        VEC_SYSENTER => {
            let callback = g.local.sysenter_callback;
            if callback.address == 0 {
                inject::general_protection(g);
            } else {
                inject::system_call(g, callback);
            }
        }
        VEC_SYSCALL32 => {
            let callback = g.local.syscall32_callback;
            if callback.address == 0 {
                g.regs.rip = g.regs.rip.wrapping_sub(2);
                inject::exception(g, vector::INVALID_OPCODE, 0);
            } else {
                inject::system_call(g, callback);
            }
        }
        14 => page_fault(g),
        13 => general_protection(g),
        6 => match privileged::invalid_opcode(g) {
            Emulated::No => inject::exception(g, vector::INVALID_OPCODE, 0),
            _ => single_step(g),
        },
        1 => debug_exception(g),
        2 => non_maskable(g.regs),
        7 => {
            g.local.task_switched = false;
            cpu::set_task_switched(false);
            inject::exception(g, vector::NO_DEVICE, 0);
        }
        8 | 18 => ring0_crash::fatal_exception(g.regs, cpu::read_cr2()),
        0x80 => {
            // Through its own gate: RIP is behind the instruction already.
            g.regs.rip = g.regs.rip.wrapping_sub(2);
            g.regs.error = 0x80 << 3 | 2;
            general_protection(g);
        }
        v if v < 32 => inject::exception(g, v as u8, g.regs.error),
        v => {
            interrupt(v as u8);
            account::handled();
        }
    }
}

/// A system call of the guest's user mode that did not take the fast path.
fn system_call(g: &mut Guest<'_>) {
    let callback = g.local.syscall_callback;
    if callback.address == 0 {
        g.regs.rip = g.regs.rip.wrapping_sub(2);
        inject::exception(g, vector::INVALID_OPCODE, 0);
    } else {
        inject::system_call(g, callback);
    }
}

fn page_fault(g: &mut Guest<'_>) {
    let address = cpu::read_cr2();
    let error = g.regs.error;
    const TABLE_WRITE: u64 = pf::PRESENT | pf::WRITE;
    if error & TABLE_WRITE == TABLE_WRITE && !g.is_user() && trapped::try_write(g, address) {
        single_step(g);
        return;
    }
    // The CPU walks descriptor tables as the supervisor: the guest only named a selector.
    if address >= EXPOSED_VCPUS && error & pf::USER == 0 {
        match descriptor::ldt_fault(g, address) {
            descriptor::LdtFault::Served => return,
            descriptor::LdtFault::Guest(its) => {
                return inject::page_fault(g, its, error & pf::PRESENT);
            }
            descriptor::LdtFault::Elsewhere => {}
        }
    }
    inject::page_fault(g, address, error & 0x3f);
}

fn general_protection(g: &mut Guest<'_>) {
    let error = g.regs.error;
    const IDT: u64 = 2;
    if error & 1 == 0 && error & IDT != 0 {
        // `int n`: the guest's own table says who may use it. The number is taken from the instruction, because some
        // emulators get the error code wrong.
        let mut code = [0u8; 2];
        let read = g.memory().read(g.regs.rip, &mut code);
        let number = match code {
            [0xcd, n] if read.is_ok() => n,
            _ => (error >> 3) as u8,
        };
        let error = u64::from(number) << 3 | IDT;
        let trap = g.local.traps.get(number);
        let needed = if g.is_user() { 3 } else { 1 };
        if trap.address != 0 && trap.dpl >= needed {
            g.regs.rip = g.regs.rip.wrapping_add(2);
            inject::software_interrupt(g, number);
        } else {
            inject::exception(g, vector::GENERAL_PROTECTION, error);
        }
        return;
    } else if error == 0 {
        match privileged::general_protection(g) {
            Emulated::Done => return single_step(g),
            Emulated::Again => return,
            Emulated::No => {}
        }
    }
    inject::exception(g, vector::GENERAL_PROTECTION, error);
}

/// An instruction carried out for a guest that steps through its code: the step's exception follows.
fn single_step(g: &mut Guest<'_>) {
    const DR6_BS: u64 = 1 << 14;
    if g.regs.rflags & crate::arch::regs::flags::TF != 0 {
        g.local.debug[6] |= DR6_BS;
        inject::exception(g, vector::DEBUG, 0);
    }
}

fn debug_exception(g: &mut Guest<'_>) {
    g.local.debug[6] |= debug::take_dr6();
    inject::exception(g, vector::DEBUG, 0);
}

/// NMI: another CPU's word to stop, or that this one is stuck; or else unexpected. It may come while any lock is held, so it is only counted here
/// and told later.
fn non_maskable(regs: &Regs) {
    smp::stop::on_nmi(regs);
    smp::watch::on_nmi(regs);
    let nmis = &percpu::current().nmis;
    nmis.set(nmis.get().saturating_add(1));
}

/// Tells of what could not be told when it happened.
pub fn tell_nmis() {
    let this = percpu::current();
    match this.nmis.take() {
        0 => {}
        n => info!("CPU {}: {n} unexpected NMI", this.id),
    }
}

/// A hardware interrupt, from a guest or the idle loop.
fn interrupt(number: u8) {
    match number {
        apic::TIMER => {
            apic::eoi();
            tell_nmis();
            // On those that do not there is nothing but neighbours to look at.
            if schedule::runs_vcpus(percpu::current().id) {
                schedule::tick();
            } else {
                percpu::current().timer_deadline.set(u64::MAX);
                account::is_for_nobody();
            }
            smp::watch::tick();
        }
        CONSOLE_VECTOR => {
            device::take_console_input();
            apic::eoi();
        }
        apic::SPURIOUS => account::is_for_nobody(),
        apic::ERROR => {
            account::is_for_nobody();
            let status = apic::read_error();
            apic::eoi();
            info!("local APIC error {status:#x}");
        }
        // On the way in from a guest or idle: no walk's result is live, no lock is held.
        apic::IPI_FLUSH => {
            apic::eoi();
            smp::flush::serve();
        }
        apic::IPI_CALL => {
            apic::eoi();
            match smp::called_for() {
                Some(whom) => account::is_for_number(whom, account::Cause::Interrupt),
                None => account::is_for_nobody(),
            }
            smp::watch::interrupted();
            smp::call::serve();
            smp::grace::interrupted();
        }
        // Or to have a guest come in: the way out looks at what waits.
        apic::IPI_RESCHEDULE => {
            apic::eoi();
            match smp::rescheduled() {
                Some(whom) => {
                    account::is_for_number(whom, account::Cause::Interrupt);
                    event::reschedule_here();
                }
                None => account::is_for_whom_it_interrupts(account::Cause::Interrupt),
            }
        }
        v if apic::DEVICE_VECTORS.contains(&v) => pirq::interrupt(v),
        // The old controllers, masked, may still raise a spurious one.
        v if pic::VECTORS.contains(&v) => account::is_for_nobody(),
        v => {
            account::is_for_nobody();
            info!("unexpected interrupt {v:#x}");
        }
    }
}

unsafe extern "C" {
    static fixups_start: [u64; 2];
    static fixups_end: [u64; 2];
}

/// Where execution goes on after a fault at `rip`, if that place has a fix-up.
fn fixup(rip: u64) -> Option<u64> {
    let (start, end) = (&raw const fixups_start, &raw const fixups_end);
    // SAFETY: linker symbols around the fix-up table: pairs of addresses, constant.
    let table = unsafe { core::slice::from_raw_parts(start, end.offset_from(start) as usize) };
    table.iter().find(|[at, _]| *at == rip).map(|[_, to]| *to)
}

/// An exception while ring 0 ran: a fix-up, a return that faulted, an interrupt in the idle loop, or our own bug.
///
/// Returns 0 to go on, or the address of a guest's frame to be handled as an exit.
#[unsafe(no_mangle)]
extern "C" fn trap_from_ring0(regs: &mut Regs) -> u64 {
    if regs.vector >= 32 {
        // Where others are let in, or nobody runs: a section of its own.
        let before = sections::begin_another(sections::Kind::Interrupt(regs.vector as u8));
        let paying = account::interrupted();
        interrupt(regs.vector as u8);
        account::resumed(paying);
        sections::end_another(before);
        return 0;
    }
    if regs.vector == 2 {
        non_maskable(regs);
        return 0;
    }
    if regs.vector == 1 {
        // A guest's watchpoint on memory we touched for it: noted in its status register, nothing more.
        let watched = &percpu::current().watched;
        watched.set(watched.get() | debug::take_dr6() & 0xf);
        return 0;
    }
    // Neither is a fault of the instruction it interrupted.
    let abort = matches!(regs.vector, 8 | 18);
    if exposed::is_guest_iretq(regs.rip) && !abort {
        return failed_return(regs);
    }
    let linked = exposed::linked(regs.rip);
    if let Some(to) = fixup(linked).filter(|_| !abort) {
        regs.rip = regs.rip.wrapping_add(to.wrapping_sub(linked));
        return 0;
    }
    ring0_crash::fatal_exception(regs, cpu::read_cr2())
}

/// The final return to a guest faulted (a selector or an address it may not have): the fault is the guest's, taken in
/// the context it was returning to. Builds that context's frame where an exit would have.
fn failed_return(regs: &Regs) -> u64 {
    let this = percpu::current();
    let place = (percpu::area(this.id) + percpu::MAIN_TOP - size_of::<Regs>() as u64) as *mut Regs;
    // What `iretq` was to load lies where the stack pointer was.
    let mut frame = [0u64; 5];
    for (i, word) in frame.iter_mut().enumerate() {
        let at = (regs.rsp as *const u64).wrapping_add(i);
        // SAFETY: the entry stack of this CPU, which `exit_to_guest` filled; mapped in every root of ring 0.
        *word = unsafe { at.read() };
    }
    let [rip, cs, rflags, rsp, ss] = frame;
    let exit = Regs {
        exit_cr3: if exposed::is_fast_iretq(regs.rip) {
            0
        } else {
            FAILED_RETURN
        },
        entry_tsc: cpu::rdtsc(),
        rip,
        cs,
        rflags,
        rsp,
        ss,
        ..*regs
    };
    // SAFETY: the top of this CPU's main stack, which nothing uses between the way out to a guest and the next entry;
    // this handler runs on another stack.
    unsafe { place.write(exit) };
    place as u64
}

//! Who used the CPU: the entry and exit stubs' time stamps, told to the ledger of the crate `sched`.
//!
//! The stubs stamp every boundary; the two fast transitions add closed intervals up in the transit page. Here the
//! intervals since the last exit are handed to the CPU's ledger in order, so that every cycle from start-up on is in
//! exactly one account.

use crate::arch::{cpu, percpu};
use crate::domain::{Guest, Vcpu};
use crate::{info, schedule};
use ::sched::{Account, Cause, Ledger, Mode, VcpuHandle};
use alloc::boxed::Box;
use alloc::vec;

/// Opens this CPU's books. What came before is nobody's.
pub fn open() {
    let accounts = Box::leak(vec![Account::ZERO; schedule::MAX_VCPUS].into_boxed_slice());
    *percpu::current().ledger.borrow_mut() = Some(Ledger::new(accounts, cpu::rdtsc()));
}

fn switch(now: u64, to: Cause) {
    if let Some(ledger) = percpu::current().ledger.borrow_mut().as_mut() {
        ledger.switch(now, to);
    }
}

/// An exit from a guest: its time since the last one ends here.
#[inline]
pub fn guest_left(g: &Guest<'_>) {
    let this = percpu::current();
    let (closed, stamp) = g.vcpu.transit.take_cycles();
    let entry = g.regs.entry_tsc;
    let last_exit = this.last_exit.get();
    let open = entry.wrapping_sub(stamp);
    let user = if g.is_user() { closed.wrapping_add(open) } else { closed };
    let who = g.vcpu.handle;
    if let Some(ledger) = this.ledger.borrow_mut().as_mut() {
        ledger.switch(last_exit, Cause::Vcpu(who, Mode::User));
        ledger.switch(last_exit.wrapping_add(user), Cause::Vcpu(who, Mode::Kernel));
        ledger.switch(entry, Cause::Vcpu(who, Mode::Hypervisor));
    }
}

/// This CPU works for a vCPU from now on.
pub fn works_for(vcpu: &Vcpu) {
    switch(cpu::rdtsc(), Cause::Vcpu(vcpu.handle, Mode::Hypervisor));
}

/// This CPU waits.
pub fn idles() {
    switch(cpu::rdtsc(), Cause::Idle);
}

/// This CPU works for nobody in particular.
pub fn works() {
    switch(cpu::rdtsc(), Cause::Machine);
}

/// A vCPU's account on this CPU.
pub fn of(vcpu: VcpuHandle) -> Account {
    percpu::current()
        .ledger
        .borrow()
        .as_ref()
        .and_then(|l| l.account(vcpu))
        .unwrap_or(Account::ZERO)
}

/// Logs the books, and whether they add up.
pub fn report(vcpus: impl Iterator<Item = &'static Vcpu>) {
    works();
    for vcpu in vcpus {
        let a = of(vcpu.handle);
        info!(
            "domain {} vCPU {}: {} cycles user, {} kernel, {} hypervisor",
            vcpu.domain.id.0, vcpu.id, a.user, a.kernel, a.hypervisor
        );
    }
    let this = percpu::current();
    if let Some(ledger) = this.ledger.borrow().as_ref() {
        let (first, last) = ledger.boundaries();
        info!(
            "CPU {}: {} cycles idle, {} the machine's own, {} in all; the books {}",
            this.id,
            ledger.idle(),
            ledger.machine(),
            last.wrapping_sub(first),
            if ledger.is_balanced() && ledger.backwards() == 0 { "balance" } else { "DO NOT BALANCE" }
        );
    }
}

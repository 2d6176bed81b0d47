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
use core::cell::Cell;

/// Opens this CPU's books. What came before is nobody's.
pub fn open() {
    let accounts = Box::leak(vec![Account::ZERO; schedule::MAX_VCPUS].into_boxed_slice());
    *percpu::current().ledger.borrow_mut() = Some(Ledger::new(accounts, cpu::rdtsc()));
}

fn switch(now: u64, to: Cause) {
    let this = percpu::current();
    if let Some(ledger) = this.ledger.borrow_mut().as_mut() {
        settle(ledger, &this.slip);
        ledger.switch(now, to);
        this.slip.open.set(matches!(to, Cause::Vcpu(..)));
        this.slip.last.set(now);
    }
}

/// Cycles of the vCPU in hand that are not in the books yet: exits are many, and the books need not be opened for
/// each. What is here is entered before anything else is (`settle`).
#[derive(Default)]
pub struct Slip {
    user: Cell<u64>,
    guest: Cell<u64>,
    hypervisor: Cell<u64>,
    /// The last boundary.
    last: Cell<u64>,
    /// Whether a vCPU is in hand at all.
    open: Cell<bool>,
}

/// An exit from a guest: its time since the last one ends here.
#[inline]
pub fn guest_left(g: &Guest<'_>) {
    let this = percpu::current();
    let (mut user, stamp) = g.vcpu.transit.take_cycles();
    let entry = g.regs.entry_tsc;
    let left = this.last_exit.get();
    if g.is_user() {
        user = user.wrapping_add(entry.wrapping_sub(stamp));
    }
    let slip = &this.slip;
    let add = |to: &Cell<u64>, cycles: u64| to.set(to.get().wrapping_add(cycles));
    add(&slip.hypervisor, left.wrapping_sub(slip.last.get()));
    add(&slip.guest, entry.wrapping_sub(left));
    add(&slip.user, user);
    slip.last.set(entry);
}

/// Enters the slip in the books.
fn settle(ledger: &mut Ledger<'_>, slip: &Slip) {
    if let (true, Cause::Vcpu(who, _)) = (slip.open.get(), ledger.cause()) {
        let worked = ledger.boundaries().1.wrapping_add(slip.hypervisor.take());
        ledger.guest_ran(
            who,
            worked,
            slip.user.take(),
            worked.wrapping_add(slip.guest.take()),
        );
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
            if ledger.is_balanced() && ledger.backwards() == 0 {
                "balance"
            } else {
                "DO NOT BALANCE"
            }
        );
    }
}

//! Who used the CPU: the entry and exit stubs' time stamps, told to the ledger of the crate `sched`.
//!
//! The stubs stamp every boundary; the two fast transitions add closed intervals up in the transit page. Here the
//! intervals since the last exit are handed to the CPU's ledger in order, so that every cycle from start-up on is in
//! exactly one account.

use crate::arch::smp::call::{self, Call};
use crate::arch::{cpu, percpu, smp};
use crate::domain::{Guest, Vcpu};
use crate::memory::record;
use crate::schedule::handles;
use crate::{error, info};
use ::sched::{AccountRows, Cause, Ledger, Mode, VcpuHandle};
use core::cell::Cell;
use core::sync::atomic::Ordering;

pub use ::sched::Account;

/// Opens this CPU's books. What came before is nobody's.
pub fn open() {
    open_with(None);
}

/// As [`open`], with room for accounts that was made before. Without any, vCPUs' time counts as the machine's own.
pub fn open_with(accounts: Option<&'static mut [Account]>) {
    let ledger = Ledger::new(accounts.unwrap_or_default(), cpu::rdtsc());
    *percpu::current().ledger.borrow_mut() = Some(ledger);
}

/// Room for the accounts of the first vCPUs: a frame of ring 0's own.
pub fn new_accounts() -> Option<&'static mut [Account]> {
    record::place_row(Account::ZERO, AccountRows::PER_ROW)
}

/// Makes room for a vCPU's account on this CPU; false if there is no memory for it. The other CPUs run no vCPUs.
pub fn make_room(vcpu: VcpuHandle) -> bool {
    let lacks = || {
        let ledger = percpu::current().ledger.borrow();
        ledger
            .as_ref()
            .is_some_and(|l| l.capacity() <= vcpu.0 as usize)
    };
    while lacks() {
        let Some(row) = handles::new_row(Account::ZERO, AccountRows::PER_ROW) else {
            return false;
        };
        let mut ledger = percpu::current().ledger.borrow_mut();
        if !ledger.as_mut().is_some_and(|l| l.add_row(row)) {
            return false;
        }
    }
    true
}

fn switch(now: u64, of: Option<&'static Vcpu>, to: Cause) {
    let this = percpu::current();
    if let Some(ledger) = this.ledger.borrow_mut().as_mut() {
        settle(ledger, &this.slip);
        ledger.switch(now, to);
        this.slip.of.set(of);
        this.slip.last.set(now);
    }
}

/// Cycles of the vCPU in hand that are not in the books yet: exits are many, and the books need not be opened for
/// each. What is here is entered before anything else is (`settle`). Cycles in user mode, which are among the guest's,
/// are added up in the vCPU's transit page.
#[derive(Default)]
pub struct Slip {
    guest: Cell<u64>,
    hypervisor: Cell<u64>,
    /// The last boundary.
    last: Cell<u64>,
    /// The vCPU in hand, if any.
    of: Cell<Option<&'static Vcpu>>,
}

/// An exit from a guest's user mode, before [`guest_left`].
#[inline]
pub fn user_left(g: &Guest<'_>) {
    g.vcpu.transit.close_user(g.regs.entry_tsc);
}

/// An exit from a guest: its time since the last one ends here.
#[inline]
pub fn guest_left(g: &Guest<'_>) {
    let slip = &percpu::current().slip;
    let transit = g.vcpu.transit;
    let entry = g.regs.entry_tsc;
    let left = transit.left();
    let add = |to: &Cell<u64>, cycles: u64| to.set(to.get().wrapping_add(cycles));
    add(&slip.hypervisor, left.wrapping_sub(slip.last.get()));
    add(&slip.guest, entry.wrapping_sub(left));
    slip.last.set(entry);
}

/// Enters the slip in the books.
fn settle(ledger: &mut Ledger<'_>, slip: &Slip) {
    if let (Some(vcpu), Cause::Vcpu(who, _)) = (slip.of.get(), ledger.cause()) {
        let worked = ledger.boundaries().1.wrapping_add(slip.hypervisor.take());
        let back = worked.wrapping_add(slip.guest.take());
        ledger.guest_ran(who, worked, vcpu.transit.take_user_cycles(), back);
    }
}

/// This CPU works for a vCPU from now on. The one it worked for before must not run elsewhere until then: what is in its
/// transit page is entered here.
pub fn works_for(vcpu: &'static Vcpu) {
    switch(
        cpu::rdtsc(),
        Some(vcpu),
        Cause::Vcpu(vcpu.handle, Mode::Hypervisor),
    );
}

/// This CPU waits.
pub fn idles() {
    switch(cpu::rdtsc(), None, Cause::Idle);
}

/// This CPU works for nobody in particular.
pub fn works() {
    switch(cpu::rdtsc(), None, Cause::Machine);
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

/// Cycles in which a CPU had nothing to do: of this one now, of another when it last showed its books.
pub fn idle_cycles(cpu: u32) -> u64 {
    if cpu == percpu::current().id {
        let ledger = percpu::current().ledger.borrow();
        return ledger.as_ref().map_or(0, Ledger::idle);
    }
    smp::remote(cpu).books.idle.load(Ordering::Relaxed)
}

/// Closes a vCPU's account on this CPU: what it used stays in the books, as that of one that is gone.
pub fn close(vcpu: VcpuHandle) {
    if let Some(ledger) = percpu::current().ledger.borrow_mut().as_mut() {
        ledger.close(vcpu);
    }
}

/// Brings this CPU's books up to date and shows them to the others ([`smp::Remote::books`]).
pub fn show_books() {
    let this = percpu::current();
    let mut ledger = this.ledger.borrow_mut();
    let Some(ledger) = ledger.as_mut() else {
        return;
    };
    settle(ledger, &this.slip);
    let now = cpu::rdtsc();
    ledger.settle(now);
    this.slip.last.set(now);
    let (first, last) = ledger.boundaries();
    let books = &smp::remote(this.id).books;
    books.idle.store(ledger.idle(), Ordering::Relaxed);
    books.machine.store(ledger.machine(), Ordering::Relaxed);
    books.all.store(last.wrapping_sub(first), Ordering::Relaxed);
    let balanced = ledger.is_balanced() && ledger.backwards() == 0;
    books.balanced.store(balanced, Ordering::Release);
}

/// How long the other CPUs have to show their books.
const BOOKS_MS: u64 = 2000;

/// Logs the books of all CPUs, and whether they add up.
pub fn report(vcpus: impl Iterator<Item = &'static Vcpu>) {
    works();
    for vcpu in vcpus {
        let a = of(vcpu.handle);
        info!(
            "domain {} vCPU {}: {} cycles user, {} kernel, {} hypervisor",
            vcpu.domain.id.0, vcpu.id, a.user, a.kernel, a.hypervisor
        );
    }
    smp::test::report();
    let cpus = smp::online();
    let missing = call::ask(cpus.without(percpu::current().id), Call::Books, BOOKS_MS);
    show_books();
    for cpu in cpus.iter() {
        if missing.contains(cpu) {
            error!("CPU {cpu} did not show its books");
            continue;
        }
        let books = &smp::remote(cpu).books;
        let balanced = books.balanced.load(Ordering::Acquire);
        info!(
            "CPU {cpu}: {} cycles idle, {} the machine's own, {} in all; the books {}",
            books.idle.load(Ordering::Relaxed),
            books.machine.load(Ordering::Relaxed),
            books.all.load(Ordering::Relaxed),
            if balanced {
                "balance"
            } else {
                "DO NOT BALANCE"
            }
        );
    }
}

//! What is promised of each CPU, and the rules of the machine: the crate's [`Placement`], and its lock.
//!
//! What a vCPU is promised to begin with is decided in `admission`, what it gets when it is asked for in `granting`, within
//! what is allowed (`allowance`); what it has is told by `terms`.
//!
//! A tick is a nanosecond of system time: what is asked for, charged, kept and told is in one unit, and nothing is rounded
//! in between.
//!
//! # Invariants
//! - P1: what a vCPU is promised was admitted before, and is given back when what it took is paid for.
//! - P2: the lock is taken before a queue's. Nobody is granted what is another's: room is charged before a queue has what it is
//!   for, and given back after. A new vCPU comes into its queue when the lock was let go of, or not at all and gives its room back;
//!   what was granted is given in parts, each vCPU's under the lock (`granting`, G1); a vCPU that moves or is removed does that,
//!   and gives its room back, in one hold.
//! - P3: the lock is held from the look at what a domain has to what it is granted by its own wish: it is granted no more than
//!   it may reserve.

use super::cpu::{self, runs_vcpus};
use super::{at_home, granting};
use crate::arch::smp;
use crate::boot;
use crate::device::timer;
use crate::domain::{Domain, Vcpu};
use crate::info;
use crate::sync::{Guard, Lock, rank};
use ::cpus::set::CpuSet;
use ::reservations::request::NANOSECONDS;
use ::reservations::{Change, Charge, CpuBooks, Dues, InParts, Placement, Rules, Terms};
use alloc::vec;

/// What is under the placement's lock.
pub(super) struct Books {
    /// What is promised of each CPU.
    pub placement: Placement<'static>,
    /// What was granted and is being given (`granting`), and to whose vCPUs.
    pub parts: InParts<&'static Domain>,
}

static PLACEMENT: Lock<Option<Books>, rank::Placement> = Lock::new(None);

/// The books, held; `None` before they are opened.
pub(super) fn lock() -> Guard<'static, Option<Books>, rank::Placement> {
    PLACEMENT.lock()
}

/// Opens the books of the CPUs, when all are started that will be. Boot only.
pub fn init() {
    let rules = of_command_line();
    let number = open().last().map_or(1, |last| last as usize + 1);
    let mut placement = Placement::new(vec![CpuBooks::OFFLINE; number].leak(), rules);
    for cpu in open() {
        placement.set_online(cpu as usize, true);
    }
    *PLACEMENT.lock() = Some(Books {
        placement,
        parts: InParts::default(),
    });
    info!(
        "scheduling: B is {} us, the quantum {} us; {} ppm of each CPU are nobody's to reserve",
        rules.section() / 1000,
        rules.quantum() / 1000,
        rules.reserve_ppm()
    );
}

/// The rules that the command line says; what it may say makes sense.
pub(super) fn of_command_line() -> Rules {
    let p = boot::params();
    let rules = Rules::new(NANOSECONDS, p.section_ns, p.quantum_ns, p.reserve_ppm);
    rules.unwrap_or_else(|why| boot::give_up(format_args!("the rules of scheduling: {why:?}")))
}

/// The rules as they are now.
pub fn rules() -> Rules {
    let books = PLACEMENT.lock();
    books
        .as_ref()
        .map_or_else(of_command_line, |books| *books.placement.rules())
}

/// Puts rules in force that differ from those that are in the quantum alone: for turns that begin from now on.
pub fn set_quantum(rules: Rules) {
    let mut books = PLACEMENT.lock();
    let is_set = books
        .as_mut()
        .is_some_and(|b| b.placement.set_quantum(rules));
    if is_set {
        for cpu in smp::online().iter() {
            cpu::with(cpu, |sched| sched.queue.set_quantum(rules));
        }
    }
}

/// The CPUs that take vCPUs. Before the others are started, and without a local APIC's table, there is this one.
pub(super) fn open() -> impl Iterator<Item = u32> {
    let online = smp::online().with(0);
    online.iter().filter(|cpu| runs_vcpus(*cpu))
}

/// CPUs that take vCPUs: one at least.
pub fn nr_cpus() -> u32 {
    open().count() as u32
}

/// Does what removes a vCPU from its CPU's queue, and gives its room back (P2). That says which CPU that was, what the vCPU
/// was granted, and when what it took is paid for; `None` if it was not in the queue. Whose it is, if anybody knows it.
pub(super) fn give_back(whose: Option<&Vcpu>, remove: impl FnOnce() -> Option<(u32, Terms, u64)>) {
    let mut books = PLACEMENT.lock();
    if let Some((books, vcpu)) = books.as_mut().zip(whose) {
        granting::settle(books, vcpu);
    }
    let removed = remove();
    if let (Some(books), Some((cpu, terms, paid_for_at))) = (books.as_mut(), removed) {
        let release = books.placement.withdraw(cpu as usize, &terms);
        books
            .placement
            .release(timer::now_ns(), release, paid_for_at);
    }
}

/// Of some CPUs the one with the fewest vCPUs among those with room for what a vCPU has on its own.
pub(super) fn room_on(vcpu: &Vcpu, cpus: &CpuSet) -> Option<u32> {
    let mut books = PLACEMENT.lock();
    let placement = &mut books.as_mut()?.placement;
    let granted = at_home(vcpu, |sched, _| sched.queue.granted(vcpu.home.place()));
    let Some((home, Ok(terms))) = granted else {
        return None;
    };
    let best = placement.roomiest(timer::now_ns(), &terms, home as usize, cpus);
    best.map(|cpu| cpu as u32)
}

/// Has a vCPU that is on no CPU go from one to another, if that has room for what it has, and gives its room here back (P2).
/// `go` does that, under the terms that it is told, and says when what the vCPU took here is paid for.
pub(super) fn go(
    vcpu: &Vcpu,
    (from, to): (u32, u32),
    granted: impl FnOnce() -> Option<Terms>,
    go: impl FnOnce(&Terms) -> Option<u64>,
) {
    let mut books = PLACEMENT.lock();
    let Some(books) = books.as_mut() else {
        return;
    };
    granting::settle(books, vcpu);
    let Some(terms) = granted() else {
        return;
    };
    let now = timer::now_ns();
    let only = |cpu: usize| cpu == to as usize;
    let change = books
        .placement
        .amend(now, from as usize, &terms, &terms, only);
    // Another may have taken the room: then it stays.
    if let Ok(Change::Elsewhere { release, .. }) = change {
        // It cannot fail: all is locked, and looked at.
        let paid_for_at = go(&terms);
        if paid_for_at.is_some() {
            // Where it is now that is in force at once.
            let charge = terms.charge(books.placement.rules());
            vcpu.home.dues.write(books, &Dues::new(charge));
        }
        let paid_for_at = paid_for_at.unwrap_or(now);
        books.placement.release(now, release, paid_for_at);
    }
}

/// What is reserved of a CPU.
pub struct Promised {
    /// Whether it takes vCPUs.
    pub online: bool,
    /// vCPUs that are admitted there.
    pub nr_vcpus: u32,
    /// What can be reserved.
    pub capacity: Charge,
    /// What is, with what is not free yet.
    pub charged: Charge,
    /// What is not free yet.
    pub departing: Charge,
}

/// What is reserved of a CPU; `None` if it has no books.
pub fn promised(cpu: u32) -> Option<Promised> {
    let cpu = cpu as usize;
    let mut books = PLACEMENT.lock();
    let placement = &mut books.as_mut()?.placement;
    // First: what is free by now is charged no more.
    let departing = placement.departing(timer::now_ns(), cpu)?;
    Some(Promised {
        online: placement.is_online(cpu),
        nr_vcpus: placement.vcpus(cpu)?,
        capacity: placement.rules().capacity(),
        charged: placement.charged(cpu)?,
        departing,
    })
}

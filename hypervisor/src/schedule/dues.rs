//! What each vCPU is charged, kept with its home: the crate's [`Dues`], for who decides about all of a domain's.
//!
//! # Invariants
//! - U1: it is read and written under the placement's lock, which homes change under, too (`placement` P2, `moves` V3); so
//!   whoever has that lock, and finds a home, knows where the vCPU is and what it is charged there.
//! - U2: it says of the vCPU what its queue says (the crate's K1 and K2): it is written where a vCPU is given a place
//!   (`cpu`), given what it was granted (`granting`), and taken to another CPU ([`placement::go`]), and those are all that
//!   change what a queue has of it. A checked build asks the queue each time that it is read.

use super::cpu::{self, CpuSched};
use super::placement::Books;
use crate::device::timer;
use crate::domain::{NO_CPU, Vcpu};
use ::reservations::{Charge, Dues};
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

/// What a vCPU is charged.
pub(super) struct Kept([AtomicU64; 3]);

impl Kept {
    /// For what it has from the beginning. Nobody knows it yet.
    pub const fn new(charge: Charge) -> Kept {
        let [had, until, granted] = Dues::new(charge).words();
        Kept([
            AtomicU64::new(had),
            AtomicU64::new(until),
            AtomicU64::new(granted),
        ])
    }

    fn read(&self, _locked: &Books) -> Dues {
        Dues::from_words(self.0.each_ref().map(|word| word.load(Relaxed)))
    }

    /// The one place that writes it.
    pub fn write(&self, _locked: &mut Books, dues: &Dues) {
        for (word, value) in self.0.iter().zip(dues.words()) {
            word.store(value, Relaxed);
        }
    }
}

/// Where a vCPU is at home, and what it is charged; `None` if it was removed.
pub(super) fn of(books: &Books, vcpu: &Vcpu) -> Option<(u32, Dues)> {
    let home = vcpu.home.cpu();
    if home == NO_CPU {
        return None;
    }
    let dues = vcpu.home.dues.read(books);
    if cfg!(debug_assertions) {
        cpu::with(home, |sched| check(books, sched, vcpu, &dues));
    }
    Some((home, dues))
}

/// As [`of`], where its home's lock is held.
pub(super) fn of_one_here(books: &Books, sched: &CpuSched, vcpu: &Vcpu) -> Dues {
    let dues = vcpu.home.dues.read(books);
    if cfg!(debug_assertions) {
        check(books, sched, vcpu, &dues);
    }
    dues
}

/// Whether the queue of a vCPU at home with a CPU still has other terms for it to come.
pub(super) fn comes(home: u32, vcpu: &Vcpu) -> bool {
    cpu::with(home, |sched| comes_here(sched, vcpu)).unwrap_or(false)
}

fn comes_here(sched: &CpuSched, vcpu: &Vcpu) -> bool {
    sched.queue.comes(vcpu.home.place()).unwrap_or(false)
}

/// U2.
fn check(books: &Books, sched: &CpuSched, vcpu: &Vcpu, dues: &Dues) {
    let (place, now) = (vcpu.home.place(), timer::now_ns());
    let rules = books.placement.rules();
    let granted = sched.queue.granted(place).map(|terms| terms.charge(rules));
    let promised = sched.queue.promised(now, place);
    let in_force = promised.map(|(terms, _)| terms.charge(rules));
    let kept = dues.in_force(now, || comes_here(sched, vcpu));
    debug_assert_eq!(
        (granted, in_force),
        (Ok(dues.granted()), Ok(kept)),
        "domain {} vCPU {} is charged what it does not have",
        vcpu.domain.id.0,
        vcpu.id
    );
}

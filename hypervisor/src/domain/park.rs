//! Everything else stands still: for what is done with the whole machine, the audit and the end of its control domain.
//!
//! ```text
//!  one CPU, its vCPU in hand                        all others
//!  claims it; if another has: call again, paused
//!  pauses every other vCPU ── interrupt ──────────▶ decides anew: none; puts away what it had
//!  tells every other CPU ──── interrupt ──────────▶ stays where it is, interrupts off, and answers
//!  until all stand still and all stay,
//!  letting others in
//!  does what it is for
//!  lets them go on, or the machine ends ──────────▶ takes the interrupts that came meanwhile
//! ```
//!
//! # Invariants
//! - K1: one CPU at a time has others parked. Who comes second is paused by the first, and begins anew when it is let go.
//! - K2: while the machine is parked no vCPU but the one in hand is loaded anywhere, and the other CPUs do what they are
//!   called for ([`smp::call`], flushes, graces) and nothing else. Who has them parked pays for that, there as here.

use crate::account;
use crate::arch::smp::grace;
use crate::arch::{percpu, smp};
use crate::debug::sections;
use crate::domain::{NO_CPU, Vcpu, all, life, unfinished};
use crate::schedule;
use ::cpus::MAX_CPUS;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use frames::DomId;

/// Who has everything else parked (K1), as [`word_of`]; or [`NO_CPU`].
static BY: AtomicU32 = AtomicU32::new(NO_CPU);

/// A CPU and whose vCPU it has in hand, which is not [`NO_CPU`]: no domain has that number.
fn word_of(cpu: u32, whose: DomId) -> u32 {
    u32::from(whose.0) << 16 | cpu
}

/// From [`word_of`]: the CPU, and whose vCPU it has in hand. `None` if nothing is parked.
fn by() -> Option<(u32, DomId)> {
    let word = BY.load(Ordering::SeqCst);
    (word != NO_CPU).then_some((word & 0xffff, DomId((word >> 16) as u16)))
}

const _: () = assert!(MAX_CPUS <= 1 << 16, "a CPU's number fits below a domain's");
/// How often the machine was parked: what each CPU that stays says in [`smp::Remote::parked`]. So a CPU that is about to go
/// on from the last time is not taken for one that stays.
static TIMES: AtomicU64 = AtomicU64::new(0);

/// Has all vCPUs but the one in hand stand still. False if another CPU does just that: the one in hand is among those that
/// it parks, and is to go back and be put away. Nothing that was found by a look-up may be in hand, and no lock be held.
#[must_use]
pub fn all_but(in_hand: &Vcpu) -> bool {
    let me = word_of(percpu::current().id, in_hand.domain.id);
    let claimed = BY.compare_exchange(NO_CPU, me, Ordering::AcqRel, Ordering::Acquire);
    match claimed {
        Ok(_) => {
            TIMES.fetch_add(1, Ordering::SeqCst);
            smp::others().iter().for_each(smp::notice);
        }
        Err(by) if by != me => return false,
        Err(_) => {}
    }
    // One that is made meanwhile is found by the next round; when all stand still nobody makes any.
    while !(pause_others(in_hand) && others_stay()) {
        unfinished::let_others_in();
    }
    true
}

fn others_stay() -> bool {
    let now = TIMES.load(Ordering::SeqCst);
    let stays = |cpu| smp::remote(cpu).parked.load(Ordering::SeqCst) == now;
    smp::others().iter().all(stays)
}

/// Whether some CPU parks the machine, or has.
pub fn is_asked() -> bool {
    by().is_some()
}

/// To be called where nobody is on a CPU, interrupts are off, and nothing that was found is in hand: stays there while the
/// machine is parked.
pub fn stay_if_asked() {
    let Some((_, whose)) = by() else {
        return;
    };
    sections::end();
    account::is_for_number(whose, account::Cause::Interrupt);
    let parked = &smp::remote(percpu::current().id).parked;
    while is_asked() {
        parked.store(TIMES.load(Ordering::SeqCst), Ordering::SeqCst);
        smp::watch::answer();
        smp::call::serve_all();
        grace::pass();
        core::hint::spin_loop();
    }
    sections::begin();
}

/// Pauses all that are not paused for this, and says whether all stand still.
fn pause_others(in_hand: &Vcpu) -> bool {
    let mut still = true;
    for dom in all() {
        let _alone = dom.bring_up.lock();
        for vcpu in dom.vcpus().filter(|vcpu| !core::ptr::eq(*vcpu, in_hand)) {
            if !vcpu.parked.swap(true, Ordering::AcqRel) {
                schedule::pause(vcpu);
            }
            still &= life::is_still(vcpu);
        }
    }
    still
}

/// Whether this CPU has all others parked.
pub fn is_ours() -> bool {
    by().is_some_and(|(cpu, _)| cpu == percpu::current().id)
}

/// Lets all go on that [`all_but`] has parked.
pub fn go_on() {
    for dom in all() {
        let _alone = dom.bring_up.lock();
        for vcpu in dom.vcpus() {
            if vcpu.parked.swap(false, Ordering::AcqRel) {
                schedule::unpause_all(core::iter::once(vcpu));
            }
        }
    }
    end();
}

/// Nothing is parked any more: what was is gone.
pub fn end() {
    BY.store(NO_CPU, Ordering::Release);
}

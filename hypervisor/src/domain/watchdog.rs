//! Watchdogs of a domain's own: it says how long it may go without saying so again, and is declared stopped when it does
//! not.
//!
//! They go on while a domain is paused, as the interface has it. Nothing but the device timer
//! ([`schedule::set_device_timer`]) is armed: what it finds due is declared stopped, and it is set for the earliest left. All
//! domains are looked at for that only when one may be due, and a few at a time: [`Rounds`].
//!
//! # Invariants
//! - G1: for every watchdog that is set, the device timer is set for its time at the latest, or for the next step of a
//!   round that comes to it.

use crate::control;
use crate::device::timer;
use crate::domain::{Domain, life, table};
use crate::hypercall::BUDGET;
use crate::mmu::work;
use crate::{error, event, info, schedule};
use ::clock::{NEVER, Rounds};
use core::sync::atomic::{AtomicU64, Ordering};
use frames::DomId;
use guest_abi::Errno;
use guest_abi::sched::ShutdownReason;

/// Watchdogs a domain may have: as many as the interface gives it.
const EACH: usize = 2;
/// The time of one that nobody has.
const UNUSED: u64 = NEVER;
/// Nanoseconds in a second.
const SECOND_NS: u64 = 1_000_000_000;
/// Domains that are looked at in one step, and the time between two.
const STEP: usize = 32;
const PAUSE_NS: u64 = 20_000;

static ROUNDS: Rounds = Rounds::new();

/// A domain's watchdogs: when each fires, in nanoseconds of system time.
pub struct Watchdogs {
    due_ns: [AtomicU64; EACH],
}

impl Watchdogs {
    /// None is in use.
    pub const fn new() -> Watchdogs {
        Watchdogs {
            due_ns: [const { AtomicU64::new(UNUSED) }; EACH],
        }
    }

    /// The earliest that is set.
    fn next_ns(&self) -> u64 {
        let times = self.due_ns.iter().map(|due| due.load(Ordering::Acquire));
        times.min().unwrap_or(UNUSED)
    }

    fn clear(&self) {
        for due in &self.due_ns {
            due.store(UNUSED, Ordering::Release);
        }
    }
}

/// Takes a watchdog that fires after so many seconds: its number, from 1 on.
///
/// # Errors
/// `-ENOSPC` when the domain has as many as it may have.
pub fn take(dom: &Domain, seconds: u32) -> Result<u64, Errno> {
    let at = due_ns(seconds);
    for (number, due) in (1..).zip(&dom.watchdogs.due_ns) {
        let taken = due.compare_exchange(UNUSED, at, Ordering::AcqRel, Ordering::Acquire);
        if taken.is_ok() {
            is_set(at);
            return Ok(number);
        }
    }
    Err(Errno::NoSpc)
}

/// Sets a watchdog to fire after so many seconds from now; none gives it back.
///
/// # Errors
/// `-EINVAL` for a number that the domain has not taken.
pub fn set(dom: &Domain, number: u32, seconds: u32) -> Result<(), Errno> {
    let slot = (number as usize).checked_sub(1);
    let slot = slot.and_then(|slot| dom.watchdogs.due_ns.get(slot));
    let due = slot.ok_or(Errno::Inval)?;
    let at = match seconds {
        0 => UNUSED,
        seconds => due_ns(seconds),
    };
    let if_taken = |now: u64| (now != UNUSED).then_some(at);
    due.fetch_update(Ordering::AcqRel, Ordering::Acquire, if_taken)
        .map_err(|_| Errno::Inval)?;
    if at != UNUSED {
        is_set(at);
    }
    Ok(())
}

/// System time so many seconds from now. Never that of an unused one: seconds are 32 bits.
fn due_ns(seconds: u32) -> u64 {
    let later = u64::from(seconds).saturating_mul(SECOND_NS);
    timer::now_ns().saturating_add(later).min(UNUSED - 1)
}

/// A watchdog is set for this time (G1).
fn is_set(at: u64) {
    ROUNDS.sets(at);
    schedule::set_device_timer(at);
}

/// Declares domains stopped whose time is over, and has itself called again for the next (G1).
pub fn look() {
    let now = timer::now_ns();
    if let Some(from) = ROUNDS.begin_step(now) {
        ROUNDS.end_step(step(from, now));
    }
    if let Some(next) = ROUNDS.next_ns(timer::now_ns(), PAUSE_NS) {
        schedule::set_device_timer(next);
    }
}

/// Looks at some domains from this number on, as far as the first whose time is over. Answers where the next step begins.
fn step(from: u64, now: u64) -> Option<u64> {
    let mut from = from;
    for _ in 0..STEP {
        let dom = table::next_from(DomId(u16::try_from(from).ok()?))?;
        from = u64::from(dom.id.0) + 1;
        match dom.watchdogs.next_ns() {
            due if due <= now => {
                dom.watchdogs.clear();
                fired(dom);
                break;
            }
            UNUSED => {}
            due => ROUNDS.sets(due),
        }
    }
    Some(from)
}

fn fired(dom: &'static Domain) {
    if dom.is_dying() || dom.life.shutdown().is_some() {
        return;
    }
    if !dom.privileged {
        info!("domain {} is stopped by its watchdog", dom.id.0);
        // A line is long; whoever is at work here lets others in next.
        work::charge(BUDGET);
        return life::stop(dom, ShutdownReason::Watchdog.into());
    }
    error!("the control domain is stopped by its watchdog");
    control::note_crash(dom);
    dom.stopped.swap(true, Ordering::SeqCst);
    // Whoever of it is on a CPU, or comes to one next, finds it stopped.
    event::interrupt_all(dom);
    event::reschedule_here();
}

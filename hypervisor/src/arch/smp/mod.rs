//! Many CPUs: starting them, asking something of them, stopping them.
//!
//! ```text
//!  start      CPU 0: INIT, start-up ─▶ trampoline.s ─▶ on_other_cpu ─▶ idle ◀─┐
//!  flush      "forget translations"            IPI_FLUSH ─▶ served in idle, on the way in from a guest, while waiting
//!  reschedule "decide anew"             IPI_RESCHEDULE ─▶ noted, done on the way out or in idle
//!  call       "do this for me" (rare things)   IPI_CALL  ─▶ the same, one at a time for the whole machine
//!  grace      "come between two works"     IPI_CALL  ─▶ where nothing that was found is in hand, never while waiting
//!  stop       "halt where you are"             NMI       ─▶ noted where it was, halted for ever
//!  watch      "are you stuck?"          IPI_CALL, NMI  ─▶ answered, or reported from where it is
//! ```
//! Domains run on all, or with `cpus=first` on CPU 0; who has nobody to run waits in the idle loop (`schedule::idle`) and
//! answers.
//!
//! # Invariants
//! - O1: a CPU is in [`ONLINE`] from when it answers interrupts of others until it is stopped.
//! - O2: [`CPUS`] is what CPUs may know of each other: atomics only; what is not here is the CPU's own (percpu C2).
//!
//! # Locks
//! Nobody waits for another CPU (a flush, a call, a stop) with a lock held. A CPU that spins for a lock does so with
//! interrupts off, and answers nobody: it must be sure to get the lock from someone who does not wait for it. The one
//! exception is the lock of [`call`], whose waiters serve while they wait.

pub mod call;
pub mod flush;
pub mod grace;
pub mod skew;
pub mod start;
pub mod stop;
pub mod test;
mod trampoline;
pub mod watch;

use crate::account;
use crate::arch::{apic, percpu};
use ::clock::Offset;
use ::cpus::MAX_CPUS;
use ::cpus::set::AtomicCpuSet;
pub use ::cpus::set::CpuSet;
use ::cpus::watch::Watched;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use frames::DomId;

/// What others may know of a CPU, and leave for it.
pub struct Remote {
    /// Its local APIC's id.
    pub apic_id: AtomicU32,
    /// How far it has come ([`start`]).
    pub stage: AtomicU32,
    /// Ticks by which its clock is to be corrected ([`skew`]): left for it before it runs.
    tsc_offset: AtomicU64,
    /// The domain and vCPU it serves (`domid << 32 | vcpu`) plus one, or 0 for nobody. For crash reports.
    serving: AtomicU64,
    /// It is asked to decide anew who runs there: the number of the domain for whose sake, plus one, or 0.
    resched: AtomicU32,
    /// What its timer is set for, `u64::MAX` for nothing (`schedule`'s timers).
    pub armed: AtomicU64,
    /// The last time that it stayed where it was while the machine was parked (`domain::park`).
    pub parked: AtomicU64,
    /// What it is asked to do ([`call`]).
    call: AtomicU32,
    /// For whom it was last interrupted for a call or a grace, as [`word_of`].
    called_for: AtomicU32,
    /// What it does, for who watches it, and that it is to look at whom it watches ([`watch`]).
    watched: Watched,
    told_to_look: AtomicBool,
    /// Where it was stopped ([`stop`]).
    stopped: stop::Place,
    /// Its books, when it was last asked for them.
    pub books: call::Books,
}

impl Remote {
    const fn new() -> Remote {
        Remote {
            apic_id: AtomicU32::new(0),
            stage: AtomicU32::new(0),
            tsc_offset: AtomicU64::new(0),
            serving: AtomicU64::new(0),
            resched: AtomicU32::new(0),
            armed: AtomicU64::new(u64::MAX),
            parked: AtomicU64::new(0),
            call: AtomicU32::new(0),
            called_for: AtomicU32::new(0),
            watched: Watched::new(),
            told_to_look: AtomicBool::new(false),
            stopped: stop::Place::new(),
            books: call::Books::new(),
        }
    }
}

impl Remote {
    /// Notes whom the CPU serves: a domain's vCPU or nobody. By the CPU itself.
    #[inline]
    pub fn serves(&self, whom: Option<(u16, u32)>) {
        let word = whom.map_or(0, |(domain, vcpu)| {
            (u64::from(domain) << 32 | u64::from(vcpu)) + 1
        });
        self.serving.store(word, Ordering::Relaxed);
    }

    /// How far its counter is ahead of CPU 0's.
    pub fn tsc_offset(&self) -> Offset {
        Offset::ahead(self.tsc_offset.load(Ordering::Relaxed) as i64)
    }

    /// Whom it serves: domain and vCPU.
    pub fn served(&self) -> Option<(u16, u32)> {
        let word = self.serving.load(Ordering::Relaxed).checked_sub(1)?;
        Some(((word >> 32) as u16, word as u32))
    }
}

static CPUS: [Remote; MAX_CPUS] = [const { Remote::new() }; MAX_CPUS];

/// What may be known of a CPU.
pub fn remote(cpu: u32) -> &'static Remote {
    &CPUS[cpu as usize % MAX_CPUS]
}

static ONLINE: AtomicCpuSet = AtomicCpuSet::new();

/// The CPUs that run.
pub fn online() -> CpuSet {
    ONLINE.collect()
}

/// CPU 0 runs, and has a local APIC.
pub fn init() {
    remote(0).apic_id.store(apic::id(), Ordering::Relaxed);
    ONLINE.insert(0);
}

/// The CPUs that run, but for this one.
pub fn others() -> CpuSet {
    online().without(percpu::current().id)
}

/// Sends an interrupt of ours to a CPU.
fn interrupt(cpu: u32, vector: u8) {
    apic::send_ipi(remote(cpu).apic_id.load(Ordering::Relaxed), vector);
}

/// A domain, or nobody, as a word that is not zero for a domain.
fn word_of(whom: Option<DomId>) -> u32 {
    whom.map_or(0, |whom| u32::from(whom.0) + 1)
}

/// From [`word_of`].
fn from_word(word: u32) -> Option<DomId> {
    Some(DomId(word.checked_sub(1)? as u16))
}

/// Has another CPU look at what was left with it before, for whoever pays for what this CPU does, who pays for that too.
fn call_upon(cpu: u32) {
    let whom = word_of(account::who_pays());
    remote(cpu).called_for.store(whom, Ordering::Release);
    interrupt(cpu, apic::IPI_CALL);
}

/// As [`call_upon`], for nobody.
fn call_upon_for_nobody(cpu: u32) {
    remote(cpu).called_for.store(0, Ordering::Release);
    interrupt(cpu, apic::IPI_CALL);
}

/// For whom this CPU was called upon, the last of several; `None` for nobody.
pub fn called_for() -> Option<DomId> {
    from_word(
        remote(percpu::current().id)
            .called_for
            .load(Ordering::Acquire),
    )
}

/// Has another CPU decide anew who runs there, for a domain's sake, which pays for that. What changed has changed before.
pub fn reschedule(cpu: u32, whom: DomId) {
    let word = word_of(Some(whom));
    if remote(cpu).resched.swap(word, Ordering::SeqCst) == 0 {
        interrupt(cpu, apic::IPI_RESCHEDULE);
    }
}

/// Has another CPU come out of its guest, and look at what waits on its way back. What waits was set before, by a locked
/// operation: one that is asked to decide anew and has not begun to looks after that.
pub fn notice(cpu: u32) {
    if remote(cpu).resched.load(Ordering::SeqCst) == 0 {
        interrupt(cpu, apic::IPI_RESCHEDULE);
    }
}

/// For whose sake this CPU was asked to decide anew, the last of several; `None` if it was not. What it sees from here on is
/// newer than what it was asked for.
pub fn rescheduled() -> Option<DomId> {
    let asked = &remote(percpu::current().id).resched;
    // Mostly nobody asks.
    if asked.load(Ordering::Relaxed) == 0 {
        return None;
    }
    from_word(asked.swap(0, Ordering::SeqCst))
}

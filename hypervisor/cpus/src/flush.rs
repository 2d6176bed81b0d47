//! The flush clock, and the handshake by which one CPU has others flush their translations.
//!
//! Every full flush of a CPU advances a global clock, and the CPU notes the reading. What ends the use of a translation
//! is stamped with the clock; a CPU whose last flush is newer than the stamp holds nothing of it.
//!
//! ```text
//!  the CPU that asks                                 a CPU that may hold translations
//!  change the tables (locked), read the clock
//!  whose flush is not newer than the stamp?
//!  asked := whom ── interrupt, if it was 0 ───────▶  where no walk's result is live:
//!  until its flush is newer, or it holds none:       asked := 0, tick the clock, flush, note the reading
//!     serve requests to oneself                ◀───  (seen by its note)
//! ```
//! Who waits serves (H2), so that two CPUs that wait for each other both go on. A CPU takes the request off before it
//! flushes (H3): one that comes in between interrupts it again.
//!
//! Readings are compared modulo 2^32. A distance too large to tell says "flush"; that one too large never says "newer"
//! is seen to by the CPU that ticks: it asks those that have not flushed for an eighth of the range (H4).
//!
//! # Ordering
//! Entries change, holders join, requests are set and the clock ticks by locked operations, which on x86 nothing
//! overtakes: a CPU that joined after the asker looked loads its first root after the entry changed.

use crate::MAX_CPUS;
use crate::atomic::AtomicU32;
use crate::set::AtomicCpuSet;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Release, SeqCst};

/// What the handshake needs of the CPU it runs on.
pub trait Hardware {
    /// Drops all translations of guest addresses this CPU may hold.
    fn flush_translations(&self);
    /// Interrupts another CPU, which then calls [`Flushes::serve`] as soon as no walk's result is live there.
    fn interrupt(&self, cpu: u32);
    /// Lets time pass while `cpu` has not answered.
    fn wait(&self, cpu: u32);
    /// For whom this CPU asks others: a number of the caller's, and not 0. The one that flushes is told it.
    fn asks_for(&self) -> u32 {
        FOR_NOBODY
    }
    /// What follows, until [`Self::served`], is for whom another CPU asked, the last of several.
    fn serves(&self, _whom: u32) {}
    /// That is over.
    fn served(&self) {}
}

/// For nobody in particular.
pub const FOR_NOBODY: u32 = 1;

/// Ticks after which a holder that has not flushed is asked to (H4).
const LAGGING: u32 = 1 << 29;

struct OneCpu {
    /// Clock at its last full flush.
    flushed_at: AtomicU32,
    /// Somebody asked it to flush, and it has not begun yet: for whom, or 0.
    asked: AtomicU32,
    /// Domain whose translations it may hold, plus one; 0 for any.
    domain: AtomicU32,
}

/// Clock, requests and notes of all CPUs.
pub struct Flushes {
    clock: AtomicU32,
    holders: AtomicCpuSet,
    /// At least as many as are in `holders`, but for CPUs that are just joining and hold nothing yet.
    count: AtomicU32,
    cpus: [OneCpu; MAX_CPUS],
}

impl Default for Flushes {
    fn default() -> Self {
        Self::new()
    }
}

impl Flushes {
    /// The clock at one; nobody holds anything.
    #[must_use]
    pub const fn new() -> Self {
        Self::starting_at(1)
    }

    /// As [`Self::new`], at another reading.
    const fn starting_at(clock: u32) -> Self {
        Flushes {
            clock: AtomicU32::new(clock),
            holders: AtomicCpuSet::new(),
            count: AtomicU32::new(0),
            cpus: [const {
                OneCpu {
                    flushed_at: AtomicU32::new(0),
                    asked: AtomicU32::new(0),
                    domain: AtomicU32::new(0),
                }
            }; MAX_CPUS],
        }
    }

    #[inline]
    fn of(&self, cpu: u32) -> &OneCpu {
        &self.cpus[cpu as usize % MAX_CPUS]
    }

    /// The clock now.
    #[inline]
    pub fn clock(&self) -> u32 {
        self.clock.load(Acquire)
    }

    /// Flushes this CPU.
    #[inline]
    pub fn here(&self, me: u32, hardware: &impl Hardware) {
        // The clock is read before the flush: what is dropped in between carries the newer stamp and is flushed again.
        let now = self.clock.fetch_add(1, AcqRel).wrapping_add(1);
        hardware.flush_translations();
        self.of(me).flushed_at.store(now, Release);
        if now.is_multiple_of(LAGGING) {
            self.hurry(me, now, hardware);
        }
    }

    /// Asks holders that have not flushed for long, and does not wait for them (H4).
    #[cold]
    #[inline(never)]
    fn hurry(&self, me: u32, now: u32, hardware: &impl Hardware) {
        for cpu in self.holders.collect().without(me).iter() {
            let age = now.wrapping_sub(self.of(cpu).flushed_at.load(Acquire));
            if age >= LAGGING {
                self.ask(cpu, FOR_NOBODY, hardware);
            }
        }
    }

    /// This CPU may hold translations of a domain's from now on. To be called before it loads the first root that has
    /// any; it flushes ([`Self::here`]) once the root is loaded.
    pub fn join(&self, me: u32, domain: u32) {
        let tag = domain.wrapping_add(1);
        if self.of(me).domain.load(Acquire) != tag {
            // While it changes from one domain to another it may hold both.
            self.of(me).domain.store(0, SeqCst);
        }
        if self.holders.insert(me) {
            self.count.fetch_add(1, SeqCst);
        }
    }

    /// The other half of [`Self::join`]: the root is loaded and what came before is flushed.
    pub fn joined(&self, me: u32, domain: u32) {
        self.of(me).domain.store(domain.wrapping_add(1), SeqCst);
    }

    /// This CPU holds none any more: its root has none, and it has flushed.
    pub fn leave(&self, me: u32) {
        if self.holders.remove(me) {
            self.count.fetch_sub(1, SeqCst);
        }
    }

    /// Whether a CPU may hold any.
    pub fn holds(&self, cpu: u32) -> bool {
        self.holders.contains(cpu)
    }

    /// Does what others asked of this CPU. To be called where no walk's result is live. False if nobody asked.
    pub fn serve(&self, me: u32, hardware: &impl Hardware) -> bool {
        let asked = &self.of(me).asked;
        if asked.load(Acquire) == 0 {
            return false;
        }
        // H3: off first. A request that comes from here on finds it off and interrupts.
        hardware.serves(asked.swap(0, AcqRel));
        self.here(me, hardware);
        hardware.served();
        true
    }

    #[inline]
    fn is_stale(&self, cpu: u32, stamp: u32) -> bool {
        // Wrapping: a difference too large to tell says "flush", which is always safe.
        self.of(cpu).flushed_at.load(Acquire).wrapping_sub(stamp) as i32 <= 0
    }

    fn ask(&self, cpu: u32, whom: u32, hardware: &impl Hardware) {
        if self.of(cpu).asked.swap(whom.max(1), AcqRel) == 0 {
            hardware.interrupt(cpu);
        }
    }

    /// Makes sure that no CPU holds a translation older than `stamp` (H1). Must not be called with a lock held that a
    /// CPU could wait for without serving, nor where a walk's result is live: requests to this CPU are served here.
    #[inline]
    pub fn since(&self, me: u32, stamp: u32, hardware: &impl Hardware) {
        if self.is_stale(me, stamp) {
            self.here(me, hardware);
        }
        // The usual case on one CPU, or with one guest running.
        if self.count.load(SeqCst) > u32::from(self.holders.contains(me)) {
            self.others(me, stamp, |_| true, hardware);
        }
    }

    /// Has every other CPU that may hold translations of `domain` flush what it holds of before now.
    pub fn others_of(&self, me: u32, domain: u32, hardware: &impl Hardware) {
        if self.count.load(SeqCst) > u32::from(self.holders.contains(me)) {
            let tag = domain.wrapping_add(1);
            let its =
                |cpu| matches!(self.of(cpu).domain.load(SeqCst), had if had == 0 || had == tag);
            self.others(me, self.clock(), its, hardware);
        }
    }

    #[cold]
    #[inline(never)]
    fn others(
        &self,
        me: u32,
        stamp: u32,
        concerned: impl Fn(u32) -> bool,
        hardware: &impl Hardware,
    ) {
        let others = self.holders.collect().without(me);
        let whom = hardware.asks_for();
        let mut asked = crate::set::CpuSet::EMPTY;
        for cpu in others.iter() {
            if concerned(cpu) && self.is_stale(cpu, stamp) {
                self.ask(cpu, whom, hardware);
                asked = asked.with(cpu);
            }
        }
        for cpu in asked.iter() {
            while self.is_stale(cpu, stamp) && self.holders.contains(cpu) {
                if !self.serve(me, hardware) {
                    hardware.wait(cpu);
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "tests/flush.rs"]
mod tests;

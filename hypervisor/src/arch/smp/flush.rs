//! The flush handshake (crate `cpus`) on the real machine.

use crate::account::{self, Cause, Paying};
use crate::arch::{apic, cpu, pcid, percpu, smp};
use crate::device::timer;
use crate::sync;
use ::cpus::flush::{FOR_NOBODY, Flushes, Hardware};
use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering};
use frames::DomId;

static FLUSHES: Flushes = Flushes::new();
/// Interrupts sent to have other CPUs flush.
static INTERRUPTS: AtomicU64 = AtomicU64::new(0);

/// How long a CPU may leave a request unanswered before ring 0 is taken to be broken: no operation comes near it.
const LONGEST_ANSWER_NS: u64 = 20_000_000_000;
/// Turns of waiting between looks at the clock.
const TURNS: u32 = 1 << 16;

/// This CPU, with how long it has waited.
struct Here {
    turns: Cell<u32>,
    since_ns: Cell<u64>,
    /// Who paid before another CPU's request was served.
    paid: Cell<Option<Paying>>,
}

/// The first number by which a domain is named to a CPU that flushes for it.
const FOR_DOMAINS: u32 = FOR_NOBODY + 1;

impl Here {
    #[inline]
    fn new() -> Here {
        Here {
            turns: Cell::new(0),
            since_ns: Cell::new(0),
            paid: Cell::new(None),
        }
    }
}

impl Hardware for Here {
    #[inline]
    fn flush_translations(&self) {
        // SAFETY: reloads the root in force.
        unsafe { cpu::write_cr3(percpu::current().root.get()) };
        pcid::flush_all();
    }

    fn asks_for(&self) -> u32 {
        account::who_pays().map_or(FOR_NOBODY, |dom| FOR_DOMAINS + u32::from(dom.0))
    }

    /// Whoever waits for this is charged for it, too: it is there as long as it waits.
    fn serves(&self, whom: u32) {
        self.paid.set(Some(account::paying()));
        match whom.checked_sub(FOR_DOMAINS) {
            Some(number) => account::is_for_number(DomId(number as u16), Cause::Interrupt),
            None => account::is_for_nobody(),
        }
    }

    fn served(&self) {
        if let Some(before) = self.paid.take() {
            account::pays_again(before);
        }
    }

    fn interrupt(&self, cpu: u32) {
        INTERRUPTS.fetch_add(1, Ordering::Relaxed);
        smp::interrupt(cpu, apic::IPI_FLUSH);
    }

    fn wait(&self, cpu: u32) {
        core::hint::spin_loop();
        let turns = self.turns.get();
        self.turns.set(turns.wrapping_add(1));
        if !turns.is_multiple_of(TURNS) {
            return;
        }
        // It is the other one that does not answer.
        smp::watch::answer();
        let now = timer::now_ns();
        if self.since_ns.get() == 0 {
            self.since_ns.set(now);
        }
        let waited = now.saturating_sub(self.since_ns.get());
        assert!(
            waited < LONGEST_ANSWER_NS,
            "CPU {cpu} has not answered a request to flush for {} s",
            waited / 1_000_000_000
        );
    }
}

/// The flush clock: advances with every full flush of a CPU.
#[inline]
pub fn flush_clock() -> u32 {
    FLUSHES.clock()
}

/// Drops every translation this CPU may hold of guest addresses.
#[inline]
pub fn flush_here() {
    FLUSHES.here(percpu::current().id, &Here::new());
}

/// Makes sure that no CPU holds a translation older than `stamp`. No lock may be held, and no result of a walk through
/// a guest's tables be live (guest_memory M2): requests to this CPU are served meanwhile.
#[inline]
#[track_caller]
pub fn flush_since(stamp: u32) {
    sync::assert_none_but_call("a flush is waited for");
    FLUSHES.since(percpu::current().id, stamp, &Here::new());
}

/// Has every other CPU on which a vCPU of a domain may run drop its translations. As [`flush_since`].
#[track_caller]
pub fn flush_others_of(dom: DomId) {
    sync::assert_none_but_call("a flush is waited for");
    FLUSHES.others_of(percpu::current().id, u32::from(dom.0), &Here::new());
}

/// Loads a root below which there are guest addresses of `dom`'s, from one that has none or another's.
///
/// # Safety
/// As [`cpu::write_cr3`].
pub unsafe fn load_guest_root(root: u64, dom: DomId) {
    let this = percpu::current();
    FLUSHES.join(this.id, u32::from(dom.0));
    this.root.set(root);
    // It is this that loads the root.
    flush_here();
    FLUSHES.joined(this.id, u32::from(dom.0));
}

/// Loads a root of ring 0's own, below which there are no guest addresses: this CPU holds none from here on, and is asked
/// for nothing.
///
/// # Safety
/// As [`cpu::write_cr3`].
pub unsafe fn load_own_root(root: u64) {
    let this = percpu::current();
    this.root.set(root);
    flush_here();
    FLUSHES.leave(this.id);
}

/// For tests: this CPU holds translations although it runs no guest, or no longer does.
pub fn pretend_to_hold(holds: bool) {
    let me = percpu::current().id;
    if holds {
        FLUSHES.join(me, u32::MAX - 1);
        flush_here();
    } else {
        flush_here();
        FLUSHES.leave(me);
    }
}

/// Does what others asked of this CPU. False if nobody asked.
pub fn serve() -> bool {
    FLUSHES.serve(percpu::current().id, &Here::new())
}

/// This CPU flushes for nobody any more: it is about to stop.
pub fn leave_for_ever() {
    FLUSHES.leave(percpu::current().id);
}

/// Interrupts sent so far to have other CPUs flush.
pub fn interrupts() -> u64 {
    INTERRUPTS.load(Ordering::Relaxed)
}

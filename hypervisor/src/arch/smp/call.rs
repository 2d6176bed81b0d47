//! Rare things that one CPU has others do: one kind at a time in the whole machine.
//!
//! A call is a word left with a CPU and an interrupt; the word goes back to zero when it is done. Who waits, for an
//! answer or for the lock, serves what others ask meanwhile, so that no two wait for each other.

use crate::account;
use crate::arch::{cpu, percpu, smp};
use crate::debug::crash_test;
use crate::device::timer;
use crate::sync::{self, Guard, Lock, rank};
use crate::warn;
use ::cpus::set::CpuSet;
use ::sched::CpuBooks;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// What a CPU can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Call {
    /// Bring the books up to date and show them.
    Books = 1,
    /// Write the caches back and empty them.
    WriteBackCaches = 2,
    /// Stop, in an orderly way: between two pieces of work.
    Stop = 3,
    /// For tests: take part in [`smp::test`].
    FlushTest = 4,
    /// For tests: crash.
    Crash = 5,
    /// For tests: have the others flush without end.
    Storm = 6,
    /// For tests: show the time.
    Time = 7,
    /// For tests: be stuck.
    Stuck = 8,
}

impl Call {
    fn from_word(word: u32) -> Option<Call> {
        [
            Call::Books,
            Call::WriteBackCaches,
            Call::Stop,
            Call::FlushTest,
            Call::Crash,
            Call::Storm,
            Call::Time,
            Call::Stuck,
        ]
        .into_iter()
        .find(|call| *call as u32 == word)
    }
}

/// A call's word: its kind below its number.
const KIND_BITS: u32 = 4;
const KIND_MASK: u32 = (1 << KIND_BITS) - 1;
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Held while a call is out. Waiters serve.
static OUT: Lock<(), rank::Call> = Lock::new(());

/// How a CPU's time was used, as it showed it last.
pub struct Books {
    /// Cycles idle, the machine's own, and for domains.
    pub idle: AtomicU64,
    machine: AtomicU64,
    sold: AtomicU64,
    /// The boundaries between which that was.
    first: AtomicU64,
    last: AtomicU64,
    /// Whether they add up.
    balanced: AtomicBool,
}

impl Books {
    pub(super) const fn new() -> Books {
        Books {
            idle: AtomicU64::new(0),
            machine: AtomicU64::new(0),
            sold: AtomicU64::new(0),
            first: AtomicU64::new(0),
            last: AtomicU64::new(0),
            balanced: AtomicBool::new(false),
        }
    }

    /// Shows them. By the CPU itself.
    pub fn show(&self, books: &CpuBooks, is_right: bool) {
        self.idle.store(books.idle, Ordering::Relaxed);
        self.machine.store(books.machine, Ordering::Relaxed);
        self.sold.store(books.sold, Ordering::Relaxed);
        self.first.store(books.first, Ordering::Relaxed);
        self.last.store(books.last, Ordering::Relaxed);
        let balanced = books.is_balanced() && is_right;
        self.balanced.store(balanced, Ordering::Release);
    }

    /// What was shown, and whether it adds up. For who has asked and waited.
    pub fn look(&self) -> (CpuBooks, bool) {
        let balanced = self.balanced.load(Ordering::Acquire);
        let books = CpuBooks {
            first: self.first.load(Ordering::Relaxed),
            last: self.last.load(Ordering::Relaxed),
            idle: self.idle.load(Ordering::Relaxed),
            machine: self.machine.load(Ordering::Relaxed),
            sold: self.sold.load(Ordering::Relaxed),
        };
        (books, balanced)
    }
}

/// A call that is out.
pub struct Out {
    cpus: CpuSet,
    _lock: Guard<'static, (), rank::Call>,
}

/// Asks CPUs to do something, and waits for them for `patience_ms` at most. Answers who has not done it by then. No lock
/// may be held.
pub fn ask(cpus: CpuSet, call: Call, patience_ms: u64) -> CpuSet {
    begin(cpus, call).finish(patience_ms)
}

/// Asks one CPU, and does not wait at all.
pub fn leave(cpu: u32, call: Call) {
    drop(begin(CpuSet::EMPTY.with(cpu), call));
}

/// Asks, and does not wait yet.
#[track_caller]
pub fn begin(cpus: CpuSet, call: Call) -> Out {
    sync::assert_none("other CPUs are called");
    let lock = loop {
        if let Some(guard) = OUT.try_lock() {
            break guard;
        }
        serve_all();
        core::hint::spin_loop();
    };
    // Told apart by number, so that who is late with one call does not take the next of its kind for done.
    let number = NUMBER.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
    let word = number << KIND_BITS | call as u32;
    for cpu in cpus.iter() {
        smp::remote(cpu).call.store(word, Ordering::Release);
        smp::call_upon(cpu);
    }
    Out { cpus, _lock: lock }
}

impl Out {
    /// Waits for the CPUs that were asked for `patience_ms` at most, and takes the call back from the others, who are
    /// the answer.
    pub fn finish(self, patience_ms: u64) -> CpuSet {
        let mut missing = self.cpus;
        timer::wait_ms(patience_ms, || {
            smp::flush::serve();
            smp::watch::answer();
            for cpu in missing.iter() {
                if smp::remote(cpu).call.load(Ordering::Acquire) == 0 {
                    missing = missing.without(cpu);
                }
            }
            missing.is_empty()
        });
        for cpu in missing.iter() {
            smp::remote(cpu).call.store(0, Ordering::Release);
        }
        missing
    }
}

/// Has all other CPUs write their caches back and empty them.
pub fn write_back_other_caches() {
    const PATIENCE_MS: u64 = 1000;
    let late = ask(smp::others(), Call::WriteBackCaches, PATIENCE_MS);
    if !late.is_empty() {
        warn!("{} CPUs did not write their caches back", late.len());
    }
}

/// Does what this CPU is asked to do.
pub fn serve() {
    let place = &smp::remote(percpu::current().id).call;
    let word = place.load(Ordering::Acquire);
    let done = || place.compare_exchange(word, 0, Ordering::AcqRel, Ordering::Relaxed);
    match Call::from_word(word & KIND_MASK) {
        None => return,
        Some(Call::Books) => account::show_books(),
        Some(Call::WriteBackCaches) => cpu::write_back_caches(),
        Some(Call::FlushTest) => smp::test::take_part(),
        Some(Call::Storm) => smp::test::begin_storm(),
        Some(Call::Time) => smp::test::show_time(),
        Some(Call::Stuck) => smp::test::begin_to_be_stuck(),
        Some(Call::Stop) => {
            let _ = done();
            smp::stop::here();
        }
        Some(Call::Crash) => {
            let _ = done();
            crash_test::panic_as_asked();
        }
    }
    let _ = done();
}

/// Does all that others may have asked of this CPU.
pub fn serve_all() {
    smp::flush::serve();
    smp::watch::answer();
    serve();
}

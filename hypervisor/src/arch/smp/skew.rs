//! How far another CPU's time-stamp counter is off, by questions and answers (crate `cpus`), and what follows from it.
//!
//! `tsc=` says what. `auto` believes a CPU that says its counter is invariant, if the questions find all counters the same.
//! `stable` believes them in any case, and complains. Where a counter is off and nobody vouches for it, its CPU's clock is
//! corrected by the offset and guests are told that counters differ: their time pages are another CPU's at each switch.

use crate::arch::cpu;
use crate::boot;
use crate::device::{facts, timer};
use crate::{error, info, warn};
use ::cpus::skew::{Bounds, Exchange, Found, Trust};
use boot_info::params::{SmpTest, Tsc};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Exchanges to compare time-stamp counters, and how long they may take.
const EXCHANGES: u64 = 32;
const EXCHANGES_MS: u64 = 50;

/// Question (odd) and answer (even) numbers of [`measure`].
static TURN: AtomicU64 = AtomicU64::new(0);
/// The other CPU's counter, before its turn is over.
static THEIRS: AtomicU64 = AtomicU64::new(0);

/// A CPU that runs was not found to have CPU 0's counter.
static DIFFERS: AtomicBool = AtomicBool::new(false);

/// For a test, by how much all CPUs but CPU 0 say that they are behind: so their corrected clocks are ahead by that.
pub const PRETENDED: u64 = 1 << 32;

/// Compares this CPU's time-stamp counter with that of the CPU that is being started.
pub fn measure() -> Found {
    let mut bounds: Option<Bounds> = None;
    let mut left = EXCHANGES;
    timer::wait_ms(EXCHANGES_MS, || {
        let question = TURN.load(Ordering::Relaxed) + 1;
        let before = cpu::rdtsc();
        TURN.store(question, Ordering::SeqCst);
        if !timer::wait_ms(EXCHANGES_MS, || TURN.load(Ordering::SeqCst) != question) {
            return true;
        }
        let exchange = Exchange {
            before,
            theirs: THEIRS.load(Ordering::Relaxed),
            after: cpu::rdtsc(),
        };
        let its = exchange.bounds();
        bounds = Some(bounds.map_or(its, |all| all.and(its)));
        left -= 1;
        left == 0
    });
    // The other CPU is not to answer a question that nobody asks any more.
    TURN.fetch_and(!1, Ordering::SeqCst);
    Found::from(bounds)
}

/// Answers one question, if there is one.
pub fn answer() {
    let turn = TURN.load(Ordering::SeqCst);
    if turn % 2 == 1 {
        THEIRS.store(cpu::rdtsc().wrapping_sub(pretended()), Ordering::Relaxed);
        let _ = TURN.compare_exchange(turn, turn + 1, Ordering::SeqCst, Ordering::Relaxed);
    }
}

/// What is taken off this CPU's counter for a test.
fn pretended() -> u64 {
    match boot::params().smp_test {
        Some(SmpTest::Skew) => PRETENDED,
        _ => 0,
    }
}

/// What the command line says of the counters.
pub fn trust() -> Trust {
    match boot::params().tsc {
        Tsc::Auto => Trust::Measured,
        Tsc::Stable => Trust::Always,
        Tsc::Unstable => Trust::Never,
    }
}

/// Whether every CPU that runs was found to have CPU 0's counter.
pub fn all_the_same() -> bool {
    !DIFFERS.load(Ordering::Acquire)
}

/// A CPU that was measured is about to run: notes it, and says what is to be said.
pub fn judge(number: u32, found: Found) {
    if !found.is_same() {
        DIFFERS.store(true, Ordering::Release);
    }
    match (found, trust()) {
        (Found::Same(_), _) => {}
        (_, Trust::Always) => error!(
            "CPU {number} was not found to have CPU 0's time-stamp counter, though `tsc=stable` says so: guests that use \
             several CPUs may see time run backwards; leave the word out"
        ),
        (Found::Apart(_), _) => warn!(
            "CPU {number}'s clock is corrected, and guests do not read time without us; update the firmware, which should \
             start all CPUs' counters as one"
        ),
        (Found::Adrift | Found::Nothing, _) => warn!(
            "CPU {number}'s time-stamp counter cannot be corrected: time on it may differ from CPU 0's; use `maxcpus=` if \
             that matters"
        ),
    }
}

/// Says what guests are told, once all CPUs are started.
pub fn tell() {
    let word = match boot::params().tsc {
        Tsc::Auto => "auto",
        Tsc::Stable => "stable",
        Tsc::Unstable => "unstable",
    };
    let told = if facts::tsc_is_stable() {
        "they read time without us"
    } else {
        "counters may differ"
    };
    info!("guests are told that {told} (tsc={word})");
}

//! How far another CPU's time-stamp counter is off, by questions and answers (crate `cpus`).

use crate::arch::cpu;
use crate::device::timer;
use ::cpus::skew::{Exchange, Skew};
use core::sync::atomic::{AtomicU64, Ordering};

/// Exchanges to compare time-stamp counters, and how long they may take.
const EXCHANGES: u64 = 32;
const EXCHANGES_MS: u64 = 50;

/// Question (odd) and answer (even) numbers of [`measure`].
static TURN: AtomicU64 = AtomicU64::new(0);
/// The other CPU's counter, before its turn is over.
static THEIRS: AtomicU64 = AtomicU64::new(0);

/// Compares this CPU's time-stamp counter with that of the CPU that is being started. `None` if that does not answer.
pub fn measure() -> Option<Skew> {
    let mut best: Option<Skew> = None;
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
        best = Some(best.map_or(exchange.skew(), |b| b.better(exchange.skew())));
        left -= 1;
        left == 0
    });
    // The other CPU is not to answer a question that nobody asks any more.
    TURN.fetch_and(!1, Ordering::SeqCst);
    best
}

/// Answers one question, if there is one.
pub fn answer() {
    let turn = TURN.load(Ordering::SeqCst);
    if turn % 2 == 1 {
        THEIRS.store(cpu::rdtsc(), Ordering::Relaxed);
        let _ = TURN.compare_exchange(turn, turn + 1, Ordering::SeqCst, Ordering::Relaxed);
    }
}

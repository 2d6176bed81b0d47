//! What children do, for ever. Each counts in words of the page it shares with its parent.

use core::arch::asm;

use guest_runtime::instructions::rdtsc;
use guest_runtime::link::{FREE, Link};
use guest_runtime::{child, events, hypercall};
use guests::attacks;

use crate::load::Kind;

/// Instructions of its own that it has executed, or ticks that it was on the CPU, as it counts them.
pub const OWN: usize = FREE;
/// What it did of its kind: cycles, sleeps, an attacker's deeds.
pub const DEEDS: usize = attacks::DEEDS;
/// Cycles whose work was not done before the next began.
pub const MISSED: usize = FREE + 8;
/// The longest that a cycle's work took from when it was due, in nanoseconds.
pub const LONGEST: usize = FREE + 9;
/// The latest that it woke, in nanoseconds.
pub const LATEST: usize = FREE + 10;
/// Times that somebody else was on the CPU for longer than [`ELSEWHERE`].
pub const GAPS: usize = FREE + 11;
/// How often it woke so late: from 2^n to 2^(n+1) nanoseconds, for n from 0 on.
pub const LATE: usize = FREE + 16;
/// Words from [`LATE`] on.
pub const LATE_WORDS: usize = 32;

/// Instructions of a turn of the inner loop.
const INNER: u64 = 256;
/// Turns of it between two counts.
const TURNS: u64 = 8;
/// Instructions between two counts of a hog: the inner loop's, and one before and two after it.
const COUNTED: u64 = INNER * TURNS + 3;

/// The cyclic task: so much work, so often.
const WORK_NS: u64 = 2_000_000;
const PERIOD_NS: u64 = 10_000_000;
/// What a sleeper works.
const SHORT_WORK: u64 = 20_000;
/// Ticks between two readings of the clock that nothing of one's own takes.
const INTERRUPTED: u64 = 300;
/// Ticks that another's turn takes at least.
const ELSEWHERE: u64 = 50_000;

/// What a kind does.
pub fn of(kind: Kind) -> fn() {
    match kind {
        Kind::Hog => hog,
        Kind::Watcher => watcher,
        Kind::Cyclic => cyclic,
        Kind::Sleeper => sleeper,
        Kind::Echo => echo,
        Kind::Yields => || {
            attacks::yields_early([0; 5]);
        },
        Kind::Naps => || {
            attacks::sleeps_over_ticks([0; 5]);
        },
        Kind::Wakes => || {
            attacks::wakes_often([0; 5]);
        },
        Kind::Timers => || {
            attacks::timers([0; 5]);
        },
        Kind::Calls => || {
            attacks::tiny_calls([0; 5]);
        },
        Kind::Storm => || {
            attacks::storm([0; 5]);
        },
        Kind::Copies => || {
            attacks::copies([0; 5]);
        },
        Kind::Flushes => || {
            attacks::flushes([0; 5]);
        },
    }
}

fn link() -> Link {
    child::link().expect("a child has a link")
}

fn hog() {
    // SAFETY: counts up a word of the page shared with the parent, for ever.
    unsafe {
        asm!(
            "2:",
            "mov eax, {turns}",
            "3:",
            ".rept {nops}",
            "nop",
            ".endr",
            "dec eax",
            "jnz 3b",
            "add qword ptr [rcx], {counted}",
            "jmp 2b",
            turns = const TURNS,
            nops = const INNER - 2,
            counted = const COUNTED,
            in("rcx") link().address + 8 * OWN as u64,
            options(noreturn),
        );
    }
}

/// Executes so many instructions, and some more, and counts them.
fn work(instructions: u64) {
    // SAFETY: counts down a register.
    unsafe {
        asm!(
            "2:",
            ".rept {nops}",
            "nop",
            ".endr",
            "dec {turns}",
            "jnz 2b",
            nops = const INNER - 2,
            turns = inout(reg) instructions.div_ceil(INNER) => _,
            options(nomem, nostack),
        );
    }
    link().add(OWN, instructions.next_multiple_of(INNER));
}

fn did() {
    link().add(DEEDS, 1);
}

fn raise(word: usize, value: u64) {
    let link = link();
    if value > link.get(word) {
        link.set(word, value);
    }
}

/// Sleeps, and notes how late it ended.
fn sleep_until(deadline: u64) {
    while events::now_ns() < deadline {
        child::wait(&[], deadline);
    }
    let late = events::now_ns() - deadline;
    raise(LATEST, late);
    let class = late.max(1).ilog2() as usize;
    link().add(LATE + class.min(LATE_WORDS - 1), 1);
}

fn watcher() {
    let link = link();
    let (mut last, mut own, mut gaps) = (rdtsc(), 0, 0);
    loop {
        let now = rdtsc();
        let between = now - last;
        last = now;
        if between < INTERRUPTED {
            own += between;
        } else {
            gaps += u64::from(between > ELSEWHERE);
            link.set(GAPS, gaps);
        }
        link.set(OWN, own);
    }
}

fn cyclic() {
    let mut due = events::now_ns().next_multiple_of(PERIOD_NS);
    loop {
        due += PERIOD_NS;
        sleep_until(due);
        // At an instruction a nanosecond: elsewhere it is as much as it is.
        work(WORK_NS);
        let took = events::now_ns() - due;
        raise(LONGEST, took);
        link().add(MISSED, u64::from(took > PERIOD_NS));
        did();
    }
}

fn sleeper() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    loop {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // One to eight milliseconds.
        sleep_until(events::now_ns() + 1_000_000 + state % 7_000_000);
        work(SHORT_WORK);
        did();
    }
}

fn echo() {
    let port = child::port();
    loop {
        while !events::clear_port(port) {
            child::wait(&[port], 0);
        }
        hypercall::send(port);
    }
}

//! The log: what ring 0 says, on the console as far as the command line wants it, and always in a ring.
//!
//! # Invariants
//! - L1: the ring keeps every message whatever its level, the newest over the oldest.
//! - L2: a message is one piece on the console and in the ring: writers hold [`LINE`]. While a crash is reported
//!   nobody waits for it; the ring is made of atomic bytes, so that this costs order, never soundness.
//! - L3: nothing here allocates.

use crate::debug::{console, crash};
use crate::sync::{Lock, rank};
use boot_info::Params;
use boot_info::params::LogLevel;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// Bytes the ring keeps. A power of two.
pub const RING_BYTES: u64 = 16 << 10;
/// Begins every message.
const PREFIX: &[u8] = b"(xeno) ";

static RING: [AtomicU8; RING_BYTES as usize] = [const { AtomicU8::new(0) }; RING_BYTES as usize];
/// Bytes ever written: the ring holds the last [`RING_BYTES`] of them.
static WRITTEN: AtomicU64 = AtomicU64::new(0);
/// [`WRITTEN`] just after the last message the console did not show.
static HIDDEN: AtomicU64 = AtomicU64::new(0);
/// Messages up to this level are shown, as a number of [`LogLevel`]'s order.
static SHOWN: AtomicU8 = AtomicU8::new(LogLevel::Info as u8);
/// Held while a message is written (L2). Taken before the console's lock.
static LINE: Lock<(), rank::Log> = Lock::new(());

/// Says how much is shown from now on.
pub fn init(params: &Params) {
    SHOWN.store(params.loglvl as u8, Ordering::Relaxed);
}

/// Logs a message of a level; the macros below call it.
pub fn write(level: LogLevel, message: fmt::Arguments<'_>) {
    let shown = level as u8 <= SHOWN.load(Ordering::Relaxed);
    let _line = (!crash::in_progress()).then(|| LINE.lock());
    let mut out = Out { shown };
    out.put(PREFIX);
    out.put(match level {
        LogLevel::Error => b"error: ",
        LogLevel::Warning => b"warning: ",
        LogLevel::Debug => b"debug: ",
        LogLevel::None | LogLevel::Info => b"",
    });
    let _ = out.write_fmt(message);
    out.put(b"\n");
    if !shown {
        HIDDEN.store(WRITTEN.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// Writes text of a crash report, always shown.
pub fn write_report(text: fmt::Arguments<'_>) {
    let _ = Out { shown: true }.write_fmt(text);
}

struct Out {
    shown: bool,
}

impl Out {
    fn put(&mut self, bytes: &[u8]) {
        keep(bytes);
        if self.shown {
            console::write_bytes(bytes);
        }
    }
}

impl Write for Out {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.put(text.as_bytes());
        Ok(())
    }
}

fn slot(offset: u64) -> &'static AtomicU8 {
    &RING[(offset % RING_BYTES) as usize]
}

fn keep(bytes: &[u8]) {
    let start = WRITTEN.fetch_add(bytes.len() as u64, Ordering::AcqRel);
    for (i, &byte) in bytes.iter().enumerate() {
        slot(start.wrapping_add(i as u64)).store(byte, Ordering::Relaxed);
    }
}

/// Copies what was logged from `offset` on (counted in bytes since boot; what is older than the ring is skipped).
/// Answers how many bytes were copied and the offset to go on from.
pub fn read_ring(offset: u64, to: &mut [u8]) -> (usize, u64) {
    let _line = (!crash::in_progress()).then(|| LINE.lock());
    let end = WRITTEN.load(Ordering::Acquire);
    let start = offset.clamp(end.saturating_sub(RING_BYTES), end);
    let mut copied = 0;
    for (place, at) in to.iter_mut().zip(start..end) {
        *place = slot(at).load(Ordering::Relaxed);
        copied += 1;
    }
    (copied, start + copied as u64)
}

/// Bytes logged since boot: the offset where the next message will begin.
pub fn end_of_ring() -> u64 {
    WRITTEN.load(Ordering::Acquire)
}

/// Shows the ring's last `bytes` up to offset `end`, if any message among them was not shown when it was written.
/// For crash reports.
pub fn show_hidden_tail(bytes: u64, end: u64) {
    let mut at = end.saturating_sub(bytes.min(RING_BYTES));
    if HIDDEN.load(Ordering::Relaxed) <= at {
        return;
    }
    write_report(format_args!("log, last {} bytes:\n", end - at));
    // From a line's beginning, in pieces that need no large stack.
    while at > 0 && at < end && slot(at - 1).load(Ordering::Relaxed) != b'\n' {
        at += 1;
    }
    let mut piece = [0; 64];
    while at < end {
        let wanted = piece.len().min((end - at) as usize);
        let (copied, next) = read_ring(at, &mut piece[..wanted]);
        if copied == 0 {
            break;
        }
        console::write_bytes(&piece[..copied]);
        at = next;
    }
}

/// Logs what went wrong.
#[macro_export]
macro_rules! error {
    ($($arg:tt)*) => {
        $crate::debug::log::write(::boot_info::params::LogLevel::Error, format_args!($($arg)*))
    };
}

/// Logs what looks wrong.
#[macro_export]
macro_rules! warn {
    ($($arg:tt)*) => {
        $crate::debug::log::write(::boot_info::params::LogLevel::Warning, format_args!($($arg)*))
    };
}

/// Logs what happens.
#[macro_export]
macro_rules! info {
    ($($arg:tt)*) => {
        $crate::debug::log::write(::boot_info::params::LogLevel::Info, format_args!($($arg)*))
    };
}

/// Logs what only a developer wants to know.
#[macro_export]
macro_rules! debug {
    ($($arg:tt)*) => {
        $crate::debug::log::write(::boot_info::params::LogLevel::Debug, format_args!($($arg)*))
    };
}

//! Checks: each is one comparison with a name; a failed one says so and the guest goes on.
//!
//! Output that the runner reads, one line each:
//! - `GUEST FAIL name: what, wanted W, got G` for each failed check,
//! - `GUEST EXPECT CRASH name` before a guest does what must end in a crash,
//! - `name: N checks` and then `GUEST PASS name` at the end when none failed.
//!
//! A pass ends in shutdown reason *poweroff*, a failure in *crash*.

use core::fmt::Debug;

use crate::Global;
use crate::hypercall::{self, ShutdownReason};
use crate::say;

static NAME: Global<&str> = Global::new("?");
static PASSED: Global<u32> = Global::new(0);
static FAILED: Global<u32> = Global::new(0);
static SKIPPED: Global<u32> = Global::new(0);

/// The guest's name.
pub fn name() -> &'static str {
    NAME.get()
}

/// Names a guest that does not come through [`run`].
pub(crate) fn set_name(name: &'static str) {
    NAME.set(name);
}

/// Runs a guest's `main` and reports.
pub fn run(guest_name: &'static str, main: fn()) -> ! {
    NAME.set(guest_name);
    main();
    finish()
}

/// Counts one check; says what was wanted and got if it failed. Returns whether it passed.
pub fn compare<T: PartialEq + Debug>(what: &str, got: T, wanted: T) -> bool {
    let same = got == wanted;
    record(same);
    if !same {
        say!(
            "GUEST FAIL {}: {what}, wanted {wanted:x?}, got {got:x?}",
            name()
        );
    }
    same
}

/// Counts one check of a condition. Returns whether it passed.
pub fn condition(what: &str, holds: bool) -> bool {
    record(holds);
    if !holds {
        say!("GUEST FAIL {}: {what}, wanted true, got false", name());
    }
    holds
}

fn record(passed: bool) {
    let counter = if passed { &PASSED } else { &FAILED };
    counter.set(counter.get() + 1);
}

/// Counts one failure that is not a comparison, and says it.
pub fn fail(arguments: core::fmt::Arguments<'_>) {
    record(false);
    say!("GUEST FAIL {}: {arguments}", name());
}

/// Says that a check cannot be made here, and why.
pub fn skip(arguments: core::fmt::Arguments<'_>) {
    SKIPPED.set(SKIPPED.get() + 1);
    say!("{}: skip: {arguments}", name());
}

/// How many checks passed so far.
pub fn passed() -> u32 {
    PASSED.get()
}

/// How many checks failed so far.
pub fn failures() -> u32 {
    FAILED.get()
}

/// Announces that what follows must end in the hypervisor crashing this domain.
pub fn expect_crash() {
    if failures() == 0 {
        say!("GUEST EXPECT CRASH {}", name());
    }
}

/// For a guest that must have crashed by now: reports that it did not, and ends.
pub fn survived(what: &str) -> ! {
    fail(format_args!("{what}, wanted a crash, got control back"));
    finish()
}

/// Reports and ends the guest.
pub fn finish() -> ! {
    finish_by(|| hypercall::shutdown(ShutdownReason::Poweroff))
}

/// As [`finish`]; a guest that passed ends the machine by something else than shutting itself down.
pub fn finish_by(end: impl FnOnce()) -> ! {
    let (passed, failed) = (PASSED.get(), FAILED.get());
    if failed == 0 {
        say!("{}: {passed} checks, {} skipped", name(), SKIPPED.get());
        say!("GUEST PASS {}", name());
        end();
        fail(format_args!("it did not end"));
    }
    say!("{}: {failed} of {} checks failed", name(), passed + failed);
    hypercall::shutdown(ShutdownReason::Crash)
}

/// Checks a condition: `check!(ready, "the page is ready")`.
#[macro_export]
macro_rules! check {
    ($condition:expr, $what:expr) => {
        $crate::check::condition($what, $condition)
    };
}

/// Compares: `check_eq!("the answer", got, wanted)`.
#[macro_export]
macro_rules! check_eq {
    ($what:expr, $got:expr, $wanted:expr) => {
        $crate::check::compare($what, $got, $wanted)
    };
}

/// Says why a check is not made: `skip!("no {feature}")`.
#[macro_export]
macro_rules! skip {
    ($($argument:tt)*) => { $crate::check::skip(format_args!($($argument)*)) };
}

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    say!("GUEST FAIL {}: {info}", name());
    hypercall::shutdown(ShutdownReason::Crash)
}

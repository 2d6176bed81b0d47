//! Crashes on purpose, for the test-suite: `crash_test=` on the command line shows that a crash of ring 0 is
//! reported as it should be, whichever way it comes about.
//!
//! Each function does one thing that ring 0 must never do; its name is what a test looks for in the backtrace.

use crate::arch::smp::call::{self, Call};
use crate::arch::{cpu, percpu, smp};
use crate::boot;
use crate::device::timer;
use crate::layout::{DIRECT_MAP, DIRECT_MAP_SIZE, PAGE};
use crate::sync::{Lock, rank};
use boot_info::params::CrashTest;
use core::arch::asm;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

/// What [`touch_unmapped`] has in a register when it faults, so that a test can tell the report's registers from
/// any others.
const MARK: u64 = 0x5eed_0fca_5cad_e001;

/// How long [`crash_another`] gives this CPU to be in its guest.
const UNTIL_IN_GUEST_MS: u64 = 1000;

/// Whether it was done.
static DONE: AtomicBool = AtomicBool::new(false);

/// Crashes as the command line asks, when the first guest is about to be entered.
pub fn on_entry() {
    if let Some(how) = boot::params().crash_test
        && !DONE.swap(true, Ordering::AcqRel)
    {
        crash(how);
    }
}

/// Crashes as the command line asks. Returns only to let another CPU crash while this one goes on.
#[inline(never)]
pub fn crash(how: CrashTest) {
    match how {
        CrashTest::Panic => panic_on_purpose(),
        CrashTest::Fault => touch_unmapped(),
        CrashTest::Stack | CrashTest::Early => {
            overflow_stack(0);
        }
        CrashTest::Nested => panic_in_panic(),
        CrashTest::Locks => lock_outwards(),
        CrashTest::Wait => wait_with_lock(),
        CrashTest::Other => return crash_another(Call::Crash),
        CrashTest::Stuck => return crash_another(Call::Stuck),
        CrashTest::Deaf => {
            smp::online()
                .iter()
                .last()
                .inspect(|&cpu| smp::test::deafen(cpu));
            panic_on_purpose();
        }
    }
    unreachable!("crash_test={how:?} did not crash");
}

#[inline(never)]
fn panic_on_purpose() {
    panic!("crash_test=panic");
}

/// Has the last CPU panic in a while, or be stuck.
fn crash_another(how: Call) {
    let others = smp::online().without(percpu::current().id);
    match others.iter().last() {
        Some(last) => call::leave(last, how),
        None => panic_on_purpose(),
    }
}

/// On a CPU that [`crash_another`] asked.
#[inline(never)]
pub fn panic_as_asked() -> ! {
    timer::stall_ms(UNTIL_IN_GUEST_MS);
    panic!("crash_test=other");
}

#[inline(never)]
fn touch_unmapped() {
    // The last page of the direct map's range, which no machine fills.
    let nowhere = DIRECT_MAP + DIRECT_MAP_SIZE - PAGE;
    // SAFETY: nothing is mapped there: the read faults and the report ends the machine.
    unsafe { asm!("mov {0}, [{0}]", inout(reg) nowhere => _, in("r12") MARK, options(nostack)) };
}

/// Runs off the stack's end into its guard page.
#[inline(never)]
#[allow(unconditional_recursion)]
fn overflow_stack(depth: u64) -> u64 {
    // Each level keeps something on the stack until the level below returns, so none is a mere jump.
    let mut kept = [depth; 64];
    core::hint::black_box(&mut kept);
    overflow_stack(depth + 1) + kept[0]
}

/// Two locks to take wrongly.
static OUTER: Lock<u32, rank::Events> = Lock::new(0);
static INNER: Lock<u32, rank::Free> = Lock::new(0);

/// Breaks the order of locks, which a checked build must find out.
#[inline(never)]
fn lock_outwards() {
    let inner = INNER.lock();
    let outer = OUTER.lock();
    panic!(
        "crash_test=locks: this build lets it happen ({inner} {outer})",
        inner = *inner,
        outer = *outer
    );
}

/// Waits for an interrupt with something locked, which a checked build must find out.
#[inline(never)]
fn wait_with_lock() {
    let outer = OUTER.lock();
    cpu::wait_for_interrupt();
    panic!("crash_test=wait: this build lets it happen ({})", *outer);
}

#[inline(never)]
fn panic_in_panic() {
    /// A message that cannot be said.
    struct Unspeakable;
    impl fmt::Display for Unspeakable {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            panic!("crash_test=nested, the inner one");
        }
    }
    panic!("crash_test=nested {Unspeakable}");
}

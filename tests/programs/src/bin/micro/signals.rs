//! Signals.

use crate::measure::{ROUNDS, least};
use crate::pages;
use programs::calls::{self, Access, PAGE, Sharing, nr};
use programs::sys::{self, Errno};

const SIGSEGV: usize = 11;
const SIGUSR1: usize = 10;

unsafe extern "C" {
    fn signal_return();
    fn signal_nothing();
    fn signal_step_over();
}

// The third argument of a handler is the interrupted state; its instruction pointer is the word at 168. The access
// that faults is an instruction of two bytes.
#[cfg(target_os = "none")]
core::arch::global_asm!(
    ".global signal_return",
    "signal_return:",
    "mov eax, 15",
    "syscall",
    ".global signal_nothing",
    "signal_nothing:",
    "ret",
    ".global signal_step_over",
    "signal_step_over:",
    "add qword ptr [rdx + 168], 2",
    "ret",
);

/// What the kernel wants to know of a handler.
#[repr(C)]
struct Action {
    handler: unsafe extern "C" fn(),
    flags: u64,
    restorer: unsafe extern "C" fn(),
    mask: u64,
}

#[inline(always)]
fn install(signal: usize, handler: unsafe extern "C" fn()) -> Result<(), Errno> {
    /// The handler takes three arguments, and brings the code to return through.
    const SIGINFO_RESTORER: u64 = 0x0400_0004;
    let action = Action {
        handler,
        flags: SIGINFO_RESTORER,
        restorer: signal_return,
        mask: 0,
    };
    let place = (&raw const action) as usize;
    // SAFETY: the kernel reads the action; the handlers keep every register the interrupted code could miss.
    unsafe { sys::call(nr::RT_SIGACTION, [signal, place, 0, 8, 0, 0]) }.map(|_| ())
}

/// Measures them.
pub fn all() -> Result<(), Errno> {
    least("signal-install", ROUNDS, 1, || {
        install(SIGUSR1, signal_nothing)
    })?;
    // SAFETY: asks for a number.
    let me = unsafe { sys::call(nr::GETPID, [0; 6]) }?;
    least("signal-catch", ROUNDS, 1, || {
        // SAFETY: the handler does nothing.
        unsafe { sys::call(nr::KILL, [me, SIGUSR1, 0, 0, 0, 0]) }.map(|_| ())
    })?;
    install(SIGSEGV, signal_step_over)?;
    let page = calls::map(PAGE, Access::Read, Sharing::Private, None)?;
    pages::look(page, PAGE);
    least("protection-fault-signal", ROUNDS, 1, || {
        store(page);
        Ok(())
    })?;
    calls::unmap(page, PAGE)
}

/// Stores to a place by an instruction of two bytes, which the handler steps over.
#[inline(always)]
fn store(place: usize) {
    // SAFETY: the page is read-only: the store never happens.
    unsafe { core::arch::asm!("mov [rdi], eax", in("rdi") place, in("eax") 0, options(nostack)) };
}

//! A runtime for small static Linux programs, so that what tests and measures the machine from inside brings no
//! C library of the host's with it and is the same bytes on every machine.
//!
//! A program is one file: `program!(main)` emits its first instruction and its panic handler, and `main` gets the
//! words of its command line and returns its exit status. [`sys`] has the system calls, [`say!`] prints a line.
//!
//! # Rules
//! - R1: one thread. A program that wants another flow of control forks.
//! - R2: a refused system call is a value ([`sys::Errno`]), never a panic; a panic says where on standard error and
//!   exits with [`PANICKED`].
//! - R3: no floating point and no vector registers: the target is compiled without them, so that what a program
//!   measures is not the kernel's saving of them.
#![no_std]
// On a host the assembly is left out, and what only it uses would be reported.
#![cfg_attr(not(target_os = "none"), allow(dead_code))]

pub mod calls;
pub mod print;
pub mod privcmd;
pub mod start;
pub mod sys;

pub use start::Arguments;

/// The exit status of a program that panicked.
pub const PANICKED: i32 = 101;

/// The time-stamp counter.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: reads a counter.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Makes a program of `main`, a `fn(Arguments) -> i32` whose result is the exit status.
#[macro_export]
macro_rules! program {
    ($main:path) => {
        #[unsafe(no_mangle)]
        extern "C" fn program_main(stack: *const u64) -> ! {
            // SAFETY: called once, by the first instruction, with the stack pointer as the kernel set it.
            let arguments = unsafe { $crate::Arguments::from_stack(stack) };
            let main: fn($crate::Arguments) -> i32 = $main;
            $crate::sys::exit(main(arguments))
        }

        #[cfg(not(target_os = "none"))]
        fn main() {}
    };
}

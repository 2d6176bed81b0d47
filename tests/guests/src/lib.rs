//! Test guests: paravirtualized kernels of a few hundred lines, one a file under `src/bin`.
//!
//! Each opens with what it attacks or proves. They are built for `x86_64-unknown-none` with
//! `-C relocation-model=static -C code-model=kernel` and laid out by `guest.ld`; a hypervisor starts one as its
//! first domain. What the console must show is written in `guest_runtime::check`.
//!
//! A guest whose name ends in `_crashes` must end with the hypervisor crashing it, after the line
//! `GUEST EXPECT CRASH name`; any other must print `GUEST PASS name`. `syscall_cost` prints `COST name value` lines.
#![no_std]

pub mod accounts;
pub mod attacks;
pub mod balance;
pub mod blkfront;
pub mod channels;
pub mod clock_chip;
pub mod code;
pub mod expect;
pub mod lending;
pub mod racers;
pub mod reservations;
pub mod start;
pub mod store;

/// Counts one check: a call was refused, with any error number.
pub fn refused(what: &str, result: i64) -> bool {
    let is_error = (-4095..0).contains(&result);
    if is_error {
        guest_runtime::check::condition(what, true)
    } else {
        guest_runtime::check::fail(format_args!("{what}, wanted an error, got {result:#x}"));
        false
    }
}

/// Counts one check: a call succeeded with 0.
pub fn accepted(what: &str, result: i64) -> bool {
    guest_runtime::check::compare(what, result, 0)
}

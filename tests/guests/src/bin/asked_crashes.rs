//! Proves that a domain that asks to be crashed is: shutdown with reason *crash*.
#![cfg_attr(target_os = "none", no_std, no_main)]

use guest_runtime::{check, guest, hypercall};

guest!(asked_crashes, main);

fn main() {
    check::expect_crash();
    hypercall::shutdown(hypercall::ShutdownReason::Crash);
}

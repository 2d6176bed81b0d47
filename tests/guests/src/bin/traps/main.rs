//! Proves what a kernel sees of every exception that ring 3 can raise, from both of its modes: the vector, the
//! frame bit by bit (saved event mask, flags, stack, error code, RCX and R11), where the frame lies, and the
//! handler's own state. Attacks the bounce with odd stacks, odd flags and software interrupts it may not raise.
#![cfg_attr(target_os = "none", no_std, no_main)]

mod breakpoints;
mod exceptions;
mod page_faults;
mod software;
mod table;

use guest_runtime::{guest, user};

guest!(traps, main);

fn main() {
    user::enable();
    exceptions::all();
    page_faults::all();
    software::all();
    table::all();
    breakpoints::all();
}

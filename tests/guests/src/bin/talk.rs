//! A kernel of one page: it says what it was given, sleeps a moment, and as a guest repeats what is typed until `bye`.
//!
//! It is here to be read and changed; docs/guests.md says how to run it, and one of your own. The runtime has set up the
//! stack, the traps and the shared page before `main`, and powers off after it.
#![cfg_attr(target_os = "none", no_std, no_main)]

use guest_runtime::entry::{command_line, start_info};
use guest_runtime::{check, child, console, events, guest, say};

guest!(talk, main, p2m_at 0x8000000000);

fn main() {
    let info = start_info();
    say!(
        "I have {} KiB of memory and am told: {}",
        info.nr_pages * 4,
        command_line().unwrap_or("")
    );
    let before = events::now_ns();
    let until = before + 50_000_000;
    // What comes on the console meanwhile ends a wait early.
    while events::now_ns() < until {
        child::wait(&[], until);
    }
    let slept = events::now_ns() - before;
    check!(
        slept >= 50_000_000,
        "a sleep is as long as it was asked for"
    );
    say!("I slept for {} ms", slept / 1_000_000);
    if child::is_ordinary() {
        talk();
    }
}

/// Repeats lines until one is `bye`.
fn talk() {
    let mut line = [0u8; 80];
    loop {
        say!("type something, or bye:");
        let typed = console::read_line(&mut line);
        match core::str::from_utf8(typed) {
            Ok("bye") => return,
            Ok(text) => say!("you typed: {text}"),
            Err(_) => say!("that was not text"),
        }
    }
}

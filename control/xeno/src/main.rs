//! `xeno`: the command people use in the control domain. It asks the daemon over its socket and shows what it says.
//!
//! ```text
//!   cli ──▶ commands ──▶ client ──▶ xenod          (a request, its answer)
//!              │            ▲
//!              ├── show     └── console, top        (streams and polling)
//!              └── failure ──▶ one sentence on standard error, and the exit code
//! ```
//!
//! # Invariants
//! - X1: what was asked for goes to standard output, everything else to standard error; a failure always ends with
//!   the exit code of its kind ([`failure::EXIT_CODES`]).
//! - X2: nothing a guest wrote reaches a terminal as control characters, except through `console`, whose purpose
//!   that is.
//! - X3: however `console` and `top` end, short of SIGKILL, the terminal is as it was.

#![forbid(unsafe_code)]

mod cli;
mod client;
mod commands;
mod console;
mod failure;
mod show;
mod signals;
mod terminal;
mod top;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    let json = arguments.json;
    match commands::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(json),
    }
}

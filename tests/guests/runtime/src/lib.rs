//! A runtime for small paravirtualized kernels, written to test the hypervisor from ring 3.
//!
//! A guest is one file: `guest!(name, main)` emits its ELF notes and entry, `main` runs checks with [`check!`] and
//! [`check_eq!`], and the runtime says the result in one line and shuts the domain down with a matching reason.
//!
//! # Rules
//! - R1: one vCPU. Nothing here locks; statics are written by one flow of control and its trap handlers.
//! - R2: events stay masked unless a guest unmasks them, so a check sees only the traps it causes.
//! - R3: a refused call is never a panic; it is a value that a check can compare.
//! - R4: an unexpected trap ends the guest with its registers on the console; it never hangs.
//!
//! # Safety of this crate
//! A guest here attacks its own kernel interface: nearly every call can break this guest's own memory if it is
//! wrongly answered. Functions are nevertheless safe to call where the *intended* answer keeps Rust's rules (a
//! hypercall given `&T` reads a `T`); only those whose intended effect can break them are `unsafe`. The guest is
//! thrown away after its one run, and nothing of it is trusted by anybody.
#![no_std]
// On a host the assembly is left out, and what only it uses would be reported.
#![cfg_attr(not(target_os = "none"), allow(dead_code))]

pub mod abi;
pub mod builder;
pub mod check;
pub mod child;
pub mod console;
pub mod context;
pub mod control;
pub mod entry;
pub mod events;
pub mod frames;
pub mod hypercall;
pub mod instructions;
pub mod link;
pub mod notes;
pub mod page_table;
pub mod trap;
pub mod user;
pub mod window;

mod global;

pub use global::Global;

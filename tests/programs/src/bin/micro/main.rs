//! Measures what a program's dealings with its kernel cost, in ticks of the time-stamp counter.
//!
//! Started by the kernel as the first program (`rdinit=/bin/micro`), it says `MICRO start T`, T being the counter at its
//! first instruction but for a few; then a line `MICRO NAME TICKS` an operation, the least of many rounds; then
//! `MICRO end`, and turns the machine off. With the word `boot` it measures nothing: the start is what was asked for.
//! Under an emulator that ticks once an instruction the values repeat exactly, so they compare what is underneath.
//!
//! Started with the word `nothing` it ends at once: that is the program whose start is measured. With `stamp` it says
//! the time and ends; with `stay` it says the time and waits for ever, as the first program of a guest has to.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![cfg_attr(not(target_os = "none"), allow(dead_code, unused))]

mod clock;
mod measure;
mod memory;
mod pages;
mod processes;
mod signals;
mod simple;

use programs::{Arguments, calls, complain, now, program, say, sys};

program!(run);

fn run(arguments: Arguments) -> i32 {
    let start = now();
    if arguments.get(1) == Some("nothing") {
        return 0;
    }
    say!("MICRO start {start}");
    match arguments.get(1) {
        Some("stamp") => return 0,
        Some("stay") => calls::wait_for_ever(),
        _ => {}
    }
    if arguments.get(1) != Some("boot") {
        if let Err(why) = all(&arguments) {
            complain!("micro: a system call was refused: {why:?}");
        } else {
            say!("MICRO end");
        }
    }
    calls::power_off();
    1
}

fn all(arguments: &Arguments) -> Result<(), sys::Errno> {
    calls::without_huge_pages()?;
    calls::mount_devices()?;
    clock::all(arguments);
    simple::all()?;
    signals::all()?;
    memory::all()?;
    processes::all()
}

//! Processes that open, use and close the device for a while; the module may come and go meanwhile.

use crate::area::Mapped;
use crate::calls::{self, Device, Failure};
use guest_abi::usage::USAGE_OF_DOMAIN;
use programs::say;
use programs::sys::{self, Errno};

/// Processes beside each other.
const PROCESSES: usize = 4;

/// No such file; no such device or address; no such device: the module is not there just now.
const AWAY: [i32; 3] = [2, 6, 19];

/// Runs them; each ends well if it met nothing but the device, or its absence.
pub fn run(for_seconds: u64) -> Result<(), Failure> {
    let end = calls::seconds() + for_seconds;
    let mut children = [0; PROCESSES];
    for (number, child) in children.iter_mut().enumerate() {
        *child = calls::fork()?;
        if *child == 0 {
            sys::exit(match use_until(end, number as u64) {
                Ok(()) => 0,
                Err(failure) => {
                    programs::complain!("devxeno: {failure}");
                    1
                }
            });
        }
    }
    for child in children {
        if calls::wait(child)? != 0 {
            return Err(Failure::Not("one of the processes failed"));
        }
    }
    Ok(())
}

/// `number` is which of the processes it is.
fn use_until(end: u64, number: u64) -> Result<(), Failure> {
    let mut bytes = [0; 4096];
    let [mut used, mut away] = [0_u32; 2];
    while calls::seconds() < end {
        let device = match Device::try_open(0) {
            Ok(device) => device,
            Err(Errno(error)) if AWAY.contains(&error) => {
                away += 1;
                continue;
            }
            Err(error) => return Err(Failure::Call("open", error)),
        };
        // While it is open the module stays.
        let read = device.read(&mut bytes);
        let read = read.map_err(|error| Failure::Call("read", error))?;
        let usage = device.usage(USAGE_OF_DOMAIN);
        usage.map_err(|error| Failure::Call("usage", error))?;
        if !bytes[..read].starts_with(b"version 1\n") {
            return Err(Failure::Not("the text begins in another way"));
        }
        let mapped = Mapped::new(&device)?;
        drop(device);
        // A mapping keeps it as an open file does.
        mapped.area()?;
        used += 1;
        drop(mapped);
        // Long enough for the module to go.
        calls::nap(2 + number);
    }
    if used == 0 {
        return Err(Failure::Not("the device was never there"));
    }
    say!("used {used} times, away {away} times");
    Ok(())
}

//! `devxeno`: tries `/dev/xeno`, the module's device, as programs do and as they should not. Each verb prints what it
//! found; status 0 if all is as it should be, 1 with a sentence if not.
//!
//! - `devxeno agrees`: the text, the device's calls and, where there is `/dev/xen/privcmd`, the hypervisor's own answer
//!   are about the same accounts.
//! - `devxeno area`: the usage area, mapped, has the same accounts, and can only be read.
//! - `devxeno wrong`: calls with wrong arguments are refused, each with its error, and change nothing.
//! - `devxeno reserve`: what a reservation is answered here.
//! - `devxeno race SECONDS`: processes open, use and close it for so long, while it may come and go.
//! - `devxeno ask DOMAIN`: the hypervisor's own answer about a domain, in the words of the device.
#![cfg_attr(target_os = "none", no_std, no_main)]

mod accounts;
mod area;
mod calls;
mod race;
mod wrong;

use calls::{Device, Failure};
use guest_abi::reserve::SchedGet;
use guest_abi::usage::USAGE_OF_DOMAIN;
use programs::privcmd::Privcmd;
use programs::{Arguments, complain, program, say};

program!(devxeno);

fn devxeno(arguments: Arguments) -> i32 {
    let number = arguments.get(2).and_then(|word| word.parse::<u64>().ok());
    let result = match (arguments.get(1), number) {
        (Some("agrees"), None) => accounts::agree(),
        (Some("area"), None) => area::all(),
        (Some("wrong"), None) => wrong::all(),
        (Some("reserve"), None) => reserve(),
        (Some("race"), Some(seconds)) => race::run(seconds),
        (Some("ask"), Some(domain)) => ask(domain),
        _ => Err(Failure::Not(
            "a verb is wanted: agrees, area, wrong, reserve, race SECONDS, ask DOMAIN",
        )),
    };
    match result {
        Ok(()) => 0,
        Err(failure) => {
            complain!("devxeno: {failure}");
            1
        }
    }
}

/// Prints what the first vCPU has reserved.
fn reserve() -> Result<(), Failure> {
    let mut have = SchedGet {
        version: guest_abi::xeno::XENO_INTERFACE_VERSION,
        domid: guest_abi::domid::DOMID_SELF,
        ..SchedGet::ZERO
    };
    match Device::open()?.ask(calls::SCHED_GET, &mut have) {
        Ok(()) => say!(
            "slice {} period {} weight {} flags {}",
            have.terms.slice,
            have.terms.period,
            have.terms.weight,
            have.terms.flags
        ),
        Err(error) => say!("{error:?}"),
    }
    Ok(())
}

fn ask(domain: u64) -> Result<(), Failure> {
    let domid = u16::try_from(domain).map_err(|_| Failure::Not("that is no domain's number"))?;
    let privcmd = Privcmd::open().map_err(|error| Failure::Call("open /dev/xen/privcmd", error))?;
    let usage = calls::usage_by_hypercall(&privcmd, domid, USAGE_OF_DOMAIN)?;
    for (name, value) in accounts::numbers(&usage) {
        say!("{name} {value}");
    }
    Ok(())
}

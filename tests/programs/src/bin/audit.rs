//! `audit`: has the hypervisor recount every frame, and prints what there is: one `name value` a line.
//!
//! `audit DOMAIN` tells what that domain has, instead of the one it runs in.
//!
//! Status 0 if every count is right, 2 if one is not, 1 if it could not be asked. Two runs with the same processes
//! around a load show whether everything came back.
#![cfg_attr(target_os = "none", no_std, no_main)]

use guest_abi::Hypercall;
use guest_abi::domid::DOMID_SELF;
use guest_abi::xeno::{AUDIT_TYPE_NAMES, Audit, XENO_INTERFACE_VERSION, XenoCommand};
use programs::privcmd::Privcmd;
use programs::{Arguments, complain, program, say};

program!(audit);

fn audit(arguments: Arguments) -> i32 {
    let domid = match arguments.get(1).map(str::parse) {
        None => DOMID_SELF,
        Some(Ok(domid)) => domid,
        Some(Err(_)) => {
            complain!("audit: the word is not the number of a domain");
            return 1;
        }
    };
    let device = match Privcmd::open() {
        Ok(device) => device,
        Err(error) => {
            complain!(
                "audit: /dev/xen/privcmd cannot be opened ({error:?}): is the module xen-privcmd loaded?"
            );
            return 1;
        }
    };
    let mut answer = Audit {
        version: XENO_INTERFACE_VERSION,
        domid,
        ..Audit::ZERO
    };
    let arguments = [
        u64::from(XenoCommand::Audit.number()),
        &raw mut answer as u64,
        0,
        0,
        0,
    ];
    // SAFETY: the call reads and writes an `Audit` at the address, which is ours.
    if let Err(error) = unsafe { device.call(Hypercall::XenoOp.number(), arguments) } {
        complain!("audit: the hypervisor refused ({error:?})");
        return 1;
    }
    show(&answer);
    if answer.mismatches == 0 { 0 } else { 2 }
}

fn show(answer: &Audit) {
    let fields = [
        ("mismatches", answer.mismatches),
        ("frames", answer.frames),
        ("free", answer.free),
        ("hypervisor", answer.hypervisor),
        ("domain", answer.domain),
        ("others", answer.others),
        ("overhead", answer.overhead),
        ("tables", answer.tables),
        ("general-references", answer.general_references),
        ("type-references", answer.type_references),
    ];
    for (name, value) in fields {
        say!("{name} {value}");
    }
    for (name, count) in AUDIT_TYPE_NAMES.iter().zip(answer.frames_by_type) {
        if !name.is_empty() {
            say!("type-{name} {count}");
        }
    }
}

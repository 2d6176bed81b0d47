//! Proves that a domain can be built, run, talked to and destroyed by the calls the interface has for it, with every
//! frame given back.
//!
//! xtask: memory=512M
//! xtask: seconds=120
#![cfg_attr(target_os = "none", no_std, no_main)]

use guest_runtime::abi::{DOMID_SELF, ShutdownReason};
use guest_runtime::builder::{self, Plan};
use guest_runtime::{check, check_eq, control, guest, hypercall, say, skip};

guest!(domains, main);

fn main() {
    // Hypervisors keep some of what their first domain made them take.
    one_life();
    let before = control::free_frames();
    check!(before.is_ok(), "the number of free frames is told");
    for _ in 0..3 {
        one_life();
    }
    match control::audit(DOMID_SELF as u16) {
        Some(audit) => {
            check_eq!("free frames", control::free_frames(), before);
            check_eq!("counts that are wrong", audit.mismatches, 0);
        }
        None => skip!("this hypervisor's own memory comes from the same frames"),
    }
}

fn one_life() {
    let Some(mut child) = builder::running(Plan::SMALL) else {
        return;
    };
    let sum = child.call(|[a, b, ..]| (a + b) as i64, [40, 2, 0, 0, 0]);
    check_eq!("a step in the child", sum, 42);
    let line = |_| {
        say!("hello from the child");
        0
    };
    check_eq!("a step that prints", child.call(line, [0; 5]), 0);
    child.start(|_| typed(), [0; 5]);
    child.type_in(b"good dax\x7fy\r");
    check_eq!("the line it read", child.answer(), Some(8));
    child.check("what it started with", |_| start(), [0; 5]);
    child.start(|_| hypercall::shutdown(ShutdownReason::Poweroff), [0; 5]);
    check_eq!(
        "why it stopped",
        child.wait_shutdown(),
        builder::reason(ShutdownReason::Poweroff)
    );
    check!(child.destroy_and_wait(), "it is gone");
}

/// Step: what an ordinary domain finds when it starts.
fn start() -> i64 {
    guests::start::all(None);
    0
}

/// Step: reads a line that is typed; its length if it is the one.
fn typed() -> i64 {
    let mut line = [0; 80];
    match guest_runtime::console::read_line(&mut line) {
        text @ b"good day" => text.len() as i64,
        _ => -1,
    }
}

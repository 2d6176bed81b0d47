//! Pausing: counted, at once, and whatever the child does.

use guest_runtime::abi::domctl::XEN_DOMINF_PAUSED;
use guest_runtime::abi::{DOMID_SELF, DomctlCommand, errno};
use guest_runtime::builder::{Child, Plan};
use guest_runtime::{check, check_eq, child, control, events, link};

use crate::endings::spin;
use crate::with_child;

/// Longer than a turn of the CPU, in nanoseconds.
const WHILE: u64 = 15_000_000;

/// How far a child counts while this domain sleeps.
fn counted(child: &mut Child) -> u64 {
    let link = child.link();
    let before = link.get(link::FREE);
    child::wait(&[], events::now_ns() + WHILE);
    link.get(link::FREE) - before
}

/// Whether a child counts on.
fn counts(child: &mut Child) -> bool {
    let before = child.link().get(link::FREE);
    child.wait_until(|child| child.link().get(link::FREE) > before)
}

fn is_paused(child: &Child) -> bool {
    child
        .info()
        .is_ok_and(|info| info.flags & XEN_DOMINF_PAUSED != 0)
}

/// Pauses are counted: as many unpauses let it run.
pub fn nested() {
    with_child(Plan::SMALL, |child| {
        child.start(spin, [0; 5]);
        check!(counts(child), "it runs");
        for _ in 0..3 {
            check_eq!("pause", child.pause(), 0);
            check_eq!("a paused child stands", counted(child), 0);
            check!(is_paused(child), "it is said to be paused");
        }
        for _ in 0..2 {
            check_eq!("unpause", child.run(), 0);
            check_eq!("still paused", counted(child), 0);
            check!(is_paused(child), "it is said to be paused");
        }
        check_eq!("the last unpause", child.run(), 0);
        check!(counts(child), "it runs again");
        check!(!is_paused(child), "it is not said to be paused");
        check_eq!("one too many", child.run(), -errno::EINVAL);
        check!(counts(child), "it still runs");
    });
    for domain in [0, DOMID_SELF as u16] {
        for command in [DomctlCommand::Pausedomain, DomctlCommand::Unpausedomain] {
            let result = control::simple(command, domain);
            check!(
                result == -errno::EINVAL || result == -errno::ESRCH,
                "nobody pauses itself"
            );
        }
    }
}

/// What is sent to a paused child waits for it.
pub fn asleep() {
    with_child(Plan::SMALL, |child| {
        check_eq!("a step", child.call(|_| 1, [0; 5]), 1);
        check_eq!("pause", child.pause(), 0);
        child.start(|_| 2, [0; 5]);
        child::wait(&[], events::now_ns() + WHILE);
        check!(!child.link().is_done(), "it does not do it");
        check_eq!("unpause", child.run(), 0);
        check_eq!("it does it now", child.answer(), Some(2));
        // A sleep that ends while it is paused.
        child.start(
            |_| {
                child::wait(&[], events::now_ns() + WHILE / 3);
                3
            },
            [0; 5],
        );
        check_eq!("pause", child.pause(), 0);
        child::wait(&[], events::now_ns() + WHILE);
        check!(!child.link().is_done(), "it sleeps on");
        check_eq!("unpause", child.run(), 0);
        check_eq!("it wakes", child.answer(), Some(3));
    });
}

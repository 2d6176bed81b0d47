//! Watchdogs: a child that does not say in time that it goes on is declared stopped.

use guest_runtime::abi::{ShutdownReason, Watchdog, errno, nr, sched};
use guest_runtime::builder::{self, Plan};
use guest_runtime::hypercall::{call, sched_op};
use guest_runtime::{check, check_eq, child, events, link};

use crate::{endings, with_child};

/// The operation's number.
const WATCHDOG: u64 = 6;
const SECOND: u64 = 1_000_000_000;

/// Step: sets a watchdog, its number and seconds.
fn set([id, timeout, ..]: [u64; 5]) -> i64 {
    let mut request = Watchdog {
        id: id as u32,
        timeout: timeout as u32,
    };
    sched_op(WATCHDOG, &mut request)
}

/// Step: what is wrong, and that it leaves nothing set.
fn wrong(_: [u64; 5]) -> i64 {
    let ask = |id, timeout| set([id, timeout, 0, 0, 0]);
    for id in [1, 2, 3, u64::from(u32::MAX)] {
        check_eq!("one that was not taken", ask(id, 1), -errno::EINVAL);
        check_eq!("one that was not taken", ask(id, 0), -errno::EINVAL);
    }
    let nowhere = call(nr::SCHED_OP, [WATCHDOG, 8, 0, 0, 0]);
    check_eq!("an argument nowhere", nowhere, -errno::EFAULT);
    check_eq!("the first", ask(0, 1), 1);
    check_eq!("the second", ask(0, u64::from(u32::MAX)), 2);
    // Xen 4.17's is 32 bits wide.
    check_eq!("a third", i64::from(ask(0, 1) as i32), -errno::ENOSPC);
    for id in [1, 2] {
        check_eq!("given back", ask(id, 0), 0);
        check_eq!("given back again", ask(id, 0), -errno::EINVAL);
    }
    check_eq!("taken again", ask(0, 3), 1);
    check_eq!("given back", ask(1, 0), 0);
    0
}

/// Step: spins from shortly before the watchdog bites; a second of it would be a billion instructions.
fn spin_at_last(_: [u64; 5]) -> i64 {
    child::wait(&[], events::now_ns() + SECOND * 9 / 10);
    endings::spin([0; 5])
}

/// Wrong calls; watchdogs that are fed; one that is not, while its domain spins, sleeps, and is paused.
pub fn all() {
    with_child(Plan::SMALL, |child| {
        child.check("wrong watchdogs", wrong, [0; 5]);
        check_eq!("taken", child.call(set, [0, 1, 0, 0, 0]), 1);
        // Those that were given back would bite meanwhile.
        for _ in 0..3 {
            child::wait(&[], events::now_ns() + SECOND / 2);
            check_eq!("fed", child.call(set, [1, 1, 0, 0, 0]), 0);
        }
        // A longer one beside it does not matter.
        check_eq!("another", child.call(set, [0, 1000, 0, 0, 0]), 2);
        let began = events::now_ns();
        let end = child.wait_shutdown();
        check_eq!("why", end, builder::reason(ShutdownReason::Watchdog));
        let took = events::now_ns() - began;
        check!((SECOND / 2..2 * SECOND).contains(&took), "when it bites");
    });
    with_child(Plan::SMALL, |child| {
        check_eq!("taken", child.call(set, [0, 1, 0, 0, 0]), 1);
        child.start(spin_at_last, [0; 5]);
        let end = child.wait_shutdown();
        check_eq!("spinning", end, builder::reason(ShutdownReason::Watchdog));
        check!(
            child.link().get(link::FREE) > 0,
            "it spun when it was bitten"
        );
    });
    with_child(Plan::SMALL, |child| {
        check_eq!("taken", child.call(set, [0, 1, 0, 0, 0]), 1);
        check_eq!("pause", child.pause(), 0);
        child::wait(&[], events::now_ns() + SECOND + SECOND / 4);
        let end = child.wait_shutdown();
        check_eq!("paused", end, builder::reason(ShutdownReason::Watchdog));
    });
    with_child(Plan::SMALL, |child| {
        // One that goes before its watchdog would bite: the end of the part waits for nothing.
        check_eq!("taken", child.call(set, [0, 1, 0, 0, 0]), 1);
        let off = ShutdownReason::Poweroff.number();
        let step = |[off, ..]: [u64; 5]| sched_op(sched::SHUTDOWN, &mut (off as u32));
        child.start(step, [u64::from(off), 0, 0, 0, 0]);
        let first = child.wait_shutdown();
        child::wait(&[], events::now_ns() + SECOND + SECOND / 4);
        let second = child.wait_shutdown();
        check_eq!("its own reason stays", (first, second), (Some(0), Some(0)));
    });
}

//! Domains that lend to each other in circles, destroyed in every order.

use guest_runtime::abi::domctl::XEN_DOMINF_DYING;
use guest_runtime::builder::{self, Child, Plan};
use guest_runtime::{check, check_eq, control};

use crate::steps;

/// Lends to the next one by entry 8, and maps there.
fn lend_around(children: &mut [Child]) {
    let count = children.len();
    for at in 0..count {
        let next = (at + 1) % count;
        let (from, to) = (u64::from(children[at].id), u64::from(children[next].id));
        children[at].call(steps::lend, [8, to, 0x1000 + from, 0, 0]);
        let mapped = children[next].call(steps::map, [from, 8, 0, 0, 0]);
        check_eq!("map", mapped, 0);
    }
}

fn is_dying(id: u16) -> bool {
    control::info(id).is_ok_and(|info| info.flags & XEN_DOMINF_DYING != 0)
}

/// Makes a ring of so many, and destroys them in the order of `order`.
fn ring<const N: usize>(order: [usize; N]) {
    let made: [Option<Child>; N] = core::array::from_fn(|_| builder::running(Plan::SMALL));
    if made.iter().any(Option::is_none) {
        return;
    }
    let mut children = made.map(|child| child.expect("all are there"));
    lend_around(&mut children);
    let ids = children.each_ref().map(|child| child.id);
    let mut left = children.map(Some);
    for (done, &at) in order.iter().enumerate() {
        let child = left[at].take().expect("each is destroyed once");
        check_eq!("destroy", child.destroy(), 0);
        let next = (at + 1) % N;
        // Whose frame is still mapped stays, and is said to be dying; the others' pages are as they were.
        if let Some(holder) = &mut left[next] {
            check!(is_dying(ids[at]), "it stays while another maps its page");
            let word = holder.call(steps::word, [0; 5]);
            check_eq!("the page", word, 0x1000 + i64::from(ids[at]));
            check_eq!("destroy again", control::destroy(ids[at]), 0);
        } else {
            check!(builder::is_gone_soon(ids[at]), "it is gone");
        }
        for gone in order[..=done].iter().map(|&at| (at, (at + 1) % N)) {
            if left[gone.1].is_none() {
                check!(
                    builder::is_gone_soon(ids[gone.0]),
                    "nobody holds it any more"
                );
            }
        }
    }
}

/// Two, in both orders.
pub fn of_two() {
    ring([0, 1]);
    ring([1, 0]);
}

/// Three, in orders that differ.
pub fn of_three() {
    ring([0, 1, 2]);
    ring([0, 2, 1]);
    ring([2, 1, 0]);
}

//! Proves what domains do to each other through what they share: ports closed while the other side sends, grants taken
//! back while they are mapped, domains that lend to each other in circles, domains that go while others still hold what was
//! theirs. Whatever the order, nobody's memory becomes another's, and at the end every frame is back.
//!
//! xtask: memory=512M
//! xtask: seconds=180
//! xtask: parallel=2
//! xtask: parallel_full=4
#![cfg_attr(target_os = "none", no_std, no_main)]

mod circles;
mod lent;
mod lingering;
mod ports;
mod steps;

use guest_runtime::builder::{self, Child, Plan};
use guest_runtime::{check, guest, say};
use guests::balance;

guest!(neighbours, main);

fn main() {
    let parts: [(&str, fn()); 10] = [
        ("ports between two", ports::between_two),
        (
            "ports closed while the other sends",
            ports::closed_while_sending,
        ),
        ("ports of a domain that goes", ports::of_one_that_goes),
        ("grants between two", lent::between_two),
        ("grants taken back while mapped", lent::taken_back),
        ("pages given up while lent", lent::given_up),
        ("two that lend to each other", circles::of_two),
        ("three in a ring", circles::of_three),
        ("gone while mapped", lingering::mapped_by_parent),
        ("gone while lent", lingering::lent_to_parent),
    ];
    for (what, part) in parts {
        say!("neighbours: {what}");
        balance::kept(what, part);
    }
}

/// Runs a part of a test with two children that serve steps. Those it leaves are destroyed.
fn with_two(part: impl FnOnce(Child, Child) -> [Option<Child>; 2]) {
    let (Some(one), Some(two)) = (builder::running(Plan::SMALL), builder::running(Plan::SMALL))
    else {
        return;
    };
    for child in part(one, two).into_iter().flatten() {
        check!(child.destroy_and_wait(), "the child is gone");
    }
}

//! Proves what the grant and event operations answer between domains, right and wrong ones: every way of mapping another's
//! frame and what may not be done with it, copies between three domains, a domain's own limits, what the control domain
//! does on behalf of others, and ends in ring 0 that serve an ordinary domain until it dies.
//!
//! xtask: memory=512M
//! xtask: seconds=180
#![cfg_attr(target_os = "none", no_std, no_main)]

mod behalf;
mod copies;
mod ends;
mod limits;
mod maps;
mod steps;

use guest_runtime::builder::{self, Child, Plan};
use guest_runtime::{check, guest, say};
use guests::balance;

guest!(links, main);

/// The entry that tests lend by.
const GREF: u64 = 9;

fn main() {
    let parts: [(&str, fn()); 9] = [
        ("every way of mapping", maps::kinds),
        ("entries that lend nothing", maps::refused),
        ("what is borrowed is not owned", maps::borrowed),
        ("a borrower that dies", maps::borrower_dies),
        ("copies between three", copies::between_three),
        ("limits of one domain", limits::held),
        ("on behalf of a child", behalf::all),
        ("an end of a child's", ends::of_a_child),
        ("a child dies while an end serves it", ends::child_dies),
    ];
    for (what, part) in parts {
        say!("links: {what}");
        balance::kept(what, part);
    }
}

fn id(child: &Child) -> u64 {
    u64::from(child.id)
}

/// Runs a part of a test with two children, who are destroyed afterwards.
fn with_two(part: impl FnOnce(&mut Child, &mut Child)) {
    let (Some(mut one), Some(mut two)) =
        (builder::running(Plan::SMALL), builder::running(Plan::SMALL))
    else {
        return;
    };
    part(&mut one, &mut two);
    for child in [one, two] {
        check!(child.destroy_and_wait(), "the child is gone");
    }
}

//! Proves the lives of domains: a child dies at every stage of being built, ends for every reason, crashes in every way a
//! kernel can, is paused and let go, is held to its memory, and shares the CPU; every frame is given back each time.
//!
//! xtask: memory=512M
//! xtask: seconds=180
//! xtask: parallel=2
//! xtask: parallel_full=4
#![cfg_attr(target_os = "none", no_std, no_main)]

mod crashes;
mod endings;
mod limits;
mod midway;
mod pauses;
mod shares;
mod stages;
mod watchdogs;

use guest_runtime::builder::{self, Child, Plan};
use guest_runtime::{check, guest, say};
use guests::balance;

guest!(lives, main);

fn main() {
    let parts: [(&str, fn()); 16] = [
        ("every stage of building", stages::every_stage),
        (
            "half-built children that are let run",
            stages::half_built_runs,
        ),
        ("builds that are refused", stages::refused_builds),
        ("every reason", endings::every_reason),
        ("destroyed in every state", endings::every_state),
        ("events of ends", endings::events),
        (
            "destroyed in the middle of a call",
            midway::of_its_own_calls,
        ),
        ("crashes", crashes::all),
        ("watchdogs", watchdogs::all),
        ("pauses", pauses::nested),
        ("pauses of a child that sleeps", pauses::asleep),
        ("the most memory", limits::memory),
        ("several processors", shares::processors),
        ("a crowd of processors", shares::crowd),
        ("children that spin", shares::spinning),
        ("children in turns", shares::generations),
    ];
    for (what, part) in parts {
        say!("lives: {what}");
        balance::kept(what, part);
    }
}

/// Runs a part of a test with a child that serves steps, and destroys it.
fn with_child(plan: Plan, part: impl FnOnce(&mut Child)) {
    let Some(mut child) = builder::running(plan) else {
        return;
    };
    part(&mut child);
    check!(child.destroy_and_wait(), "the child is gone");
}

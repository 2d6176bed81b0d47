//! Proves that accounts cannot be cheated: the known attacks on accounting of processor time, each made by a domain that
//! counts the work it gets done, beside a victim that counts its own, on one CPU whose clock counts instructions.
//!
//! Two witnesses, neither of them the hypervisor's:
//! - The attacker counts the instructions it executes. More than are charged to it would be work for nothing.
//! - The victim counts its own. What else passed while it was on the CPU it was made to pay.
//!
//! Each attack prints what was measured and charged and what was cheated out of the account, in millionths. What runs
//! before the entry's reading of the clock and after the exit's is on the interrupted guest's side: [`STUBS`].
//!
//! xtask: memory=512M
//! xtask: seconds=240
#![cfg_attr(target_os = "none", no_std, no_main)]

mod attacks;
mod measure;

use guest_runtime::builder::{self, Child, Plan};
use guest_runtime::{check, guest, say};
use guests::{accounts, attacks as steps};

use measure::Attack;

guest!(cheats, main);

/// Instructions of an interrupt that run on the side of the guest that it interrupts: before the entry's reading and after
/// the exit's: 34, and the two writes of CR3 where the domain is isolated, with what is lost to the loop's turns.
pub const STUBS: u64 = 40;

const ATTACKS: [Attack; 9] = [
    Attack::new("none", steps::works),
    Attack::new("yields before its turn ends", steps::yields_early),
    Attack::new("sleeps where a tick would be", steps::sleeps_over_ticks),
    Attack::new("wakes often and works little", steps::wakes_often),
    Attack::new("timers that fall into others' turns", steps::timers),
    Attack::new("tiny calls", steps::tiny_calls),
    Attack::new("events to the control domain", steps::storm),
    Attack::new("copies", steps::copies),
    Attack::new("flushes", steps::flushes),
];

fn main() {
    if !accounts::can_be_witnessed() {
        return;
    }
    type Made = fn(&Attack, Child, Child);
    let beside = ATTACKS.iter().map(|attack| (attack, attacks::made as Made));
    let alone = [&ATTACKS[3], &ATTACKS[4]].map(|attack| (attack, attacks::made_alone as Made));
    for (attack, made) in beside.chain(alone) {
        let (Some(attacker), Some(victim)) =
            (builder::running(Plan::SMALL), builder::running(Plan::SMALL))
        else {
            return;
        };
        made(attack, attacker, victim);
    }
    attacks::made_by_the_control_domain();
    check!(true, "all were made");
    say!("cheats: at most {STUBS} instructions of each interrupt are the interrupted guest's");
}

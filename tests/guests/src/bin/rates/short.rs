//! The short form: four shares beside somebody who takes all he can get, and a periodic task.

use guest_runtime::{check, check_eq, say, skip};

use crate::crowd::{self, Crowd, Machine, When};
use crate::load::Kind;
use crate::terms::{self, Keeper};

/// A period of all, and how many are looked at.
const PERIOD: u64 = 100_000_000;
const PERIODS: u64 = 5;
/// Millionths by which somebody may be off: what overruns the last slice, at most the longest section, is 800 of the
/// smallest share's 25 milliseconds.
const OFF_PPM: u64 = 800;

/// 5, 10, 20 and 40 %.
const SHARES: &str = "hog*1:5000000/100000000+hog*1:10000000/100000000+hog*1:20000000/100000000+hog*1:40000000/100000000";
/// The same, and somebody with nothing of his own but what is left.
const BESIDE: &str = "hog*1:5000000/100000000+hog*1:10000000/100000000+hog*1:20000000/100000000+hog*1:40000000/100000000\
                      +hog*1:0/100000000x";
/// A periodic task among those who want more than they have.
const CYCLIC: &str = "cyclic*1:2040000/10000000+hog*7:1000000/20000000x";

pub fn all(keeper: Keeper) {
    if keeper != Keeper::Ours {
        skip!("shares are not kept here");
        return;
    }
    terms::set_quantum(keeper, 1_000_000);
    for (what, load) in [("alone", SHARES), ("beside a hog", BESIDE)] {
        shares(what, load);
    }
    cyclic();
}

fn with(load: &str, then: impl FnOnce(&Crowd, &Machine)) {
    let mut crowd: Crowd = [const { None }; crowd::MOST];
    let when = When {
        period: PERIOD,
        settle: 10,
        periods: PERIODS,
        before: 1_000_000,
    };
    if crowd::build(load, Keeper::Ours, &mut crowd) {
        let machine = crowd::run(Keeper::Ours, when, &mut crowd);
        then(&crowd, &machine);
    }
    crowd::end(&mut crowd);
}

fn shares(what: &str, load: &str) {
    with(load, |crowd, machine| {
        for member in crowd::members(crowd).filter(|member| !member.share.extra) {
            let (used, asked) = (member.had.used_ns, member.share.slice * PERIODS);
            let off = used.abs_diff(asked) * 1_000_000 / asked;
            say!("rates: {what}: {used} ns of {asked}: {off} millionths off");
            check!(off <= OFF_PPM, "a share is kept");
            // What is charged is nearly all its own: the rest is the hypervisor's work for it.
            check!(member.had.own > used / 100 * 99, "and is its own");
        }
        say!("rates: {what}: {machine:?}");
    });
}

fn cyclic() {
    with(CYCLIC, |crowd, _| {
        for member in crowd::members(crowd).filter(|member| member.kind == Kind::Cyclic) {
            let (longest, latest) = member.longest();
            say!(
                "rates: {} cycles, the longest took {longest} ns; woken {latest} ns late at most",
                member.had.deeds
            );
            check_eq!("missed deadlines", member.had.missed, 0);
            check!(
                member.had.deeds + 1 >= PERIOD * PERIODS / 10_000_000,
                "every cycle came"
            );
        }
    });
}

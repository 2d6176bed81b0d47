//! Builds many small domains, gives each a share of the CPU, lets them compute, and tells what each got: what it was
//! charged, and what it counted itself. `cargo xtask bench sched` runs it with loads of its own; alone it proves, in
//! short, that shares are kept and that a periodic task is in time.
//!
//! What it tells, a line each, is `RATES SUBJECT NAME=NUMBER ...`:
//!
//! | subject | what |
//! |---|---|
//! | `run` | `kept`: whether shares are kept here; ticks between the two looks and whose they were |
//! | `N:KIND` | domain N: its share, what it was charged (`used`, ns) and counted (`own`), and so on |
//! | `late:N` | how often domain N woke 2^n ns late: `n=times` |
//! | `echo` | ticks until a message came back: the least, and all of them |
//!
//! xtask: memory=512M
//! xtask: dom0_mem=128M
//! xtask: seconds=120
#![cfg_attr(target_os = "none", no_std, no_main)]

mod crowd;
mod deeds;
mod load;
mod short;
mod terms;

use guest_runtime::{check, entry, guest, say};

use crowd::{Crowd, Machine, Member, When};
use load::Kind;
use terms::Keeper;

guest!(rates, main);

/// Messages that are sent for the time they take.
const ROUNDS: u64 = 200;

fn main() {
    let keeper = terms::keeper();
    let line = entry::command_line().unwrap_or("");
    let mut words = line.split_ascii_whitespace();
    match words.find_map(|word| word.strip_prefix("load=")) {
        Some(load) => measure(keeper, load),
        None => short::all(keeper),
    }
}

fn measure(keeper: Keeper, load: &str) {
    let when = When {
        period: entry::number("period=", 50_000_000),
        settle: entry::number("settle=", 10),
        periods: entry::number("periods=", 1),
        before: entry::number("before=", 0),
    };
    terms::set_quantum(keeper, entry::number("quantum=", 1_000_000));
    let mut crowd: Crowd = [const { None }; crowd::MOST];
    if !crowd::build(load, keeper, &mut crowd) {
        return;
    }
    let machine = crowd::run(keeper, when, &mut crowd);
    tell_run(keeper, &machine);
    for member in crowd::members(&crowd) {
        tell(member);
    }
    for echo in crowd::members(&crowd).filter(|member| member.kind == Kind::Echo) {
        let (least, all) = echo.echoes(ROUNDS);
        say!("RATES echo least={least} all={all} rounds={ROUNDS}");
    }
    crowd::end(&mut crowd);
    check!(true, "all ran");
}

fn tell_run(keeper: Keeper, machine: &Machine) {
    say!(
        "RATES run kept={} elapsed={} idle={} machine={} control={}",
        u64::from(keeper != Keeper::OursInTurns),
        machine.elapsed,
        machine.idle,
        machine.machine,
        machine.control
    );
}

fn tell(member: &Member) {
    let (id, kind, had) = (member.id(), member.kind.name(), &member.had);
    let (longest, latest) = member.longest();
    say!(
        "RATES {id}:{kind} slice={} period={} extra={} used={} own={} deeds={} missed={} longest={longest} \
         latest={latest} gaps={} switches={}",
        member.share.slice,
        member.share.period,
        u64::from(member.share.extra),
        had.used_ns,
        had.own,
        had.deeds,
        had.missed,
        had.gaps,
        had.switches
    );
    for (class, times) in member.late() {
        say!("RATES late:{id} {class}={times}");
    }
}

//! `cargo xtask bench sections`: B, the longest stretch in which the hypervisor lets neither interrupts nor other vCPUs
//! in, by kind of work.
//!
//! The hypervisor measures itself (`measure=sections`) while guests do the worst they can: `sections`, which was written
//! for that, and those that test a family with every right and wrong call; and while the stock kernel starts and runs a
//! program's worth of everything. What is told of each kind is the longest of all runs.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::Args;
use serde_json::json;

use crate::bench::machines::{Files, Host, MEMORY, Setting, Subject};
use crate::bench::store::{self, Figures};
use crate::bench::table::{Table, grouped};
use crate::bench::{Common, prepare};
use crate::shell::say;
use crate::testing::guests;
use crate::toolchain::BareMetal;
use crate::tree::Tree;
use crate::{build, kernel};

/// The most that one machine may take in real time.
const LIMIT: Duration = Duration::from_secs(170);
/// The aim: 20 microseconds at an instruction a nanosecond.
const AIM: u64 = 20_000;

/// The stock kernel, among the guests.
const LINUX: &str = "linux";

/// What no console says: a test guest ends its machine itself, perhaps after more than one life.
const NO_LINE: &str = "\0";

/// Guests that are run, each alone on the machine.
const GUESTS: [&str; 20] = [
    "sections",
    "pagetables",
    "hypercalls",
    "domains",
    "domain_calls",
    "on_behalf",
    "lives",
    "fuzz",
    "grants",
    "ends",
    "events_timers",
    "idle_ticks",
    "timers_at_once",
    "vcpus",
    "reserve",
    "homes",
    "granted_in_parts",
    "segments",
    "neighbours",
    "restarted_with_guests",
];

/// Guests that are run only where they are named: their machines take more memory than every host has.
const LARGE: [&str; 1] = ["large_domain"];

/// Kinds that may take longer, and why.
const EXCEPTIONS: [(&str, &str); 1] = [(
    "xeno_op 0",
    "the audit: for debugging; what is counted must not change",
)];

/// Options of `cargo xtask bench sections`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Only this guest (may be given again), or `linux`; default: all
    #[arg(long, value_name = "GUEST")]
    guest: Vec<String>,
    /// Only this isolation setting; default: both
    #[arg(long, value_name = "WHICH")]
    setting: Option<Setting>,
    /// Measure again what was measured with the same inputs before
    #[arg(long)]
    fresh: bool,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
    /// Fail where a section is longer than the aim and not listed as an exception
    #[arg(long)]
    check: bool,
}

/// The longest section of a kind, and which guest made it.
struct Longest {
    ticks: u64,
    guest: String,
    setting: Setting,
}

/// Measures and shows.
///
/// # Errors
/// When something is missing or a machine does not end as it should.
pub fn command(tree: &Tree, options: &Options) -> Result<ExitCode> {
    let common = Common {
        machine: vec![Host::Ours],
        setting: options.setting,
        kernel: None,
        xen: None,
        fresh: options.fresh,
        json: options.json,
        check: false,
    };
    let stock = prepare(tree, &common)?;
    build::guests(tree, &BareMetal::find(tree)?)?;
    let mut all = BTreeMap::new();
    for setting in common.settings() {
        for guest in GUESTS.into_iter().chain([LINUX]).chain(LARGE) {
            let named = options.guest.iter().any(|only| only == guest);
            let usual = options.guest.is_empty() && !LARGE.contains(&guest);
            if !named && !usual {
                continue;
            }
            let file = match guest {
                LINUX => kernel::unpacked(&stock.kernel)?,
                guest => tree.guests().join(guest),
            };
            let files = Files {
                kernel: file,
                ..stock.clone()
            };
            for (kind, ticks) in run(tree, &common, guest, setting, &files)? {
                let longest = all.entry(kind).or_insert(Longest {
                    ticks: 0,
                    guest: String::new(),
                    setting,
                });
                if ticks > longest.ticks {
                    *longest = Longest {
                        ticks,
                        guest: guest.to_owned(),
                        setting,
                    };
                }
            }
        }
    }
    ensure!(!all.is_empty(), "no guest has the name that was given");
    let mut rows: Vec<_> = all.into_iter().collect();
    rows.sort_by_key(|(_, longest)| std::cmp::Reverse(longest.ticks));
    show(options, &rows);
    let good = rows
        .iter()
        .all(|(kind, longest)| longest.ticks <= AIM || exception(kind).is_some());
    Ok(if options.check && !good {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn exception(kind: &str) -> Option<&'static str> {
    let mut all = EXCEPTIONS.iter();
    all.find(|(excepted, _)| *excepted == kind)
        .map(|(_, why)| *why)
}

/// Runs one guest; the longest section of each kind.
fn run(
    tree: &Tree,
    common: &Common,
    guest: &str,
    setting: Setting,
    files: &Files,
) -> Result<Figures> {
    let is_test = guest != LINUX;
    let mut memory = MEMORY.to_owned();
    let (words, hypervisor_words) = if is_test {
        // Without what it asks for it waits in vain for what is not there.
        let wants = guests::wants(tree, guest)?;
        if LARGE.contains(&guest) {
            memory = wants.memory;
        }
        (
            wants.append,
            format!("measure=sections {}", wants.hypervisor),
        )
    } else {
        (
            "rdinit=/bin/micro".to_owned(),
            "measure=sections".to_owned(),
        )
    };
    let subject = Subject {
        tree,
        host: Host::Ours,
        setting,
        files,
        words: &words,
        hypervisor_words: &hypervisor_words,
        memory: &memory,
    };
    let what = format!("sections-{guest}");
    store::figures(&what, &subject, common.fresh, || {
        say(format!("measuring sections of {guest}, {}", setting.name()));
        // What is said after the sections.
        let last = if is_test { NO_LINE } else { "cycles idle" };
        let console = subject.run(&what, last, LIMIT)?;
        if is_test && let Some(why) = guests::complaint(&console, guest) {
            bail!("what {guest} did does not count: {why}");
        }
        let figures = parse(&console);
        ensure!(
            (is_test || console.contains(last)) && !figures.is_empty(),
            "{guest} did not come to its end: {}",
            crate::shell::tail(&console, 5)
        );
        Ok(figures)
    })
}

/// Lines `section for KIND: TICKS ticks at most, ...`.
fn parse(console: &str) -> Figures {
    let line = |line: &str| {
        let (_, rest) = line.split_once("section for ")?;
        let (kind, rest) = rest.split_once(": ")?;
        let ticks = rest.split_whitespace().next()?.parse().ok()?;
        Some((kind.to_owned(), ticks))
    };
    console.lines().filter_map(line).collect()
}

fn show(options: &Options, rows: &[(String, Longest)]) {
    let counted = || rows.iter().filter(|(kind, _)| exception(kind).is_none());
    let longest = counted().map(|(_, l)| l.ticks).max().unwrap_or(0);
    if options.json {
        let kinds: Vec<_> = rows
            .iter()
            .map(|(kind, l)| {
                json!({
                    "kind": kind,
                    "ticks": l.ticks,
                    "guest": l.guest,
                    "setting": l.setting.name(),
                    "exception": exception(kind),
                })
            })
            .collect();
        println!(
            "{}",
            json!({ "bench": "sections", "longest": longest, "aim": AIM, "kinds": kinds })
        );
        return;
    }
    let heads = ["section for", "ticks", "guest", "", ""];
    let mut table = Table::new(heads.map(str::to_owned).to_vec());
    for (kind, l) in rows {
        let verdict = match exception(kind) {
            Some(why) => why,
            None if l.ticks > AIM => "longer than the aim",
            None => "",
        };
        table.row(vec![
            kind.clone(),
            grouped(l.ticks),
            l.guest.clone(),
            l.setting.name().to_owned(),
            verdict.to_owned(),
        ]);
    }
    println!("{table}");
    say(format!(
        "B is {} ticks; the aim is {}",
        grouped(longest),
        grouped(AIM)
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_read_from_the_log() {
        let console = "(ring0) section for mmuext_op: 12345 ticks at most, 7 times\r\n\
                       (ring0) section for memory_op 6: 99 ticks at most, 1 times\r\nelse\r\n";
        let expected = [
            ("mmuext_op".to_owned(), 12345),
            ("memory_op 6".to_owned(), 99),
        ];
        assert_eq!(parse(console), expected);
    }
}

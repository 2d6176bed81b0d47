//! `cargo xtask bench sched`: whether domains get the shares of the CPU that they reserved, and what sharing costs; beside
//! Xen's scheduler with caps.
//!
//! The experiments of the fixed-rate scheduler that this one is to beat, on a machine whose clock counts instructions:
//! small domains that compute and count their own instructions (the test guest `rates` builds them), looked at twice, ten
//! seconds apart, in whole periods. The guest is the same on both hypervisors. And the mixed load of stock guests ([`web`]).

mod cases;
mod seen;
mod show;
mod web;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::{Args, ValueEnum};

use crate::bench::machines::{Files, Host, Setting, Subject};
use crate::bench::{Common, prepare, store};
use crate::build;
use crate::shell::say;
use crate::testing::guests;
use crate::toolchain::BareMetal;
use crate::tree::Tree;
use cases::Case;
use seen::Seen;

/// The most that one machine may take in real time.
const LIMIT: Duration = Duration::from_secs(600);
/// The machine.
const MEMORY: &str = "1G";
/// The guest, and how its console ends where it ran to its end.
const GUEST: &str = "rates";
const LAST: &str = "GUEST PASS rates";

const EXAMPLES: &str = "Examples:
  cargo xtask bench sched --list
  cargo xtask bench sched --on ours --only 10/20                  four shares
  cargo xtask bench sched --on ours --only 'three web' --check    three stock guests
Without `--only` all are run, which takes long; what was measured before is not run again.
What a machine said is in target/xenoserver/logs/.";

/// Options of `cargo xtask bench sched`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    /// On which hypervisor
    #[arg(long, value_name = "WHICH", default_value = "both")]
    on: On,
    /// Only the loads whose name has this in it
    #[arg(long, value_name = "PATTERN")]
    only: Option<String>,
    /// Show the names of the loads, and run none
    #[arg(long)]
    list: bool,
    /// The isolation setting
    #[arg(long, value_name = "WHICH", default_value = "isolated")]
    setting: Setting,
    /// Another Xen than Debian's 4.17: an unpacked image
    #[arg(long, value_name = "FILE")]
    xen: Option<std::path::PathBuf>,
    /// Measure again what was measured with the same inputs before
    #[arg(long)]
    fresh: bool,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
    /// Fail where a share is not kept, a deadline is missed or too much is lost
    #[arg(long)]
    check: bool,
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        let only = self.only.as_ref();
        only.is_none_or(|part| name.contains(part.as_str()))
    }
}

/// Which hypervisors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum On {
    Ours,
    Xen,
    Both,
}

impl On {
    fn hosts(self) -> Vec<Host> {
        match self {
            Self::Ours => vec![Host::Ours],
            Self::Xen => vec![Host::Xen],
            Self::Both => vec![Host::Ours, Host::Xen],
        }
    }
}

/// A case, and what was seen on each hypervisor that was asked for and can run it.
struct Row {
    case: Case,
    seen: Vec<(Host, Seen)>,
}

impl Row {
    fn on(&self, host: Host) -> Option<&Seen> {
        let mut all = self.seen.iter();
        all.find(|(other, _)| *other == host).map(|(_, seen)| seen)
    }
}

/// Measures and shows.
///
/// # Errors
/// When something is missing or a machine does not end as it should.
pub fn command(tree: &Tree, options: &Options) -> Result<ExitCode> {
    let cases = cases::all().into_iter();
    let cases: Vec<Case> = cases.filter(|case| options.wants(&case.name)).collect();
    let with_web = options.wants(web::NAME);
    ensure!(
        with_web || !cases.is_empty(),
        "no load has that in its name: `--list` shows them"
    );
    if options.list {
        list(&cases, with_web);
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(
        !options.check || options.on != On::Xen,
        "`--check` is about ours: leave `--on` away, or name ours with it"
    );
    let common = Common {
        machine: options.on.hosts(),
        setting: Some(options.setting),
        kernel: None,
        xen: options.xen.clone(),
        fresh: options.fresh,
        json: options.json,
        check: options.check,
    };
    let stock = prepare(tree, &common)?;
    let rows = rows(tree, options, &common, &stock, cases)?;
    let web = match with_web {
        true => web::measure(tree, &common, &stock)?,
        false => Vec::new(),
    };
    if options.json {
        show::json(&rows, web::json(&web));
    } else {
        show::tables(&rows);
        if !web.is_empty() {
            println!("{}", web::table(&web));
        }
    }
    let mut complaints = show::complaints(&rows);
    complaints.extend(web::complaints(&web));
    for line in &complaints {
        say(line);
    }
    Ok(common.status(complaints.is_empty()))
}

fn list(cases: &[Case], with_web: bool) {
    let mut names: Vec<&str> = Vec::new();
    for case in cases {
        if !names.contains(&case.name.as_str()) {
            names.push(&case.name);
        }
    }
    names.extend(with_web.then_some(web::NAME));
    for name in names {
        println!("{name}");
    }
}

/// Runs the loads of the guest `rates`, each on every hypervisor that was asked for and can run it.
fn rows(
    tree: &Tree,
    options: &Options,
    common: &Common,
    stock: &Files,
    cases: Vec<Case>,
) -> Result<Vec<Row>> {
    if cases.is_empty() {
        return Ok(Vec::new());
    }
    build::guests(tree, &BareMetal::find(tree)?)?;
    let files = Files {
        kernel: tree.guests().join(GUEST),
        ..stock.clone()
    };
    let mut rows = Vec::new();
    for case in cases {
        let mut seen = Vec::new();
        for host in common.hosts() {
            if host != Host::Xen || case.is_for_xen() {
                let figures = run(tree, common, options.setting, host, &files, &case)?;
                seen.push((host, Seen::from(&figures)?));
            }
        }
        if !seen.is_empty() {
            rows.push(Row { case, seen });
        }
    }
    Ok(rows)
}

/// Runs one load on one hypervisor.
fn run(
    tree: &Tree,
    common: &Common,
    setting: Setting,
    host: Host,
    files: &Files,
    case: &Case,
) -> Result<store::Figures> {
    let subject = Subject {
        tree,
        host,
        setting,
        files,
        words: &case.words(host == Host::Xen),
        memory: MEMORY,
        hypervisor_words: "",
    };
    let what = case.file();
    store::figures(&what, &subject, common.fresh, || {
        let quantum = case.quantum / 1000;
        say(format!(
            "running {} ({quantum} us) on {}",
            case.name,
            subject.name()
        ));
        let console = subject.run(&what, LAST, LIMIT)?;
        if let Some(why) = guests::complaint(&console, GUEST) {
            bail!(
                "{} did not run as it should on {}: {why}",
                case.name,
                subject.name()
            );
        }
        Ok(seen::parse(&console))
    })
}

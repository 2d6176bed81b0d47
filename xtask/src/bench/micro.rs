//! `cargo xtask bench micro`: what a program's dealings with its kernel cost on each machine.
//!
//! The program is `tests/programs/src/bin/micro`, alone on the machine as the kernel's first program. What user code
//! cannot do, a hypercall, is measured by the test guest `syscall_cost` in the kernel's place.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::json;

use crate::bench::machines::{Files, Host, MEMORY, Setting, Subject};
use crate::bench::store::{self, Figures};
use crate::bench::table::{Table, grouped, ratio};
use crate::bench::{Common, prepare};
use crate::shell::say;
use crate::toolchain::BareMetal;
use crate::tree::Tree;
use crate::{build, kernel};

/// The most that one machine may take in real time.
const LIMIT: Duration = Duration::from_secs(180);

/// Options of `cargo xtask bench micro`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    #[command(flatten)]
    common: Common,
}

/// What one machine costs under one setting.
struct Column {
    host: Host,
    setting: Setting,
    figures: Figures,
}

/// Measures the operations and shows them.
///
/// # Errors
/// When something is missing or a machine does not end as it should.
pub fn command(tree: &Tree, options: &Options) -> Result<ExitCode> {
    let common = &options.common;
    // There are no fixed limits.
    common.can_check(&[Host::Xen])?;
    let packed = prepare(tree, common)?;
    // Unpacking is `bench boot`'s: here it would only take time. The bare machine's loader wants it packed.
    let unpacked = Files {
        kernel: kernel::unpacked(&packed.kernel)?,
        ..packed.clone()
    };
    let guest = Files {
        kernel: guest(tree)?,
        ..packed.clone()
    };
    let mut columns = Vec::new();
    for setting in common.settings() {
        for host in common.hosts() {
            let files = match host {
                Host::Bare => &packed,
                Host::Xen | Host::Ours => &unpacked,
            };
            let mut figures = run(common, "micro", "MICRO", (host, setting), tree, files)?;
            if host != Host::Bare {
                figures.extend(run(
                    common,
                    "hypercalls",
                    "COST",
                    (host, setting),
                    tree,
                    &guest,
                )?);
            }
            columns.push(Column {
                host,
                setting,
                figures,
            });
        }
    }
    let slow = complaints(&columns);
    show(common, &columns);
    for line in &slow {
        say(line);
    }
    Ok(common.status(slow.is_empty()))
}

fn guest(tree: &Tree) -> Result<std::path::PathBuf> {
    build::guests(tree, &BareMetal::find(tree)?)?;
    Ok(tree.guests().join("syscall_cost"))
}

/// Runs the program, or the guest, on one machine.
fn run(
    common: &Common,
    what: &str,
    mark: &str,
    (host, setting): (Host, Setting),
    tree: &Tree,
    files: &Files,
) -> Result<Figures> {
    let subject = Subject {
        tree,
        host,
        setting,
        files,
        words: "rdinit=/bin/micro",
        memory: MEMORY,
        hypervisor_words: "",
    };
    store::figures(what, &subject, common.fresh, || {
        say(format!("measuring {what} on {}", subject.name()));
        let last = if mark == "MICRO" {
            "MICRO end"
        } else {
            "GUEST PASS"
        };
        let console = subject.run(what, last, LIMIT)?;
        let figures = parse(mark, &console);
        ensure!(
            console.contains(last),
            "{what} on {} did not come to its end: {}",
            subject.name(),
            crate::shell::tail(&console, 5)
        );
        Ok(figures)
    })
}

/// Lines `MARK name ticks`.
fn parse(mark: &str, console: &str) -> Figures {
    console
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace().skip_while(|word| *word != mark);
            let (_, name, ticks) = (words.next()?, words.next()?, words.next()?);
            let name = match mark {
                "COST" => format!("guest: {}", name.replace('_', " ")),
                _ => name.replace('-', " "),
            };
            Some((name, ticks.parse().ok()?))
        })
        .filter(|(name, _)| name != "start" && name != "guest: empty measurement")
        .collect()
}

/// Every row that some column has, in the order of the program's lines.
fn rows(columns: &[Column]) -> Vec<&str> {
    let mut rows: Vec<&str> = Vec::new();
    for (name, _) in columns.iter().flat_map(|c| &c.figures) {
        if !rows.contains(&name.as_str()) {
            rows.push(name);
        }
    }
    rows
}

fn find(columns: &[Column], host: Host, setting: Setting) -> Option<&Figures> {
    let mut all = columns.iter();
    let column = all.find(|c| c.host == host && c.setting == setting)?;
    Some(&column.figures)
}

/// Whether this row of ours takes more than Xen's.
fn is_slower(columns: &[Column], setting: Setting, row: &str) -> bool {
    let of = |host| store::find(find(columns, host, setting)?, row);
    of(Host::Ours)
        .zip(of(Host::Xen))
        .is_some_and(|(ours, xen)| ours > xen)
}

fn complaints(columns: &[Column]) -> Vec<String> {
    let mut lines = Vec::new();
    for setting in Setting::ALL {
        for row in rows(columns) {
            if is_slower(columns, setting, row) {
                lines.push(format!("slower than Xen ({}): {row}", setting.name()));
            }
        }
    }
    lines
}

fn show(common: &Common, columns: &[Column]) {
    if common.json {
        let all: Vec<_> = columns
            .iter()
            .map(|c| {
                let ticks: serde_json::Map<_, _> = c
                    .figures
                    .iter()
                    .map(|(name, ticks)| (name.clone(), json!(ticks)))
                    .collect();
                json!({ "host": c.host.name(), "setting": c.setting.name(), "ticks": ticks })
            })
            .collect();
        println!("{}", json!({ "bench": "micro", "columns": all }));
        return;
    }
    for setting in common.settings() {
        println!("{}", table(columns, setting));
    }
}

fn table(columns: &[Column], setting: Setting) -> Table {
    let heads = [
        setting.name(),
        "bare",
        "Xen",
        "x bare",
        "ours",
        "x bare",
        "ours / Xen",
        "",
    ];
    let mut table = Table::new(heads.map(str::to_owned).to_vec());
    for row in rows(columns) {
        let of = |host| store::find(find(columns, host, setting)?, row);
        let (bare, xen, ours) = (of(Host::Bare), of(Host::Xen), of(Host::Ours));
        let shown = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), grouped);
        table.row(vec![
            row.to_owned(),
            shown(bare),
            shown(xen),
            ratio(xen, bare),
            shown(ours),
            ratio(ours, bare),
            ratio(ours, xen),
            if is_slower(columns, setting, row) {
                "slower".to_owned()
            } else {
                String::new()
            },
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_marked_lines() {
        let console = "x\r\nMICRO start 12\r\nMICRO pipe-ping-pong 345\r\nMICRO end\r\n\
                       GUEST COST null_hypercall 250\r\n";
        let micro = parse("MICRO", console);
        assert_eq!(micro, [("pipe ping pong".to_owned(), 345)]);
        let guest = parse("COST", console);
        assert_eq!(store::find(&guest, "guest: null hypercall"), Some(250));
    }

    #[test]
    fn only_a_row_that_takes_more_than_xens_of_that_setting_is_slower() {
        let column = |host, ticks| Column {
            host,
            setting: Setting::Shared,
            figures: [("row".to_owned(), ticks)].into(),
        };
        let columns = [column(Host::Xen, 10), column(Host::Ours, 11)];
        assert!(is_slower(&columns, Setting::Shared, "row"));
        assert!(!is_slower(&columns, Setting::Isolated, "row"));
        assert!(!is_slower(
            &[column(Host::Xen, 10), column(Host::Ours, 10)],
            Setting::Shared,
            "row"
        ));
    }
}

//! `cargo xtask bench create`: what a guest costs to build, beside `xl create` on Xen.
//!
//! One control domain of the stock kernel on each hypervisor builds two guests one after the other, of the same kernel
//! (a bzImage), file system and memory. Ours finds the unpacked kernel in its cache the second time. Moments are read
//! from the time-stamp counter, which ticks once an instruction and is the same in all domains:
//!
//! | moment | how |
//! |---|---|
//! | the command starts | a program that reads the counter runs just before |
//! | the guest's first instruction | its first program's start less the guest's own clock then |
//! | the guest's first program | it reads the counter first thing |
//!
//! What a guest costs of the control domain's memory is what the second guest takes of its free memory, caches dropped;
//! of the machine's, what it takes of the hypervisor's free memory (which xl tells in whole MiB).

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use crate::bench::machines::{Host, MEMORY};
use crate::bench::stack::{self, Bench};
use crate::bench::store::{self, Figures};
use crate::bench::table::{Table, grouped, ratio};
use crate::bench::{Common, prepare};
use crate::provision::{self, Need};
use crate::shell::say;
use crate::tree::Tree;

/// The most that one machine may take in real time.
const LIMIT: Duration = Duration::from_secs(900);

/// What is built: the first guest, and the second.
const GUESTS: [&str; 2] = ["one", "two"];

/// The most instructions from the command to the guest's first one, of the first guest and the second.
const LIMITS: [(&str, &str, u64); 2] = [
    ("one", "nothing in the cache", 4_100_000_000),
    ("two", "the kernel in the cache", 1_000_000_000),
];

/// Options of `cargo xtask bench create`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    #[command(flatten)]
    common: Common,
}

/// What is the same on both: builds both guests, tells the moments, and waits for each guest to have begun.
const SCRIPT: &str = r#"
for guest in one two; do
    before=$(free)
    machine=$(hypervisor_free)
    begin=$(now)
    create $guest || echo "CREATE failed"
    echo "CREATE $guest returned $(($(now) - begin))"
    for try in $(seq 300); do
        console $guest | grep -q "MICRO start" && break
        sleep 1
    done
    start=$(console $guest | sed -n 's/^MICRO start \([0-9]*\).*/\1/p')
    clock=$(console $guest | sed -n 's/^\[ *\([0-9]*\)\.\([0-9]*\)\] Run .bin.micro as.*/\1\2/p' | sed 's/^0*//')
    echo "CREATE $guest first $((start - clock * 1000 - begin))"
    echo "CREATE $guest init $((start - begin))"
    echo "CREATE $guest memory $((before - $(free)))"
    echo "CREATE $guest hypervisor $((machine - $(hypervisor_free)))"
done
echo "CREATE end"
sleep 1000
"#;

/// Measures and shows.
///
/// # Errors
/// When something is missing or a guest is not built.
pub fn command(tree: &Tree, options: &Options) -> Result<ExitCode> {
    let common = &options.common;
    provision::ensure(&[Need::Xz])?;
    let files = prepare(tree, common)?;
    let columns = stack::measure(
        tree,
        common,
        &files,
        &Bench {
            name: "create",
            doing: "building two guests on",
            script: SCRIPT,
            last: "CREATE end",
            programs: &[],
            guest_kernel: &files.kernel,
            guest_words: stack::WORDS,
            memory: MEMORY,
            limit: LIMIT,
            read: moments,
        },
    )?;
    show(common, &columns);
    let slow = complaints(&columns);
    for line in &slow {
        say(line);
    }
    Ok(common.status(slow.is_empty()))
}

/// The figures that a console tells: `CREATE one first 123`.
fn moments(console: &str) -> Result<Figures> {
    let mut figures = Figures::new();
    for guest in GUESTS {
        for figure in ["returned", "first", "init", "memory", "hypervisor"] {
            let prefix = format!("CREATE {guest} {figure} ");
            let told = stack::told(console, &prefix)
                .with_context(|| format!("the guest {guest} did not come to its first program"))?;
            // Memory that went back to the control domain costs nothing.
            let value: i64 = told
                .parse()
                .with_context(|| format!("{prefix}is followed by {told:?}"))?;
            figures.push((
                format!("{guest} {figure}"),
                u64::try_from(value).unwrap_or(0),
            ));
        }
    }
    Ok(figures)
}

/// The rows: what is shown, of which guest, and the figure's name.
const ROWS: [(&str, &str, &str); 8] = [
    ("first guest: to its first instruction", "one", "first"),
    ("first guest: until the command returns", "one", "returned"),
    ("first guest: to its first program", "one", "init"),
    ("second guest: to its first instruction", "two", "first"),
    ("second guest: until the command returns", "two", "returned"),
    ("second guest: to its first program", "two", "init"),
    (
        "second guest: control domain's memory (KiB)",
        "two",
        "memory",
    ),
    ("second guest: machine's memory (KiB)", "two", "hypervisor"),
];

fn show(common: &Common, columns: &[(Host, Figures)]) {
    if common.json {
        stack::print_json("create", columns);
        return;
    }
    let mut heads = vec!["instructions from the command".to_owned()];
    heads.extend(columns.iter().map(|(host, _)| host.name().to_owned()));
    if columns.len() == 2 {
        heads.push("ours / Xen".to_owned());
    }
    let mut table = Table::new(heads);
    for (shown, guest, figure) in ROWS {
        let name = format!("{guest} {figure}");
        let values: Vec<Option<u64>> = columns
            .iter()
            .map(|(_, figures)| store::find(figures, &name))
            .collect();
        let mut row = vec![shown.to_owned()];
        row.extend(
            values
                .iter()
                .map(|value| value.map_or_else(|| "-".to_owned(), grouped)),
        );
        if let [xen, ours] = values[..] {
            row.push(ratio(ours, xen));
        }
        table.row(row);
    }
    println!("{table}");
}

/// Where ours takes more than the fixed limits, or more than Xen's tools did.
fn complaints(columns: &[(Host, Figures)]) -> Vec<String> {
    let Some(ours) = stack::column(columns, Host::Ours) else {
        return Vec::new();
    };
    let xens = stack::column(columns, Host::Xen);
    let mut lines = Vec::new();
    for (guest, state, limit) in LIMITS {
        let name = format!("{guest} first");
        let Some(mine) = store::find(ours, &name) else {
            continue;
        };
        let xens = xens.and_then(|figures| store::find(figures, &name));
        for (other, whose) in [(Some(limit), "the limit of"), (xens, "xl's")] {
            if let Some(other) = other.filter(|other| mine > *other) {
                lines.push(format!(
                    "slower: to a guest's first instruction with {state}: {} is more than {whose} {}",
                    grouped(mine),
                    grouped(other)
                ));
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(first: u64) -> String {
        GUESTS
            .iter()
            .map(|guest| {
                format!(
                    "CREATE {guest} returned 5\r\nCREATE {guest} first {first}\r\nCREATE {guest} init 9\r\n\
                     CREATE {guest} memory -3\r\nCREATE {guest} hypervisor 4\r\n"
                )
            })
            .collect()
    }

    #[test]
    fn the_console_tells_every_figure_or_it_is_an_error() {
        let figures = moments(&console(7)).unwrap();
        assert_eq!(store::find(&figures, "two first"), Some(7));
        assert_eq!(store::find(&figures, "one memory"), Some(0));
        assert!(moments(&console(7).replace("CREATE two init", "x")).is_err());
        assert!(moments(&console(7).replace("first 7", "first x")).is_err());
    }

    #[test]
    fn what_takes_more_than_the_limit_or_than_xl_is_named() {
        let of = |host, first| (host, moments(&console(first)).unwrap());
        assert!(complaints(&[of(Host::Xen, 30), of(Host::Ours, 30)]).is_empty());
        assert_eq!(
            complaints(&[of(Host::Xen, 30), of(Host::Ours, 31)]).len(),
            2
        );
        // The second guest has the smaller limit.
        assert_eq!(complaints(&[of(Host::Ours, 1_000_000_001)]).len(), 1);
    }
}

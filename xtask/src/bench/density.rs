//! `cargo xtask bench density`: how many of the smallest stock guests a machine of 4 GiB holds beside its control
//! domain of half a gigabyte, and what a guest costs the hypervisor beyond its memory; beside Debian's Xen.
//!
//! Guests are built one after the other until one is refused: a guest's memory is all given to it when it is built. The
//! first runs, and idles when what the hypervisor has for it is asked; the others are left paused. Their kernel is the unpacked one, which both tool stacks read.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use crate::bench::machines::Host;
use crate::bench::stack::{self, Bench};
use crate::bench::store::{self, Figures};
use crate::bench::table::{Table, grouped};
use crate::bench::{Common, prepare};
use crate::kernel;
use crate::shell::say;
use crate::tree::Tree;

/// The most that one machine may take in real time.
const LIMIT: Duration = Duration::from_secs(1800);

/// The machine.
const MEMORY: &str = "4G";

/// Options of `cargo xtask bench density`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    #[command(flatten)]
    common: Common,
}

/// Builds guests until one is refused.
const SCRIPT: &str = r#"
machine=$(hypervisor_free)
before=$(free)
guests=0
create guest0 && guests=1
while [ $guests -gt 0 ] && [ $guests -lt 64 ] && create_paused guest$guests; do
    guests=$((guests + 1))
done
echo "DENSITY guests $guests"
set -- $(charged guest0)
if [ $# = 2 ]; then
    echo "DENSITY tables $1"
    echo "DENSITY ring0 $2"
fi
[ $guests = 0 ] && guests=1
echo "DENSITY machine $(((machine - $(hypervisor_free)) / guests))"
echo "DENSITY control $(((before - $(free)) / guests))"
echo "DENSITY end"
sleep 1000
"#;

/// What the script tells, and how it is shown.
const ROWS: [(&str, &str); 5] = [
    ("guests", "guests of 96 MiB in 4 GiB"),
    (
        "machine",
        "memory of the machine for each, beyond its 96 MiB (KiB)",
    ),
    (
        "tables",
        "the hypervisor's own page tables for one that idles (KiB)",
    ),
    (
        "ring0",
        "the hypervisor's memory besides for one that idles (KiB)",
    ),
    ("control", "memory of the control domain for each (KiB)"),
];

/// What the stock tools cannot tell.
const OURS_ALONE: [&str; 2] = ["tables", "ring0"];

/// Measures and shows.
///
/// # Errors
/// When something is missing or a machine does not do what it should.
pub fn command(tree: &Tree, options: &Options) -> Result<ExitCode> {
    let common = &options.common;
    // There are no fixed limits.
    common.can_check(&[Host::Xen])?;
    let files = prepare(tree, common)?;
    let unpacked = kernel::unpacked(&files.kernel)?;
    let columns = stack::measure(
        tree,
        common,
        &files,
        &Bench {
            name: "density",
            doing: "filling with guests:",
            script: SCRIPT,
            last: "DENSITY end",
            programs: &[],
            guest_kernel: &unpacked,
            guest_words: stack::WORDS,
            memory: MEMORY,
            limit: LIMIT,
            read: told,
        },
    )?;
    show(common, &columns);
    let of = |wanted: Host| {
        stack::column(&columns, wanted).and_then(|figures| store::find(figures, "guests"))
    };
    let fewer = of(Host::Ours)
        .zip(of(Host::Xen))
        .is_some_and(|(ours, xens)| ours < xens);
    if fewer {
        say("fewer: Xen holds more guests");
    }
    Ok(common.status(!fewer))
}

/// The figures that a console tells: `DENSITY guests 36`.
fn told(console: &str) -> Result<Figures> {
    let mut figures = Figures::new();
    for (name, _) in ROWS {
        let prefix = format!("DENSITY {name} ");
        let said = stack::told(console, &prefix);
        if said.is_none() && OURS_ALONE.contains(&name) {
            continue;
        }
        let value: i64 = said
            .with_context(|| format!("nothing said {prefix:?}"))?
            .parse()?;
        let guest = if name == "machine" {
            stack::GUEST_MEMORY << 10
        } else {
            0
        };
        figures.push((
            name.to_owned(),
            u64::try_from(value).unwrap_or(0).saturating_sub(guest),
        ));
    }
    Ok(figures)
}

fn show(common: &Common, columns: &[(Host, Figures)]) {
    if common.json {
        stack::print_json("density", columns);
        return;
    }
    let mut heads = vec!["half a gigabyte is the control domain's".to_owned()];
    heads.extend(columns.iter().map(|(host, _)| host.name().to_owned()));
    let mut table = Table::new(heads);
    for (name, shown) in ROWS {
        let mut row = vec![shown.to_owned()];
        row.extend(columns.iter().map(|(_, figures)| {
            store::find(figures, name).map_or_else(|| "-".to_owned(), grouped)
        }));
        table.row(row);
    }
    println!("{table}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_costs_is_told_beyond_its_memory() {
        let console = "DENSITY guests 36\r\nDENSITY machine 98404\r\nDENSITY control 1000\r\n";
        let figures = told(console).unwrap();
        assert_eq!(store::find(&figures, "guests"), Some(36));
        assert_eq!(store::find(&figures, "machine"), Some(100));
        assert_eq!(store::find(&figures, "ring0"), None, "xl does not tell");
        let ours = format!("{console}DENSITY tables 12\r\nDENSITY ring0 16\r\n");
        assert_eq!(store::find(&told(&ours).unwrap(), "ring0"), Some(16));
        assert!(told("DENSITY guests x").is_err());
    }
}

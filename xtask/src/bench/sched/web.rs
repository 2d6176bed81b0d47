//! The mixed load: three stock guests with shares of their own, each a web server with a process for each request and eight
//! clients over loopback. Looked at twice, ten seconds apart, in whole periods of each guest's own: what CPU time each was
//! charged against what was reserved for it. Then one of them alone, with as much of the CPU as all three had: how many
//! requests fewer the three served together.
//!
//! `tests/programs/src/bin/web` is the guests' first program, `shares` looks.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::bench::Common;
use crate::bench::machines::{Files, Host};
use crate::bench::sched::seen::{self, largest};
use crate::bench::sched::show::{LOST, OFF, percent};
use crate::bench::stack::{self, Bench};
use crate::bench::store::{self, Figures};
use crate::bench::table::Table;
use crate::extras::read;
use crate::initrd::{self, Part};
use crate::kernel;
use crate::tree::Tree;

/// Its name, for `--only`.
pub const NAME: &str = "three web servers";
/// The most that one machine may take in real time.
const LIMIT: Duration = Duration::from_secs(1500);
/// The guests, and their shares in percent.
const GUESTS: [(&str, u64); 3] = [("web1", 10), ("web2", 20), ("web3", 30)];
/// The one that is measured alone.
const ALONE: &str = "web3";
/// Ticks of a period; so much of each is its share in percent that it can be written in milliseconds.
const PERIOD: u64 = 100_000_000;
/// Periods between the two looks.
const PERIODS: u64 = 100;
/// Bytes of the page that is served.
const PAGE: usize = 16 << 10;

const GUEST_WORDS: &str = "console=hvc0 nokaslr norandmaps panic=-1 quiet rdinit=/bin/web";

/// What the control domain's script begins with: how to fail, and how to have guests watched. `tell` finds the first line of a
/// guest at or after a tick.
const SCRIPT: &str = r#"
failed() {
    echo "MIX failed: $1"
    echo "MIX end"
    exec sleep 1000
}
serving() {
    create $1 || failed "$1 cannot be built"
    until console $1 | grep -q '^WEB ready'; do
        why=$(console $1 | sed -n 's/^WEB failed: //p')
        [ -z "$why" ] || failed "$1: $why"
        sleep 0.2
    done
    shares pause $(number $1) || failed "$1 cannot be paused"
    echo "MIX serving $1"
}
tell() {
    console $1 | awk -v from=$2 '/^WEB [0-9]+ [0-9]+$/ && $2 + 0 >= from + 0 { print $2, $3; exit }'
}
watch() {
    load=$1
    shift
    for guest; do numbers="$numbers $(number $guest)"; done
    shares watch $PERIOD $PERIODS $numbers > /tmp/looks || failed "guests cannot be looked at"
    for guest; do
        set -- $(sed -n "s/^SHARES $(number $guest) //p" /tmp/looks)
        echo "MIX $load $guest $* $(tell $guest $1) $(tell $guest $3)"
    done
    numbers=
}
"#;

/// Runs it on each hypervisor that was asked for.
///
/// # Errors
/// When something is missing or a guest does not serve.
pub fn measure(tree: &Tree, common: &Common, stock: &Files) -> Result<stack::Columns> {
    let web = tree.out().join("programs/web");
    let page = Part {
        path: "www/page".to_owned(),
        permissions: 0o644,
        contents: vec![b'x'; PAGE],
    };
    let files = Files {
        initrd: initrd::build_with(tree, "web", &[read("bin/web", 0o755, &web)?, page])?,
        ..stock.clone()
    };
    let bench = Bench {
        name: "sched-web",
        doing: "running three web servers, which takes minutes, on",
        script: &script(),
        last: "MIX end",
        programs: &["shares"],
        guest_kernel: &kernel::unpacked(&stock.kernel)?,
        guest_words: GUEST_WORDS,
        memory: "1G",
        limit: LIMIT,
        read: told,
    };
    stack::measure(tree, common, &files, &bench)
}

/// The whole script: builds the three, watches them together, then the one alone.
fn script() -> String {
    let mut script = format!("PERIOD={PERIOD}\nPERIODS={PERIODS}\n{SCRIPT}");
    let names: Vec<&str> = GUESTS.iter().map(|(guest, _)| *guest).collect();
    for guest in &names {
        script += &format!("serving {guest}\n");
    }
    for (guest, share) in GUESTS {
        script += &give(guest, share);
    }
    script += &format!("watch three {}\n", names.join(" "));
    for guest in names.iter().filter(|guest| **guest != ALONE) {
        script += &format!("destroy {guest} || failed \"{guest} cannot be ended\"\n");
    }
    // What they had reserved is free when the period is over in which they ended.
    script += "sleep 1\n";
    script += &give(ALONE, all_shares());
    script + &format!("watch alone {ALONE}\necho \"MIX end\"\nsleep 1000\n")
}

fn give(guest: &str, share: u64) -> String {
    format!("share {guest} {share} || failed \"{guest} is refused its share\"\n")
}

fn all_shares() -> u64 {
    GUESTS.iter().map(|(_, share)| share).sum()
}

/// What is told of a guest, in this order, and the names of the figures.
const TOLD: [&str; 9] = [
    "tick", "used", "tick2", "used2", "moved", "line", "served", "line2", "served2",
];

/// The figures that a console tells, such as `three web1 used`.
fn told(console: &str) -> Result<Figures> {
    if let Some(why) = stack::told(console, "MIX failed: ") {
        bail!("the web servers did not run: {why}");
    }
    let three = GUESTS.iter().map(|(guest, _)| format!("three {guest}"));
    let mut figures = Figures::new();
    for subject in three.chain([format!("alone {ALONE}")]) {
        let line = stack::told(console, &format!("MIX {subject} "))
            .with_context(|| format!("nothing was told of `{subject}`"))?;
        let numbers: Vec<u64> = line
            .split_whitespace()
            .map_while(|word| word.parse().ok())
            .collect();
        if numbers.len() != TOLD.len() {
            bail!("too little was told of `{subject}`: {line}");
        }
        let named = TOLD.iter().zip(numbers);
        figures.extend(named.map(|(name, number)| (format!("{subject} {name}"), number)));
    }
    Ok(figures)
}

/// A guest between the two looks.
struct Guest<'a> {
    figures: &'a Figures,
    subject: String,
    share: u64,
}

impl<'a> Guest<'a> {
    fn three(figures: &'a Figures) -> impl Iterator<Item = Self> {
        GUESTS.into_iter().map(move |(guest, share)| Self {
            figures,
            subject: format!("three {guest}"),
            share,
        })
    }

    fn alone(figures: &'a Figures) -> Self {
        Self {
            figures,
            subject: format!("alone {ALONE}"),
            share: all_shares(),
        }
    }

    fn figure(&self, name: &str) -> Option<u64> {
        store::find(self.figures, &format!("{} {name}", self.subject))
    }

    fn grown(&self, from: &str, to: &str) -> Option<u64> {
        self.figure(to)?.checked_sub(self.figure(from)?)
    }

    /// By what part it was charged more than was reserved for it.
    fn error(&self) -> Option<f64> {
        let asked = PERIOD / 100 * self.share * PERIODS;
        Some(seen::error(self.grown("used", "used2")?, asked))
    }

    /// Requests a second.
    fn rate(&self) -> Option<f64> {
        let ticks = self.grown("line", "line2")? as f64;
        Some(self.grown("served", "served2")? as f64 * 1e9 / ticks)
    }

    /// At a look it was not at rest, so that it was not looked at in whole periods.
    fn has_moved(&self) -> bool {
        self.figure("moved") != Some(0)
    }
}

/// What part of the requests is lost with three, against one alone.
fn lost(figures: &Figures) -> Option<f64> {
    let three = Guest::three(figures)
        .map(|guest| guest.rate())
        .sum::<Option<f64>>()?;
    Some(seen::lost(three, Guest::alone(figures).rate()?))
}

/// Errors and requests of each guest.
pub fn table(columns: &stack::Columns) -> Table {
    let mut heads = vec![NAME.to_owned()];
    for (host, _) in columns {
        heads.push(format!("{}: time", host.name()));
        heads.push(format!("{}: requests a second", host.name()));
    }
    let mut table = Table::new(heads);
    let mut row = |name: String, cells: &dyn Fn(&Figures) -> [String; 2]| {
        let all = columns.iter().flat_map(|(_, figures)| cells(figures));
        table.row(std::iter::once(name).chain(all).collect());
    };
    let of = |guest: &Guest<'_>| {
        let rate = guest
            .rate()
            .map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"));
        [percent(guest.error()), rate]
    };
    for (n, (_, share)) in GUESTS.into_iter().enumerate() {
        row(format!("with {share} %"), &|figures| {
            Guest::three(figures)
                .nth(n)
                .map(|guest| of(&guest))
                .unwrap_or_default()
        });
    }
    row(format!("one alone with {} %", all_shares()), &|figures| {
        of(&Guest::alone(figures))
    });
    row("lost with three".to_owned(), &|figures| {
        [String::new(), percent(lost(figures))]
    });
    table
}

/// What is not as it should be on ours.
pub fn complaints(columns: &stack::Columns) -> Vec<String> {
    let mut lines = Vec::new();
    let Some(figures) = stack::column(columns, Host::Ours) else {
        return lines;
    };
    for guest in Guest::three(figures).chain([Guest::alone(figures)]) {
        if guest.has_moved() {
            lines.push(format!(
                "{NAME}: at a look `{}` was not at rest",
                guest.subject
            ));
        }
        if let Some(error) = guest.error().filter(|error| error.abs() > OFF) {
            let part = percent(Some(error));
            lines.push(format!(
                "{NAME}: the share of `{}` is off by {part}",
                guest.subject
            ));
        }
    }
    if let Some(part) = lost(figures).filter(|part| *part > LOST) {
        let part = percent(Some(part));
        lines.push(format!("{NAME}: {part} of the requests are lost"));
    }
    lines
}

/// The hypervisors that it was run on, for scripts.
pub fn json(columns: &stack::Columns) -> Vec<Value> {
    let of = |guest: &Guest<'_>| {
        json!({
            "guest": guest.subject,
            "percent": guest.share,
            "used_ns": guest.grown("used", "used2"),
            "error": guest.error(),
            "requests_a_second": guest.rate(),
            "at_rest": !guest.has_moved(),
        })
    };
    let one = |(host, figures): &(Host, Figures)| {
        let guests = Guest::three(figures).chain([Guest::alone(figures)]);
        json!({
            "load": NAME,
            "host": host.name(),
            "window_ns": PERIOD * PERIODS,
            "error": largest(Guest::three(figures).filter_map(|guest| guest.error())),
            "lost": lost(figures),
            "guests": guests.map(|guest| of(&guest)).collect::<Vec<_>>(),
        })
    };
    columns.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A console where each was charged its share and `more` nanoseconds, and served a request a millisecond of it.
    fn console(more: u64, moved: u64) -> String {
        let line = |case: &str, guest: &str, share: u64| {
            let used = PERIOD / 100 * share * PERIODS + more;
            let served = used / 1_000_000;
            format!(
                "MIX {case} {guest} 5 7 {} {} {moved} 6 9 {} {}\r\n",
                5 + PERIOD * PERIODS,
                7 + used,
                6 + PERIOD * PERIODS,
                9 + served
            )
        };
        let three = GUESTS
            .iter()
            .map(|(guest, share)| line("three", guest, *share));
        three.chain([line("alone", ALONE, all_shares())]).collect()
    }

    #[test]
    fn a_guests_line_becomes_its_error_and_its_rate() {
        let figures = told(&console(1_000_000, 0)).unwrap();
        let first = Guest::three(&figures).next().unwrap();
        assert!((first.error().unwrap() - 0.001).abs() < 1e-9);
        assert!((first.rate().unwrap() - 100.1).abs() < 1e-9);
        assert!(!first.has_moved());
        assert!((Guest::alone(&figures).rate().unwrap() - 600.1).abs() < 1e-9);
    }

    #[test]
    fn what_a_console_does_not_tell_is_an_error() {
        let whole = console(0, 0);
        assert!(told(&whole).is_ok());
        assert!(told(&whole.replace("MIX alone", "x")).is_err());
        assert!(
            told(&whole.replace(" 6 9 ", " ")).is_err(),
            "a look without a line"
        );
        assert!(told(&format!("{whole}MIX failed: no room\r\n")).is_err());
    }

    #[test]
    fn what_is_off_lost_or_not_at_rest_on_ours_is_named() {
        let of = |host, console: &str| vec![(host, told(console).unwrap())];
        assert!(complaints(&of(Host::Ours, &console(0, 0))).is_empty());
        assert_eq!(complaints(&of(Host::Ours, &console(0, 1))).len(), 4);
        // The smallest share is off by more than a thousandth, the others by less.
        let off = complaints(&of(Host::Ours, &console(1_500_000, 0)));
        assert_eq!(off.len(), 1, "{off:?}");
        assert!(complaints(&of(Host::Xen, &console(9_000_000, 1))).is_empty());
        let served = 9 + all_shares() * PERIOD / 100 * PERIODS / 1_000_000;
        let faster =
            console(0, 0).replace(&format!(" {served}\r\n"), &format!(" {}\r\n", served + 100));
        assert_eq!(complaints(&of(Host::Ours, &faster)).len(), 1);
    }

    #[test]
    fn the_script_gives_all_that_is_there_to_be_had_alone() {
        let script = script();
        assert!(script.contains("share web1 10 ||"));
        assert!(script.ends_with("share web3 60 || failed \"web3 is refused its share\"\nwatch alone web3\necho \"MIX end\"\nsleep 1000\n"));
    }
}

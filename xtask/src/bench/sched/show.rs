//! Tables of what was seen, and what of it is not as it should be.

use serde_json::{Value, json};

use crate::bench::machines::Host;
use crate::bench::sched::Row;
use crate::bench::sched::cases::{About, Case, QUANTUMS};
use crate::bench::sched::seen::{self, Seen};
use crate::bench::table::{Table, grouped};

/// By what part a share may be off.
pub const OFF: f64 = 0.001;
/// What part of the work may be lost with 32 domains at the smaller quantum.
pub const LOST: f64 = 0.005;

/// The hypervisors, in the order of the columns.
const HOSTS: [Host; 2] = [Host::Ours, Host::Xen];

/// With its sign.
pub fn percent(part: Option<f64>) -> String {
    part.map_or_else(|| "-".to_owned(), |part| format!("{:+.4} %", part * 100.0))
}

fn ticks(count: Option<f64>) -> String {
    count.map_or_else(|| "-".to_owned(), |count| grouped(count.round() as u64))
}

fn nanoseconds(count: Option<u64>) -> String {
    count.map_or_else(|| "-".to_owned(), grouped)
}

fn quantum(case: &Case) -> String {
    format!("{} ms", case.quantum / 1_000_000)
}

/// A value of each hypervisor that the case was run on.
fn each(row: &Row, value: impl Fn(&Seen) -> String) -> [String; 2] {
    HOSTS.map(|host| row.on(host).map_or_else(|| "-".to_owned(), &value))
}

fn rows_about(rows: &[Row], about: impl Fn(About) -> bool) -> Vec<&Row> {
    rows.iter().filter(|row| about(row.case.about)).collect()
}

/// The share of work that is lost on a hypervisor against the same with one domain, if that was run too.
fn lost(rows: &[Row], row: &Row, host: Host) -> Option<f64> {
    let one = match row.case.about {
        About::Parts(_) => About::Parts(1),
        About::Busy(_) => About::Busy(1),
        _ => return None,
    };
    let mut all = rows.iter();
    let alone = all.find(|other| other.case.about == one && other.case.quantum == row.case.quantum);
    Some(seen::lost(row.on(host)?.work(), alone?.on(host)?.work()))
}

fn table(head: &str, columns: &[&str]) -> Table {
    let heads = std::iter::once(head).chain(columns.iter().copied());
    Table::new(heads.map(str::to_owned).collect())
}

/// Prints all tables that have rows.
pub fn tables(rows: &[Row]) {
    if rows
        .iter()
        .filter_map(|row| row.on(Host::Ours))
        .any(|seen| !seen.kept)
    {
        println!("Ours keeps no reservations: turns go round, and shares are equal.\n");
    }
    let all = [
        shares(rows),
        attacks(rows),
        overhead(rows),
        waking(rows),
        lateness(rows),
        switches(rows),
    ];
    for table in all.into_iter().flatten() {
        println!("{table}");
    }
}

fn share_rows(table: &mut Table, rows: &[&Row]) {
    for row in rows {
        let window = row.case.window();
        let [ours, xens] = each(row, |seen| percent(seen.worst_charged(window)));
        let [counted, counted_there] = each(row, |seen| percent(seen.worst_counted(window)));
        table.row(vec![
            row.case.name.clone(),
            quantum(&row.case),
            ours,
            counted,
            xens,
            counted_there,
        ]);
    }
}

const SHARE_COLUMNS: [&str; 5] = [
    "quantum",
    "ours: time",
    "ours: work",
    "Xen: time",
    "Xen: work",
];

fn shares(rows: &[Row]) -> Option<Table> {
    let found = rows_about(rows, |about| {
        matches!(about, About::Shares | About::Parts(_))
    });
    let mut table = table("worst error of a share", &SHARE_COLUMNS);
    share_rows(&mut table, &found);
    (!found.is_empty()).then_some(table)
}

fn attacks(rows: &[Row]) -> Option<Table> {
    let found = rows_about(rows, |about| about == About::Attack);
    let mut table = table("worst error of a victim's share beside who", &SHARE_COLUMNS);
    share_rows(&mut table, &found);
    (!found.is_empty()).then_some(table)
}

fn overhead(rows: &[Row]) -> Option<Table> {
    let found = rows_about(rows, |about| {
        matches!(about, About::Parts(_) | About::Busy(_))
    });
    let mut table = table(
        "work lost against one domain",
        &["quantum", "ours", "ours: the hypervisor's own", "Xen"],
    );
    for row in &found {
        let own = |seen: &Seen| percent(Some(seen.machine as f64 / seen.elapsed.max(1) as f64));
        table.row(vec![
            row.case.name.clone(),
            quantum(&row.case),
            percent(lost(rows, row, Host::Ours)),
            row.on(Host::Ours).map_or_else(|| "-".to_owned(), own),
            percent(lost(rows, row, Host::Xen)),
        ]);
    }
    (!found.is_empty()).then_some(table)
}

/// Whoever sleeps, of those that were run.
fn sleeper(seen: &Seen) -> Option<&seen::Domain> {
    let mut all = seen.domains.iter();
    all.find(|domain| domain.kind == "cyclic" || domain.kind == "sleeper")
}

fn waking(rows: &[Row]) -> Option<Table> {
    let found = rows_about(rows, |about| matches!(about, About::Task | About::Waking));
    let mut table = table(
        "waking among 31 that compute (ns)",
        &[
            "where",
            "times",
            "missed deadlines",
            "longest work",
            "latest",
            "half by",
            "99 % by",
        ],
    );
    for row in &found {
        for (host, seen) in &row.seen {
            let Some(who) = sleeper(seen) else { continue };
            let by = |part| seen::quantile(&seen.late, part).map(|class| 2 << class);
            table.row(vec![
                row.case.name.clone(),
                host.name().to_owned(),
                grouped(who.deeds),
                match row.case.about {
                    About::Task => grouped(who.missed),
                    _ => "-".to_owned(),
                },
                nanoseconds((who.longest > 0).then_some(who.longest)),
                grouped(who.latest),
                nanoseconds(by(0.5)),
                nanoseconds(by(0.99)),
            ]);
        }
    }
    (!found.is_empty()).then_some(table)
}

/// How late whoever sleeps wakes: a column for each run.
fn lateness(rows: &[Row]) -> Option<Table> {
    let found = rows_about(rows, |about| matches!(about, About::Task | About::Waking));
    let runs: Vec<_> = found
        .iter()
        .flat_map(|row| row.seen.iter().map(|(host, seen)| (&row.case, *host, seen)))
        .collect();
    let mut heads = vec!["woken later than, not than twice that (ns)".to_owned()];
    heads.extend(
        runs.iter()
            .map(|(case, host, _)| format!("{}, {}", case.name, host.name())),
    );
    let mut table = Table::new(heads);
    let classes = || runs.iter().flat_map(|(_, _, seen)| seen.late.keys());
    let (first, last) = (classes().min()?, classes().max()?);
    for class in *first..=*last {
        let mut row = vec![grouped(1 << class)];
        row.extend(runs.iter().map(|(_, _, seen)| {
            let times = seen.late.get(&class);
            times.map_or_else(String::new, |times| grouped(*times))
        }));
        table.row(row);
    }
    Some(table)
}

/// A row's figure in ticks.
fn switch(seen: &Seen, about: About) -> Option<f64> {
    match about {
        About::Turns => seen.switch(),
        About::Message => seen.echo.map(|ticks| ticks as f64 / 2.0),
        _ => None,
    }
}

fn switches(rows: &[Row]) -> Option<Table> {
    let found = rows_about(rows, |about| matches!(about, About::Turns | About::Message));
    let mut table = table(
        "switch between two domains (instructions)",
        &["ours", "Xen"],
    );
    for row in &found {
        let name = match row.case.about {
            About::Turns => "at the end of a turn",
            _ => "sent a message, asleep, until the other has it that slept",
        };
        let [ours, xens] = each(row, |seen| ticks(switch(seen, row.case.about)));
        table.row(vec![name.to_owned(), ours, xens]);
    }
    (!found.is_empty()).then_some(table)
}

/// What is not as it should be on ours.
pub fn complaints(rows: &[Row]) -> Vec<String> {
    let mut lines = Vec::new();
    for row in rows {
        let Some(ours) = row.on(Host::Ours) else {
            continue;
        };
        let case = format!("{}, quantum {}", row.case.name, quantum(&row.case));
        if let Some(error) = ours.worst_charged(row.case.window())
            && error.abs() > OFF
        {
            lines.push(format!(
                "a share is off by {}: {case}",
                percent(Some(error))
            ));
        }
        let missed: u64 = ours.domains.iter().map(|domain| domain.missed).sum();
        if missed > 0 {
            lines.push(format!("{missed} deadlines were missed: {case}"));
        }
        let many = matches!(row.case.about, About::Parts(32) | About::Busy(32));
        if many
            && row.case.quantum == QUANTUMS[0]
            && let Some(part) = lost(rows, row, Host::Ours)
            && part > LOST
        {
            lines.push(format!(
                "{} of the work is lost: {case}",
                percent(Some(part))
            ));
        }
        let about = row.case.about;
        let xens = row.on(Host::Xen).and_then(|seen| switch(seen, about));
        if let (Some(ours), Some(xens)) = (switch(ours, about), xens)
            && ours >= xens
        {
            lines.push(format!("a switch takes no less than Xen's: {case}"));
        }
    }
    lines
}

/// Prints everything for scripts, and what else was run.
pub fn json(rows: &[Row], others: Vec<Value>) {
    let pairs = rows.iter().flat_map(|row| {
        let seen = row.seen.iter();
        seen.map(move |(host, seen)| (row, *host, seen))
    });
    let runs = pairs.map(|(row, host, seen)| run(rows, row, host, seen));
    let runs: Vec<Value> = runs.chain(others).collect();
    println!("{}", json!({ "bench": "sched", "runs": runs }));
}

fn run(rows: &[Row], row: &Row, host: Host, seen: &Seen) -> Value {
    let domains: Vec<Value> = seen
        .domains
        .iter()
        .map(|domain| {
            json!({
                "kind": domain.kind,
                "slice_ns": domain.slice,
                "period_ns": domain.period,
                "extra": domain.extra,
                "used_ns": domain.used,
                "own_instructions": domain.own,
                "deeds": domain.deeds,
                "missed": domain.missed,
                "longest_ns": domain.longest,
                "latest_ns": domain.latest,
            })
        })
        .collect();
    let late: serde_json::Map<_, _> = seen
        .late
        .iter()
        .map(|(class, times)| ((1_u64 << class).to_string(), json!(times)))
        .collect();
    let window = row.case.window();
    json!({
        "load": row.case.name,
        "host": host.name(),
        "quantum_ns": row.case.quantum,
        "window_ns": window,
        "kept": seen.kept,
        "elapsed_ticks": seen.elapsed,
        "hypervisor_ticks": seen.machine,
        "control_ticks": seen.control,
        "error": seen.worst_charged(window),
        "error_of_work": seen.worst_counted(window),
        "lost": lost(rows, row, host),
        "switch_instructions": switch(seen, row.case.about),
        "late_ns": late,
        "domains": domains,
    })
}

//! `xeno ledger show`: what a usage record says.

use ledger::record::{self, Domain, Record, What};

use super::words::entries;
use super::{paths, read, still_there};
use crate::cli::ledger::Show;
use crate::failure::Failure;
use crate::show::{bytes, cpu_time, in_ns, out, printable, table, when};

/// The lines of a file that look like entries.
fn lines(bytes: &[u8]) -> impl DoubleEndedIterator<Item = (&[u8], Record)> {
    let lines = bytes.split(|byte| *byte == b'\n');
    lines.filter_map(|line| {
        let (entry, _) = record::split(line).ok()?;
        Some((line, entry.record))
    })
}

/// Shows it.
///
/// # Errors
/// When the files cannot be read.
pub fn run(options: &Show, json: bool) -> Result<(), Failure> {
    let wanted = |record: &Record| match (&options.domain, &record.what) {
        (None, _) => true,
        (Some(wanted), What::Domain(domain)) => {
            domain.name.as_ref() == Some(wanted)
                || domain.uuid == *wanted
                || domain.id.to_string() == *wanted
        }
        (Some(_), _) => false,
    };
    let most = options.last.unwrap_or(usize::MAX);
    // From the end on, so that no more files are read than are shown.
    let (mut rows, mut objects) = (Vec::new(), Vec::new());
    for (_, path) in paths(&options.files)?.iter().rev() {
        let Some(contents) = still_there(read(path))? else {
            break;
        };
        let room = most - rows.len().max(objects.len());
        for (line, record) in lines(&contents)
            .rev()
            .filter(|(_, record)| wanted(record))
            .take(room)
        {
            if json {
                let object = line
                    .get(ledger::key::SIGNATURE_HEX + 1..)
                    .unwrap_or_default();
                objects.push(String::from_utf8_lossy(object).into_owned() + "\n");
            } else {
                rows.push(row(&record));
            }
        }
        if rows.len().max(objects.len()) >= most {
            break;
        }
    }
    if json {
        return objects.iter().rev().try_for_each(out);
    }
    rows.reverse();
    out(table(&HEAD, &HEAD[4..], &rows))
}

const HEAD: [&str; 12] = [
    "ENTRY",
    "TIME",
    "WHAT",
    "NAME",
    "ID",
    "K",
    "USER",
    "KERNEL",
    "HYPERVISOR",
    "STOLEN",
    "MEMORY",
    "PEAK",
];

fn row(record: &Record) -> Vec<String> {
    let (what, name) = match &record.what {
        What::Domain(domain) => return domain_row(record, domain),
        What::Segment(segment) => match &segment.lost {
            Some(lost) => (
                "lost",
                format!("{}: {}", entries(lost.first, lost.last), lost.why),
            ),
            None => ("segment", String::new()),
        },
        What::Start(start) if start.fresh => ("start", "the machine and the daemon".to_owned()),
        What::Start(_) => ("start", "the daemon".to_owned()),
        What::Machine(machine) => {
            let percent = |cycles: u64| 100.0 * cycles as f64 / machine.elapsed.max(1) as f64;
            let (idle, own) = (percent(machine.idle), percent(machine.own));
            (
                "machine",
                format!("{} CPUs, {idle:.1}% idle, {own:.3}% its own", machine.cpus),
            )
        }
        What::Gap(gap) => ("gap", format!("since {}: {}", when(gap.since), gap.why)),
        What::Missed(missed) => ("missed", format!("{} domains", missed.count)),
        What::Pruned(pruned) => ("pruned", format!("up to entry {}", pruned.last)),
        What::Stop {} => ("stop", "the daemon".to_owned()),
    };
    let mut cells = vec![
        record.n.to_string(),
        when(record.t),
        what.to_owned(),
        printable(&name),
    ];
    cells.resize(HEAD.len(), String::new());
    cells
}

fn domain_row(record: &Record, domain: &Domain) -> Vec<String> {
    let used = &domain.used;
    let time = |cycles: u64| cpu_time(in_ns(cycles, used.hz));
    let what = if domain.ended.is_some() {
        "last"
    } else {
        "use"
    };
    vec![
        record.n.to_string(),
        when(record.t),
        what.to_owned(),
        printable(domain.name.as_deref().unwrap_or("-")),
        domain.id.to_string(),
        domain.k.to_string(),
        time(used.user),
        time(used.kernel),
        time(used.hypervisor.iter().sum()),
        time(used.stolen),
        bytes(used.frames << 12),
        bytes(used.frames_peak << 12),
    ]
}

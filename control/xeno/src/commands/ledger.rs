//! `xeno ledger`: the usage record is read from its files and held against what ring 0 remembers, without the daemon.

use std::io;
use std::path::{Path, PathBuf};

use ledger::PublicKey;
use ledger::files::{EXTENSION, segments};
use ledger::record::{self, Domain, Hash, Head, Open, Record, What};
use ledger::verify::{Against, Fault, Report, Tail, Verifier, Witness};
use serde::Serialize;
use xen::{Accounts as _, Hypervisor as _, Xen};

use crate::cli::ledger::{Files, Ledger, Show, Verify};
use crate::failure::{Failure, NOT_WHOLE};
use crate::show::{bytes, cpu_time, out, out_json, printable, table, when};

/// Does what is asked.
///
/// # Errors
/// When the files cannot be read, and when the record is not whole.
pub fn run(verb: &Ledger, json: bool) -> Result<(), Failure> {
    match verb {
        Ledger::Verify(options) => verify(options, json),
        Ledger::Show(options) => show(options, json),
        Ledger::Key { files } => {
            let key = key(files)?;
            match json {
                true => out_json(&serde_json::json!({ "key": key.to_string() })),
                false => out(format!("{key}\n")),
            }
        }
        Ledger::Head { files } => head(files, json),
    }
}

fn dir(files: &Files) -> PathBuf {
    let usual = || files.state.join("ledger");
    files.dir.clone().unwrap_or_else(usual)
}

/// The files, in order.
fn paths(files: &Files) -> Result<Vec<(u64, PathBuf)>, Failure> {
    if files.file.is_empty() {
        return segments(&dir(files)).map_err(|error| Failure::Io {
            what: format!("the usage record {} cannot be read", error.path.display()),
            error: error.source,
        });
    }
    let numbered = files.file.iter().map(|path| {
        let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        let named = path.extension().is_some_and(|own| own == EXTENSION);
        let number = number.filter(|_| named).ok_or_else(|| {
            let shown = path.display();
            Failure::Options(format!(
                "{shown} is not named as a file of the usage record: expected such as 000000000001.{EXTENSION}"
            ))
        });
        number.map(|number| (number, path.clone()))
    });
    let mut numbered: Vec<_> = numbered.collect::<Result<_, _>>()?;
    numbered.sort_unstable();
    Ok(numbered)
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let what = format!("{} cannot be read", path.display());
    std::fs::read(path).map_err(Failure::io(what))
}

/// The key that is given, in a file or not, or that is beside the record.
fn key(files: &Files) -> Result<PublicKey, Failure> {
    let path = match &files.key {
        Some(text) if text.len() == 64 && !Path::new(text).exists() => {
            return text
                .parse()
                .map_err(|error: ledger::key::BadKey| Failure::Options(error.to_string()));
        }
        Some(path) => PathBuf::from(path),
        None => files.state.join("ledger.pub"),
    };
    let text = String::from_utf8_lossy(&read(&path)?).into_owned();
    text.parse().map_err(|error: ledger::key::BadKey| {
        Failure::io(path.display().to_string())(io::Error::other(error))
    })
}

/// What ring 0 remembers.
struct Remembered {
    head: Option<Head>,
    open: Vec<Open>,
}

/// Asks ring 0; the files are to be read after this.
fn ask_ring0() -> Result<Remembered, xen::Error> {
    let xen = Xen::open()?;
    let of = |count, hash| {
        let hash = Hash(hash);
        (count > 0).then_some(Head { n: count, hash })
    };
    let head = xen.ledger_head(None)?;
    let mut remembered = Remembered {
        head: of(head.count, head.head),
        open: Vec::new(),
    };
    for info in xen.domains()? {
        match xen.ledger_head(Some(info.domain)) {
            Ok(own) => remembered
                .open
                .extend(of(own.count, own.head).map(|head| Open {
                    serial: own.serial,
                    k: head.n,
                    head: head.hash,
                })),
            Err(error) if error.is_no_domain() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(remembered)
}

/// How ring 0 was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Ring0 {
    /// It was not to be.
    NotAsked,
    /// It remembers nothing.
    Nothing,
    /// It remembers so much.
    Remembers,
}

fn verify(options: &Verify, json: bool) -> Result<(), Failure> {
    let mut against = Against {
        first: options.first,
        noted: options.head.clone(),
        ..Against::default()
    };
    let mut ring0 = Ring0::NotAsked;
    // Single files say nothing about the others.
    if !options.offline && options.files.file.is_empty() {
        let remembered = ask_ring0().map_err(|error| {
            Failure::io("ring 0 cannot be asked; `--offline` does without")(io::Error::other(error))
        })?;
        ring0 = match remembered.head {
            Some(_) => Ring0::Remembers,
            None => Ring0::Nothing,
        };
        (against.ring0, against.open) = (remembered.head, remembered.open);
    }
    let key = key(&options.files)?;
    let paths = paths(&options.files)?;
    if !options.files.file.is_empty() && options.first <= 1 {
        against.first = paths.first().map_or(1, |(number, _)| *number);
    }
    let mut verifier = Verifier::new(key, &against);
    for (index, (number, path)) in paths.iter().enumerate() {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_last = index + 1 == paths.len();
        verifier.file(*number, &name, &read(path)?, is_last);
    }
    let report = verifier.end();
    if json {
        #[derive(Serialize)]
        struct Told<'a> {
            whole: bool,
            key: String,
            ring0: Ring0,
            #[serde(flatten)]
            report: &'a Report,
        }
        out_json(&Told {
            whole: report.is_whole(),
            key: key.to_string(),
            ring0,
            report: &report,
        })?;
    } else {
        out(told(&report, ring0))?;
    }
    match report.is_whole() {
        true => Ok(()),
        false => Err(Failure::Told(NOT_WHOLE)),
    }
}

/// The report in sentences.
fn told(report: &Report, ring0: Ring0) -> String {
    let mut text = String::new();
    let mut say = |line: String| text.push_str(&(line + "\n"));
    for fault in &report.faults {
        say(fault_words(fault));
    }
    if report.more_faults {
        say("more is wrong than is told here".to_owned());
    }
    let span = match report.last {
        Some(last) => format!("entries {} to {}", report.first, last.n),
        None => "no entries".to_owned(),
    };
    let files = match report.files {
        1 => "1 file".to_owned(),
        files => format!("{files} files"),
    };
    let verdict = if report.is_whole() {
        "whole"
    } else {
        "NOT WHOLE"
    };
    say(format!("the usage record is {verdict}: {span} in {files}"));
    match (ring0, report.anchored) {
        (_, Some(n)) => say(format!("ring 0 vouches for it up to entry {n}")),
        (Ring0::Nothing, _) => say(
            "ring 0 remembers nothing: the machine has started since, or no daemon has".to_owned(),
        ),
        (Ring0::NotAsked, _) => {
            say("ring 0 was not asked: whether the end was cut off is not known".to_owned())
        }
        (Ring0::Remembers, None) => {}
    }
    for tail in &report.unvouched {
        say(tail_words(tail));
    }
    if report.torn > 0 {
        say(format!(
            "{} bytes at the end are no whole entry: one was being written",
            report.torn
        ));
    }
    for pause in &report.pauses {
        let (since, until) = (when(pause.since), when(pause.until));
        say(format!(
            "nothing was recorded from {since} to {until}: {}",
            printable(&pause.why)
        ));
    }
    if report.missed > 0 {
        say(format!(
            "{} domains came and went unrecorded",
            report.missed
        ));
    }
    text
}

fn tail_words(tail: &Tail) -> String {
    let (after, since) = (tail.after, when(tail.t));
    match tail.until {
        Some(until) => format!(
            "nobody can vouch for what came after entry {after} ({since}), if anything did, until the machine ran again ({})",
            when(until)
        ),
        None => {
            format!("nobody can vouch for what came after entry {after} ({since}), if anything did")
        }
    }
}

/// From one number to another, which may be the same.
fn entries(first: u64, last: u64) -> String {
    match first == last {
        true => format!("entry {first}"),
        false => format!("entries {first} to {last}"),
    }
}

fn fault_words(fault: &Fault) -> String {
    let remembers = |witness: &Witness| match witness {
        Witness::Ring0 => "ring 0 remembers",
        Witness::Noted => "the head that was noted says",
    };
    match fault {
        Fault::Altered { file, line, n, why } => {
            format!(
                "altered: entry {n} ({}, line {line}): {}",
                printable(file),
                printable(why)
            )
        }
        Fault::Unlinked { file, n, why } => {
            format!("unlinked: entry {n} ({}): {why}", printable(file))
        }
        Fault::Missing { first, last, told } => {
            let told = if *told {
                "; the daemon found out, and went on behind"
            } else {
                ""
            };
            format!("missing: {}{told}", entries(*first, *last))
        }
        Fault::Cut {
            first,
            last,
            witness,
        } => format!(
            "cut: {} {} there, as {}: the end was cut off, or an older copy put in its place",
            entries(*first, *last),
            if first == last { "was" } else { "were" },
            remembers(witness)
        ),
        Fault::Another {
            n,
            serial: None,
            witness,
        } => {
            format!(
                "another: entry {n} is not the one that {}",
                remembers(witness)
            )
        }
        Fault::Another {
            n,
            serial: Some(serial),
            ..
        } => format!(
            "another: entry {n} of the domain with serial {serial} is not the one that ring 0 remembers"
        ),
        Fault::Misnamed { file } => {
            format!(
                "misnamed: {} does not begin with the entry it is named by",
                printable(file)
            )
        }
    }
}

/// The lines of a file that look like entries.
fn lines(bytes: &[u8]) -> impl DoubleEndedIterator<Item = (&[u8], Record)> {
    let lines = bytes.split(|byte| *byte == b'\n');
    lines.filter_map(|line| {
        let (entry, _) = record::split(line).ok()?;
        Some((line, entry.record))
    })
}

fn head(files: &Files, json: bool) -> Result<(), Failure> {
    let key = key(files)?;
    for (_, path) in paths(files)?.iter().rev() {
        let contents = read(path)?;
        let last = contents.split(|byte| *byte == b'\n').rev();
        let mut last = last.filter_map(|line| Some((line, record::read_line(line, &key).ok()?)));
        let Some((line, entry)) = last.next() else {
            continue;
        };
        let signature = line.get(..ledger::key::SIGNATURE_HEX).unwrap_or_default();
        let n = entry.record.n;
        return match json {
            true => out_json(&serde_json::json!({
                "n": n,
                "hash": entry.hash,
                "signature": String::from_utf8_lossy(signature),
                "key": key.to_string(),
            })),
            false => out(format!("{n}:{}\n", entry.hash)),
        };
    }
    Err(Failure::Options(
        "there is no entry that is signed with this key".to_owned(),
    ))
}

fn show(options: &Show, json: bool) -> Result<(), Failure> {
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
        let contents = read(path)?;
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

/// Cycles as nanoseconds.
pub fn in_ns(cycles: u64, hz: u64) -> u64 {
    let ns = u128::from(cycles) * 1_000_000_000 / u128::from(hz.max(1));
    u64::try_from(ns).unwrap_or(u64::MAX)
}

//! What was found in a usage record, in sentences.

use ledger::record::Pruned;
use ledger::verify::{Fault, Removed, Report, Tail, Witness};

use super::verify::Ring0;
use crate::show::{printable, when};

/// The report in sentences.
pub fn told(report: &Report, ring0: Ring0) -> String {
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
    if let Some(removed) = &report.removed {
        say(removed_words(removed));
    }
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
    for n in &report.unheld {
        say(format!(
            "the head that was noted of entry {n} says nothing any more: the entry is removed"
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

fn removed_words(removed: &Removed) -> String {
    let last = removed.pruned.last;
    let why = match removed.pruned.asked {
        true => "as somebody asked",
        false => "as the record was longer than is kept",
    };
    format!(
        "up to entry {last} it was removed on purpose, {why}: entry {} says so ({}); it vouches from entry {} on",
        removed.said,
        when(removed.t),
        last.saturating_add(1)
    )
}

/// What the daemon answers that removed something.
pub fn pruned(pruned: &Pruned) -> String {
    let mut text = format!("up to entry {} it is removed\n", pruned.last);
    if pruned.faults > 0 {
        text += &format!(
            "not all was well with it: `xeno ledger verify` says so from now on ({})\n",
            pruned.faults
        );
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
pub fn entries(first: u64, last: u64) -> String {
    match first == last {
        true => format!("entry {first}"),
        false => format!("entries {first} to {last}"),
    }
}

fn fault_words(fault: &Fault) -> String {
    let remembers = |witness: &Witness| match witness {
        Witness::Ring0 => "ring 0 remembers",
        Witness::Noted => "the head that was noted says",
        Witness::Record => "the record says was removed",
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
        Fault::Removed { last, faults } => {
            let were = if *faults == 1 {
                "thing was"
            } else {
                "things were"
            };
            format!(
                "removed: {faults} {were} wrong with {} when the daemon removed them",
                entries(1, *last)
            )
        }
    }
}

//! How things look: tables, sizes, times, and text that guests had a hand in.

use std::io::{self, Write};

use serde::Serialize;
use xeno_api::{Life, StopReason, Summary};

use crate::failure::Failure;

/// Writes to standard output.
///
/// # Errors
/// [`Failure::Unread`] when nobody reads it any more.
pub fn out(bytes: impl AsRef<[u8]>) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(bytes.as_ref())
        .and_then(|()| stdout.flush());
    written.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::Unread,
        _ => Failure::io("standard output cannot be written")(error),
    })
}

/// Writes an answer as JSON, for people too.
///
/// # Errors
/// As [`out`].
pub fn out_json<T: Serialize>(value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::Nonsense(error.to_string()))?;
    out(text + "\n")
}

/// Writes news as JSON, one line each.
///
/// # Errors
/// As [`out`].
pub fn out_json_line<T: Serialize>(value: &T) -> Result<(), Failure> {
    let text =
        serde_json::to_string(value).map_err(|error| Failure::Nonsense(error.to_string()))?;
    out(text + "\n")
}

/// The text with everything that a terminal would act on shown instead (X2).
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        // Marks that turn the direction of writing can make a line read as another.
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if (c.is_control() && c != '\t') || turns {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// As [`printable`], of bytes; lines stay lines.
pub fn printable_lines(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<String> = text
        .split('\n')
        .map(|line| printable(line.trim_end_matches('\r')))
        .collect();
    lines.join("\n")
}

/// A table with a head. The first column is text and goes left, those whose head is in `right` go right.
pub fn table(head: &[&str], right: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let mut text = String::new();
        for ((cell, name), &width) in cells.iter().zip(head).zip(&widths) {
            if !text.is_empty() {
                text.push_str("  ");
            }
            if right.contains(name) {
                text.push_str(&format!("{cell:>width$}"));
            } else {
                text.push_str(&format!("{cell:<width$}"));
            }
        }
        text.trim_end().to_owned() + "\n"
    };
    let mut text = line(head.to_vec());
    for row in rows {
        text.push_str(&line(row.iter().map(String::as_str).collect()));
    }
    text
}

/// An amount of bytes with three digits or so: `96.0M`, `1.5G`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["K", "M", "G", "T", "P"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let mut amount = bytes as f64;
    let mut unit = "";
    for next in UNITS {
        if amount < 1023.95 {
            break;
        }
        amount /= 1024.0;
        unit = next;
    }
    let text = format!("{amount:.1}");
    format!("{}{unit}", text.strip_suffix(".0").unwrap_or(&text))
}

/// Cycles as nanoseconds.
pub fn in_ns(cycles: u64, hz: u64) -> u64 {
    let ns = u128::from(cycles) * 1_000_000_000 / u128::from(hz.max(1));
    u64::try_from(ns).unwrap_or(u64::MAX)
}

/// CPU time: `0.31s`, `2m05s`, `3h12m`.
pub fn cpu_time(nanoseconds: u64) -> String {
    let seconds = nanoseconds / 1_000_000_000;
    if seconds < 60 {
        return format!("{seconds}.{:02}s", nanoseconds % 1_000_000_000 / 10_000_000);
    }
    age(seconds)
}

/// A time in whole seconds: `42s`, `2m05s`, `3h12m`, `8d04h`.
pub fn age(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..86400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

/// Frames times cycles as bytes times seconds: `96M*s`.
pub fn memory_time(frame_cycles: u128, hz: u64) -> String {
    let amount = frame_cycles.saturating_mul(4096) / u128::from(hz.max(1));
    bytes(u64::try_from(amount).unwrap_or(u64::MAX)) + "*s"
}

/// A moment, in milliseconds since 1970, in universal time: `2026-11-23 17:05:09`.
pub fn when(ms: u64) -> String {
    let (days, seconds) = (ms / 86_400_000, ms / 1000 % 86_400);
    // Years of a calendar that begins in March, so that leap days are at their ends; 400 of them have 146097 days.
    let day = days + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let (month, turn) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    format!(
        "{:04}-{month:02}-{of_month:02} {:02}:{:02}:{:02}",
        era * 400 + year + turn,
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

/// Where a domain is in its life, in a word or two.
pub fn state(summary: &Summary) -> String {
    let life = match summary.life {
        Life::Running => "running",
        Life::Idle => "idle",
        Life::Paused => "paused",
        Life::ShutDown => "shut down",
        Life::Crashed => "crashed",
        Life::Dying => "dying",
    };
    let reason = summary.reason.and_then(|reason| match reason {
        StopReason::Poweroff => Some("poweroff"),
        StopReason::Reboot => Some("reboot"),
        StopReason::Suspend => Some("suspend"),
        StopReason::Watchdog => Some("watchdog"),
        StopReason::SoftReset => Some("soft reset"),
        StopReason::Crash | StopReason::Destroyed => None,
    });
    match reason {
        Some(reason) => format!("{life} ({reason})"),
        None => life.to_owned(),
    }
}

/// A domain's name, or what stands for it.
pub fn name(summary: &Summary) -> String {
    summary
        .name
        .as_deref()
        .map_or_else(|| "-".to_owned(), printable)
}

/// The table of `xeno list`.
pub fn domains(domains: &[Summary]) -> String {
    let row = |domain: &Summary| {
        vec![
            name(domain),
            domain.id.to_string(),
            state(domain),
            bytes(domain.memory_bytes),
            domain.vcpus.to_string(),
            cpu_time(domain.cpu_ns),
            domain.age_s.map_or_else(|| "-".to_owned(), age),
        ]
    };
    let rows: Vec<Vec<String>> = domains.iter().map(row).collect();
    table(
        &["NAME", "ID", "STATE", "MEMORY", "VCPUS", "CPU TIME", "AGE"],
        &["ID", "MEMORY", "VCPUS", "CPU TIME", "AGE"],
        &rows,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_short() {
        let sizes = [
            0,
            1023,
            1024,
            96 << 20,
            (96 << 20) + (1 << 19),
            (1 << 30) - 1,
            3 << 30,
        ]
        .map(bytes);
        assert_eq!(sizes, ["0B", "1023B", "1K", "96M", "96.5M", "1G", "3G"]);
        let times = [0, 310_000_000, 59_999_999_999, 125_000_000_000].map(cpu_time);
        assert_eq!(times, ["0.00s", "0.31s", "59.99s", "2m05s"]);
        assert_eq!(
            [42, 3599, 11_520, 705_600].map(age),
            ["42s", "59m59s", "3h12m", "8d04h"]
        );
    }

    #[test]
    fn moments_are_days_of_the_calendar() {
        let moments = [
            0,
            951_782_399_000,
            951_782_400_000,
            1_709_251_199_999,
            1_795_453_509_000,
        ]
        .map(when);
        assert_eq!(
            moments,
            [
                "1970-01-01 00:00:00",
                "2000-02-28 23:59:59",
                "2000-02-29 00:00:00",
                "2024-02-29 23:59:59",
                "2026-11-23 17:05:09",
            ]
        );
        assert_eq!(memory_time(3 << 30, 1 << 20), "12M*s");
        let _no_matter_what = (when(u64::MAX), memory_time(u128::MAX, 0));
    }

    #[test]
    fn what_a_terminal_would_act_on_is_shown_instead() {
        assert_eq!(
            printable("a\u{1b}[2Jb\u{202e}\u{9b}é"),
            "a\\u{1b}[2Jb\\u{202e}\\u{9b}é"
        );
        assert_eq!(
            printable_lines(b"one\r\ntwo\x07\xff"),
            "one\ntwo\\u{7}\u{fffd}"
        );
    }
}

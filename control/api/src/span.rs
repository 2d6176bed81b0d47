//! Lengths of time as people write them: `5ms`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A length of time in nanoseconds, written as a whole number and a unit: `500us`, `5ms`, `1s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(u64);

/// A text that is not a length of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a length of time: expected a whole number with a unit, such as \"5ms\" (ns, us, ms or s)"
)]
pub struct BadSpan(pub String);

/// Units and how many nanoseconds they are, the largest first.
const UNITS: [(&str, u64); 4] = [
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

impl Span {
    /// No time.
    pub const ZERO: Self = Self(0);
    /// A second.
    pub const SECOND: Self = Self(1_000_000_000);

    /// So many nanoseconds.
    pub const fn from_ns(ns: u64) -> Self {
        Self(ns)
    }

    /// In nanoseconds.
    pub const fn ns(self) -> u64 {
        self.0
    }
}

impl FromStr for Span {
    type Err = BadSpan;

    fn from_str(text: &str) -> Result<Self, BadSpan> {
        let bad = || BadSpan(text.chars().take(40).collect());
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let unit = if unit == "µs" { "us" } else { unit };
        let (_, ns) = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(bad)?;
        let number = number.parse::<u64>().ok();
        number
            .and_then(|number| number.checked_mul(*ns))
            .map(Self)
            .ok_or_else(bad)
    }
}

written_as_text!(Span, BadSpan);

impl fmt::Display for Span {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |(_, ns): &&(&str, u64)| self.0 != 0 && self.0.is_multiple_of(*ns);
        let (unit, ns) = UNITS.iter().find(whole).unwrap_or(&("ns", 1));
        out.pad(&format!("{}{unit}", self.0 / ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_is_a_number_with_a_unit() {
        for (text, ns) in [
            ("7ns", 7),
            ("200us", 200_000),
            ("200µs", 200_000),
            ("5ms", 5_000_000),
            ("1s", 1_000_000_000),
            ("0ms", 0),
        ] {
            assert_eq!(text.parse::<Span>().unwrap().ns(), ns, "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "5",
            "ms",
            "1.5ms",
            "-5ms",
            " 5ms",
            "5 ms",
            "5m",
            "5MS",
            "99999999999999999999s",
            "18446744074s",
        ] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_shown_reads_back_the_same() {
        for ns in [0, 1, 999, 1_000, 20_500, 5_000_000, 1_000_000_000, u64::MAX] {
            let span = Span::from_ns(ns);
            assert_eq!(span.to_string().parse(), Ok(span));
        }
        assert_eq!(Span::from_ns(20_500).to_string(), "20500ns");
        assert_eq!(Span::from_ns(20_000).to_string(), "20us");
    }
}

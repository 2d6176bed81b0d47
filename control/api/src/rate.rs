//! Rates of CPU time as people write them: `40%` of a processor.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::MAX_VCPUS;

/// A part of a processor, or several, in millionths: written in percent of one, with four decimals at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rate(u32);

/// A text that is not a rate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a rate: expected percent of one processor, such as \"40%\" or \"12.5%\" (0% to {most}00%)",
    most = MAX_VCPUS
)]
pub struct BadRate(pub String);

/// Millionths in a percent.
const PERCENT: u32 = 10_000;
const DECIMALS: usize = 4;
/// All the processors that a domain could use at once.
const MOST: u32 = MAX_VCPUS * 100 * PERCENT;

impl Rate {
    /// None.
    pub const ZERO: Self = Self(0);

    /// Nanoseconds of each second, rounded up to a millionth; the largest rate if it is more.
    pub fn from_ns(ns: u64) -> Self {
        let ppm = u32::try_from(ns.div_ceil(1000)).unwrap_or(MOST);
        Self(ppm.min(MOST))
    }

    /// Nanoseconds of each second.
    pub const fn ns(self) -> u64 {
        self.0 as u64 * 1000
    }
}

impl FromStr for Rate {
    type Err = BadRate;

    fn from_str(text: &str) -> Result<Self, BadRate> {
        let bad = || BadRate(text.chars().take(40).collect());
        let number = text.strip_suffix('%').ok_or_else(bad)?;
        let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(decimals) || decimals.len() > DECIMALS {
            return Err(bad());
        }
        let whole: u32 = whole.parse().map_err(|_| bad())?;
        let decimals: u32 = format!("{decimals:0<DECIMALS$}")
            .parse()
            .map_err(|_| bad())?;
        let ppm = whole
            .checked_mul(PERCENT)
            .and_then(|ppm| ppm.checked_add(decimals));
        ppm.filter(|ppm| *ppm <= MOST).map(Self).ok_or_else(bad)
    }
}

written_as_text!(Rate, BadRate);

impl fmt::Display for Rate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = format!(".{:0DECIMALS$}", self.0 % PERCENT);
        let decimals = decimals.trim_end_matches('0').trim_end_matches('.');
        out.pad(&format!("{}{decimals}%", self.0 / PERCENT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_percent_of_a_processor_and_is_told_as_it_was_written() {
        for (text, ns) in [
            ("0%", 0),
            ("40%", 400_000_000),
            ("12.5%", 125_000_000),
            ("0.0001%", 1000),
            ("100.0203%", 1_000_203_000),
            ("6400%", 64_000_000_000),
        ] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!(rate.ns(), ns, "{text}");
            assert_eq!(rate.to_string(), text);
            assert_eq!(Rate::from_ns(ns), rate);
        }
        assert_eq!("7.50%".parse::<Rate>().unwrap().to_string(), "7.5%");
        assert_eq!(Rate::from_ns(u64::MAX).to_string(), "6400%");
        assert_eq!(Rate::from_ns(1).to_string(), "0.0001%");
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "%",
            "40",
            ".5%",
            "5.%",
            "-1%",
            "+1%",
            " 4%",
            "4 %",
            "1.23456%",
            "6400.0001%",
            "99999999999%",
            "1e1%",
            "½%",
        ] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }
}

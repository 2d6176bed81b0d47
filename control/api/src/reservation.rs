//! CPU time that a guest has reserved, as people write it.
//!
//! Each of a guest's vCPUs gets the same. Whether the machine has the time is for the hypervisor to say, and how short a
//! period may be; what makes no sense on any machine is refused here, with the key and what was expected.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Span;

/// The weight of those who ask for none in particular.
pub const USUAL_WEIGHT: u16 = 256;

/// What each vCPU of a guest gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Reservation {
    /// At least `slice` of CPU time in every `period` while it can run.
    Time {
        /// CPU time in each period. None at all with `extra` alone.
        slice: Span,
        /// From ten times the hypervisor's longest section to a second.
        period: Span,
        /// Whether it may have more, of time that nobody reserved.
        #[serde(default)]
        extra: bool,
        /// Its part in that.
        #[serde(default = "usual_weight")]
        weight: u16,
    },
    /// So many of the machine's quanta in every period of so many, and no more.
    Quanta {
        /// CPU time in each period.
        quanta: u32,
        /// The period.
        period: u32,
    },
}

fn usual_weight() -> u16 {
    USUAL_WEIGHT
}

/// The keys of a reservation, as told when one is unknown.
pub(crate) const KEYS: &[&str] = &["slice", "period", "extra", "weight", "quanta"];

/// A key of a reservation that is wrong or missing, and what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct BadReservation {
    /// Which.
    pub key: &'static str,
    /// What is wrong and what was expected.
    pub problem: String,
}

fn bad(key: &'static str, problem: impl Into<String>) -> BadReservation {
    BadReservation {
        key,
        problem: problem.into(),
    }
}

/// A period as it was written: with a unit, or as a number of quanta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Period {
    /// With a unit.
    Time(Span),
    /// A number.
    Quanta(u32),
}

/// A reservation of which some is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    pub slice: Option<Span>,
    pub period: Option<Period>,
    pub extra: Option<bool>,
    pub weight: Option<u16>,
    pub quanta: Option<u32>,
}

impl Parts {
    /// The reservation, if nothing is missing and everything fits together.
    pub(crate) fn finish(self) -> Result<Reservation, BadReservation> {
        let reservation = match (self.quanta, self.slice) {
            (Some(_), Some(_)) => {
                return Err(bad("quanta", "there is a slice: expected one of the two"));
            }
            (Some(quanta), None) => self.in_quanta(quanta)?,
            (None, Some(slice)) => self.in_time(slice)?,
            (None, None) => self.only_extra()?,
        };
        reservation.check()?;
        Ok(reservation)
    }

    fn in_quanta(self, quanta: u32) -> Result<Reservation, BadReservation> {
        if self.extra == Some(true) {
            return Err(bad(
                "extra",
                "quanta are all it gets: expected a slice in its place",
            ));
        }
        if self.weight.is_some() {
            return Err(bad("weight", "it means nothing without extra"));
        }
        match self.period {
            Some(Period::Quanta(period)) => Ok(Reservation::Quanta { quanta, period }),
            Some(Period::Time(_)) => Err(bad(
                "period",
                "expected a number of quanta without a unit, as quanta are",
            )),
            None => Err(bad("period", "it is missing: expected a number of quanta")),
        }
    }

    fn in_time(self, slice: Span) -> Result<Reservation, BadReservation> {
        let period = match self.period {
            Some(Period::Time(period)) => period,
            Some(Period::Quanta(_)) => {
                return Err(bad(
                    "period",
                    "expected a length of time, such as \"20ms\", as the slice is",
                ));
            }
            None => {
                return Err(bad(
                    "period",
                    "it is missing: expected a length of time, such as \"20ms\"",
                ));
            }
        };
        let extra = self.extra.unwrap_or(false);
        if !extra && self.weight.is_some() {
            return Err(bad("weight", "it means nothing without extra"));
        }
        Ok(Reservation::Time {
            slice,
            period,
            extra,
            weight: self.weight.unwrap_or(USUAL_WEIGHT),
        })
    }

    fn only_extra(self) -> Result<Reservation, BadReservation> {
        if self.extra != Some(true) {
            return Err(bad(
                "slice",
                "it is missing: expected a length of time, such as \"5ms\", or extra alone",
            ));
        }
        if self.period.is_some() {
            return Err(bad("period", "it means nothing without a slice"));
        }
        Ok(Reservation::Time {
            slice: Span::ZERO,
            period: Span::SECOND,
            extra: true,
            weight: self.weight.unwrap_or(USUAL_WEIGHT),
        })
    }
}

impl Reservation {
    /// Whether it makes sense on any machine.
    ///
    /// # Errors
    /// The first key that does not.
    pub fn check(&self) -> Result<(), BadReservation> {
        match *self {
            Self::Time {
                slice,
                period,
                extra,
                weight,
            } => {
                if period == Span::ZERO || period > Span::SECOND {
                    return Err(bad(
                        "period",
                        format!("{period} is out of range: expected at most 1s"),
                    ));
                }
                if slice > period {
                    return Err(bad(
                        "slice",
                        format!("{slice} is longer than its period, {period}"),
                    ));
                }
                if slice == Span::ZERO && !extra {
                    return Err(bad("slice", "it would never run: expected more than 0"));
                }
                if weight == 0 {
                    return Err(bad("weight", "0 is out of range: expected 1 to 65535"));
                }
                Ok(())
            }
            Self::Quanta { quanta, period } => {
                if quanta == 0 {
                    return Err(bad("quanta", "it would never run: expected more than 0"));
                }
                if quanta > period {
                    return Err(bad(
                        "quanta",
                        format!("{quanta} are more than its period has, {period}"),
                    ));
                }
                Ok(())
            }
        }
    }
}

/// Reads `KEY=VALUE,...`: `slice=5ms,period=20ms,extra=true,weight=512`, or `quanta=2,period=10`.
impl FromStr for Reservation {
    type Err = BadReservation;

    fn from_str(text: &str) -> Result<Self, BadReservation> {
        let mut parts = Parts::default();
        let mut seen: Vec<&str> = Vec::new();
        for word in text.split(',') {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            let Some(key) = KEYS.iter().copied().find(|known| *known == key) else {
                let shown: String = key.chars().take(40).collect();
                let known = KEYS.join(", ");
                return Err(bad(
                    "cpu",
                    format!("no such key as {shown:?}: expected KEY=VALUE with one of {known}"),
                ));
            };
            if seen.contains(&key) {
                return Err(bad(key, "it is there twice"));
            }
            seen.push(key);
            parts.read(key, value)?;
        }
        parts.finish()
    }
}

impl Parts {
    fn read(&mut self, key: &'static str, value: &str) -> Result<(), BadReservation> {
        let span = || {
            value
                .parse::<Span>()
                .map_err(|error| bad(key, error.to_string()))
        };
        let number = |most: &str| {
            let shown: String = value.chars().take(40).collect();
            bad(key, format!("{shown:?} is not a number from 1 to {most}"))
        };
        match key {
            "slice" => self.slice = Some(span()?),
            "period" => {
                self.period = Some(match value.parse() {
                    Ok(quanta) => Period::Quanta(quanta),
                    Err(_) => Period::Time(span()?),
                });
            }
            "quanta" => self.quanta = Some(value.parse().map_err(|_| number("4294967295"))?),
            "weight" => self.weight = Some(value.parse().map_err(|_| number("65535"))?),
            _ => {
                self.extra = Some(match value {
                    "true" => true,
                    "false" => false,
                    _ => return Err(bad(key, "expected true or false")),
                });
            }
        }
        Ok(())
    }
}

impl fmt::Display for Reservation {
    /// In words: `5ms in every 20ms, no more`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Quanta { quanta, period } => {
                write!(out, "{quanta} quanta in every {period}, no more")
            }
            Self::Time {
                slice,
                period,
                extra,
                weight,
            } => {
                if slice != Span::ZERO {
                    write!(out, "{slice} in every {period}, ")?;
                }
                if extra {
                    write!(out, "time that nobody reserved by weight {weight}")
                } else {
                    write!(out, "no more")
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms_are_read() {
        for (text, shown) in [
            ("slice=5ms,period=20ms", "5ms in every 20ms, no more"),
            (
                "period=20ms,extra=true,slice=5ms,weight=512",
                "5ms in every 20ms, time that nobody reserved by weight 512",
            ),
            ("extra=true", "time that nobody reserved by weight 256"),
            ("quanta=2,period=10", "2 quanta in every 10, no more"),
        ] {
            let read: Reservation = text.parse().unwrap();
            assert_eq!(read.to_string(), shown);
            let json = serde_json::to_string(&read).unwrap();
            assert_eq!(serde_json::from_str::<Reservation>(&json).unwrap(), read);
        }
    }

    #[test]
    fn each_mistake_names_its_key_and_what_was_expected() {
        for (text, told) in [
            ("", "cpu: no such key as \"\": expected KEY=VALUE"),
            ("slcie=5ms", "cpu: no such key as \"slcie\""),
            ("slice=5", "slice: \"5\" is not a length of time"),
            (
                "slice=5ms",
                "period: it is missing: expected a length of time",
            ),
            ("slice=5ms,slice=6ms", "slice: it is there twice"),
            (
                "slice=5ms,period=4ms",
                "slice: 5ms is longer than its period, 4ms",
            ),
            ("slice=5ms,period=2s", "period: 2s is out of range"),
            (
                "slice=0ms,period=0ms,extra=true",
                "period: 0ns is out of range",
            ),
            ("slice=0ms,period=4ms", "slice: it would never run"),
            ("slice=1ms,period=4", "period: expected a length of time"),
            (
                "slice=1ms,period=4ms,extra=yes",
                "extra: expected true or false",
            ),
            (
                "slice=1ms,period=4ms,weight=7",
                "weight: it means nothing without extra",
            ),
            ("extra=true,weight=0", "weight: 0 is out of range"),
            (
                "extra=true,weight=65536",
                "weight: \"65536\" is not a number",
            ),
            (
                "extra=true,period=4ms",
                "period: it means nothing without a slice",
            ),
            ("extra=false", "slice: it is missing"),
            ("period=4ms", "slice: it is missing"),
            (
                "quanta=2",
                "period: it is missing: expected a number of quanta",
            ),
            ("quanta=2,period=4ms", "period: expected a number of quanta"),
            ("quanta=0,period=4", "quanta: it would never run"),
            (
                "quanta=5,period=4",
                "quanta: 5 are more than its period has, 4",
            ),
            ("quanta=-1,period=4", "quanta: \"-1\" is not a number"),
            (
                "quanta=1,period=4,extra=true",
                "extra: quanta are all it gets",
            ),
            ("quanta=1,slice=4ms", "quanta: there is a slice"),
        ] {
            let error = text.parse::<Reservation>().unwrap_err().to_string();
            assert!(error.starts_with(told), "{text:?} gives {error:?}");
        }
    }

    #[test]
    fn json_takes_no_key_that_it_does_not_know() {
        for text in [
            r#"{"slice":"5ms","period":"20ms","extras":true}"#,
            r#"{"quanta":2,"period":10,"extra":true}"#,
            r#"{"slice":"5ms"}"#,
            "{}",
        ] {
            assert!(serde_json::from_str::<Reservation>(text).is_err(), "{text}");
        }
    }
}

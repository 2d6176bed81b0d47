//! The key `cpu` of a description: `{ slice = "5ms", period = "20ms", extra = false }`.

use toml::de::DeValue;

use super::{Reader, Value, article};
use crate::Reservation;
use crate::reservation::{KEYS, Parts, Period};

impl Reader<'_> {
    /// Reads a reservation; what is wrong is noted.
    pub(super) fn cpu(&mut self, key: &str, value: &Value<'_>) -> Option<Reservation> {
        const EXPECTED: &str = "a reservation, such as { slice = \"5ms\", period = \"20ms\" }";
        let Some(table) = value.get_ref().as_table() else {
            self.other_kind(key, value, EXPECTED);
            return None;
        };
        let faults = self.faults.len();
        let mut parts = Parts::default();
        for (spanned, value) in table {
            let name = format!("{key}.{}", spanned.get_ref());
            match spanned.get_ref().as_ref() {
                "slice" => {
                    parts.slice = self.parsed(&name, value, "a length of time, such as \"5ms\"");
                }
                "period" => parts.period = self.period(&name, value),
                "extra" => parts.extra = self.truth(&name, value),
                "weight" => {
                    parts.weight = self
                        .whole(&name, value, u64::from(u16::MAX))
                        .and_then(|number| u16::try_from(number).ok());
                }
                "quanta" => parts.quanta = self.quanta(&name, value),
                other => self.unknown(&format!("{key}."), spanned.span(), other, KEYS),
            }
        }
        if self.faults.len() > faults {
            return None;
        }
        match parts.finish() {
            Ok(reservation) => Some(reservation),
            Err(bad) => {
                // Where the key is, or where it is missing.
                let there = table.iter().find(|(name, _)| name.get_ref() == bad.key);
                let span = there.map_or_else(|| value.span(), |(_, value)| value.span());
                self.fault(Some(span), &format!("{key}.{}", bad.key), bad.problem);
                None
            }
        }
    }

    fn period(&mut self, key: &str, value: &Value<'_>) -> Option<Period> {
        match value.get_ref() {
            DeValue::Integer(_) => self.quanta(key, value).map(Period::Quanta),
            _ => {
                let expected = "a length of time, such as \"20ms\", or a number of quanta";
                self.parsed(key, value, expected).map(Period::Time)
            }
        }
    }

    fn quanta(&mut self, key: &str, value: &Value<'_>) -> Option<u32> {
        self.whole(key, value, u64::from(u32::MAX))
            .and_then(|number| u32::try_from(number).ok())
    }

    fn truth(&mut self, key: &str, value: &Value<'_>) -> Option<bool> {
        let truth = value.get_ref().as_bool();
        if truth.is_none() {
            self.other_kind(key, value, "true or false");
        }
        truth
    }

    /// A whole number from 1 to `most`.
    fn whole(&mut self, key: &str, value: &Value<'_>, most: u64) -> Option<u64> {
        let Some(integer) = value.get_ref().as_integer() else {
            self.other_kind(key, value, "a number");
            return None;
        };
        let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
        let shown = number.map_or_else(|| "this number".to_owned(), |number| number.to_string());
        let number = number.and_then(|number| u64::try_from(number).ok());
        let number = number.filter(|number| (1..=most).contains(number));
        if number.is_none() {
            let problem = format!("{shown} is out of range: expected 1 to {most}");
            self.fault(Some(value.span()), key, problem);
        }
        number
    }

    fn other_kind(&mut self, key: &str, value: &Value<'_>, expected: &str) {
        let found = value.get_ref().type_str();
        let problem = format!("expected {expected}, found {} {found}", article(found));
        self.fault(Some(value.span()), key, problem);
    }
}

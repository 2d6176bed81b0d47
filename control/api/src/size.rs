//! Amounts of memory as people write them: `96M`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An amount of memory in whole pages of 4 KiB, written as a number and a unit: `512K`, `96M`, `2G` (powers of 1024).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size(u64);

/// A text that is not an amount of memory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a size: expected a number of whole pages with a unit, such as \"96M\" (K, M or G)"
)]
pub struct BadSize(pub String);

impl Size {
    /// As many bytes, if they are whole pages.
    pub fn from_bytes(bytes: u64) -> Option<Self> {
        bytes.is_multiple_of(4096).then_some(Self(bytes))
    }

    /// In bytes; a multiple of 4096.
    pub fn bytes(self) -> u64 {
        self.0
    }

    /// In pages of 4 KiB.
    pub fn pages(self) -> u64 {
        self.0 / 4096
    }
}

impl FromStr for Size {
    type Err = BadSize;

    fn from_str(text: &str) -> Result<Self, BadSize> {
        let bad = || BadSize(text.chars().take(40).collect());
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let shift = match unit {
            "K" | "k" | "KiB" => 10,
            "M" | "m" | "MiB" => 20,
            "G" | "g" | "GiB" => 30,
            _ => return Err(bad()),
        };
        number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(1 << shift))
            .and_then(Self::from_bytes)
            .ok_or_else(bad)
    }
}

written_as_text!(Size, BadSize);

impl fmt::Display for Size {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kib = self.0 >> 10;
        let text = if kib.is_multiple_of(1 << 20) && kib != 0 {
            format!("{}G", kib >> 20)
        } else if kib.is_multiple_of(1 << 10) {
            format!("{}M", kib >> 10)
        } else {
            format!("{kib}K")
        };
        out.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_number_with_a_unit() {
        for (text, bytes) in [
            ("4K", 4096),
            ("96M", 96 << 20),
            ("2G", 2 << 30),
            ("0M", 0),
            ("64MiB", 64 << 20),
        ] {
            assert_eq!(text.parse::<Size>().unwrap().bytes(), bytes, "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "96",
            "M",
            "1.5G",
            "-4K",
            " 4K",
            "4 K",
            "5K",
            "96MB",
            "99999999999999999999G",
            "17179869184G",
        ] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_shown_reads_back_the_same() {
        for bytes in [0, 4096, 1 << 20, (96 << 20) + 4096, 3 << 30, !4095] {
            let size = Size::from_bytes(bytes).unwrap();
            assert_eq!(size.to_string().parse(), Ok(size));
        }
        assert_eq!(Size::from_bytes(1), None);
    }
}

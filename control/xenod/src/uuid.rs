//! Sixteen bytes by which a guest's domain is found again: a UUID.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A UUID.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Uuid(pub [u8; 16]);

/// A text that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not a UUID")]
pub struct BadUuid;

/// Digits in each of the five groups.
const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];

impl Uuid {
    /// A new one, that nobody has.
    ///
    /// # Errors
    /// When the kernel does not make one.
    pub fn random() -> std::io::Result<Self> {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
        text.trim().parse().map_err(std::io::Error::other)
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.0.iter();
        for (place, digits) in GROUPS.iter().enumerate() {
            if place > 0 {
                out.write_str("-")?;
            }
            for byte in bytes.by_ref().take(digits / 2) {
                write!(out, "{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{self}")
    }
}

impl FromStr for Uuid {
    type Err = BadUuid;

    fn from_str(text: &str) -> Result<Self, BadUuid> {
        let groups: Vec<&str> = text.split('-').collect();
        let right = groups.len() == GROUPS.len()
            && groups
                .iter()
                .zip(GROUPS)
                .all(|(group, digits)| group.len() == digits);
        let digits = groups.concat();
        if !right || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(BadUuid);
        }
        u128::from_str_radix(&digits, 16)
            .map(|number| Self(number.to_be_bytes()))
            .map_err(|_| BadUuid)
    }
}

impl TryFrom<String> for Uuid {
    type Error = BadUuid;

    fn try_from(text: String) -> Result<Self, BadUuid> {
        text.parse()
    }
}

impl From<Uuid> for String {
    fn from(uuid: Uuid) -> Self {
        uuid.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_reads_back_the_same() {
        let uuid = Uuid::random().unwrap();
        assert_eq!(uuid.to_string().parse(), Ok(uuid));
        assert_ne!(uuid, Uuid::random().unwrap());
        for bad in [
            "",
            "x",
            "0123",
            "01234567-89ab-cdef-0123-456789abcdeg",
            "0123456789ab-cdef-0123-456789abcdef",
        ] {
            assert_eq!(bad.parse::<Uuid>(), Err(BadUuid), "{bad}");
        }
    }
}

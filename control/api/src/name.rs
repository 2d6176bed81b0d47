//! How domains are called.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::DomId;

/// The control domain's own name; nobody else can have it.
pub const CONTROL_DOMAIN: &str = "Domain-0";

/// A guest's name: 1 to 63 letters, digits, `-`, `_` and `.`, the first a letter. So it is never a number, a path
/// or an option, and fits a store path and a host name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// A text that no guest can be called.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a name: expected 1 to 63 letters, digits, \"-\", \"_\" and \".\", the first a letter, and not \
     \"Domain-0\""
)]
pub struct BadName(pub String);

impl Name {
    /// The longest name, in bytes.
    pub const MAX: usize = 63;

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let good = text.len() <= Self::MAX
            && text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
            && text != CONTROL_DOMAIN;
        if good {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadName(text.chars().take(Self::MAX + 1).collect()))
        }
    }
}

written_as_text!(Name, BadName);

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(&self.0)
    }
}

/// A domain as a person names it: by number or by name. In JSON a number or a string.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a domain: its number, or its name as a string"
)]
pub enum Target {
    /// By number, which no later domain has until all others have been used.
    Id(DomId),
    /// By name.
    Name(Name),
}

impl FromStr for Target {
    type Err = BadName;

    /// `Domain-0` is the number 0.
    fn from_str(text: &str) -> Result<Self, BadName> {
        if text == CONTROL_DOMAIN {
            return Ok(Self::Id(0));
        }
        match text.parse() {
            Ok(id) if text.bytes().all(|b| b.is_ascii_digit()) => Ok(Self::Id(id)),
            _ => text.parse().map(Self::Name),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(out, "{id}"),
            Self::Name(name) => write!(out, "\"{name}\""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_never_a_number_an_option_or_a_path() {
        for text in ["web", "a", "Web-1.example_x"] {
            assert!(text.parse::<Name>().is_ok(), "{text}");
        }
        for text in [
            "",
            "1",
            "-a",
            ".a",
            "a/b",
            "a b",
            "é",
            "a\n",
            "Domain-0",
            &"a".repeat(64),
        ] {
            assert!(text.parse::<Name>().is_err(), "{text}");
        }
    }

    #[test]
    fn digits_mean_a_number_and_the_control_domain_has_a_name() {
        assert_eq!("7".parse(), Ok(Target::Id(7)));
        assert_eq!("Domain-0".parse(), Ok(Target::Id(0)));
        assert_eq!("web".parse(), Ok(Target::Name("web".parse().unwrap())));
        for text in ["70000", "+7", "", "7x"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }

    #[test]
    fn json_has_a_number_or_a_string() {
        assert_eq!(serde_json::from_str::<Target>("3").unwrap(), Target::Id(3));
        assert_eq!(serde_json::to_string(&Target::Id(3)).unwrap(), "3");
        assert_eq!(
            serde_json::from_str::<Target>("\"a\"").unwrap().to_string(),
            "\"a\""
        );
        assert!(serde_json::from_str::<Target>("-1").is_err());
    }
}

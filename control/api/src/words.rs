//! The words for the few things that are one of a few.

use std::str::FromStr;

use crate::{Access, OnStop};

/// A word that is not one of a few.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not known: expected {expected}")]
pub struct BadWord {
    found: String,
    expected: &'static str,
}

impl FromStr for OnStop {
    type Err = BadWord;

    fn from_str(text: &str) -> Result<Self, BadWord> {
        match text {
            "destroy" => Ok(Self::Destroy),
            "restart" => Ok(Self::Restart),
            "preserve" => Ok(Self::Preserve),
            _ => Err(BadWord {
                found: text.chars().take(40).collect(),
                expected: "\"destroy\", \"restart\" or \"preserve\"",
            }),
        }
    }
}

impl FromStr for Access {
    type Err = BadWord;

    fn from_str(text: &str) -> Result<Self, BadWord> {
        match text {
            "ro" => Ok(Self::ReadOnly),
            "rw" => Ok(Self::ReadWrite),
            _ => Err(BadWord {
                found: text.chars().take(40).collect(),
                expected: "\"ro\" or \"rw\"",
            }),
        }
    }
}

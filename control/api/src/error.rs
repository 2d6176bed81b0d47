//! What the daemon says when it did not do what was asked.

use serde::{Deserialize, Serialize};

/// What kind of trouble it is, for programs; the command's exit codes come from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The request itself: not JSON, unknown operation or argument, a value out of bounds, an id in use, too long.
    BadRequest,
    /// The two ends do not speak the same version, or `hello` did not come first.
    Version,
    /// A guest's description cannot be followed: a file is missing, unreadable or of the wrong kind, a value is
    /// impossible here.
    Description,
    /// There is no such domain, store path or stream.
    NotFound,
    /// The name is taken.
    Exists,
    /// Something is in use: a disk that another guest writes, too many watchers.
    Busy,
    /// There is not enough memory; the message says how much there is.
    NoMemory,
    /// There is not enough CPU time to reserve; the message says how much there is.
    NoTime,
    /// The domain is not in a state in which this can be done.
    State,
    /// Not something this daemon or hypervisor does (yet).
    Unsupported,
    /// It did not happen in the time given.
    TimedOut,
    /// The guest died in its first instant. `details` has its last console lines.
    Died,
    /// The hypervisor refused what it should have done.
    Hypervisor,
    /// A file or device of the control domain failed.
    Io,
    /// A mistake of the daemon's own.
    Internal,
    /// A kind that this end does not know: the other is newer.
    #[serde(other)]
    Other,
}

/// Why a request was not carried out. Nothing of it is left behind, unless the message says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The kind, for programs.
    pub kind: Kind,
    /// One sentence for people: names the thing and, where there is one, the remedy.
    pub message: String,
    /// More lines, such as a guest's last words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
}

impl Error {
    /// An error of a kind, with its sentence.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            details: Vec::new(),
        }
    }

    /// The same with more lines.
    #[must_use]
    pub fn with_details(mut self, details: Vec<String>) -> Self {
        self.details = details;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_kind_from_a_newer_end_is_still_an_error() {
        let error: Error =
            serde_json::from_str(r#"{"kind":"on-fire","message":"It burns."}"#).unwrap();
        assert_eq!(error.kind, Kind::Other);
        assert_eq!(error.to_string(), "It burns.");
    }
}

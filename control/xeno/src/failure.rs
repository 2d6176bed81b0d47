//! What goes wrong, how it is told, and the exit code it ends with.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use xeno_api::{DescriptionError, Error, Kind};

use crate::show::printable;

/// What the exit codes mean; part of the long help and the manual page.
pub const EXIT_CODES: &str = "\
Exit codes:
   0  done
   1  failed for another reason: the hypervisor, a device or the daemon itself
   2  the command line is wrong
   3  there is no such domain or store path
   4  the guest's description or the request is wrong
   5  in the way: the name is taken, a disk is in use, the domain is in another state
   6  not enough memory, or CPU time to reserve
   7  not something this daemon or hypervisor does
   8  it did not happen in the time given
   9  the guest died in its first instant
  10  the daemon cannot be reached, went away, or speaks another version
  11  the usage record is not whole";

/// The exit code for a usage record that is not whole.
pub const NOT_WHOLE: u8 = 11;

/// Why the command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The daemon said so.
    #[error("{0}")]
    Refused(#[from] Error),
    /// A description is wrong.
    #[error("{0}")]
    Description(#[from] DescriptionError),
    /// A description cannot be read.
    #[error("the description {file} cannot be read: {error}")]
    Unreadable {
        /// Which.
        file: String,
        /// Why.
        error: io::Error,
    },
    /// Options that do not make a guest.
    #[error("{0}")]
    Options(String),
    /// There is nobody at the socket.
    #[error("the daemon cannot be reached at {}: {error}; is xenod running?", socket.display())]
    NoDaemon {
        /// Where it should be.
        socket: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// The connection broke.
    #[error(
        "the daemon went away before it answered ({0}); what was asked may have been done or not"
    )]
    Gone(String),
    /// It said something that cannot be understood.
    #[error("the daemon's answer cannot be understood: {0}")]
    Nonsense(String),
    /// Files or the terminal.
    #[error("{what}: {error}")]
    Io {
        /// What was done.
        what: String,
        /// Why it failed.
        error: io::Error,
    },
    /// Whoever reads the output has had enough: not worth a word.
    #[error("nobody reads the output")]
    Unread,
    /// Some of several domains failed and have been told.
    #[error("some were not done")]
    Told(u8),
}

impl Failure {
    /// Something with a file or the terminal failed.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |error| Self::Io { what, error }
    }

    /// The exit code, as [`EXIT_CODES`] has it.
    pub fn code(&self) -> u8 {
        match self {
            Self::Refused(error) => match error.kind {
                Kind::NotFound => 3,
                Kind::Description | Kind::BadRequest => 4,
                Kind::Exists | Kind::Busy | Kind::State => 5,
                Kind::NoMemory | Kind::NoTime => 6,
                Kind::Unsupported => 7,
                Kind::TimedOut => 8,
                Kind::Died => 9,
                Kind::Version => 10,
                Kind::Hypervisor | Kind::Io | Kind::Internal | Kind::Other => 1,
            },
            Self::Options(_) => 2,
            Self::Description(_) | Self::Unreadable { .. } => 4,
            Self::NoDaemon { .. } | Self::Gone(_) | Self::Nonsense(_) => 10,
            Self::Io { .. } => 1,
            Self::Unread => 0,
            Self::Told(code) => *code,
        }
    }

    /// Says it on standard error.
    pub fn say(&self, json: bool) {
        if matches!(self, Self::Unread | Self::Told(_)) {
            return;
        }
        if json {
            let error = match self {
                Self::Refused(error) => error.clone(),
                Self::Description(error) => Error::new(Kind::Description, error.to_string()),
                other => Error::new(Kind::Other, other.to_string()),
            };
            eprintln!(
                "{}",
                serde_json::json!({ "error": error, "exit_code": self.code() })
            );
            return;
        }
        for line in self.to_string().lines() {
            eprintln!("xeno: {}", printable(line));
        }
        if let Self::Refused(error) = self {
            for line in &error.details {
                eprintln!("  | {}", printable(line));
            }
        }
    }

    /// Says it on standard error, and gives the exit code.
    pub fn tell(&self, json: bool) -> ExitCode {
        self.say(json);
        ExitCode::from(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_that_is_given_is_documented() {
        let kinds = [
            Kind::BadRequest,
            Kind::Version,
            Kind::Description,
            Kind::NotFound,
            Kind::Exists,
            Kind::Busy,
            Kind::NoMemory,
            Kind::NoTime,
            Kind::State,
            Kind::Unsupported,
            Kind::TimedOut,
            Kind::Died,
            Kind::Hypervisor,
            Kind::Io,
            Kind::Internal,
            Kind::Other,
        ];
        for kind in kinds {
            let code = Failure::from(Error::new(kind, "x")).code();
            let line = format!("\n{code:4}  ");
            assert!(EXIT_CODES.contains(&line), "{kind:?} gives {code}");
        }
    }
}

//! What went wrong, in one sentence: the operation, the domain, and what the number means there.

use guest_abi::{DomId, Errno};
use std::io;

/// The result of an operation.
pub type Result<T> = std::result::Result<T, Error>;

/// An operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing}{}: {cause}", OfDomain(*.domain))]
pub struct Error {
    /// What was tried, as a verb and its object: "create a domain".
    pub doing: &'static str,
    /// The domain it was about, if one.
    pub domain: Option<DomId>,
    /// Why it failed.
    #[source]
    pub cause: Cause,
}

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The hypervisor, or the kernel on the way to it, answered with an error number.
    #[error("{}", Meaning(*.0))]
    Refused(i32),
    /// A device of the kernel could not be opened.
    #[error("{path} cannot be opened ({source}); {remedy}")]
    Device {
        /// Its path.
        path: &'static str,
        /// Why.
        source: io::Error,
        /// What to do about it.
        remedy: &'static str,
    },
    /// The answer made no sense.
    #[error("the hypervisor's answer makes no sense: {0}")]
    Answer(&'static str),
    /// The caller's arguments made no sense.
    #[error("{0}")]
    Argument(&'static str),
}

impl Error {
    /// The error number, where there is one that this interface knows.
    pub fn errno(&self) -> Option<Errno> {
        match &self.cause {
            Cause::Refused(number) => u16::try_from(*number).ok().and_then(Errno::from_number),
            Cause::Device { source, .. } => source
                .raw_os_error()
                .and_then(|number| u16::try_from(number).ok())
                .and_then(Errno::from_number),
            Cause::Answer(_) | Cause::Argument(_) => None,
        }
    }

    /// Whether there is no such domain (any more).
    pub fn is_no_domain(&self) -> bool {
        self.errno() == Some(Errno::Srch)
    }

    /// Whether memory was short, of the machine or of what the domain may have.
    pub fn is_no_memory(&self) -> bool {
        self.errno() == Some(Errno::NoMem)
    }

    pub(crate) fn refused(doing: &'static str, domain: Option<DomId>, number: i32) -> Error {
        Error {
            doing,
            domain,
            cause: Cause::Refused(number),
        }
    }

    pub(crate) fn new(doing: &'static str, domain: Option<DomId>, cause: Cause) -> Error {
        Error {
            doing,
            domain,
            cause,
        }
    }
}

/// " of domain 3", or nothing.
struct OfDomain(Option<DomId>);

impl std::fmt::Display for OfDomain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(domain) => write!(f, " (domain {domain})"),
            None => Ok(()),
        }
    }
}

/// What an error number means where the hypervisor is asked something.
struct Meaning(i32);

impl std::fmt::Display for Meaning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let errno = u16::try_from(self.0).ok().and_then(Errno::from_number);
        let meaning = match errno {
            Some(Errno::Perm) => "only the control domain may do this",
            Some(Errno::Srch) => "there is no such domain",
            Some(Errno::NoMem) => {
                "out of memory: the machine has none free, or the domain has all it may have"
            }
            Some(Errno::Access) => {
                "the hypervisor speaks another version of the control interface (0x15 is needed)"
            }
            Some(Errno::Fault) => {
                "an address is not mapped; this is a fault of the program or the hypervisor"
            }
            Some(Errno::Busy) => "it is in use",
            Some(Errno::Exist) => "it exists already",
            Some(Errno::Inval) => "an argument is not valid here",
            Some(Errno::NoSys) => "the hypervisor does not offer it",
            Some(Errno::OpNotSupp) => "the hypervisor does not offer it for this domain",
            Some(Errno::NoSpc) => "no number or slot of this kind is free",
            Some(Errno::NoEnt) => "there is no such thing",
            Some(Errno::Again) => "it must be tried again",
            Some(Errno::TooBig) => "the list is too long",
            _ => {
                return write!(f, "{}", io::Error::from_raw_os_error(self.0));
            }
        };
        let name = errno.map_or("?", Errno::name);
        write!(f, "{meaning} (E{name})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_operation_the_domain_and_the_meaning() {
        let error = Error::refused("pause it", Some(7), 3);
        assert_eq!(
            error.to_string(),
            "cannot pause it (domain 7): there is no such domain (ESRCH)"
        );
        assert!(error.is_no_domain() && !error.is_no_memory());
    }

    #[test]
    fn a_number_without_a_meaning_of_its_own_is_told_as_the_system_tells_it() {
        let error = Error::refused("do it", None, 20);
        assert!(error.to_string().contains("Not a directory"), "{error}");
    }
}

//! The errors a client is told, by the names that cross the wire.

use std::fmt;

/// Why a request was refused. The wire carries the name, never a number, since numbers differ between systems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Errno {
    /// The request is malformed, or names what cannot be.
    Einval,
    /// The caller may not do this.
    Eacces,
    /// There is one already.
    Eexist,
    /// No such node, watch, transaction or domain.
    Enoent,
    /// The caller's share of memory is used up.
    Enomem,
    /// A quota of the caller is used up.
    Enospc,
    /// The journal could not be written, so the change was not made.
    Eio,
    /// There is no such operation.
    Enosys,
    /// A transaction cannot start inside another.
    Ebusy,
    /// The transaction met a conflicting change; try it again from its start.
    Eagain,
    /// The answer does not fit into a message, or there are too many watches.
    E2big,
    /// Only the control domain may give a node to another owner.
    Eperm,
}

impl Errno {
    /// The name a reply of type `ERROR` carries.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Einval => "EINVAL",
            Self::Eacces => "EACCES",
            Self::Eexist => "EEXIST",
            Self::Enoent => "ENOENT",
            Self::Enomem => "ENOMEM",
            Self::Enospc => "ENOSPC",
            Self::Eio => "EIO",
            Self::Enosys => "ENOSYS",
            Self::Ebusy => "EBUSY",
            Self::Eagain => "EAGAIN",
            Self::E2big => "E2BIG",
            Self::Eperm => "EPERM",
        }
    }

    /// The error of this name, as a client reads it from a reply.
    pub fn of_name(name: &[u8]) -> Option<Self> {
        const ALL: [Errno; 12] = [
            Errno::Einval,
            Errno::Eacces,
            Errno::Eexist,
            Errno::Enoent,
            Errno::Enomem,
            Errno::Enospc,
            Errno::Eio,
            Errno::Enosys,
            Errno::Ebusy,
            Errno::Eagain,
            Errno::E2big,
            Errno::Eperm,
        ];
        ALL.into_iter()
            .find(|error| error.name().as_bytes() == name)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::error::Error for Errno {}

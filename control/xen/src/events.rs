//! Event channels of the control domain: what a program binds, notifies and waits for.

use crate::Result;
use guest_abi::DomId;
use guest_abi::event::Virq;
use std::os::fd::BorrowedFd;

/// A port: one end of an event channel, by its number in the domain it belongs to.
pub type Port = u32;

/// One opening of the event device. Its ports are its own; dropping it unbinds them all.
///
/// A port that has an event is handed out once by [`pending`](EventChannels::pending) and stays silent until
/// [`unmask`](EventChannels::unmask).
pub trait EventChannels: Send + Sync {
    /// Binds a virtual interrupt of the control domain.
    ///
    /// # Errors
    /// EEXIST if another program has it.
    fn bind_virq(&self, virq: Virq) -> Result<Port>;

    /// Connects to a port of `domain` that waits for the control domain. The new port is pending at once.
    ///
    /// # Errors
    /// ESRCH without such a domain; EINVAL if the port does not wait for us.
    fn bind_interdomain(&self, domain: DomId, remote: Port) -> Result<Port>;

    /// Makes a port of the control domain that waits for `domain`.
    ///
    /// # Errors
    /// ESRCH without such a domain.
    fn bind_unbound(&self, domain: DomId) -> Result<Port>;

    /// Gives a port up.
    ///
    /// # Errors
    /// EINVAL, ENOTCONN if it is not one of this opening's.
    fn unbind(&self, port: Port) -> Result<()>;

    /// Raises an event at the other end.
    ///
    /// # Errors
    /// ENOTCONN if it is not one of this opening's.
    fn notify(&self, port: Port) -> Result<()>;

    /// The ports that have an event, each masked from now on; empty if there is none. Does not wait.
    ///
    /// # Errors
    /// EFBIG if more came than the device remembers: every port must then be looked at and unmasked.
    fn pending(&self) -> Result<Vec<Port>>;

    /// Lets a port speak again.
    ///
    /// # Errors
    /// None but the device's own.
    fn unmask(&self, port: Port) -> Result<()>;

    /// Readable while [`pending`](EventChannels::pending) has something to say.
    fn fd(&self) -> BorrowedFd<'_>;
}

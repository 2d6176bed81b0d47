//! The signals that ask the command to end, or tell of another size of its terminal, as something to wait for beside other
//! things.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGWINCH};

/// Becomes readable when a signal asks the command to end.
pub struct Signals {
    /// The end to wait on.
    pub asked: UnixStream,
}

impl Signals {
    /// From now on, SIGHUP, SIGINT and SIGTERM no longer end the command at once.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn catch() -> std::io::Result<Self> {
        let (asked, raised) = UnixStream::pair()?;
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            signal_hook::low_level::pipe::register(signal, raised.try_clone()?)?;
        }
        Ok(Self { asked })
    }
}

/// Becomes readable when the terminal has another size.
pub struct Resized(UnixStream);

impl Resized {
    /// From now on, no change is missed.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn catch() -> std::io::Result<Self> {
        let (told, raised) = UnixStream::pair()?;
        told.set_nonblocking(true)?;
        signal_hook::low_level::pipe::register(SIGWINCH, raised)?;
        Ok(Self(told))
    }

    /// Takes what is there: the size is about to be looked at.
    pub fn taken(&mut self) {
        while matches!(self.0.read(&mut [0; 64]), Ok(1..)) {}
    }
}

impl AsFd for Resized {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

//! The signals that ask the command to end, as something to wait for beside other things.

use std::os::unix::net::UnixStream;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

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

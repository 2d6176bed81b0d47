//! A terminal that hands over each key at once, and is given back as it was.

use std::io::{self, IsTerminal};

use rustix::termios::{
    OptionalActions, Termios, Winsize, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};

/// Standard input in raw mode, until this is dropped (X3).
pub struct Raw {
    before: Termios,
}

impl Raw {
    /// Makes it so; `None` if standard input is no terminal.
    ///
    /// # Errors
    /// When the terminal refuses.
    pub fn enter() -> io::Result<Option<Self>> {
        if !io::stdin().is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Some(Self { before }))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that is gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Lines and columns of a terminal that does not say how large it is, as a machine's console does not.
const USUAL: (u16, u16) = (24, 80);

/// Gives standard output's terminal the usual size if it has none; else nothing could be drawn on it.
///
/// # Errors
/// When it is no terminal.
pub fn sized() -> io::Result<()> {
    let found = tcgetwinsize(io::stdout())?;
    let or = |size: u16, usual| if size == 0 { usual } else { size };
    let size = Winsize {
        ws_row: or(found.ws_row, USUAL.0),
        ws_col: or(found.ws_col, USUAL.1),
        ..found
    };
    if (size.ws_row, size.ws_col) != (found.ws_row, found.ws_col) {
        tcsetwinsize(io::stdout(), size)?;
    }
    Ok(())
}

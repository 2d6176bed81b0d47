//! A terminal that hands over each key at once, and is given back as it was.

use std::io::{self, IsTerminal};

use ratatui::crossterm::cursor::{self, MoveTo};
use ratatui::crossterm::execute;
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

/// Lines and columns of a terminal that neither has a size nor says one.
const USUAL: (u16, u16) = (24, 80);

/// Farther to the right and down than any terminal goes: a cursor sent there stops in the last corner.
const FAR: u16 = 998;

/// How large standard output's terminal is. The line of a machine's console has no size, so the terminal at its other end
/// is asked again and again, and the line has no size again when this is dropped (X3).
pub struct Size {
    /// What the line had, if that was no size.
    before: Option<Winsize>,
    answers: bool,
}

impl Size {
    /// Sees to it that the terminal has a size, the usual one if it has none.
    ///
    /// # Errors
    /// When it is no terminal.
    pub fn see() -> io::Result<Self> {
        let found = tcgetwinsize(io::stdout())?;
        let before = (found.ws_row == 0 || found.ws_col == 0).then_some(found);
        if before.is_some() {
            set(found, USUAL)?;
        }
        Ok(Self {
            before,
            answers: true,
        })
    }

    /// Whether this is a console, on which others print too.
    pub fn is_console(&self) -> bool {
        self.before.is_some()
    }

    /// Asks a terminal whose line has no size; it has to be raw. One that does not answer is not asked again.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn ask(&mut self) -> io::Result<()> {
        let Some(before) = self.before.filter(|_| self.answers) else {
            return Ok(());
        };
        execute!(io::stdout(), MoveTo(FAR, FAR))?;
        match cursor::position() {
            Ok((column, row)) => set(before, (row + 1, column + 1)),
            Err(_) => {
                self.answers = false;
                Ok(())
            }
        }
    }
}

impl Drop for Size {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            // Nothing can be done about a terminal that is gone.
            let _ = tcsetwinsize(io::stdout(), before);
        }
    }
}

/// Sets lines and columns; nothing happens where they are what they were.
fn set(before: Winsize, (lines, columns): (u16, u16)) -> io::Result<()> {
    let size = Winsize {
        ws_row: lines,
        ws_col: columns,
        ..before
    };
    if tcgetwinsize(io::stdout())? != size {
        tcsetwinsize(io::stdout(), size)?;
    }
    Ok(())
}

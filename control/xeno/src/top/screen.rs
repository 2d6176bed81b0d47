//! `xeno top` on a terminal: what is there is drawn at each look, each key, and each change of the terminal's size.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::rates::Sample;
use super::view::View;
use super::{columns_of, usage};
use crate::cli::Top;
use crate::client::Client;
use crate::failure::Failure;
use crate::signals::{Resized, Signals};
use crate::terminal::Size;

/// Nothing that is shown has it.
const NEVER_DRAWN: &str = "\u{b7}";

/// Fills the screen until the person has seen enough.
///
/// # Errors
/// As [`Client::call`], and when there is no terminal.
pub fn run(client: &mut Client, options: &Top) -> Result<(), Failure> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err(Failure::Options(
            "top needs a terminal; `--batch` and `--json` do not".to_owned(),
        ));
    }
    let signals = Signals::catch().map_err(Failure::io("signals cannot be caught"))?;
    let resized = Resized::catch().map_err(Failure::io("signals cannot be caught"))?;
    let before = usage(client)?;
    let view = View::new(
        Sample::between(&before, &before),
        options.sort,
        columns_of(options),
    );
    // Given back after the screen: both are a part of the terminal as it was.
    let size = Size::see().map_err(Failure::io("the screen has no size"))?;
    let terminal = ratatui::try_init().map_err(Failure::io("the screen cannot be used"))?;
    let mut screen = Screen {
        terminal,
        size,
        resized,
        view,
    };
    let ended = screen.show(client, options, &signals, before);
    ratatui::restore();
    ended
}

/// The terminal and what is shown on it.
struct Screen {
    terminal: DefaultTerminal,
    size: Size,
    resized: Resized,
    view: View,
}

impl Screen {
    fn show(
        &mut self,
        client: &mut Client,
        options: &Top,
        signals: &Signals,
        mut before: xeno_api::Usage,
    ) -> Result<(), Failure> {
        let delay = Duration::from_secs_f64(options.delay);
        let mut next = Instant::now() + delay;
        let mut looks = 0;
        self.look()?;
        loop {
            self.draw()?;
            if self.wait(signals, next)? == Woken::Signal || self.keys()? {
                return Ok(());
            }
            if Instant::now() < next {
                continue;
            }
            next = Instant::now() + delay;
            let now = usage(client)?;
            self.view.show(Sample::between(&before, &now));
            before = now;
            looks += 1;
            if options.count.is_some_and(|count| looks >= count) {
                return Ok(());
            }
            self.look()?;
        }
    }

    /// Before each look: how large the screen is, and on a console, that others may have printed over it.
    fn look(&mut self) -> Result<(), Failure> {
        self.size
            .ask()
            .map_err(Failure::io("the screen cannot be asked its size"))?;
        if self.size.is_console() {
            self.distrust();
        }
        Ok(())
    }

    /// Has the next drawing write every place, whatever was thought to be there. Nothing is cleared: it does not flicker.
    fn distrust(&mut self) {
        for cell in &mut self.terminal.current_buffer_mut().content {
            cell.set_symbol(NEVER_DRAWN);
        }
        self.terminal.swap_buffers();
    }

    fn draw(&mut self) -> Result<(), Failure> {
        let Self { terminal, view, .. } = self;
        let drawn = terminal.draw(|frame| view.draw(frame));
        drawn
            .map(|_| ())
            .map_err(Failure::io("the screen cannot be drawn"))
    }

    /// Takes the keys that are there; true if one of them ends it. Some may have come with the answer to a question, and
    /// are waited for in vain.
    fn keys(&mut self) -> Result<bool, Failure> {
        let failed = || Failure::io("the keys cannot be read");
        while event::poll(Duration::ZERO).map_err(failed())? {
            let Event::Key(key) = event::read().map_err(failed())? else {
                continue;
            };
            if key.kind == KeyEventKind::Release {
                continue;
            }
            if View::repaints(key) {
                self.distrust();
            } else if self.view.key(key) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Waits for a key, a signal, another size, or the next look.
    fn wait(&mut self, signals: &Signals, until: Instant) -> Result<Woken, Failure> {
        let stdin = io::stdin();
        let mut fds = [
            PollFd::from_borrowed_fd(signals.asked.as_fd(), PollFlags::IN),
            PollFd::new(&stdin, PollFlags::IN),
            PollFd::new(&self.resized, PollFlags::IN),
        ];
        let left = until.saturating_duration_since(Instant::now());
        match poll(&mut fds, Timespec::try_from(left).ok().as_ref()) {
            // Signals show up in their descriptors at the next look.
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Failure::io("waiting failed")(error.into())),
        }
        if !fds[0].revents().is_empty() {
            return Ok(Woken::Signal);
        }
        self.resized.taken();
        Ok(Woken::Other)
    }
}

#[derive(PartialEq, Eq)]
enum Woken {
    Signal,
    Other,
}

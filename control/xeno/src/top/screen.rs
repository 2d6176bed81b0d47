//! `xeno top` on a terminal.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Row as TableRow, Table};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::rates::{HEAD, Sample};
use super::usage;
use crate::cli::{Sort, Top};
use crate::client::Client;
use crate::failure::Failure;
use crate::signals::Signals;

const KEYS: &str = "q quit   sort: i id  n name  c cpu  m memory  o i/o";

/// What is shown.
struct Screen {
    sample: Sample,
    sort: Sort,
}

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
    let before = usage(client)?;
    let screen = Screen {
        sample: Sample::between(&before, &before),
        sort: options.sort,
    };
    crate::terminal::sized().map_err(Failure::io("the screen has no size"))?;
    let mut terminal = ratatui::try_init().map_err(Failure::io("the screen cannot be used"))?;
    let ended = draw_and_wait(&mut terminal, client, options, &signals, screen, before);
    ratatui::restore();
    ended
}

fn draw_and_wait(
    terminal: &mut ratatui::DefaultTerminal,
    client: &mut Client,
    options: &Top,
    signals: &Signals,
    mut screen: Screen,
    mut before: xeno_api::Usage,
) -> Result<(), Failure> {
    let delay = Duration::from_secs_f64(options.delay);
    let mut next = Instant::now() + delay;
    let mut looks = 0;
    loop {
        screen.sample.sort(screen.sort);
        terminal
            .draw(|frame| screen.draw(frame))
            .map_err(Failure::io("the screen cannot be drawn"))?;
        match wait(signals, next)? {
            Woken::Signal => return Ok(()),
            Woken::Key => {
                if screen.keys()? {
                    return Ok(());
                }
            }
            Woken::Time => {}
        }
        if Instant::now() < next {
            continue;
        }
        next = Instant::now() + delay;
        let now = usage(client)?;
        screen.sample = Sample::between(&before, &now);
        before = now;
        looks += 1;
        if options.count.is_some_and(|count| looks >= count) {
            return Ok(());
        }
    }
}

enum Woken {
    Signal,
    Key,
    Time,
}

fn wait(signals: &Signals, until: Instant) -> Result<Woken, Failure> {
    let stdin = io::stdin();
    let mut fds = [
        PollFd::from_borrowed_fd(signals.asked.as_fd(), PollFlags::IN),
        PollFd::new(&stdin, PollFlags::IN),
    ];
    let left = until.saturating_duration_since(Instant::now());
    match poll(&mut fds, Timespec::try_from(left).ok().as_ref()) {
        Ok(_) => {}
        // The window changed its size, or a signal that shows up at the next look.
        Err(rustix::io::Errno::INTR) => return Ok(Woken::Time),
        Err(error) => return Err(Failure::io("waiting failed")(error.into())),
    }
    let ready = |place: usize| !fds[place].revents().is_empty();
    Ok(match (ready(0), ready(1)) {
        (true, _) => Woken::Signal,
        (false, true) => Woken::Key,
        (false, false) => Woken::Time,
    })
}

impl Screen {
    /// Takes the keys that are there; true if one of them ends it.
    fn keys(&mut self) -> Result<bool, Failure> {
        let failed = || Failure::io("the keys cannot be read");
        while event::poll(Duration::ZERO).map_err(failed())? {
            let Event::Key(key) = event::read().map_err(failed())? else {
                continue;
            };
            if key.kind != KeyEventKind::Release && self.key(key) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// One key; true if it ends it.
    fn key(&mut self, key: KeyEvent) -> bool {
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return true,
            KeyCode::Char('q') | KeyCode::Esc => return true,
            KeyCode::Char('i') => self.sort = Sort::Id,
            KeyCode::Char('n') => self.sort = Sort::Name,
            KeyCode::Char('c') => self.sort = Sort::Cpu,
            KeyCode::Char('m') => self.sort = Sort::Memory,
            KeyCode::Char('o') => self.sort = Sort::Io,
            _ => {}
        }
        false
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let [head, body, foot] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Min(1),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        frame.render_widget(Line::from(self.sample.head()), head);
        let cells: Vec<Vec<String>> = self
            .sample
            .domains
            .iter()
            .map(super::rates::Row::cells)
            .collect();
        let widths = (0..HEAD.len()).map(|column| {
            let widest = cells
                .iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0);
            Constraint::Length(u16::try_from(widest.max(HEAD[column].len())).unwrap_or(u16::MAX))
        });
        let right = |column: usize, text: &str| {
            let line = Line::from(text.to_owned());
            Cell::from(if column >= 3 {
                line.right_aligned()
            } else {
                line
            })
        };
        let row = |texts: &[String]| {
            TableRow::new(texts.iter().enumerate().map(|(i, text)| right(i, text)))
        };
        let header = TableRow::new(HEAD.iter().enumerate().map(|(i, text)| right(i, text)))
            .style(Style::new().add_modifier(Modifier::REVERSED));
        let table = Table::new(cells.iter().map(|texts| row(texts)), widths)
            .header(header)
            .column_spacing(2);
        frame.render_widget(table, body);
        frame.render_widget(Line::from(KEYS), foot);
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use xeno_api::{DomainUsage, Io, Life, Summary, Usage};

    use super::*;

    #[test]
    fn the_screen_has_the_machine_the_domains_and_the_keys() {
        let summary = Summary {
            id: 7,
            name: Some("web".to_owned()),
            life: Life::Running,
            reason: None,
            memory_bytes: 96 << 20,
            vcpus: 2,
            cpu_ns: 500_000_000,
            age_s: None,
        };
        let domains = vec![DomainUsage {
            summary,
            max_memory_bytes: 0,
            disk: Io::default(),
            net: Io::default(),
        }];
        let usage = |time_ns, domains| Usage {
            time_ns,
            cpus: 2,
            memory_bytes: 4 << 30,
            free_bytes: 1 << 30,
            domains,
        };
        let sample = Sample::between(&usage(0, Vec::new()), &usage(1_000_000_000, domains));
        let screen = Screen {
            sample,
            sort: Sort::Id,
        };
        let mut terminal = Terminal::new(TestBackend::new(90, 6)).unwrap();
        terminal.draw(|frame| screen.draw(frame)).unwrap();
        let text = terminal.backend().to_string();
        for expected in [
            "1 domain, 50% of 2 processors, memory 3G of 4G",
            "web   7   running  50.0",
            "96M",
            "q quit",
        ] {
            assert!(text.contains(expected), "{expected} is not in\n{text}");
        }
    }

    #[test]
    fn keys_sort_and_quit() {
        let usage = Usage {
            time_ns: 0,
            cpus: 1,
            memory_bytes: 0,
            free_bytes: 0,
            domains: Vec::new(),
        };
        let mut screen = Screen {
            sample: Sample::between(&usage, &usage),
            sort: Sort::Id,
        };
        let plain = |c| KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE);
        assert!(!screen.key(plain('c')) && screen.sort == Sort::Cpu);
        assert!(!screen.key(plain('x')) && screen.sort == Sort::Cpu);
        assert!(screen.key(plain('q')));
        assert!(screen.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
    }
}

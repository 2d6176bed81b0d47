//! What `xeno top` shows: the machine in a line, a table of the domains, and the keys. Of a table that is too wide the
//! last columns are left out, whole; of one that is too long a part is shown.

use ratatui::Frame;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Row as TableRow, Table};

use super::columns::Columns;
use super::rates::Sample;
use crate::cli::Sort;

const KEYS: &str = "q quit   sort: i id  n name  c cpu  m memory  o i/o   u usage";

/// Between two columns.
const GAP: u16 = 2;

/// What is shown.
pub struct View {
    sample: Sample,
    sort: Sort,
    columns: Columns,
    /// Domains above the first that is shown.
    skipped: usize,
    /// Domains that had room when it was drawn last.
    room: usize,
}

impl View {
    /// Of a first look.
    pub fn new(sample: Sample, sort: Sort, columns: Columns) -> Self {
        let mut view = Self {
            sample,
            sort,
            columns,
            skipped: 0,
            room: 1,
        };
        view.sample.sort(sort);
        view
    }

    /// Another look.
    pub fn show(&mut self, sample: Sample) {
        self.sample = sample;
        self.sample.sort(self.sort);
    }

    /// Whether a key wants all of it written anew.
    pub fn repaints(key: KeyEvent) -> bool {
        key.code == KeyCode::Char('l') && key.modifiers.contains(KeyModifiers::CONTROL)
    }

    /// One key; true if it ends it.
    pub fn key(&mut self, key: KeyEvent) -> bool {
        let page = self.room.max(1);
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return true,
            KeyCode::Char('q') | KeyCode::Esc => return true,
            KeyCode::Char('i') => self.sort = Sort::Id,
            KeyCode::Char('n') => self.sort = Sort::Name,
            KeyCode::Char('c') => self.sort = Sort::Cpu,
            KeyCode::Char('m') => self.sort = Sort::Memory,
            KeyCode::Char('o') => self.sort = Sort::Io,
            KeyCode::Char('u') => self.columns = self.columns.other(),
            KeyCode::Up => self.skipped = self.skipped.saturating_sub(1),
            KeyCode::Down => self.skipped += 1,
            KeyCode::PageUp => self.skipped = self.skipped.saturating_sub(page),
            KeyCode::PageDown => self.skipped += page,
            KeyCode::Home => self.skipped = 0,
            KeyCode::End => self.skipped = usize::MAX - page,
            _ => {}
        }
        self.sample.sort(self.sort);
        self.skipped = self.skipped.min(self.last());
        false
    }

    /// As many as can be skipped with all that is shown full of domains.
    fn last(&self) -> usize {
        self.sample.domains.len().saturating_sub(self.room)
    }

    /// Draws all of it.
    pub fn draw(&mut self, frame: &mut Frame<'_>) {
        let [head, body, foot] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Min(0),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        // The table's own head takes a line.
        self.room = usize::from(body.height.saturating_sub(1));
        self.skipped = self.skipped.min(self.last());
        frame.render_widget(Line::from(self.sample.head()), head);
        frame.render_widget(self.table(body.width), body);
        frame.render_widget(Line::from(self.foot()), foot);
    }

    fn table(&self, width: u16) -> Table<'static> {
        let (domains, heads) = (self.sample.domains.iter(), self.columns.heads());
        let cells: Vec<_> = domains.map(|row| self.columns.cells(row)).collect();
        // Of all domains, so that columns do not move while they are looked through.
        let widths = fitting(widths(heads, &cells), width);
        let row = |texts: &[String]| {
            let shown = texts.iter().take(widths.len()).enumerate();
            TableRow::new(shown.map(|(column, text)| {
                let line = Line::from(text.clone());
                Cell::from(if column >= 3 {
                    line.right_aligned()
                } else {
                    line
                })
            }))
        };
        let names: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
        let header = row(&names).style(Style::new().add_modifier(Modifier::REVERSED));
        let shown = cells.iter().skip(self.skipped).take(self.room);
        Table::new(
            shown.map(|texts| row(texts)),
            widths.iter().map(|width| Constraint::Length(*width)),
        )
        .header(header)
        .column_spacing(GAP)
    }

    fn foot(&self) -> String {
        let all = self.sample.domains.len();
        if all <= self.room {
            return KEYS.to_owned();
        }
        let end = (self.skipped + self.room).min(all);
        format!("{}-{end} of {all}: arrows   {KEYS}", self.skipped + 1)
    }
}

/// How wide each column has to be.
fn widths(heads: &[&str], cells: &[Vec<String>]) -> Vec<u16> {
    let width = |column: usize| {
        let of_cells = cells.iter().map(|row| row[column].chars().count());
        let widest = of_cells.max().unwrap_or(0).max(heads[column].len());
        u16::try_from(widest).unwrap_or(u16::MAX)
    };
    (0..heads.len()).map(width).collect()
}

/// Those that fit whole, from the first on; the first is there in any case.
fn fitting(mut widths: Vec<u16>, room: u16) -> Vec<u16> {
    let mut used = 0u16;
    let fit = widths.iter().take_while(|width| {
        used = used.saturating_add(**width);
        let fits = used <= room;
        used = used.saturating_add(GAP);
        fits
    });
    let fit = fit.count().max(1);
    widths.truncate(fit);
    widths
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use xeno_api::{DomainUsage, Io, Life, Summary, Usage};

    use super::*;

    /// A look at these domains, of which each used half of a processor.
    fn sample(names: &[&str]) -> Sample {
        let domain = |(id, name): (usize, &&str)| DomainUsage {
            summary: Summary {
                id: id as u16,
                name: Some((*name).to_owned()),
                life: Life::Running,
                reason: None,
                memory_bytes: 96 << 20,
                vcpus: 2,
                cpu_ns: 500_000_000,
                age_s: None,
            },
            max_memory_bytes: 0,
            disk: Io::default(),
            net: Io::default(),
            account: None,
        };
        let usage = |time_ns, domains| Usage {
            time_ns,
            cpus: 2,
            memory_bytes: 4 << 30,
            free_bytes: 1 << 30,
            machine: None,
            domains,
        };
        let now = names.iter().enumerate().map(domain).collect();
        Sample::between(&usage(0, Vec::new()), &usage(1_000_000_000, now))
    }

    /// The lines of a screen of this size, without the spaces at their ends.
    fn drawn(view: &mut View, columns: u16, lines: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(columns, lines)).unwrap();
        terminal.draw(|frame| view.draw(frame)).unwrap();
        let cells = &terminal.backend().buffer().content;
        let line = |cells: &[ratatui::buffer::Cell]| cells.iter().map(|c| c.symbol()).collect();
        let line = |cells| -> String { line(cells) };
        cells
            .chunks(usize::from(columns))
            .map(|cells| line(cells).trim_end().to_owned())
            .collect()
    }

    fn plain(code: KeyCode) -> KeyEvent {
        KeyEvent::new(code, KeyModifiers::NONE)
    }

    #[test]
    fn the_screen_has_the_machine_the_domains_and_the_keys() {
        let mut view = View::new(sample(&["Domain-0", "web"]), Sort::Id, Columns::Devices);
        assert_eq!(
            drawn(&mut view, 90, 6),
            [
                "2 domains, 100% of 2 processors, memory 3G of 4G",
                "NAME      ID  STATE    CPU%  CPU TIME  MEMORY  VCPUS  DISK R/s  DISK W/s  NET/s",
                "Domain-0  0   running  50.0     0.50s     96M      2        0B        0B     0B",
                "web       1   running  50.0     0.50s     96M      2        0B        0B     0B",
                "",
                "q quit   sort: i id  n name  c cpu  m memory  o i/o   u usage",
            ]
        );
    }

    #[test]
    fn a_narrow_screen_has_whole_columns() {
        let mut view = View::new(sample(&["Domain-0", "web"]), Sort::Id, Columns::Devices);
        for (columns, last) in [
            (78, "DISK W/s"),
            (79, "NET/s"),
            (40, "CPU TIME"),
            (36, "CPU%"),
        ] {
            let lines = drawn(&mut view, columns, 5);
            assert!(lines[1].ends_with(last), "{columns}: {lines:?}");
        }
        // Nothing is too small for it.
        for columns in 1..12 {
            for lines in 1..6 {
                drawn(&mut view, columns, lines);
            }
        }
    }

    #[test]
    fn a_low_screen_says_what_it_leaves_out_and_can_be_moved() {
        let mut view = View::new(
            sample(&["a", "b", "c", "d", "e"]),
            Sort::Id,
            Columns::Devices,
        );
        let shown = |view: &mut View, key| {
            view.key(plain(key));
            let lines = drawn(view, 80, 5);
            let names: String = lines[2..4].iter().map(|line| &line[..1]).collect();
            let foot = lines[4].split(':').next().unwrap_or_default().to_owned();
            (names, foot)
        };
        let mut moved = |key, names: &str, foot: &str| {
            let (n, f) = shown(&mut view, key);
            assert_eq!((n.as_str(), f.as_str()), (names, foot), "{key:?}");
        };
        moved(KeyCode::Up, "ab", "1-2 of 5");
        moved(KeyCode::Down, "bc", "2-3 of 5");
        moved(KeyCode::PageDown, "de", "4-5 of 5");
        moved(KeyCode::Down, "de", "4-5 of 5");
        moved(KeyCode::Up, "cd", "3-4 of 5");
        moved(KeyCode::PageUp, "ab", "1-2 of 5");
        moved(KeyCode::End, "de", "4-5 of 5");
        moved(KeyCode::Home, "ab", "1-2 of 5");
        // Domains that went away while the end was shown.
        view.key(plain(KeyCode::End));
        view.show(sample(&["a", "b"]));
        let lines = drawn(&mut view, 80, 5);
        assert!(lines[2].starts_with('a') && lines[4].starts_with("q quit"));
        view.show(sample(&[]));
        assert!(drawn(&mut view, 80, 5)[0].starts_with("0 domains"));
    }

    #[test]
    fn keys_sort_and_quit() {
        let mut view = View::new(sample(&["b", "a"]), Sort::Id, Columns::Devices);
        assert!(!view.key(plain(KeyCode::Char('n'))) && view.sort == Sort::Name);
        assert!(drawn(&mut view, 80, 5)[2].starts_with('a'));
        assert!(!view.key(plain(KeyCode::Char('x'))) && view.sort == Sort::Name);
        assert!(!view.key(plain(KeyCode::Char('c'))) && view.sort == Sort::Cpu);
        assert!(view.key(plain(KeyCode::Char('q'))));
        let control = |c| KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL);
        assert!(view.key(control('c')));
        assert!(View::repaints(control('l')) && !View::repaints(plain(KeyCode::Char('l'))));
    }
}

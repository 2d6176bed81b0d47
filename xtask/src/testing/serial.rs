//! A running machine and its serial console: what it wrote, what it is told, how it ended.
//!
//! # Invariants
//! - S1: the emulator never outlives its session: dropping it ends the emulator.
//! - S2: everything the console said is kept in a file, also when the test goes wrong.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use regex_lite::Regex;

use crate::qemu::Machine;
use crate::run;
use crate::shell;
use crate::testing::runner::Outcome;
use crate::tree::Tree;

/// A machine that runs, with its console.
pub struct Session {
    child: Child,
    keyboard: Option<ChildStdin>,
    console: Arc<Console>,
    /// How much of the console has been looked at.
    seen: usize,
    log: PathBuf,
    started: Instant,
}

/// What the machine has written so far, without terminal control sequences.
#[derive(Default)]
struct Console {
    text: Mutex<Text>,
    changed: Condvar,
}

#[derive(Default)]
struct Text {
    clean: String,
    closed: bool,
}

/// Runs a machine to its end and has its console and the emulator's status judged; `judge` answers the note for a pass.
pub fn judged(
    tree: &Tree,
    machine: &Machine,
    log: &str,
    limit: Duration,
    judge: impl FnOnce(&str, i32) -> Result<String>,
) -> Outcome {
    played(Session::start(tree, machine, log), tree, |session| {
        let status = session.wait(limit)?;
        judge(&session.text(), status)
    })
}

/// What is done with a machine that was started decides; `act` answers the note for a pass.
pub fn played(
    started: Result<Session>,
    tree: &Tree,
    act: impl FnOnce(&mut Session) -> Result<String>,
) -> Outcome {
    let mut session = match started {
        Ok(session) => session,
        Err(error) => return Outcome::failed("not started", format!("{error:#}")),
    };
    match act(&mut session) {
        Ok(note) => Outcome::passed(note),
        Err(error) => Outcome::failed(format!("{error:#}"), session.report(tree)),
    }
}

impl Session {
    /// Starts a machine; its console is kept in the file `log` under the logs' directory.
    ///
    /// # Errors
    /// When the emulator cannot be started.
    pub fn start(tree: &Tree, machine: &Machine, log: &str) -> Result<Self> {
        let logs = tree.logs();
        std::fs::create_dir_all(&logs)
            .with_context(|| format!("{} cannot be made", logs.display()))?;
        let log = logs.join(format!("{}.log", file_name(log)));
        let complaints = std::fs::File::create(log.with_extension("qemu"))?;
        let mut command = machine.command(tree)?;
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(complaints);
        let mut child = command
            .spawn()
            .context("qemu-system-x86_64 cannot be started")?;
        let keyboard = child.stdin.take();
        let output = child.stdout.take().context("the emulator has no output")?;
        let console = Arc::new(Console::default());
        let writer = Arc::clone(&console);
        // Ends by itself when the emulator closes its end.
        std::thread::spawn(move || collect(output, &writer));
        Ok(Self {
            child,
            keyboard,
            console,
            seen: 0,
            log,
            started: Instant::now(),
        })
    }

    /// Waits until the console shows a match after what was seen before; returns the text up to its end.
    ///
    /// # Errors
    /// When the machine ends first or time runs out.
    pub fn expect(&mut self, pattern: &str, limit: Duration) -> Result<String> {
        let regex = Regex::new(pattern).with_context(|| format!("`{pattern}` is not a pattern"))?;
        let deadline = Instant::now() + limit;
        let mut text = self
            .console
            .text
            .lock()
            .map_err(|_| anyhow::anyhow!("the console's reader is gone"))?;
        loop {
            let fresh = text.clean.get(self.seen..).unwrap_or_default();
            if let Some(found) = regex.find(fresh) {
                let upto = fresh[..found.end()].to_owned();
                self.seen += found.end();
                return Ok(upto);
            }
            if text.closed {
                bail!("the machine ended while `{pattern}` was awaited");
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("`{pattern}` did not appear within {} s", limit.as_secs());
            }
            let waited = self.console.changed.wait_timeout(text, left);
            text = waited
                .map_err(|_| anyhow::anyhow!("the console's reader is gone"))?
                .0;
        }
    }

    /// Types on the machine's keyboard.
    ///
    /// # Errors
    /// When the machine has ended.
    pub fn send(&mut self, keys: &str) -> Result<()> {
        let keyboard = self
            .keyboard
            .as_mut()
            .context("the machine has no keyboard")?;
        for (number, piece) in keys.as_bytes().chunks(TYPED_AT_ONCE).enumerate() {
            if number > 0 {
                std::thread::sleep(TYPING_PAUSE);
            }
            keyboard
                .write_all(piece)
                .and_then(|()| keyboard.flush())
                .context("the machine has ended")?;
        }
        Ok(())
    }

    /// Waits for the emulator to end by itself; its status.
    ///
    /// # Errors
    /// When it does not end in time, or was ended by a signal.
    pub fn wait(&mut self, limit: Duration) -> Result<i32> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                self.drain();
                return status
                    .code()
                    .with_context(|| format!("the emulator was ended from outside ({status})"));
            }
            if Instant::now() >= deadline {
                bail!("the machine did not end within {} s", limit.as_secs());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends the emulator as a machine ends that loses its power.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn lose_power(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the emulator has ended before ({status})");
        }
        // SIGKILL: nothing of the emulator runs after this.
        self.child.kill()?;
        self.child.wait()?;
        self.drain();
        Ok(())
    }

    /// Waits until the reader has everything the ended emulator wrote.
    fn drain(&self) {
        let Ok(text) = self.console.text.lock() else {
            return;
        };
        let _ = self
            .console
            .changed
            .wait_timeout_while(text, Duration::from_secs(5), |t| !t.closed);
    }

    /// Everything the console said so far.
    pub fn text(&self) -> String {
        self.console
            .text
            .lock()
            .map(|t| t.clean.clone())
            .unwrap_or_default()
    }

    /// Seconds since the start.
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// The console's last lines and where the rest is, for a failure's report.
    pub fn report(&self, tree: &Tree) -> String {
        let complaints =
            std::fs::read_to_string(self.log.with_extension("qemu")).unwrap_or_default();
        let mut report = shell::tail(&self.text(), REPORTED_LINES);
        // The processor model has features that the emulator lacks, which it says each time.
        for complaint in complaints
            .lines()
            .filter(|l| !l.contains("TCG doesn't support requested feature"))
        {
            report.push_str("\nthe emulator says: ");
            report.push_str(complaint);
        }
        format!("{report}\nall of it: {}", tree.shown(&self.log))
    }
}

/// Bytes typed without a pause: a hypervisor whose domains are busy keeps little of what was not read yet (Xen 128).
const TYPED_AT_ONCE: usize = 48;

/// The pause after as many.
const TYPING_PAUSE: Duration = Duration::from_millis(30);

/// How much of a console a failure shows.
const REPORTED_LINES: usize = 60;

impl Drop for Session {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = run::end(&mut self.child);
        }
        self.drain();
        let _ = std::fs::write(&self.log, self.text());
        let complaints = self.log.with_extension("qemu");
        if std::fs::metadata(&complaints).is_ok_and(|m| m.len() == 0) {
            let _ = std::fs::remove_file(&complaints);
        }
    }
}

/// A case's name as a file's.
fn file_name(case: &str) -> String {
    let words = case.split(|c: char| !c.is_ascii_alphanumeric() && c != '.');
    words
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join("-")
}

fn collect(mut output: impl Read, console: &Console) {
    let mut cleaner = Cleaner::default();
    let mut buffer = [0_u8; 4096];
    loop {
        let count = output.read(&mut buffer).unwrap_or(0);
        let Ok(mut text) = console.text.lock() else {
            return;
        };
        if count == 0 {
            text.closed = true;
            console.changed.notify_all();
            return;
        }
        for &byte in buffer.get(..count).unwrap_or_default() {
            cleaner.push(byte, &mut text.clean);
        }
        console.changed.notify_all();
    }
}

/// Takes carriage returns, terminal control sequences and non-ASCII bytes out of a console's stream.
#[derive(Default)]
struct Cleaner {
    state: Escape,
}

#[derive(Clone, Copy, Debug, Default)]
enum Escape {
    #[default]
    Outside,
    Begun,
    Parameters,
}

impl Cleaner {
    fn push(&mut self, byte: u8, text: &mut String) {
        self.state = match (self.state, byte) {
            (Escape::Outside, 0x1b) => Escape::Begun,
            (Escape::Outside, b'\r' | 0 | 7 | 8) => Escape::Outside,
            (Escape::Outside, byte) => {
                text.push(if byte.is_ascii() {
                    char::from(byte)
                } else {
                    '?'
                });
                Escape::Outside
            }
            (Escape::Begun, b'[') => Escape::Parameters,
            (Escape::Parameters, b'0'..=b'?') => Escape::Parameters,
            (Escape::Begun | Escape::Parameters, _) => Escape::Outside,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_sequences_are_taken_out_even_when_cut_in_two() {
        let (mut cleaner, mut text) = (Cleaner::default(), String::new());
        for &byte in b"a\r\n\x1b[1;31mb\x1b[6nc\x1bcd" {
            cleaner.push(byte, &mut text);
        }
        assert_eq!(text, "a\nbcd");
    }

    #[test]
    fn a_case_is_kept_in_a_file_of_its_name() {
        assert_eq!(
            file_name("guest hello (isolate=yes)"),
            "guest-hello-isolate-yes"
        );
    }
}

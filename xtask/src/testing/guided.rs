//! The control domain's shell as stories use it: commands that have to succeed, guests' consoles, what is waited for.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::testing::console_shell::Shell;
use crate::testing::serial::Session;

/// A busy host takes its time over a control domain and two guests.
const BOOT_LIMIT: Duration = Duration::from_secs(400);

/// One command that has nothing to wait for.
const SOON: Duration = Duration::from_secs(60);

/// One that waits for a guest.
const LATER: Duration = Duration::from_secs(240);

/// The control domain's shell, with what the stories do again and again.
pub struct Guided<'a> {
    shell: Shell<'a>,
    disk: Option<PathBuf>,
}

impl<'a> Guided<'a> {
    /// Waits for the control domain's first prompt. `disk` is the file behind the machine's disk, if it has one.
    ///
    /// # Errors
    /// When there is none.
    pub fn at_prompt(session: &'a mut Session, disk: Option<PathBuf>) -> Result<Self> {
        let shell = Shell::at_prompt(session, BOOT_LIMIT)?;
        Ok(Self { shell, disk })
    }

    /// The shell itself.
    pub fn shell(&mut self) -> &mut Shell<'a> {
        &mut self.shell
    }

    /// The file behind the machine's disk.
    pub fn disk(&self) -> Option<&Path> {
        self.disk.as_deref()
    }

    /// What a command wrote, on both outputs.
    pub fn output(&mut self, command: &str) -> Result<String> {
        self.output_within(command, SOON)
    }

    /// The same, of one that takes its time.
    pub fn output_within(&mut self, command: &str, limit: Duration) -> Result<String> {
        self.shell
            .output_of(&format!("{{ {command}; }} 2>&1"), limit)
    }

    /// The same, of a command that has to succeed.
    pub fn done(&mut self, command: &str) -> Result<String> {
        let output = self
            .shell
            .output_of(&format!("{{ {command}; }} 2>&1; echo status=$?"), LATER)?;
        match output.rsplit_once("status=") {
            Some((said, "0")) => Ok(said.trim().to_owned()),
            _ => bail!("`{command}` failed: {output}"),
        }
    }

    /// Waits for a shell command to succeed.
    pub fn until(&mut self, condition: &str) -> Result<()> {
        self.done(&format!("story until {}", quoted(condition)))
            .map(|_| ())
            .with_context(|| format!("`{condition}` did not come true"))
    }

    /// Waits for a guest's shell.
    pub fn guest_is_up(&mut self, name: &str) -> Result<()> {
        self.done(&format!("story up {name}"))
            .map(|_| ())
            .with_context(|| format!("{name} did not come to its shell"))
    }

    /// Types a line into a guest's console and waits for a line of exactly this.
    pub fn at_guest(&mut self, name: &str, line: &str, wanted: &str) -> Result<()> {
        self.typed(name, line)?;
        self.done(&format!("story says {name} {}", quoted(wanted)))
            .map(|_| ())
            .with_context(|| format!("{name} did not answer {wanted:?} to {line:?}"))
    }

    /// Types a line into a guest's console.
    pub fn typed(&mut self, name: &str, line: &str) -> Result<()> {
        self.done(&format!("story type {name} {}", quoted(line)))
            .map(|_| ())
    }

    /// Waits until only the control domain is there.
    pub fn alone(&mut self) -> Result<()> {
        self.done("story alone").map(|_| ())
    }

    /// The names of all domains, by number.
    pub fn names(&mut self) -> Result<String> {
        let names = self.done("story names")?;
        Ok(names.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    /// The machine's free memory in bytes.
    pub fn free(&mut self) -> Result<u64> {
        let said = self.done("story free")?;
        said.parse()
            .with_context(|| format!("the free memory is {said:?}"))
    }
}

/// A word of the shell's.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

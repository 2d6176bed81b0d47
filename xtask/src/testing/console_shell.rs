//! The shell on a machine's console, driven as a person would: a command typed at a prompt, its output read.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use regex_lite::Regex;

use crate::initrd::PROMPT;
use crate::testing::serial::Session;

/// A command at the shell and what its output must have.
pub struct Try {
    command: &'static str,
    wanted: &'static str,
    seconds: u64,
}

/// A row of a table of commands.
pub const fn a_try(command: &'static str, wanted: &'static str, seconds: u64) -> Try {
    Try {
        command,
        wanted,
        seconds,
    }
}

/// Lines of a kernel's log that no healthy boot has.
const COMPLAINTS: &str = r"BUG:|Oops|WARNING:|Call Trace|general protection|unhandled|segfault at";

/// The machine's shell, one command at a time.
pub struct Shell<'a> {
    session: &'a mut Session,
    count: u32,
    seconds_to_prompt: f64,
}

impl<'a> Shell<'a> {
    /// Waits for the first prompt.
    ///
    /// # Errors
    /// When none appears within `limit`.
    pub fn at_prompt(session: &'a mut Session, limit: Duration) -> Result<Self> {
        session
            .expect(&regex_lite::escape(PROMPT), limit)
            .context("no shell")?;
        let seconds_to_prompt = session.seconds();
        let mut shell = Shell {
            session,
            count: 0,
            seconds_to_prompt,
        };
        // The shell's line editor breaks what it echoes at the terminal's width.
        shell.output_of("stty cols 1000", Duration::from_secs(20))?;
        Ok(shell)
    }

    /// How long the machine took from its start to the first prompt.
    pub fn seconds_to_prompt(&self) -> f64 {
        self.seconds_to_prompt
    }

    /// Types a command and returns what it wrote.
    ///
    /// # Errors
    /// When it does not end within `limit`, or the machine does.
    pub fn output_of(&mut self, command: &str, limit: Duration) -> Result<String> {
        self.count += 1;
        let count = self.count;
        // The quotes keep the typed line, which the terminal echoes, from looking like the answer.
        self.session
            .send(&format!("{command}; echo; echo do''ne {count}\n"))?;
        let said = self
            .session
            .expect(&format!(r"(?m)^done {count}$"), limit)
            .with_context(|| format!("at the command `{command}`"))?;
        // The next command is typed at a prompt: typed ahead, it would be echoed twice.
        self.session
            .expect(&regex_lite::escape(PROMPT), limit)
            .with_context(|| format!("after `{command}`"))?;
        let after_echo = said
            .split_once(&format!("do''ne {count}"))
            .map_or("", |(_, after)| after);
        let output = after_echo
            .strip_suffix(&format!("done {count}"))
            .unwrap_or(after_echo);
        Ok(without_ring0(output))
    }

    /// Types each command in turn and compares what it wrote.
    ///
    /// # Errors
    /// With the first that wrote something else.
    pub fn try_all(&mut self, tries: &[Try]) -> Result<()> {
        for Try {
            command,
            wanted,
            seconds,
        } in tries
        {
            let output = self.output_of(command, Duration::from_secs(*seconds))?;
            let matches = Regex::new(wanted)?.is_match(&output);
            ensure!(
                matches,
                "`{command}` said `{}`, without `{wanted}`",
                first_words(&output)
            );
        }
        Ok(())
    }

    /// `sleep 5` takes about five seconds on the machine's clock and on ours, and the date is today's.
    ///
    /// # Errors
    /// With what the clocks said.
    pub fn time_passes_as_it_should(&mut self) -> Result<()> {
        let began = Instant::now();
        let output = self.output_of(
            "a=$(date +%s); sleep 5; b=$(date +%s); echo $a $((b - a))",
            Duration::from_secs(60),
        )?;
        let outside = began.elapsed().as_secs_f64();
        let mut numbers = output.split_whitespace().map(|n| n.parse::<u64>().ok());
        let (Some(Some(date)), Some(Some(inside))) = (numbers.next(), numbers.next()) else {
            anyhow::bail!("`date` said `{output}`");
        };
        ensure!(
            (5..=6).contains(&inside),
            "`sleep 5` took {inside} seconds on the machine's clock"
        );
        ensure!(
            (4.5..=9.0).contains(&outside),
            "`sleep 5` took {outside:.1} seconds on the host's clock"
        );
        let today = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        ensure!(
            date.abs_diff(today) < 120,
            "the machine's date is {date}, the host's {today}"
        );
        Ok(())
    }

    /// Ctrl-C ends a running program and gives the prompt back.
    ///
    /// # Errors
    /// When it does not.
    pub fn ctrl_c_interrupts(&mut self) -> Result<()> {
        self.session.send("sleep 1000\n")?;
        self.session
            .expect(r"sleep 1000\n", Duration::from_secs(20))?;
        // The command must have begun: what is typed ahead of it would interrupt the shell's own line.
        std::thread::sleep(Duration::from_secs(1));
        self.session.send("\u{3}")?;
        self.session
            .expect(&regex_lite::escape(PROMPT), Duration::from_secs(10))
            .context("Ctrl-C did not end a running `sleep`")?;
        let status = self.output_of("echo status $?", Duration::from_secs(10))?;
        ensure!(
            status == "status 130",
            "after Ctrl-C the shell says `{status}`"
        );
        Ok(())
    }

    /// The kernel's log has nothing that a healthy boot has not.
    ///
    /// # Errors
    /// With the first lines that it has.
    pub fn kernel_has_no_complaint(&mut self) -> Result<()> {
        let output = self.output_of(
            &format!("dmesg | grep -E '{COMPLAINTS}'"),
            Duration::from_secs(60),
        )?;
        ensure!(
            output.is_empty(),
            "the kernel's log complains: {}",
            first_words(&output)
        );
        Ok(())
    }
}

fn first_words(text: &str) -> String {
    let mut short: String = text.chars().take(200).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short.replace('\n', " / ")
}

/// What a command wrote, without the lines of ring 0, which shares the serial line and may speak at any time.
fn without_ring0(output: &str) -> String {
    let own: Vec<&str> = output
        .lines()
        .map(|line| line.trim_end_matches('\r'))
        .filter(|line| !line.starts_with("(xeno) "))
        .collect();
    own.join("\n").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ring_0_says_meanwhile_is_not_the_commands_output() {
        assert_eq!(
            without_ring0("\r\n(xeno) warning: interrupt 257 storms\r\nsum  -\r\n"),
            "sum  -"
        );
        assert_eq!(without_ring0("a\r\n\r\nb (xeno) c\r\n"), "a\n\nb (xeno) c");
    }
}

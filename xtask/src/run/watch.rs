//! The emulator as a child of ours: waited for, ended in time, and its status handed on.

use std::process::{Child, Command, ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::shell::say;

/// The status with which a run ends that reached its `--timeout`, as `timeout(1)` has it.
const TIMED_OUT: u8 = 124;

/// Starts the emulator and waits for its end, at most so long.
pub(super) fn watch(command: &mut Command, limit: Option<Duration>) -> Result<ExitCode> {
    let mut child = command
        .spawn()
        .context("qemu-system-x86_64 cannot be started")?;
    let Some(limit) = limit else {
        return Ok(mirrored(child.wait()?));
    };
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(mirrored(status));
        }
        if Instant::now() >= deadline {
            end(&mut child)?;
            say(format!(
                "the run did not end within {} seconds",
                limit.as_secs()
            ));
            return Ok(ExitCode::from(TIMED_OUT));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Asks the emulator to end (it gives the terminal back), and insists after a while.
pub fn end(child: &mut Child) -> Result<()> {
    let asked = Command::new("sh")
        .args(["-c", &format!("kill -TERM {}", child.id())])
        .status();
    if asked.is_ok_and(|status| status.success()) {
        for _ in 0..100 {
            if child.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// The emulator's status as ours.
fn mirrored(status: ExitStatus) -> ExitCode {
    match status.code() {
        Some(code) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
        None => {
            say(format!("the emulator was ended from outside ({status})"));
            ExitCode::FAILURE
        }
    }
}

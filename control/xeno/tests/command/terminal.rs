//! A terminal of the test's own.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcgetwinsize, tcsetwinsize};

use crate::daemon::Daemon;

/// More than any host needs to print the next byte.
const PATIENCE: Timespec = Timespec {
    tv_sec: 60,
    tv_nsec: 0,
};

/// A terminal with the command on it.
pub struct Terminal {
    master: File,
    slave: File,
    child: Child,
    seen: String,
}

impl Terminal {
    /// Starts it on a terminal that has no size.
    pub fn start(daemon: &Daemon, arguments: &[&str]) -> Self {
        Self::started(daemon, arguments, None)
    }

    /// Starts it on a terminal of so many lines and columns.
    pub fn started(daemon: &Daemon, arguments: &[&str], size: Option<(u16, u16)>) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave = File::options()
            .read(true)
            .write(true)
            .open(name.to_str().unwrap())
            .unwrap();
        if let Some((ws_row, ws_col)) = size {
            let size = tcgetwinsize(&slave).unwrap();
            let size = Winsize {
                ws_row,
                ws_col,
                ..size
            };
            tcsetwinsize(&slave, size).unwrap();
        }
        let end = || Stdio::from(slave.try_clone().unwrap());
        let mut command = daemon.xeno(arguments);
        let child = command
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        Self {
            master: File::from(master),
            slave,
            child,
            seen: String::new(),
        }
    }

    /// Reads until the command has printed this.
    pub fn wait_for(&mut self, text: &str) {
        let mut bytes = [0; 4096];
        while !self.seen.contains(text) {
            let mut ready = [PollFd::new(&self.master, PollFlags::IN)];
            let came = poll(&mut ready, Some(&PATIENCE)).unwrap();
            assert!(came > 0, "{text:?} did not come: {:?}", self.seen);
            let n = self.master.read(&mut bytes).unwrap();
            self.seen.push_str(&String::from_utf8_lossy(&bytes[..n]));
        }
    }

    /// What a person types, or the terminal says.
    pub fn type_in(&mut self, keys: &[u8]) {
        self.master.write_all(keys).unwrap();
    }

    /// The exit code; the terminal has to be as it was before.
    pub fn ended(&mut self) -> Option<i32> {
        let deadline = Instant::now() + Duration::from_secs(20);
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it did not end");
            std::thread::sleep(Duration::from_millis(5));
        };
        assert!(!self.is_raw(), "the terminal is still raw");
        status.code()
    }

    /// Whether each key is handed over at once.
    pub fn is_raw(&self) -> bool {
        !tcgetattr(&self.slave)
            .unwrap()
            .local_modes
            .contains(LocalModes::ICANON)
    }

    /// Lines and columns.
    pub fn size(&self) -> (u16, u16) {
        let size = tcgetwinsize(&self.slave).unwrap();
        (size.ws_row, size.ws_col)
    }

    /// Gives it a size.
    pub fn resize(&self, (ws_row, ws_col): (u16, u16)) {
        let size = Winsize {
            ws_row,
            ws_col,
            ..tcgetwinsize(&self.slave).unwrap()
        };
        tcsetwinsize(&self.slave, size).unwrap();
    }

    /// Forgets what was printed; what it was.
    pub fn take(&mut self) -> String {
        std::mem::take(&mut self.seen)
    }

    /// Sends the command a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

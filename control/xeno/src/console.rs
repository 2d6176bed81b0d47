//! `xeno console`: keys to a guest, and what it prints back.
//!
//! One loop waits for keys, for the daemon and for signals. One input is under way at a time: a guest that does not
//! read slows typing down, and never the way out.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use xeno_api::{Answer, Data, EndReason, Event, Message, Op, Reply, Target};

use crate::cli;
use crate::client::{Client, unexpected};
use crate::failure::Failure;
use crate::show::{out, out_json_line};
use crate::signals::Signals;
use crate::terminal::Raw;

/// The key that leaves: Ctrl-].
const LEAVE: u8 = 0x1d;

/// Keys that wait for a guest that does not read; more are dropped at a terminal, and left unread in a pipe.
const MAX_WAITING: usize = 64 << 10;

/// Keys that have not been sent, and whether some are under way.
struct Typing {
    waiting: Vec<u8>,
    under_way: Option<u64>,
    /// Standard input has more, as far as is known.
    open: bool,
    terminal: bool,
}

/// Why the loop ended.
#[derive(Debug, PartialEq, Eq)]
enum Leave {
    /// Ctrl-], a signal, or the time is up.
    Left,
    /// The stream's end.
    Ended(EndReason),
}

/// Watches a console until the person leaves, or the guest does.
///
/// # Errors
/// What the daemon refuses, and all that can go wrong with it.
pub fn run(client: &mut Client, options: &cli::Console, json: bool) -> Result<(), Failure> {
    let op = Op::Console {
        domain: options.name.clone(),
        scrollback_bytes: options.last,
        only_past: options.past,
    };
    let (stream, answer) = client.open(op)?;
    let Answer::Attached { skipped_bytes } = answer else {
        return Err(unexpected(&answer));
    };
    let signals = Signals::catch().map_err(Failure::io("signals cannot be caught"))?;
    let talks = !options.past && !json;
    let raw = if talks {
        Raw::enter().map_err(Failure::io("the terminal cannot be made raw"))?
    } else {
        None
    };
    let terminal = raw.is_some();
    if terminal {
        eprint!("[{}: Ctrl-] leaves]\r\n", shown(&options.name));
    }
    if skipped_bytes > 0 && terminal {
        eprint!("[{skipped_bytes} bytes from before are not shown]\r\n");
    }
    let mut typing = Typing {
        waiting: Vec::new(),
        under_way: None,
        open: talks,
        terminal,
    };
    let deadline = options
        .timeout
        .map(|s| Instant::now() + Duration::from_secs(s));
    let left = watch(client, stream, &signals, &mut typing, deadline, json);
    drop(raw);
    match left? {
        Leave::Left if terminal => eprintln!("\n[left {}]", shown(&options.name)),
        Leave::Ended(EndReason::Gone) => eprintln!("\n[{} is gone]", shown(&options.name)),
        Leave::Ended(EndReason::Stopping) => {
            return Err(Failure::Gone("it is stopping".to_owned()));
        }
        Leave::Left | Leave::Ended(EndReason::Complete | EndReason::Cancelled) => {}
    }
    Ok(())
}

fn shown(name: &Target) -> String {
    match name {
        Target::Id(id) => format!("domain {id}"),
        Target::Name(name) => name.to_string(),
    }
}

fn watch(
    client: &mut Client,
    stream: u64,
    signals: &Signals,
    typing: &mut Typing,
    deadline: Option<Instant>,
    json: bool,
) -> Result<Leave, Failure> {
    loop {
        while let Some(message) = client.buffered()? {
            if let Some(left) = heard(message, stream, typing, json)? {
                return Ok(left);
            }
        }
        typing.send(client, stream)?;
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(Leave::Left);
        }
        let ready = wait(client, signals, typing.listens(), left)?;
        if ready.signal {
            return Ok(Leave::Left);
        }
        if ready.keys && typing.read()? {
            return Ok(Leave::Left);
        }
        if ready.daemon {
            client.fill()?;
        }
    }
}

/// Takes in what the daemon said. `Some` ends the loop.
fn heard(
    message: Message,
    stream: u64,
    typing: &mut Typing,
    json: bool,
) -> Result<Option<Leave>, Failure> {
    if Some(message.id) == typing.under_way {
        typing.under_way = None;
        return match message.reply {
            Reply::Ok(_) => Ok(None),
            Reply::Error(error) => Err(error.into()),
            other => Err(Failure::Nonsense(format!("{other:?} to an input"))),
        };
    }
    if message.id != stream {
        return Err(Failure::Nonsense(format!(
            "an answer to {}, which was not asked",
            message.id
        )));
    }
    match message.reply {
        Reply::Event(event) if json => out_json_line(&event).map(|()| None),
        Reply::Event(Event::Output { data }) => out(&data.0).map(|()| None),
        Reply::Event(Event::Lost { bytes }) => {
            out(format!("\r\n[{bytes} bytes went by too fast]\r\n")).map(|()| None)
        }
        Reply::Event(_) => Ok(None),
        Reply::End(end) => Ok(Some(Leave::Ended(end.why))),
        Reply::Error(error) => Err(error.into()),
        Reply::Ok(answer) => Err(unexpected(&answer)),
    }
}

/// What there is to do.
struct Ready {
    daemon: bool,
    keys: bool,
    signal: bool,
}

fn wait(
    client: &Client,
    signals: &Signals,
    keys: bool,
    limit: Option<Duration>,
) -> Result<Ready, Failure> {
    let stdin = io::stdin();
    let mut fds = vec![
        PollFd::new(client, PollFlags::IN),
        PollFd::from_borrowed_fd(signals.asked.as_fd(), PollFlags::IN),
    ];
    if keys {
        fds.push(PollFd::new(&stdin, PollFlags::IN));
    }
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    match poll(&mut fds, limit.as_ref()) {
        // A signal that was caught shows up in its own descriptor at the next look.
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(Failure::io("waiting failed")(error.into())),
    }
    let ready = |place: usize| fds.get(place).is_some_and(|fd| !fd.revents().is_empty());
    Ok(Ready {
        daemon: ready(0),
        signal: ready(1),
        keys: ready(2),
    })
}

impl Typing {
    /// Whether keys are to be waited for. At a terminal always, for the one that leaves.
    fn listens(&self) -> bool {
        self.open && (self.terminal || self.waiting.len() < MAX_WAITING)
    }

    /// Takes keys that are there; true if one of them leaves.
    fn read(&mut self) -> Result<bool, Failure> {
        let mut keys = [0; 4096];
        let taken = match rustix::io::read(io::stdin(), &mut keys) {
            Ok(taken) => taken,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return Ok(false),
            // A terminal that was hung up.
            Err(rustix::io::Errno::IO) if io::stdin().is_terminal() || self.terminal => {
                return Ok(true);
            }
            Err(error) => return Err(Failure::io("standard input cannot be read")(error.into())),
        };
        if taken == 0 {
            self.open = false;
            return Ok(self.terminal);
        }
        let mut keys = &keys[..taken];
        let leaves = self
            .terminal
            .then(|| keys.iter().position(|key| *key == LEAVE))
            .flatten();
        if let Some(at) = leaves {
            keys = &keys[..at];
        }
        let room = MAX_WAITING.saturating_sub(self.waiting.len());
        let kept = if self.terminal {
            keys.len().min(room)
        } else {
            keys.len()
        };
        self.waiting.extend_from_slice(&keys[..kept]);
        Ok(leaves.is_some())
    }

    /// Sends what waits, if nothing is under way.
    fn send(&mut self, client: &mut Client, stream: u64) -> Result<(), Failure> {
        if self.under_way.is_none() && !self.waiting.is_empty() {
            let now = self.waiting.len().min(Op::MAX_INPUT);
            let data = Data(self.waiting.drain(..now).collect());
            self.under_way = Some(client.send(Op::Input { to: stream, data })?);
        }
        Ok(())
    }
}

//! The connection to the daemon.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use xeno_api::{Answer, Error, Event, Kind, Lines, Message, Op, Reply, Request, VERSION};

use crate::failure::Failure;

/// How long a daemon that is being restarted may take to listen again.
const RESTART: Duration = Duration::from_secs(5);

/// How long it may take to say hello. Machines under emulation are slow.
const HELLO: Duration = Duration::from_secs(30);

/// A connection on which both sides have said hello.
pub struct Client {
    socket: UnixStream,
    lines: Lines,
    next_id: u64,
    path: PathBuf,
}

/// News of a stream.
#[derive(Debug)]
pub enum News {
    /// An event.
    Event(Event),
    /// There is no more.
    End,
}

impl Client {
    /// Connects, and waits a little for a daemon that is just being restarted.
    ///
    /// # Errors
    /// When nobody listens or it speaks another version.
    pub fn connect(path: &Path) -> Result<Self, Failure> {
        Self::greet(path, |kind| kind == ErrorKind::ConnectionRefused)
    }

    /// Connects again, to a daemon that went away and may be back in a moment. What was under way is forgotten.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn reconnect(&mut self) -> Result<(), Failure> {
        *self = Self::greet(&self.path, |kind| {
            matches!(kind, ErrorKind::ConnectionRefused | ErrorKind::NotFound)
        })?;
        Ok(())
    }

    /// Connects and says hello; waits for what `passes` while a daemon starts.
    fn greet(path: &Path, passes: fn(ErrorKind) -> bool) -> Result<Self, Failure> {
        let socket = patiently(path, passes).map_err(|error| Failure::NoDaemon {
            socket: path.to_owned(),
            error,
        })?;
        let mut client = Self {
            socket,
            lines: Lines::default(),
            next_id: 0,
            path: path.to_owned(),
        };
        client.set_limit(Some(HELLO))?;
        let name = concat!("xeno ", env!("CARGO_PKG_VERSION")).to_owned();
        let hello = client.call(Op::Hello {
            version: VERSION,
            client: name,
        })?;
        client.set_limit(None)?;
        match hello {
            Answer::Hello {
                version: VERSION, ..
            } => Ok(client),
            Answer::Hello { version, daemon } => {
                let message = format!(
                    "{daemon} speaks version {version}, this command {VERSION}: install both from one build"
                );
                Err(Error::new(Kind::Version, message).into())
            }
            other => Err(unexpected(&other)),
        }
    }

    fn set_limit(&self, limit: Option<Duration>) -> Result<(), Failure> {
        let set = self.socket.set_read_timeout(limit);
        set.map_err(Failure::io("the socket's time limit cannot be set"))
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// What the daemon refuses, and all that can go wrong with it.
    pub fn call(&mut self, op: Op) -> Result<Answer, Failure> {
        let id = self.send(op)?;
        match self.about(id)? {
            Reply::Ok(answer) => Ok(answer),
            Reply::Error(error) => Err(error.into()),
            Reply::Event(_) | Reply::End(_) => {
                Err(Failure::Nonsense("news before an answer".to_owned()))
            }
        }
    }

    /// Asks without waiting; the request's id.
    ///
    /// # Errors
    /// When it is too long, or the daemon went away.
    pub fn send(&mut self, op: Op) -> Result<u64, Failure> {
        let id = self.next_id;
        self.next_id += 1;
        let line = Request { id, op }.encode()?;
        match self.socket.write_all(&line) {
            // Whoever hung up may have said why: that is found on reading.
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                return Err(Failure::Gone(error.to_string()));
            }
            _ => {}
        }
        Ok(id)
    }

    /// Opens a stream; its id and the answer.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn open(&mut self, op: Op) -> Result<(u64, Answer), Failure> {
        debug_assert!(op.opens_stream());
        let id = self.next_id;
        self.call(op).map(|answer| (id, answer))
    }

    /// Waits for news of a stream, the only thing under way.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn news(&mut self, stream: u64) -> Result<News, Failure> {
        match self.about(stream)? {
            Reply::Event(event) => Ok(News::Event(event)),
            Reply::End(_) => Ok(News::End),
            Reply::Error(error) => Err(error.into()),
            Reply::Ok(answer) => Err(unexpected(&answer)),
        }
    }

    /// The next message, which is about this request as nothing else is under way. An error without an id is about
    /// whatever was sent.
    fn about(&mut self, id: u64) -> Result<Reply, Failure> {
        let message = loop {
            if let Some(message) = self.buffered()? {
                break message;
            }
            self.fill()?;
        };
        if message.id == id || (message.id == 0 && matches!(message.reply, Reply::Error(_))) {
            return Ok(message.reply);
        }
        Err(Failure::Nonsense(format!(
            "it is about {}, which was not asked",
            message.id
        )))
    }

    /// A message that has arrived already.
    ///
    /// # Errors
    /// When it makes no sense.
    pub fn buffered(&mut self) -> Result<Option<Message>, Failure> {
        match self.lines.next_line() {
            Ok(Some(line)) => Message::decode(&line)
                .map(Some)
                .map_err(|bad| Failure::Nonsense(bad.to_string())),
            Ok(None) => Ok(None),
            Err(error) => Err(Failure::Nonsense(error.to_string())),
        }
    }

    /// Waits for bytes and takes them.
    ///
    /// # Errors
    /// When the daemon went away.
    pub fn fill(&mut self) -> Result<(), Failure> {
        let mut bytes = [0; 16 << 10];
        loop {
            match self.socket.read(&mut bytes) {
                Ok(0) => return Err(Failure::Gone("it closed the connection".to_owned())),
                Ok(n) => {
                    self.lines.push(&bytes[..n]);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    return Err(Failure::Gone(format!(
                        "it did not say hello within {} seconds",
                        HELLO.as_secs()
                    )));
                }
                Err(error) => return Err(Failure::Gone(error.to_string())),
            }
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// An answer to another question.
pub fn unexpected(answer: &Answer) -> Failure {
    Failure::Nonsense(format!("{answer:?} was not asked for"))
}

/// A daemon that was killed leaves its socket behind, where nobody listens until its successor does.
fn patiently(path: &Path, passes: fn(ErrorKind) -> bool) -> io::Result<UnixStream> {
    let deadline = Instant::now() + RESTART;
    loop {
        match UnixStream::connect(path) {
            Err(error) if passes(error.kind()) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(50));
            }
            other => return other,
        }
    }
}

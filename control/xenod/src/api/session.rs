//! One connection.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use xeno_api::{
    Answer, Data, End, EndReason, Error, Kind, Lines, Message, Op, Reply, Request, VERSION,
};

use super::{answers, streams};
use crate::daemon::Daemon;
use crate::guest::Guest;

/// Lines that may wait for a client to read them.
const UNREAD: usize = 32;
/// Requests of one client under way, with its open streams.
const UNDER_WAY: usize = 64;
/// Bytes read at a time.
const CHUNK: usize = 16 << 10;

/// An open stream.
pub struct Open {
    /// Ends its task.
    pub task: AbortHandle,
    /// The guest, if it is a console.
    pub console: Option<Rc<Guest>>,
}

/// A connection, as its requests see it.
pub struct Session {
    /// The daemon.
    pub daemon: Rc<Daemon>,
    /// Where lines for the client go; whoever sends waits until there is room.
    lines: mpsc::Sender<Vec<u8>>,
    /// The streams that are open, by their requests' numbers.
    pub open: RefCell<BTreeMap<u64, Open>>,
}

impl Session {
    /// Says something to the client. `false` when it is gone.
    pub async fn say(&self, id: u64, reply: Reply) -> bool {
        let line = Message { id, reply }.encode().or_else(|error| {
            Message {
                id,
                reply: Reply::Error(error),
            }
            .encode()
        });
        match line {
            Ok(line) => self.lines.send(line).await.is_ok(),
            Err(_) => false,
        }
    }

    /// Says the last of a stream.
    pub async fn end(&self, id: u64, why: EndReason) {
        if self.open.borrow_mut().remove(&id).is_some() {
            self.say(id, Reply::End(End { why })).await;
        }
    }
}

/// Serves a connection until its client closes it or says what cannot be understood.
pub async fn run(daemon: Rc<Daemon>, stream: UnixStream) {
    let (reading, writing) = stream.into_split();
    let (lines, unread) = mpsc::channel(UNREAD);
    let session = Rc::new(Session {
        daemon,
        lines,
        open: RefCell::default(),
    });
    let writer = tokio::task::spawn_local(write(writing, unread));
    listen(&session, reading).await;
    for (_, open) in std::mem::take(&mut *session.open.borrow_mut()) {
        open.task.abort();
    }
    // Requests under way hold the session, and so its lines, until they are done.
    drop(session);
    let _ended = writer.await;
}

async fn write(mut writing: OwnedWriteHalf, mut unread: mpsc::Receiver<Vec<u8>>) {
    while let Some(line) = unread.recv().await {
        if writing.write_all(&line).await.is_err() {
            return;
        }
    }
}

/// Reads requests and starts them.
async fn listen(session: &Rc<Session>, mut reading: OwnedReadHalf) {
    let under_way = std::sync::Arc::new(Semaphore::new(UNDER_WAY));
    let (mut input, mut chunk, mut greeted) = (Lines::default(), vec![0; CHUNK], false);
    loop {
        let read = tokio::select! {
            read = reading.read(&mut chunk) => read,
            () = session.lines.closed() => return,
        };
        let Ok(count @ 1..) = read else {
            return;
        };
        input.push(chunk.get(..count).unwrap_or_default());
        loop {
            let line = match input.next_line() {
                Ok(Some(line)) => line,
                Ok(None) => break,
                Err(error) => {
                    session.say(0, Reply::Error(error)).await;
                    return;
                }
            };
            let request = match Request::decode(&line) {
                Ok(request) => request,
                Err(bad) => {
                    let told = session
                        .say(bad.id.unwrap_or(0), Reply::Error(bad.error))
                        .await;
                    if told && greeted {
                        continue;
                    }
                    return;
                }
            };
            if !greeted {
                if !greet(session, &request).await {
                    return;
                }
                greeted = true;
                continue;
            }
            let Ok(permit) = std::sync::Arc::clone(&under_way).acquire_owned().await else {
                return;
            };
            let session = Rc::clone(session);
            tokio::task::spawn_local(async move {
                carry_out(&session, request).await;
                drop(permit);
            });
        }
    }
}

/// The first request. Whether the conversation goes on.
async fn greet(session: &Session, request: &Request) -> bool {
    let refused = match &request.op {
        Op::Hello { version, .. } if *version == VERSION => {
            let answer = Answer::Hello {
                version: VERSION,
                daemon: answers::daemon_version(),
            };
            return session.say(request.id, Reply::Ok(answer)).await;
        }
        Op::Hello { version, .. } => format!(
            "this daemon speaks version {VERSION} of the conversation, not {version}: \
             use the xeno that came with it"
        ),
        _ => "the first request must be `hello`".to_owned(),
    };
    let error = Error::new(Kind::Version, refused);
    session.say(request.id, Reply::Error(error)).await;
    false
}

async fn carry_out(session: &Rc<Session>, request: Request) {
    let Request { id, op } = request;
    if op.opens_stream() {
        if session.open.borrow().contains_key(&id) {
            let what = format!("the number {id} is a stream that is open: use another");
            let error = Error::new(Kind::BadRequest, what);
            session.say(id, Reply::Error(error)).await;
            return;
        }
        streams::open(session, id, op).await;
        return;
    }
    let outcome = match op {
        Op::Input { to, data } => type_in(session, to, data).await,
        Op::Cancel { of } => return cancel(session, id, of).await,
        op => answers::answer(&session.daemon, op).await,
    };
    let reply = match outcome {
        Ok(answer) => Reply::Ok(answer),
        Err(error) => Reply::Error(error),
    };
    session.say(id, reply).await;
}

fn no_stream(id: u64) -> Error {
    Error::new(Kind::NotFound, format!("there is no open stream {id}"))
}

async fn cancel(session: &Session, id: u64, of: u64) {
    let open = session.open.borrow_mut().remove(&of);
    let Some(open) = open else {
        session.say(id, Reply::Error(no_stream(of))).await;
        return;
    };
    open.task.abort();
    session.say(id, Reply::Ok(Answer::Done {})).await;
    let why = EndReason::Cancelled;
    session.say(of, Reply::End(End { why })).await;
}

/// Types into a console that this client watches; done when the guest has room for all of it.
async fn type_in(session: &Session, to: u64, data: Data) -> Result<Answer, Error> {
    let mut rest = data.0.as_slice();
    loop {
        let console = session
            .open
            .borrow()
            .get(&to)
            .and_then(|open| open.console.clone());
        let guest = console.ok_or_else(|| no_stream(to))?;
        let taken = guest.console.borrow_mut().type_in(rest);
        session.daemon.serve_console(&guest);
        rest = rest.get(taken..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(Answer::Done {});
        }
        // Until the guest reads. Its console's port speaks then too, but so seldom is this needed that looking is
        // cheaper than being told.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

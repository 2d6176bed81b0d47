//! A daemon that answers as the test says.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use xeno_api::{Answer, Lines, Message, Op, Reply, Request, VERSION};

/// What a test does with a request; `None` closes the connection.
pub type Handler = dyn FnMut(&Op) -> Option<Vec<Reply>> + Send;

/// Listens until the test ends.
pub struct Daemon {
    dir: TempDir,
    /// Everything that was asked, but the greetings.
    pub asked: Arc<Mutex<Vec<Op>>>,
}

impl Daemon {
    /// Answers with what `handler` says. The replies to one request all carry its id, except those to an input or a
    /// cancel: their first is theirs and the others are about the request before them.
    pub fn start(handler: impl FnMut(&Op) -> Option<Vec<Reply>> + Send + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("socket")).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let handler: Arc<Mutex<Box<Handler>>> = Arc::new(Mutex::new(Box::new(handler)));
        let noted = Arc::clone(&asked);
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let (handler, noted) = (Arc::clone(&handler), Arc::clone(&noted));
                std::thread::spawn(move || serve(socket.unwrap(), &handler, &noted));
            }
        });
        Self { dir, asked }
    }

    /// Gives the same answer to everything.
    pub fn answering(reply: Reply) -> Self {
        Self::start(move |_| Some(vec![reply.clone()]))
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// The command, ready to be started.
    pub fn xeno(&self, arguments: &[&str]) -> Command {
        let mut command = xeno(arguments);
        command.env("XENO_SOCKET", self.socket());
        command
    }

    /// Runs the command.
    pub fn run(&self, arguments: &[&str]) -> Run {
        Run::of(&mut self.xeno(arguments))
    }
}

/// The command without a daemon.
pub fn xeno(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xeno"));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .env_remove("XENO_SOCKET")
        .env("COLUMNS", "100");
    command
}

/// What a command did.
pub struct Run {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Run {
    pub fn of(command: &mut Command) -> Self {
        let Output {
            status,
            stdout,
            stderr,
        } = command.output().unwrap();
        Self {
            code: status.code().unwrap_or(-1),
            out: String::from_utf8(stdout).unwrap(),
            err: String::from_utf8(stderr).unwrap(),
        }
    }
}

fn serve(mut socket: UnixStream, handler: &Mutex<Box<Handler>>, asked: &Mutex<Vec<Op>>) {
    let mut lines = Lines::default();
    let mut bytes = [0; 4096];
    let mut stream = 0;
    loop {
        while let Some(line) = lines.next_line().unwrap() {
            let request = Request::decode(&line).unwrap();
            let replies = if let Op::Hello { .. } = request.op {
                Some(vec![Reply::Ok(Answer::Hello {
                    version: VERSION,
                    daemon: "fake".to_owned(),
                })])
            } else {
                asked.lock().unwrap().push(request.op.clone());
                handler.lock().unwrap()(&request.op)
            };
            let Some(replies) = replies else { return };
            let aside = matches!(request.op, Op::Input { .. } | Op::Cancel { .. });
            if request.op.opens_stream() {
                stream = request.id;
            }
            for (place, reply) in replies.into_iter().enumerate() {
                let id = if aside && place > 0 {
                    stream
                } else {
                    request.id
                };
                let line = Message { id, reply }.encode().unwrap();
                if socket.write_all(&line).is_err() {
                    return;
                }
            }
        }
        match socket.read(&mut bytes) {
            Ok(0) | Err(_) => return,
            Ok(n) => lines.push(&bytes[..n]),
        }
    }
}

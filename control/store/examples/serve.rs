//! Serves the store on a Unix socket, for trying tools against it:
//!
//! ```text
//! cargo run -p store --example serve -- RUNDIR
//! XENSTORED_RUNDIR=RUNDIR xenstore-ls -f
//! ```
//!
//! The socket is `RUNDIR/socket`, the journal `RUNDIR/journal`. A domain that is introduced has its ring in the file
//! `RUNDIR/ring.<domid>`; in place of event channels, all rings are looked at whenever a socket says something.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use store::{ClientId, DomId, Errno, Fed, Limits, Machine, Page, Pumped, Service};

/// A ring's page that is a file: its other side maps it.
struct FilePage(File);

impl Page for FilePage {
    fn load(&self, offset: usize) -> u32 {
        let mut word = [0; 4];
        self.read(offset, &mut word);
        u32::from_le_bytes(word)
    }

    fn store(&mut self, offset: usize, value: u32) {
        self.write(offset, &value.to_le_bytes());
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        self.0
            .read_exact_at(into, offset as u64)
            .expect("a ring's file has a page");
    }

    fn write(&mut self, offset: usize, from: &[u8]) {
        self.0
            .write_all_at(from, offset as u64)
            .expect("a ring's file can be written");
    }
}

struct Files(PathBuf);

impl Machine for Files {
    type Page = FilePage;

    fn map(&mut self, domid: DomId, _gfn: u64, _port: u32) -> Result<FilePage, Errno> {
        let path = self.0.join(format!("ring.{domid}"));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|_| Errno::Einval)?;
        if file.metadata().map_err(|_| Errno::Eio)?.len() < 4096 {
            return Err(Errno::Einval);
        }
        Ok(FilePage(file))
    }

    fn unmap(&mut self, _domid: DomId) {}

    fn notify(&mut self, _domid: DomId) {}

    fn log(&mut self, line: &str) {
        eprintln!("{line}");
    }
}

enum News {
    Connected(UnixStream),
    Said(ClientId, Vec<u8>),
    Written(ClientId),
    Closed(ClientId),
}

struct Socket {
    input: Vec<u8>,
    output: Sender<Vec<u8>>,
    /// Whether the writer has bytes it has not told of.
    writing: bool,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = PathBuf::from(std::env::args().nth(1).ok_or("usage: serve RUNDIR")?);
    let (service, recovery) = Service::start(
        Limits::default(),
        Some(&directory.join("journal")),
        Files(directory.clone()),
    )?;
    eprintln!("{recovery:?}");
    let (tell, news) = channel();
    listen(&directory, tell.clone())?;
    serve(service, &tell, &news)
}

fn listen(directory: &Path, tell: Sender<News>) -> std::io::Result<()> {
    let path = directory.join("socket");
    let _there_was_none = std::fs::remove_file(&path);
    let listener = UnixListener::bind(path)?;
    thread::spawn(move || {
        listener
            .incoming()
            .flatten()
            .try_for_each(|stream| tell.send(News::Connected(stream)))
    });
    Ok(())
}

fn serve(
    mut service: Service<Files>,
    tell: &Sender<News>,
    news: &Receiver<News>,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut sockets: BTreeMap<ClientId, Socket> = BTreeMap::new();
    for item in news {
        match item {
            News::Connected(stream) => {
                let client = service.connect();
                sockets.insert(
                    client,
                    Socket {
                        input: Vec::new(),
                        output: attend(client, stream, tell)?,
                        writing: false,
                    },
                );
            }
            News::Said(client, bytes) => {
                if let Some(socket) = sockets.get_mut(&client) {
                    socket.input.extend_from_slice(&bytes);
                }
            }
            News::Written(client) => {
                if let Some(socket) = sockets.get_mut(&client) {
                    socket.writing = false;
                }
            }
            News::Closed(client) => {
                service.disconnect(client);
                sockets.remove(&client);
            }
        }
        turn(&mut service, &mut sockets)?;
    }
    Ok(())
}

/// Lets every client have its turn until none has anything left to do.
fn turn(
    service: &mut Service<Files>,
    sockets: &mut BTreeMap<ClientId, Socket>,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut broken = Vec::new();
    for (client, socket) in sockets.iter_mut() {
        while !socket.input.is_empty() {
            match service.feed(*client, &mut socket.input, 8)? {
                Ok(Fed::More) => {}
                Ok(Fed::All | Fed::Unread) => break,
                Err(error) => {
                    eprintln!("{client:?}: {error}: closed");
                    broken.push(*client);
                    break;
                }
            }
        }
    }
    for (domid, _, _) in service.store().introduced() {
        while service.pump(domid, 8)? == Pumped::More {}
    }
    for client in broken {
        service.disconnect(client);
        sockets.remove(&client);
    }
    for (client, socket) in sockets {
        if !socket.writing {
            let bytes = service.take_output(*client, 16 << 10);
            socket.writing = !bytes.is_empty() && socket.output.send(bytes).is_ok();
        }
    }
    Ok(())
}

/// Reads and writes one socket on threads of its own.
fn attend(
    client: ClientId,
    stream: UnixStream,
    tell: &Sender<News>,
) -> std::io::Result<Sender<Vec<u8>>> {
    let (output, chunks) = channel::<Vec<u8>>();
    let (mut reading, mut writing) = (stream.try_clone()?, stream);
    let (tell_said, tell_written) = (tell.clone(), tell.clone());
    thread::spawn(move || {
        let mut buffer = [0; 16 << 10];
        while let Ok(count @ 1..) = reading.read(&mut buffer) {
            if tell_said
                .send(News::Said(client, buffer[..count].to_vec()))
                .is_err()
            {
                return;
            }
        }
        let _main_ended = tell_said.send(News::Closed(client));
    });
    thread::spawn(move || {
        for chunk in chunks {
            if writing.write_all(&chunk).is_err()
                || tell_written.send(News::Written(client)).is_err()
            {
                break;
            }
        }
        // Ends the reading thread too.
        let _closed_already = writing.shutdown(std::net::Shutdown::Both);
    });
    Ok(output)
}

//! The socket on which the daemon is commanded.
//!
//! # Invariants
//! - P1: a connection costs a bounded amount of memory whatever its client does: a line's worth of what it sent, so
//!   many requests under way, so many lines that it has not read.
//! - P2: what a client does or leaves undone concerns nobody else: each connection has tasks of its own, and a request
//!   that was begun is finished whether or not its client is still there.

mod answers;
mod session;
mod streams;

use std::cell::Cell;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::rc::Rc;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;
use xeno_api::{Error, Kind, Message, Reply};

use crate::daemon::{Daemon, Fatal};
use crate::log;

/// Connections at one time.
const CONNECTIONS: usize = 128;

/// Makes a socket at `path` for the superuser alone; what an earlier process left there makes way.
///
/// # Errors
/// When it cannot be made.
pub fn listen(path: &Path) -> Result<UnixListener, Fatal> {
    let failed = |source| Fatal::Socket {
        path: path.to_owned(),
        source,
    };
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(failed)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    let permissions = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, permissions).map_err(failed)?;
    Ok(listener)
}

/// Serves the socket, for ever.
pub async fn serve(daemon: Rc<Daemon>, listener: UnixListener) {
    let open = Rc::new(Cell::new(0));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, for one: some are given back in time.
                log::line(format!("a connection cannot be taken: {error}"));
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let (daemon, open) = (Rc::clone(&daemon), Rc::clone(&open));
        tokio::task::spawn_local(async move {
            let mut stream = stream;
            if open.get() >= CONNECTIONS {
                let what = format!("{CONNECTIONS} connections are open already: close some");
                let reply = Reply::Error(Error::new(Kind::Busy, what));
                if let Ok(line) = (Message { id: 0, reply }).encode() {
                    let _went_away = stream.write_all(&line).await;
                }
                return;
            }
            open.set(open.get() + 1);
            session::run(daemon, stream).await;
            open.set(open.get() - 1);
        });
    }
}

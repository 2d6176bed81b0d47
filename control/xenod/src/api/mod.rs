//! The socket on which the daemon is commanded.
//!
//! # Invariants
//! - P1: a connection costs a bounded amount of memory whatever its client does: a line's worth of what it sent, so
//!   many requests under way, so many lines that it has not read.
//! - P2: what a client does or leaves undone concerns nobody else: each connection has tasks of its own, and a request
//!   that was begun is finished whether or not its client is still there.

pub(crate) mod answers;
mod session;
mod streams;
mod used;

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

/// Makes a socket at `path` for the superuser alone; it takes the place of what an earlier process left there in one
/// step, so that whoever connects meanwhile finds a socket and waits, rather than nothing.
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
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&fresh).map_err(failed)?;
    let permissions = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&fresh, permissions).map_err(failed)?;
    std::fs::rename(&fresh, path).map_err(failed)?;
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

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test]
    async fn there_is_a_socket_all_the_while_another_takes_its_place() {
        let path = std::env::temp_dir().join(format!("xenod-listen-{}", std::process::id()));
        let mut held = Some(listen(&path).unwrap());
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let client = scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    if let Err(error) = UnixStream::connect(&path) {
                        assert_ne!(error.kind(), ErrorKind::NotFound);
                    }
                }
            });
            for _ in 0..20_000 {
                drop(held.take());
                held = Some(listen(&path).unwrap());
            }
            done.store(true, Ordering::Relaxed);
            client.join().unwrap();
        });
        std::fs::remove_file(&path).unwrap();
    }
}

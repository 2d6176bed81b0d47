//! The store's socket, for tools: one client a connection.

use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;

use crate::daemon::Daemon;
use crate::log;
use crate::store_client::Client;

/// Bytes read, and written, at a time.
const CHUNK: usize = 16 << 10;
/// Bytes of requests that may wait.
const INPUT: usize = 64 << 10;

/// Serves the socket, for ever.
pub async fn serve(daemon: Rc<Daemon>, listener: UnixListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let client = Client::new(&daemon.store);
                tokio::task::spawn_local(attend(client, stream));
            }
            Err(error) => {
                log::line(format!(
                    "a connection to the store cannot be taken: {error}"
                ));
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn attend(client: Client, stream: UnixStream) {
    let (reading, writing) = stream.into_split();
    // Told when the client has read something: it may be let ask more then.
    let read = Notify::new();
    tokio::select! {
        () = take_requests(&client, reading, &read) => {}
        () = give_answers(&client, writing, &read) => {}
    }
}

async fn take_requests(client: &Client, mut reading: OwnedReadHalf, read: &Notify) {
    let (mut input, mut chunk) = (Vec::new(), vec![0; CHUNK]);
    loop {
        let before = input.len();
        match client.feed(&mut input) {
            Ok(true) => {
                tokio::task::yield_now().await;
                continue;
            }
            Ok(false) => {}
            Err(error) => return log::line(format!("a client of the store: {error}")),
        }
        // A whole message still there waits for its client to read answers; a part of one for the rest.
        tokio::select! {
            count = reading.read(&mut chunk), if input.len() < INPUT => match count {
                Ok(count @ 1..) => input.extend_from_slice(chunk.get(..count).unwrap_or_default()),
                _ => return,
            },
            () = read.notified(), if before > 0 => {}
        }
    }
}

async fn give_answers(client: &Client, mut writing: OwnedWriteHalf, read: &Notify) {
    loop {
        let bytes = client.take(CHUNK).await;
        if writing.write_all(&bytes).await.is_err() {
            return;
        }
        read.notify_one();
    }
}

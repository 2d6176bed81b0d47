//! A client of the API's socket.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;
use xeno_api::{Answer, Error, Lines, Message, Op, Reply, Request, VERSION};

use super::world::World;

/// A client.
pub struct Client {
    pub stream: UnixStream,
    input: Lines,
    next: u64,
}

impl Client {
    /// Connects, and says hello.
    pub async fn new(world: &World) -> Self {
        let mut client = Self::silent(world).await;
        let hello = Op::Hello {
            version: VERSION,
            client: "a test".to_owned(),
        };
        assert!(matches!(client.ask(hello).await, Ok(Answer::Hello { .. })));
        client
    }

    pub async fn silent(world: &World) -> Self {
        let stream = UnixStream::connect(world.dir.join("api")).await.unwrap();
        Self {
            stream,
            input: Lines::default(),
            next: 0,
        }
    }

    pub async fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Sends a request; answers its number.
    pub async fn send(&mut self, op: Op) -> u64 {
        self.next += 1;
        let line = Request { id: self.next, op }.encode().unwrap();
        self.say(&line).await;
        self.next
    }

    /// The next message; `None` when the daemon has closed the connection.
    pub async fn hear(&mut self) -> Option<Message> {
        let patience = Duration::from_secs(10);
        timeout(patience, async {
            loop {
                if let Some(line) = self.input.next_line().unwrap() {
                    return Some(Message::decode(&line).unwrap());
                }
                let mut bytes = vec![0; 4096];
                match self.stream.read(&mut bytes).await {
                    Ok(count @ 1..) => self.input.push(&bytes[..count]),
                    _ => return None,
                }
            }
        })
        .await
        .expect("the daemon says something, or closes")
    }

    pub async fn ask(&mut self, op: Op) -> Result<Answer, Error> {
        let id = self.send(op).await;
        match self.hear().await.expect("an answer") {
            Message {
                id: answered,
                reply: Reply::Ok(answer),
            } if answered == id => Ok(answer),
            Message {
                reply: Reply::Error(error),
                ..
            } => Err(error),
            other => panic!("{other:?}"),
        }
    }
}

//! The other side: a domain's kernel at its ring, and what messages look like to it.

use guest_abi::xenstore::XsdMessage as Op;
use store::wire::message;
use store::{DomId, Pumped};

use crate::harness::{Answer, Memory, World, set_word, word};

pub const REQ_CONS: usize = 2048;
pub const REQ_PROD: usize = 2052;
pub const RSP_CONS: usize = 2056;
pub const RSP_PROD: usize = 2060;
pub const FEATURES: usize = 2064;
pub const CONNECTION: usize = 2068;
pub const ERROR: usize = 2072;

#[derive(Debug)]
pub struct Message {
    pub kind: u32,
    pub req_id: u32,
    pub tx_id: u32,
    pub payload: Vec<u8>,
}

impl Message {
    pub fn outcome(&self, op: Op) -> Answer {
        if self.kind == Op::Error.number() {
            return Err(strings(&self.payload).remove(0));
        }
        assert_eq!(self.kind, op.number());
        Ok(self.payload.clone())
    }
}

/// The whole messages at the front, taken out.
pub fn split(bytes: &mut Vec<u8>) -> Vec<Message> {
    let mut messages = Vec::new();
    while bytes.len() >= 16 {
        let field = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let end = 16 + field(12) as usize;
        if bytes.len() < end {
            break;
        }
        let payload = bytes[16..end].to_vec();
        messages.push(Message {
            kind: field(0),
            req_id: field(4),
            tx_id: field(8),
            payload,
        });
        bytes.drain(..end);
    }
    messages
}

pub fn strings(payload: &[u8]) -> Vec<String> {
    let mut parts: Vec<String> = payload
        .split(|byte| *byte == 0)
        .map(|part| String::from_utf8(part.to_vec()).unwrap())
        .collect();
    parts.pop();
    parts
}

pub fn ok() -> Answer {
    Ok(b"OK\0".to_vec())
}

pub fn error(name: &str) -> Answer {
    Err(name.to_owned())
}

/// A domain's kernel: the other side of a ring.
pub struct Guest {
    pub domid: DomId,
    pub memory: Memory,
    pub next_request: u32,
    pub inbox: Vec<u8>,
    pub events: Vec<(String, String)>,
}

impl Guest {
    /// Writes as much as there is room for; answers how much that was.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let prod = word(&self.memory, REQ_PROD);
        let room = 1024 - prod.wrapping_sub(word(&self.memory, REQ_CONS)) as usize;
        let bytes = &bytes[..bytes.len().min(room)];
        for (at, byte) in bytes.iter().enumerate() {
            self.memory.borrow_mut()[prod.wrapping_add(at as u32) as usize % 1024] = *byte;
        }
        set_word(
            &self.memory,
            REQ_PROD,
            prod.wrapping_add(bytes.len() as u32),
        );
        bytes.len()
    }

    /// Reads all there is; answers how much that was.
    pub fn read(&mut self) -> usize {
        let (cons, prod) = (word(&self.memory, RSP_CONS), word(&self.memory, RSP_PROD));
        let count = prod.wrapping_sub(cons);
        for at in 0..count {
            let byte = self.memory.borrow()[1024 + cons.wrapping_add(at) as usize % 1024];
            self.inbox.push(byte);
        }
        set_word(&self.memory, RSP_CONS, prod);
        count as usize
    }

    /// Sends a request and reads until its answer is there. Events on the way are kept.
    pub fn ask(&mut self, world: &mut World, op: Op, payload: &[u8]) -> Answer {
        self.ask_in(world, op, 0, payload)
    }

    pub fn ask_in(&mut self, world: &mut World, op: Op, tx: u32, payload: &[u8]) -> Answer {
        self.next_request += 1;
        let bytes = message(op.number(), self.next_request, tx, payload);
        let mut sent = 0;
        for _ in 0..1_000 {
            sent += self.write(&bytes[sent..]);
            assert!(
                !matches!(
                    world.service.pump(self.domid, 4).unwrap(),
                    Pumped::Faulty(_)
                ),
                "the ring is dead"
            );
            self.read();
            if let Some(answer) = self.answers().pop() {
                assert_eq!((answer.req_id, answer.tx_id), (self.next_request, tx));
                return answer.outcome(op);
            }
        }
        panic!("no answer to {op:?}");
    }

    /// The answers that came; events are put aside.
    pub fn answers(&mut self) -> Vec<Message> {
        let mut answers = Vec::new();
        for message in split(&mut self.inbox) {
            if message.kind == Op::WatchEvent.number() {
                assert_eq!((message.req_id, message.tx_id), (0, 0));
                let parts = strings(&message.payload);
                self.events.push((parts[0].clone(), parts[1].clone()));
            } else {
                answers.push(message);
            }
        }
        answers
    }

    /// All events since the last call.
    pub fn events(&mut self, world: &mut World) -> Vec<(String, String)> {
        loop {
            world.service.pump(self.domid, 4).unwrap();
            if self.read() == 0 {
                break;
            }
        }
        assert!(self.answers().is_empty(), "an answer to nothing");
        std::mem::take(&mut self.events)
    }

    /// Begins a transaction.
    pub fn begin(&mut self, world: &mut World) -> u32 {
        strings(&self.ask(world, Op::TransactionStart, b"\0").unwrap())
            .remove(0)
            .parse()
            .unwrap()
    }
}

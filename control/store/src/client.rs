//! Clients: who is connected, and the messages that wait for them.
//!
//! # Invariants
//! - C1: a client that does not read costs a bounded amount: its requests wait where they are when
//!   `outstanding` answers wait for it, and events beyond its share are folded into one per watch.
//! - C2: no event is lost: each change a watch matches is followed by an event of that watch, with the change's
//!   path or, where events were folded, with the watch's own.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

use crate::DomId;
use crate::perms::Caller;
use crate::transaction::Transaction;

/// Events that may wait for one client before further ones are folded.
const EVENTS_MAX: usize = 1_024;
/// Bytes of events that may wait for one client before further ones are folded.
const EVENT_BYTES_MAX: usize = 256 << 10;

/// A connection. A domain has one, which outlives the process; a socket's ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClientId {
    /// The ring of this domain.
    Domain(DomId),
    /// A socket, by a number that is not used again.
    Socket(u64),
}

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    pub caller: Caller,
    pub queue: Queue,
    pub transactions: BTreeMap<u32, Transaction>,
    pub last_transaction: u32,
    pub watches: u32,
    /// Bytes its watches take.
    pub watch_bytes: usize,
}

impl Client {
    pub fn new(caller: Caller) -> Self {
        Self {
            caller,
            queue: Queue::default(),
            transactions: BTreeMap::new(),
            last_transaction: 0,
            watches: 0,
            watch_bytes: 0,
        }
    }

    /// Bytes it takes beside its nodes.
    pub fn bytes(&self) -> usize {
        let transactions: usize = self.transactions.values().map(Transaction::bytes).sum();
        self.watch_bytes + transactions + self.queue.bytes
    }

    /// A number no open transaction of this client has.
    pub fn fresh_transaction(&mut self) -> u32 {
        loop {
            self.last_transaction = self.last_transaction.wrapping_add(1);
            if self.last_transaction != 0 && !self.transactions.contains_key(&self.last_transaction)
            {
                return self.last_transaction;
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    Answer(Arc<[u8]>),
    Event(Arc<[u8]>),
}

impl Waiting {
    pub fn bytes(&self) -> &Arc<[u8]> {
        match self {
            Self::Answer(bytes) | Self::Event(bytes) => bytes,
        }
    }
}

/// What became of an event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Queued {
    /// It waits.
    Yes,
    /// One like it waits already, and no byte of that is sent.
    Already,
    /// It was folded into this one.
    Folded(Arc<[u8]>),
}

/// Messages on their way to a client, in order.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: VecDeque<Waiting>,
    /// Bytes of the first that are sent.
    sent: usize,
    /// Bytes of all.
    bytes: usize,
    answers: usize,
    /// The events of which no byte is sent.
    fresh: HashSet<Arc<[u8]>>,
    event_bytes: usize,
    /// Events that stand for others, to be queued when there is room.
    folded: BTreeSet<Arc<[u8]>>,
}

impl Queue {
    /// How many answers wait.
    pub fn answers(&self) -> usize {
        self.answers
    }

    pub fn answer(&mut self, message: Arc<[u8]>) {
        self.push(Waiting::Answer(message));
    }

    /// Queues an event; `whole` is the one about the watch's own path, used when there are too many.
    pub fn event(&mut self, message: Vec<u8>, whole: impl FnOnce() -> Option<Vec<u8>>) -> Queued {
        if self.fresh.contains(message.as_slice()) {
            return Queued::Already;
        }
        if self.fresh.len() < EVENTS_MAX && self.event_bytes + message.len() <= EVENT_BYTES_MAX {
            self.push(Waiting::Event(Arc::from(message)));
            return Queued::Yes;
        }
        match whole() {
            None => Queued::Already,
            Some(whole) if self.folded.contains(whole.as_slice()) => Queued::Already,
            Some(whole) => {
                let whole: Arc<[u8]> = Arc::from(whole);
                self.fold(Arc::clone(&whole));
                Queued::Folded(whole)
            }
        }
    }

    pub fn fold(&mut self, whole: Arc<[u8]>) {
        self.bytes += whole.len();
        self.folded.insert(whole);
    }

    pub fn push(&mut self, waiting: Waiting) {
        self.bytes += waiting.bytes().len();
        self.answers += usize::from(matches!(waiting, Waiting::Answer(_)));
        if let Waiting::Event(event) = &waiting {
            self.event_bytes += event.len();
            self.fresh.insert(Arc::clone(event));
            if self.folded.remove(event) {
                self.bytes -= event.len();
            }
        }
        self.waiting.push_back(waiting);
    }

    /// Up to `most` bytes from the front, over message borders.
    pub fn peek(&self, most: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut skip = self.sent;
        for waiting in &self.waiting {
            let part = waiting.bytes().get(skip..).unwrap_or(&[]);
            let part = part.get(..most - bytes.len()).unwrap_or(part);
            bytes.extend_from_slice(part);
            skip = 0;
            if bytes.len() == most {
                break;
            }
        }
        bytes
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.waiting
            .iter()
            .map(|waiting| waiting.bytes().len())
            .sum::<usize>()
            .saturating_sub(self.sent)
    }

    /// Notes that `count` bytes from the front are sent.
    pub fn advance(&mut self, count: usize) {
        self.sent += count;
        while let Some(first) = self.waiting.front() {
            if self.sent > 0
                && let Waiting::Event(event) = first
                && self.fresh.remove(event)
            {
                self.event_bytes -= event.len();
            }
            let length = first.bytes().len();
            if self.sent < length {
                return;
            }
            self.sent -= length;
            self.bytes -= length;
            self.answers -= usize::from(matches!(first, Waiting::Answer(_)));
            self.waiting.pop_front();
        }
        self.sent = 0;
    }

    /// Folded events, if there is room for all of them again.
    pub fn take_folded(&mut self) -> Vec<Arc<[u8]>> {
        if self.folded.is_empty()
            || self.fresh.len() > EVENTS_MAX / 2
            || self.event_bytes > EVENT_BYTES_MAX / 2
        {
            return Vec::new();
        }
        std::mem::take(&mut self.folded)
            .into_iter()
            .inspect(|event| self.bytes -= event.len())
            .collect()
    }

    /// What waits and what is folded, and how many bytes of the first are sent: for a snapshot.
    pub fn contents(
        &self,
    ) -> (
        impl Iterator<Item = &Waiting>,
        impl Iterator<Item = &Arc<[u8]>>,
        usize,
    ) {
        (self.waiting.iter(), self.folded.iter(), self.sent)
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue_event(queue: &mut Queue, number: usize) -> Queued {
        queue.event(format!("event {number:5}").into_bytes(), || {
            Some(b"all".to_vec())
        })
    }

    #[test]
    fn an_event_like_one_that_waits_is_not_queued_again_until_its_first_byte_is_sent() {
        let mut queue = Queue::default();
        assert_eq!(queue_event(&mut queue, 1), Queued::Yes);
        assert_eq!(queue_event(&mut queue, 1), Queued::Already);
        queue.advance(1);
        assert_eq!(queue_event(&mut queue, 1), Queued::Yes);
        assert_eq!(queue.len(), 21);
    }

    #[test]
    fn a_queue_that_nobody_reads_stays_bounded_and_loses_no_watch() {
        let mut queue = Queue::default();
        let queued = (0..100_000)
            .filter(|number| queue_event(&mut queue, *number) == Queued::Yes)
            .count();
        assert_eq!(queued, EVENTS_MAX);
        assert!(queue.take_folded().is_empty(), "no room yet");
        let most = queue.len();
        queue.advance(most);
        assert_eq!(queue.take_folded(), [Arc::from(*b"all")]);
        assert!(queue.take_folded().is_empty());
        assert_eq!((queue.bytes, queue.event_bytes), (0, 0));
    }

    #[test]
    fn bytes_come_out_in_order_whatever_the_pieces() {
        let mut queue = Queue::default();
        queue.answer(Arc::from(*b"first"));
        assert_eq!(queue_event(&mut queue, 2), Queued::Yes);
        queue.answer(Arc::from(*b"third"));
        let mut got = Vec::new();
        while queue.len() > 0 {
            let part = queue.peek(3);
            got.extend_from_slice(&part);
            queue.advance(part.len());
        }
        assert_eq!(got, b"firstevent     2third");
        assert_eq!((queue.answers(), queue.bytes, queue.event_bytes), (0, 0, 0));
    }
}

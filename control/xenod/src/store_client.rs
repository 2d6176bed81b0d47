//! Clients of the store on this side: sockets, and those who watch.

use std::cell::RefCell;
use std::rc::Rc;

use guest_abi::xenstore::XsdMessage;
use store::wire::Request;
use store::{ClientId, Errno, Fed};
use tokio::sync::Notify;

use crate::store_host::{BUDGET, Refused, StoreHost, string};

/// A client of the store on this side: a socket, or somebody who watches.
pub struct Client {
    host: Rc<RefCell<StoreHost>>,
    id: ClientId,
    woken: Rc<Notify>,
    unread: Vec<u8>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.host.borrow_mut().disconnect(self.id);
    }
}

impl Client {
    /// A new one.
    pub fn new(host: &Rc<RefCell<StoreHost>>) -> Self {
        let woken = Rc::new(Notify::new());
        let id = host.borrow_mut().connect(Rc::clone(&woken));
        Self {
            host: Rc::clone(host),
            id,
            woken,
            unread: Vec::new(),
        }
    }

    /// Carries out whole messages of `input` and takes them out of it: `true` when there may be more to carry out,
    /// `false` when there is not, or the client has to read first.
    ///
    /// # Errors
    /// When its stream cannot be followed, or the store is at its end.
    pub fn feed(&self, input: &mut Vec<u8>) -> Result<bool, Refused> {
        let fed = self
            .host
            .borrow_mut()
            .act(|service| service.feed(self.id, input, BUDGET))?;
        match fed {
            Ok(Fed::More) => Ok(true),
            Ok(Fed::All | Fed::Unread) => Ok(false),
            Err(error) => Err(Refused(error.to_string())),
        }
    }

    /// Waits until there is something to read, and takes at most `most` bytes of it. They count as read.
    pub async fn take(&self, most: usize) -> Vec<u8> {
        loop {
            let bytes = self.host.borrow_mut().take_output(self.id, most);
            if !bytes.is_empty() {
                return bytes;
            }
            self.woken.notified().await;
        }
    }

    /// Watches a path. Its events come by [`Client::next_event`], the first at once.
    ///
    /// # Errors
    /// What the store says.
    pub fn watch(&mut self, path: &str) -> Result<(), Errno> {
        let request = Request {
            kind: XsdMessage::Watch.number(),
            req_id: 0,
            tx_id: 0,
            payload: [string(path), string("")].concat(),
        };
        let mut host = self.host.borrow_mut();
        host.act(|service| service.request(self.id, &request))
            .map_err(|_| Errno::Eio)?;
        let bytes = host.take_output(self.id, usize::MAX);
        drop(host);
        let mut refused = None;
        self.unread.extend(bytes);
        // The answer is somewhere among the events.
        let mut rest = Vec::new();
        while let Ok(Some((message, used))) = Request::take_from(&self.unread) {
            let bytes: Vec<u8> = self.unread.drain(..used).collect();
            if message.kind == XsdMessage::Error.number() {
                let name = message.payload.strip_suffix(&[0]).unwrap_or_default();
                refused = Some(Errno::of_name(name).unwrap_or(Errno::Eio));
            } else if message.kind == XsdMessage::WatchEvent.number() {
                rest.extend(bytes);
            }
        }
        self.unread = rest;
        refused.map_or(Ok(()), Err)
    }

    /// The path of the next event.
    pub async fn next_event(&mut self) -> String {
        loop {
            if let Ok(Some((message, used))) = Request::take_from(&self.unread) {
                self.unread.drain(..used);
                let path = message
                    .payload
                    .split(|byte| *byte == 0)
                    .next()
                    .unwrap_or_default();
                return String::from_utf8_lossy(path).into_owned();
            }
            let bytes = self.take(16 << 10).await;
            self.unread.extend(bytes);
        }
    }
}

//! Events: which watches a change fires, and what their clients are told.
//!
//! A client hears of a node if it may see the node or the one above it, before the change or after it: so it hears
//! of a removal too, and of the change that shuts it out.

use std::sync::Arc;

use crate::client::Queued;
use crate::perms::{Caller, Need};
use crate::record::Record;
use crate::store::Store;
use crate::tree::Tree;
use crate::watch::Watch;
use crate::wire::{self, PAYLOAD_MAX};
use crate::{ClientId, DomId, Path};

/// One event on its way to one client's queue.
#[derive(Debug)]
pub(crate) struct Event {
    client: ClientId,
    message: Vec<u8>,
    /// The watch's own path and its token: what is told where there are too many events.
    whole: (Arc<[u8]>, Arc<[u8]>),
}

/// The events that are about domains, not nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Special {
    /// A domain was introduced.
    Introduce,
    /// A domain shut down, crashed, or was released.
    Release,
}

impl Special {
    /// The event that a path names.
    pub fn of_name(name: &str) -> Option<Self> {
        match name {
            "@introduceDomain" => Some(Self::Introduce),
            "@releaseDomain" => Some(Self::Release),
            _ => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Introduce => "@introduceDomain",
            Self::Release => "@releaseDomain",
        }
    }
}

impl Store {
    /// Fires the watches that a change of `path` concerns; with `removes`, those inside it too.
    pub(crate) fn fire(&mut self, path: &Path, removes: bool, before: &Tree) {
        if before.get(path).is_none() && self.tree.get(path).is_none() {
            return;
        }
        let mut events = Vec::new();
        if removes {
            for (inner, clients) in self.watches.below(path) {
                let Ok(inner_path) = Path::absolute(inner.as_bytes()) else {
                    continue;
                };
                if before.get(&inner_path).is_none() {
                    continue;
                }
                for (client, watches) in clients {
                    if self.hears(*client, &inner_path, before) {
                        let told = watches
                            .iter()
                            .filter_map(|watch| self.event(*client, inner, inner, watch));
                        events.extend(told);
                    }
                }
            }
        }
        for (client, watches) in self.watches.matching(path) {
            if self.hears(client, path, before) {
                let told = watches
                    .iter()
                    .filter_map(|(key, watch)| self.event(client, path.as_str(), key, watch));
                events.extend(told);
            }
        }
        self.events.extend(events);
    }

    fn hears(&self, client: ClientId, path: &Path, before: &Tree) -> bool {
        let Some(client) = self.clients.get(&client) else {
            return false;
        };
        let sees = |tree: &Tree, path: &Path| sees(tree, path, &client.caller);
        client.caller.privileged
            || [before, &self.tree].iter().any(|tree| sees(tree, path))
            || path
                .parent()
                .is_some_and(|above| [before, &self.tree].iter().any(|tree| sees(tree, &above)))
    }

    /// Fires the watches on a special event.
    pub(crate) fn fire_special(&mut self, special: Special, domid: DomId) {
        let name = special.name();
        let precise = format!("{name}/{domid}");
        let perms = self.special.get(special as usize).cloned();
        let mut events = Vec::new();
        for key in [name, &precise] {
            for (client, watch) in self.watches.exactly(key) {
                let caller = self.clients.get(&client).map(|client| client.caller);
                let allowed = caller
                    .zip(perms.as_ref())
                    .is_some_and(|(caller, perms)| perms.allow(&caller, Need::Read));
                let told = if watch.depth == Some(1) {
                    precise.as_str()
                } else {
                    key
                };
                if allowed {
                    events.extend(self.event(client, told, key, watch));
                }
            }
        }
        self.events.extend(events);
    }

    /// The event that `watch` on `key` tells of a change of `path`; none if it fits into no message.
    pub(crate) fn event(
        &self,
        client: ClientId,
        path: &str,
        key: &str,
        watch: &Watch,
    ) -> Option<Event> {
        let strip = match (watch.relative, self.clients.get(&client)) {
            (true, Some(owner)) => Path::of_domain(owner.caller.domid).as_str().len() + 1,
            _ => 0,
        };
        let (path, key) = (path.as_bytes().get(strip..)?, key.as_bytes().get(strip..)?);
        let message = wire::event(path, &watch.token)?;
        Some(Event {
            client,
            message,
            whole: (Arc::from(key), Arc::clone(&watch.token)),
        })
    }

    /// Queues the events of the request at hand.
    pub(crate) fn deliver_events(&mut self) {
        for Event {
            client,
            message,
            whole,
        } in std::mem::take(&mut self.events)
        {
            let Some(reader) = self.clients.get_mut(&client) else {
                continue;
            };
            debug_assert!(message.len() <= wire::HEADER_BYTES + PAYLOAD_MAX);
            let recorded: Arc<[u8]> = Arc::from(message.as_slice());
            let queued = reader
                .queue
                .event(message, || wire::event(&whole.0, &whole.1));
            self.woken.insert(client);
            let ClientId::Domain(domid) = client else {
                continue;
            };
            match queued {
                Queued::Yes => self.records.push(Record::Wait {
                    domid,
                    event: true,
                    message: recorded,
                }),
                Queued::Folded(message) => self.records.push(Record::Fold { domid, message }),
                Queued::Already => {}
            }
        }
    }
}

fn sees(tree: &Tree, path: &Path, caller: &Caller) -> bool {
    tree.get(path)
        .is_some_and(|node| node.perms().allow(caller, Need::Read))
}

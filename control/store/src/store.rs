//! The store itself: the tree, who is connected, and what became so and is not yet recorded.
//!
//! # Invariants
//! - S1: everything that outlives the process goes into `records` in the order in which it became so. Whoever
//!   drives the store makes the records safe before anything of it is shown to a client.
//! - S2: `accounts` is what a count over the tree would find.
//! - S3: a client's count of watches is the number it has in `watches`.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use guest_abi::xenstore::XsdMessage;

use crate::client::{Client, Waiting};
use crate::events::Event;
use crate::perms::Caller;
use crate::plan::View;
use crate::quota::{Accounts, Limits, Usage};
use crate::record::Record;
use crate::transaction::{Step, Transaction, WINDOW_BYTES, weight};
use crate::tree::{Change, Tree};
use crate::wire::{self, PAYLOAD_MAX, Request};
use crate::{ClientId, DomId, Errno, Path, Perms};

/// What a snapshot itself adds to the amount of changes, so that the list of snapshots is bounded too.
const SNAPSHOT_WEIGHT: u64 = 256;

/// Where a ring stands: all of it the store's own knowledge, never read back from the page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Read up to here of the requests.
    pub req_cons: u32,
    /// Written up to here of the answers.
    pub rsp_prod: u32,
}

/// What the store needs of the machine around it.
pub trait Host {
    /// Maps the ring of `domid` and binds its event channel; answers where the ring stands.
    fn introduce(&mut self, domid: DomId, gfn: u64, port: u32) -> Result<Place, Errno>;

    /// Undoes `introduce`.
    fn release(&mut self, domid: DomId);

    /// A line for the log, asked for by the control domain.
    fn log(&mut self, _line: &str) {}
}

/// A domain that was introduced.
#[derive(Clone, Debug)]
pub(crate) struct Domain {
    pub gfn: u64,
    pub port: u32,
    pub shutdown_told: bool,
    pub place: Place,
    /// The beginning of a message that is too long for the ring, taken off it.
    pub partial: Vec<u8>,
}

/// The store.
#[derive(Debug)]
pub struct Store {
    pub(crate) tree: Tree,
    /// The moment of the last change.
    pub(crate) now: u64,
    pub(crate) accounts: Accounts,
    /// The amount of changes so far, in bytes that a snapshot may keep alive.
    pub(crate) changed: u64,
    /// When the snapshots of transactions were taken, in `changed`. Some have ended since.
    pub(crate) snapshots: BTreeMap<u64, (ClientId, u32)>,
    pub(crate) limits: Limits,
    pub(crate) watches: crate::watch::Watches,
    pub(crate) clients: BTreeMap<ClientId, Client>,
    pub(crate) domains: BTreeMap<DomId, Domain>,
    /// Who may hear of `@introduceDomain` and `@releaseDomain`.
    pub(crate) special: [Perms; 2],
    /// Events of the request at hand.
    pub(crate) events: Vec<Event>,
    pub(crate) records: Vec<Record>,
    /// Clients for whom something was queued since somebody asked.
    pub(crate) woken: BTreeSet<ClientId>,
    next_socket: u64,
}

impl Default for Store {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl Store {
    /// An empty store: `/tool/xenstored` alone, which tools look for.
    pub fn new(limits: Limits) -> Self {
        let mut store = Self::bare(limits);
        for text in [&b"/tool"[..], b"/tool/xenstored"] {
            if let Ok(path) = Path::absolute(text) {
                let change = Change::Create {
                    path,
                    value: Arc::from([]),
                    perms: Perms::owned_by(0),
                };
                store.make(change);
            }
        }
        store.records.clear();
        store
    }

    /// A root alone: what recovery starts from.
    pub(crate) fn bare(limits: Limits) -> Self {
        Self {
            tree: Tree::new(),
            now: 0,
            changed: 0,
            snapshots: BTreeMap::new(),
            accounts: Accounts::default(),
            limits,
            watches: crate::watch::Watches::default(),
            clients: BTreeMap::new(),
            domains: BTreeMap::new(),
            special: [Perms::owned_by(0), Perms::owned_by(0)],
            events: Vec::new(),
            records: Vec::new(),
            woken: BTreeSet::new(),
            next_socket: 0,
        }
    }

    /// A new connection of the control domain's user space.
    pub fn connect_socket(&mut self) -> ClientId {
        self.next_socket += 1;
        let client = ClientId::Socket(self.next_socket);
        self.clients.insert(client, Client::new(Caller::CONTROL));
        client
    }

    /// A socket's connection is gone, and with it its watches and transactions.
    pub fn disconnect_socket(&mut self, client: ClientId) {
        if matches!(client, ClientId::Socket(_)) {
            self.watches.remove_all(client);
            self.clients.remove(&client);
        }
    }

    /// Whether a further request of this client is to be taken: not while it leaves too many answers unread.
    pub fn accepts(&self, client: ClientId) -> bool {
        let limit = self.limits.outstanding as usize;
        self.clients
            .get(&client)
            .is_some_and(|client| client.queue.answers() < limit)
    }

    /// Carries `request` out and queues its answer, and the events it caused for whoever watches.
    pub fn request(&mut self, client: ClientId, request: &Request, host: &mut dyn Host) {
        let answer = match self.execute(client, request, host) {
            Ok(payload) if payload.len() > PAYLOAD_MAX => Err(Errno::E2big),
            answer => answer,
        };
        let (kind, payload) = match answer {
            Ok(payload) => (request.kind, payload),
            Err(error) => (
                XsdMessage::Error.number(),
                [error.name().as_bytes(), b"\0"].concat(),
            ),
        };
        let message: Arc<[u8]> =
            Arc::from(wire::message(kind, request.req_id, request.tx_id, &payload));
        if let Some(asking) = self.clients.get_mut(&client) {
            asking.queue.answer(Arc::clone(&message));
            self.woken.insert(client);
            if let ClientId::Domain(domid) = client {
                self.records.push(Record::Wait {
                    domid,
                    event: false,
                    message,
                });
            }
        }
        self.deliver_events();
    }

    /// Up to `most` bytes that wait for the client, in order.
    pub fn waiting(&self, client: ClientId, most: usize) -> Vec<u8> {
        self.clients
            .get(&client)
            .map_or_else(Vec::new, |client| client.queue.peek(most))
    }

    /// Notes that `count` of the waiting bytes were sent.
    pub fn sent(&mut self, client: ClientId, count: usize) {
        let Some(reader) = self.clients.get_mut(&client) else {
            return;
        };
        reader.queue.advance(count);
        for event in reader.queue.take_folded() {
            reader.queue.push(Waiting::Event(Arc::clone(&event)));
            if let ClientId::Domain(domid) = client {
                self.records.push(Record::Wait {
                    domid,
                    event: true,
                    message: event,
                });
            }
        }
    }

    /// What `client` uses: nodes, and bytes of everything.
    pub(crate) fn used(&self, client: &Client) -> Usage {
        let nodes = self.accounts.of(client.caller.domid);
        let bytes = i64::try_from(client.bytes()).unwrap_or(i64::MAX);
        Usage {
            nodes: nodes.nodes,
            bytes: nodes.bytes.saturating_add(bytes),
        }
    }

    /// Asks a question of the tree as `client` sees it, inside its transaction if it names one.
    pub(crate) fn ask<T>(
        &mut self,
        client: ClientId,
        tx_id: u32,
        question: impl FnOnce(&mut View<'_>) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let limits = self.limits;
        let asking = self.clients.get(&client).ok_or(Errno::Enoent)?;
        let (caller, mut used) = (asking.caller, self.used(asking));
        if tx_id == 0 {
            return question(&mut View::new(&self.tree, &caller, &limits, used));
        }
        let asking = self.clients.get_mut(&client).ok_or(Errno::Enoent)?;
        let transaction = asking.transactions.get_mut(&tx_id).ok_or(Errno::Enoent)?;
        let more = transaction.more_of(caller.domid);
        used.nodes += more.nodes;
        used.bytes = used.bytes.saturating_add(more.bytes);
        let tree = transaction.tree().clone();
        let mut view = View::new(&tree, &caller, &limits, used);
        let answer = question(&mut view);
        let limit = (!caller.privileged).then_some(limits.transaction_nodes);
        transaction.note(view.into_noted(), limit)?;
        answer
    }

    /// Makes the changes that `plan` finds, at once or in the transaction. No changes, no event.
    pub(crate) fn change(
        &mut self,
        client: ClientId,
        tx_id: u32,
        event: Path,
        plan: impl FnOnce(&mut View<'_>) -> Result<Vec<Change>, Errno>,
    ) -> Result<(), Errno> {
        let changes = self.ask(client, tx_id, plan)?;
        if changes.is_empty() {
            return Ok(());
        }
        let step = Step { changes, event };
        if tx_id == 0 {
            self.carry_out(vec![step]);
            return Ok(());
        }
        let asking = self.clients.get_mut(&client).ok_or(Errno::Enoent)?;
        let transaction = asking.transactions.get_mut(&tx_id).ok_or(Errno::Enoent)?;
        transaction.step(step, &mut self.now);
        Ok(())
    }

    /// Makes planned changes and fires the watches they concern.
    pub(crate) fn carry_out(&mut self, steps: Vec<Step>) {
        let before = self.tree.clone();
        let mut events = Vec::with_capacity(steps.len());
        let mut seen = HashSet::with_capacity(steps.len());
        for Step { changes, event } in steps {
            let removes = changes
                .iter()
                .any(|change| matches!(change, Change::Remove { .. }));
            changes.into_iter().for_each(|change| self.make(change));
            if seen.insert((event.clone(), removes)) {
                events.push((event, removes));
            }
        }
        for (path, removes) in events {
            self.fire(&path, removes, &before);
        }
    }

    /// Makes one change and records it.
    pub(crate) fn make(&mut self, change: Change) {
        self.now += 1;
        let made = self.tree.apply(&change, self.now, &mut self.accounts);
        debug_assert!(made, "a plan fits the tree it was made of: {change:?}");
        if made {
            self.changed += weight(&change);
            self.records.push(Record::Change(change));
            self.let_old_snapshots_go();
        }
    }

    /// The amount of changes so far, for a snapshot of now; never the same twice.
    pub(crate) fn snapshot_born(&mut self) -> u64 {
        self.changed += SNAPSHOT_WEIGHT;
        self.changed
    }

    /// Transactions that began too many changes ago lose their snapshots (X3).
    fn let_old_snapshots_go(&mut self) {
        // Compared with one moment: those that are let go get a fresh place, behind it.
        let now = self.changed;
        while let Some(oldest) = self.snapshots.first_entry() {
            if oldest.key() + WINDOW_BYTES >= now {
                return;
            }
            let (born, (client, number)) = oldest.remove_entry();
            let fresh = self.snapshot_born();
            let transactions = self
                .clients
                .get_mut(&client)
                .map(|client| &mut client.transactions);
            let transaction = transactions.and_then(|transactions| transactions.get_mut(&number));
            if let Some(transaction) = transaction.filter(|transaction| transaction.born == born) {
                *transaction = Transaction::doomed(&self.tree, fresh);
                self.snapshots.insert(fresh, (client, number));
            }
        }
    }

    /// The clients for whom something was queued since the last call.
    pub fn take_woken(&mut self) -> BTreeSet<ClientId> {
        std::mem::take(&mut self.woken)
    }

    /// Takes what became so since the last call, to be made safe before anything of it is shown.
    pub(crate) fn take_records(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.records)
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }
}

//! The store as records, and records as the store: what survives the process.

use std::sync::Arc;

use crate::client::{Client, Waiting};
use crate::perms::Caller;
use crate::record::Record;
use crate::store::{Domain, Place, Store};
use crate::transaction::Transaction;
use crate::tree::Change;
use crate::watch::{Watch, Watches};
use crate::{ClientId, DomId, Path};

impl Store {
    /// Takes in what was recorded. `false` if it does not fit what was taken in before.
    pub(crate) fn restore(&mut self, record: Record) -> bool {
        match record {
            Record::Change(change) => {
                self.now += 1;
                self.tree.apply(&change, self.now, &mut self.accounts)
            }
            Record::Introduce { domid, gfn, port } => self.restore_domain(domid, gfn, port),
            Record::Release { domid } => {
                self.disconnect_domain(domid);
                true
            }
            Record::Target { domid, target } => {
                let change = |caller: &mut Caller| caller.target = Some(target);
                self.clients
                    .get_mut(&ClientId::Domain(domid))
                    .map(|client| change(&mut client.caller))
                    .is_some()
            }
            Record::Shutdown { domid, told } => {
                self.with_domain(domid, |domain| domain.shutdown_told = told)
            }
            Record::Special { release, perms } => self
                .special
                .get_mut(usize::from(release))
                .map(|place| *place = perms)
                .is_some(),
            Record::Limit { name, value } => self.limits.set(&name, value).is_ok(),
            Record::Watch {
                domid,
                path,
                token,
                relative,
                depth,
            } => self.restore_watch(
                ClientId::Domain(domid),
                &path,
                Watch {
                    token,
                    relative,
                    depth,
                },
            ),
            Record::Unwatch { domid, path, token } => self
                .forget_watch(ClientId::Domain(domid), &path, &token)
                .is_ok(),
            Record::Reset {
                domid,
                wholly: false,
            } => {
                self.reset(ClientId::Domain(domid));
                self.records.clear();
                true
            }
            Record::Reset {
                domid,
                wholly: true,
            } => {
                self.reset_wholly(domid);
                self.records.clear();
                true
            }
            Record::Begin { domid, transaction } => self.restore_transaction(domid, transaction),
            Record::End { domid, transaction } => {
                let client = self.clients.get_mut(&ClientId::Domain(domid));
                client
                    .and_then(|client| client.transactions.remove(&transaction))
                    .is_some()
            }
            Record::Wait {
                domid,
                event,
                message,
            } => {
                let waiting = if event {
                    Waiting::Event(message)
                } else {
                    Waiting::Answer(message)
                };
                let client = self.clients.get_mut(&ClientId::Domain(domid));
                client.map(|client| client.queue.push(waiting)).is_some()
            }
            Record::Fold { domid, message } => {
                let client = self.clients.get_mut(&ClientId::Domain(domid));
                client.map(|client| client.queue.fold(message)).is_some()
            }
            Record::Place {
                domid,
                req_cons,
                rsp_prod,
                partial,
            } => self.restore_place(domid, Place { req_cons, rsp_prod }, &partial),
        }
    }

    fn with_domain(&mut self, domid: DomId, change: impl FnOnce(&mut Domain)) -> bool {
        self.domains.get_mut(&domid).map(change).is_some()
    }

    fn restore_domain(&mut self, domid: DomId, gfn: u64, port: u32) -> bool {
        match self.domains.get_mut(&domid) {
            Some(domain) if domain.gfn == gfn => domain.port = port,
            _ => self.connect_domain(domid, gfn, port),
        }
        true
    }

    fn restore_watch(&mut self, client: ClientId, path: &str, watch: Watch) -> bool {
        let bytes = Watches::charge(path, &watch.token);
        let Some(owner) = self.clients.get_mut(&client) else {
            return false;
        };
        if self.watches.add(client, path, watch).is_err() {
            return false;
        }
        owner.watches += 1;
        owner.watch_bytes += bytes;
        true
    }

    fn restore_transaction(&mut self, domid: DomId, transaction: u32) -> bool {
        let Some(client) = self.clients.get_mut(&ClientId::Domain(domid)) else {
            return false;
        };
        client.last_transaction = transaction;
        client
            .transactions
            .insert(transaction, Transaction::doomed(&self.tree, 0));
        true
    }

    /// A ring's place: what lies between the old one and it has been sent. The first of a connection is taken as
    /// it is.
    pub(crate) fn restore_place(&mut self, domid: DomId, place: Place, partial: &[u8]) -> bool {
        let Some(client) = self.clients.get_mut(&ClientId::Domain(domid)) else {
            return false;
        };
        let Some(domain) = self.domains.get_mut(&domid) else {
            return false;
        };
        let (waiting, sent) = (
            client.queue.len(),
            place.rsp_prod.wrapping_sub(domain.place.rsp_prod) as usize,
        );
        if waiting > 0 {
            if sent > waiting {
                return false;
            }
            client.queue.advance(sent);
        }
        domain.place = place;
        domain.partial = partial.to_vec();
        true
    }

    /// After the last record: what lies before `rsp_prod` in a domain's ring was shown. `false` if that is more than
    /// waited.
    pub(crate) fn shown_up_to(&mut self, domid: DomId, rsp_prod: u32) -> bool {
        let Some(domain) = self.domains.get(&domid) else {
            return false;
        };
        let shown = rsp_prod.wrapping_sub(domain.place.rsp_prod) as usize;
        let waiting = self
            .clients
            .get(&ClientId::Domain(domid))
            .map_or(0, |client| client.queue.len());
        let (place, partial) = (
            Place {
                rsp_prod,
                ..domain.place
            },
            domain.partial.clone(),
        );
        shown <= waiting && self.restore_place(domid, place, &partial)
    }

    /// After the last record: transactions that were open see the tree of now, and can only end with `EAGAIN`.
    pub(crate) fn restored(&mut self) {
        let open = |(id, client): (&ClientId, &Client)| {
            let numbers = client.transactions.keys();
            numbers.map(|number| (*id, *number)).collect::<Vec<_>>()
        };
        let open: Vec<_> = self.clients.iter().flat_map(open).collect();
        for (id, number) in open {
            let born = self.snapshot_born();
            if let Some(client) = self.clients.get_mut(&id) {
                let doomed = Transaction::doomed(&self.tree, born);
                client.transactions.insert(number, doomed);
                self.snapshots.insert(born, (id, number));
            }
        }
        self.records.clear();
    }

    /// Everything that outlives the process, for a store that knows nothing.
    pub(crate) fn snapshot(&self, mut put: impl FnMut(Record)) {
        for (name, _, value) in self.limits.rows() {
            put(Record::Limit {
                name: name.to_owned(),
                value,
            });
        }
        for (release, perms) in [false, true].into_iter().zip(&self.special) {
            put(Record::Special {
                release,
                perms: perms.clone(),
            });
        }
        for (path, node) in self.tree.walk() {
            let (value, perms) = (Arc::clone(node.value()), node.perms().clone());
            if path.is_root() {
                put(Record::Change(Change::Write {
                    path: Path::root(),
                    value,
                }));
                put(Record::Change(Change::SetPerms { path, perms }));
            } else {
                put(Record::Change(Change::Create { path, value, perms }));
            }
        }
        for (domid, domain) in &self.domains {
            self.snapshot_domain(*domid, domain, &mut put);
        }
    }

    fn snapshot_domain(&self, domid: DomId, domain: &Domain, put: &mut impl FnMut(Record)) {
        let Domain {
            gfn,
            port,
            shutdown_told,
            place,
            partial,
        } = domain;
        put(Record::Introduce {
            domid,
            gfn: *gfn,
            port: *port,
        });
        put(Record::Shutdown {
            domid,
            told: *shutdown_told,
        });
        let id = ClientId::Domain(domid);
        let Some(client) = self.clients.get(&id) else {
            return;
        };
        if let Some(target) = client.caller.target {
            put(Record::Target { domid, target });
        }
        for (path, watch) in self.watches.of(id) {
            let Watch {
                token,
                relative,
                depth,
            } = watch.clone();
            put(Record::Watch {
                domid,
                path: Arc::clone(path),
                token,
                relative,
                depth,
            });
        }
        for transaction in client.transactions.keys() {
            put(Record::Begin {
                domid,
                transaction: *transaction,
            });
        }
        let (waiting, folded, sent) = client.queue.contents();
        // The beginning of a message that is partly sent lies before the place.
        let begin = place.rsp_prod.wrapping_sub(sent as u32);
        put(Record::Place {
            domid,
            req_cons: place.req_cons,
            rsp_prod: begin,
            partial: Arc::from([]),
        });
        for waiting in waiting {
            let event = matches!(waiting, Waiting::Event(_));
            put(Record::Wait {
                domid,
                event,
                message: Arc::clone(waiting.bytes()),
            });
        }
        for message in folded {
            put(Record::Fold {
                domid,
                message: Arc::clone(message),
            });
        }
        let Place { req_cons, rsp_prod } = *place;
        put(Record::Place {
            domid,
            req_cons,
            rsp_prod,
            partial: Arc::from(partial.as_slice()),
        });
    }
}

//! Domains: how they come to have a connection, and what is left of them when they are gone.

use crate::client::Client;
use crate::events::Special;
use crate::perms::Caller;
use crate::record::Record;
use crate::store::{Domain, Host, Place, Store};
use crate::transaction::Step;
use crate::tree::Change;
use crate::{ClientId, DomId, Errno, FIRST_RESERVED_DOMID, Path};

impl Store {
    /// Connects a domain by its ring. Again for the same ring: its event channel is bound anew, and nothing else
    /// changes.
    pub fn introduce(
        &mut self,
        domid: DomId,
        gfn: u64,
        port: u32,
        host: &mut dyn Host,
    ) -> Result<(), Errno> {
        if domid >= FIRST_RESERVED_DOMID {
            return Err(Errno::Einval);
        }
        let known = self.domains.get(&domid).map(|domain| domain.gfn);
        let place = host.introduce(domid, gfn, port)?;
        self.records.push(Record::Introduce { domid, gfn, port });
        if known == Some(gfn) {
            if let Some(domain) = self.domains.get_mut(&domid) {
                domain.port = port;
            }
            return Ok(());
        }
        self.connect_domain(domid, gfn, port);
        self.set_place(domid, place, &[]);
        if known.is_none() {
            self.fire_special(Special::Introduce, domid);
        }
        Ok(())
    }

    /// Makes a fresh connection for a domain, whatever it had before.
    pub(crate) fn connect_domain(&mut self, domid: DomId, gfn: u64, port: u32) {
        let client = ClientId::Domain(domid);
        self.watches.remove_all(client);
        let target = self
            .clients
            .get(&client)
            .and_then(|client| client.caller.target);
        let caller = if domid == 0 {
            Caller::CONTROL
        } else {
            Caller {
                domid,
                target,
                privileged: false,
            }
        };
        self.clients.insert(client, Client::new(caller));
        let domain = Domain {
            gfn,
            port,
            shutdown_told: false,
            place: Place::default(),
            partial: Vec::new(),
        };
        self.domains.insert(domid, domain);
    }

    /// Notes where a domain's ring stands.
    pub(crate) fn set_place(&mut self, domid: DomId, place: Place, partial: &[u8]) {
        let Some(domain) = self.domains.get_mut(&domid) else {
            return;
        };
        domain.place = place;
        domain.partial = partial.to_vec();
        let Place { req_cons, rsp_prod } = place;
        self.records.push(Record::Place {
            domid,
            req_cons,
            rsp_prod,
            partial: partial.into(),
        });
    }

    /// Ends a domain's connection; its nodes stay. `ENOENT` if it has none.
    pub fn release(&mut self, domid: DomId, host: &mut dyn Host) -> Result<(), Errno> {
        if !self.domains.contains_key(&domid) {
            return Err(Errno::Enoent);
        }
        host.release(domid);
        self.disconnect_domain(domid);
        self.records.push(Record::Release { domid });
        self.fire_special(Special::Release, domid);
        Ok(())
    }

    pub(crate) fn disconnect_domain(&mut self, domid: DomId) {
        let client = ClientId::Domain(domid);
        self.watches.remove_all(client);
        self.clients.remove(&client);
        self.domains.remove(&domid);
        for other in self.clients.values_mut() {
            if other.caller.target == Some(domid) {
                other.caller.target = None;
            }
        }
    }

    /// The hypervisor says that a domain shut down or crashed. Those who watch for it are told once.
    pub fn domain_shutdown(&mut self, domid: DomId) {
        let Some(domain) = self.domains.get_mut(&domid) else {
            return;
        };
        if !std::mem::replace(&mut domain.shutdown_told, true) {
            self.records.push(Record::Shutdown { domid, told: true });
            self.fire_special(Special::Release, domid);
            self.deliver_events();
        }
    }

    /// A domain may be told of as shut down once more: it was resumed. `ENOENT` if it is not introduced.
    pub(crate) fn resume(&mut self, domid: DomId) -> Result<(), Errno> {
        let domain = self.domains.get_mut(&domid).ok_or(Errno::Enoent)?;
        domain.shutdown_told = false;
        self.records.push(Record::Shutdown { domid, told: false });
        Ok(())
    }

    /// Lets `domid` act for `target`. `ENOENT` unless both are introduced.
    pub(crate) fn set_target(&mut self, domid: DomId, target: DomId) -> Result<(), Errno> {
        if !self.domains.contains_key(&target) {
            return Err(Errno::Enoent);
        }
        let client = self
            .clients
            .get_mut(&ClientId::Domain(domid))
            .ok_or(Errno::Enoent)?;
        client.caller.target = Some(target);
        self.records.push(Record::Target { domid, target });
        Ok(())
    }

    /// A domain is no more: its connection ends, its nodes go with all that is below them, and no entry names it,
    /// so that a later domain of the same number inherits nothing. Walks the whole tree.
    pub fn domain_gone(&mut self, domid: DomId, host: &mut dyn Host) {
        let _not_introduced = self.release(domid, host);
        let mut owned: Vec<Path> = Vec::new();
        let mut named = Vec::new();
        for (path, node) in self.tree.walk() {
            // The walk comes to everything below a node right after the node.
            if owned
                .last()
                .is_some_and(|above| path.levels_below(above).is_some())
            {
                continue;
            }
            if node.perms().owner() == domid && !path.is_root() {
                owned.push(path);
            } else if let Some(perms) = node.perms().without(domid) {
                named.push(Change::SetPerms { path, perms });
            }
        }
        let remove = |path: Path| Step {
            changes: vec![Change::Remove { path: path.clone() }],
            event: path,
        };
        self.carry_out(owned.into_iter().map(remove).collect());
        named.into_iter().for_each(|change| self.make(change));
        for release in [false, true] {
            if let Some(perms) = self
                .special
                .get(usize::from(release))
                .and_then(|perms| perms.without(domid))
            {
                self.set_special(release, perms);
            }
        }
        self.deliver_events();
    }

    pub(crate) fn set_special(&mut self, release: bool, perms: crate::Perms) {
        if let Some(place) = self.special.get_mut(usize::from(release)) {
            *place = perms.clone();
            self.records.push(Record::Special { release, perms });
        }
    }

    /// Takes a client's watches and transactions away.
    pub(crate) fn reset(&mut self, client: ClientId) {
        self.watches.remove_all(client);
        if let Some(asking) = self.clients.get_mut(&client) {
            asking.transactions.clear();
            (asking.watches, asking.watch_bytes) = (0, 0);
        }
        if let ClientId::Domain(domid) = client {
            self.records.push(Record::Reset {
                domid,
                wholly: false,
            });
        }
    }

    /// A domain's connection starts over: as `reset`, and nothing waits on its ring.
    pub(crate) fn reset_wholly(&mut self, domid: DomId) {
        self.reset(ClientId::Domain(domid));
        if let Some(client) = self.clients.get_mut(&ClientId::Domain(domid)) {
            client.queue.clear();
        }
        self.records.push(Record::Reset {
            domid,
            wholly: true,
        });
        // What was sent since the last record of the place is no longer among what waits.
        if let Some(place) = self.domains.get(&domid).map(|domain| domain.place) {
            self.set_place(domid, place, &[]);
        }
    }

    /// The domains that are introduced, with the page and the event channel of each.
    pub fn introduced(&self) -> Vec<(DomId, u64, u32)> {
        self.domains
            .iter()
            .map(|(domid, domain)| (*domid, domain.gfn, domain.port))
            .collect()
    }
}

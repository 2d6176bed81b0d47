//! What all tasks share: the hypervisor, the ports, the store, the guests.
//!
//! # Invariants
//! - M1: everything runs on one thread, and a cell is never borrowed across an `await`; what takes long (building,
//!   destroying, loop devices) runs on threads of its own and touches none of the cells.
//! - M2: a name and the disks of a guest are taken from the moment it is in `guests` until nothing is left of it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use store::JournalError;
use tokio::sync::broadcast;
use xen::{DomId, DomainInfo, Hypervisor, OwnStore, Port};
use xeno_api::{CONTROL_DOMAIN, Error, Kind, Summary, Target};

use crate::accounting::{self, Keeper};
use crate::builders::Builder;
use crate::devices::Devices;
use crate::guest::Guest;
use crate::ports::{Ports, Purpose, Turn};
use crate::state::{Record, StateDir, StateError};
use crate::store_host::StoreHost;
use crate::uuid::Uuid;
use crate::{life, log, recovery};

/// What is done with the machine, behind interfaces.
pub struct Parts {
    /// The hypervisor.
    pub hypervisor: Arc<dyn Hypervisor>,
    /// The event device.
    pub channels: Arc<dyn xen::EventChannels>,
    /// The control domain's own way to the store.
    pub own_store: OwnStore,
    /// How guests are built.
    pub builder: Arc<dyn Builder>,
    /// The kernel's devices for disks.
    pub devices: Arc<dyn Devices>,
    /// Where the usage record is.
    pub ledger: accounting::Place,
}

/// Why the daemon cannot start, or go on.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// The store's journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The hypervisor, or the way to it.
    #[error(transparent)]
    Hypervisor(#[from] xen::Error),
    /// A socket.
    #[error("the socket {path} cannot be served: {source}")]
    Socket {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Something else of the system's.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
}

/// News of a domain, for whoever follows them.
#[derive(Clone, Debug)]
pub struct News {
    /// How it is now.
    pub domain: Summary,
    /// It is gone.
    pub gone: bool,
}

/// The daemon.
pub struct Daemon {
    /// The hypervisor.
    pub hypervisor: Arc<dyn Hypervisor>,
    /// Our ports.
    pub ports: Rc<Ports>,
    /// The store.
    pub store: Rc<RefCell<StoreHost>>,
    /// The guests.
    pub guests: RefCell<BTreeMap<Uuid, Rc<Guest>>>,
    /// The state directory.
    pub state: StateDir,
    /// How guests are built.
    pub builder: Arc<dyn Builder>,
    /// The kernel's devices for disks.
    pub devices: Arc<dyn Devices>,
    /// The usage record.
    pub accounting: Arc<Keeper>,
    /// News of domains.
    pub news: broadcast::Sender<News>,
    /// When it started, in seconds since 1970.
    pub started_s: u64,
}

/// News that may wait for whoever follows them.
const NEWS: usize = 256;

/// Looks at the ring of a guest that has stopped: one that takes what is there, and one that finds nothing more.
const LAST_TURNS: usize = 2;

impl Daemon {
    /// Starts, and takes up what an earlier process left.
    ///
    /// # Errors
    /// When something it needs is not there.
    pub fn start(state: StateDir, parts: Parts) -> Result<Rc<Self>, Fatal> {
        let ports = Ports::new(parts.channels);
        ports.bind_exceptions()?;
        let (store, recovery) = StoreHost::start(
            &state.journal(),
            Arc::clone(&parts.hypervisor),
            Rc::clone(&ports),
            parts.own_store,
        )?;
        if recovery.batches > 0 {
            log::line(format!(
                "the store goes on where it was: {} batches, {} torn bytes cut off",
                recovery.batches, recovery.torn_bytes
            ));
        }
        let accounting = Keeper::start(Arc::clone(&parts.hypervisor), parts.ledger);
        let daemon = Rc::new(Self {
            accounting,
            hypervisor: parts.hypervisor,
            ports,
            store: Rc::new(RefCell::new(store)),
            guests: RefCell::default(),
            state,
            builder: parts.builder,
            devices: parts.devices,
            news: broadcast::channel(NEWS).0,
            started_s: now_s(),
        });
        recovery::recover(&daemon)?;
        Ok(daemon)
    }

    /// Serves a port that spoke.
    pub fn serve_port(self: &Rc<Self>, port: Port) -> Turn {
        match self.ports.purpose(port) {
            None => Turn::Done,
            Some(Purpose::Exceptions) => {
                self.exceptions();
                Turn::Done
            }
            Some(Purpose::Store(domain)) => match self.store.borrow_mut().pump(domain) {
                Ok(true) => Turn::Again,
                Ok(false) | Err(_) => Turn::Done,
            },
            Some(Purpose::Console(uuid)) => {
                let guest = self.guests.borrow().get(&uuid).cloned();
                guest.map_or(Turn::Done, |guest| self.serve_console(&guest))
            }
        }
    }

    /// Moves what is in a guest's console ring.
    pub fn serve_console(&self, guest: &Guest) -> Turn {
        let served = guest.console.borrow_mut().serve();
        let served = served.unwrap_or_else(|unkept| {
            log::line(format!(
                "what {} prints is kept in memory only: {}",
                guest.name(),
                unkept.source
            ));
            unkept.served
        });
        if let (true, Some(port)) = (served.signal, guest.console_port.get()) {
            self.ports.notify(port);
        }
        if served.more { Turn::Again } else { Turn::Done }
    }

    /// Takes the last of what a guest printed that does not run any more: a ring's worth. Others may have its ring mapped
    /// too and go on filling it, so this is not until the ring is empty.
    pub fn last_words(&self, guest: &Guest) {
        for _ in 0..LAST_TURNS {
            if self.serve_console(guest) == Turn::Done {
                break;
            }
        }
    }

    /// A domain shut down or is gone, who knows which.
    fn exceptions(&self) {
        let infos = match self.hypervisor.domains() {
            Ok(infos) => infos,
            Err(error) => return log::line(error),
        };
        let introduced = self.store.borrow().introduced();
        for domain in introduced {
            let info = infos.iter().find(|info| info.domain == domain);
            if info.is_some_and(|info| info.shutdown.is_some()) {
                let _the_daemon_ends = self.store.borrow_mut().domain_shutdown(domain);
            }
        }
        // Domains that are not ours, and went: ours end with their guests' tasks.
        let ours: Vec<DomId> = self
            .guests()
            .iter()
            .filter_map(|guest| guest.domain())
            .collect();
        let introduced = self.store.borrow().introduced();
        for domain in introduced {
            let there = infos
                .iter()
                .any(|info| info.domain == domain && !info.dying);
            if domain != 0 && !there && !ours.contains(&domain) {
                let _the_daemon_ends = self.store.borrow_mut().domain_gone(domain);
            }
        }
        for guest in self.guests() {
            guest.news.notify_one();
        }
        self.accounting.nudge();
    }

    /// All guests.
    pub fn guests(&self) -> Vec<Rc<Guest>> {
        self.guests.borrow().values().cloned().collect()
    }

    /// The guest that is meant.
    ///
    /// # Errors
    /// When there is none, or it is a domain that this daemon did not build.
    pub fn find(&self, target: &Target) -> Result<Rc<Guest>, Error> {
        let guests = self.guests();
        let found = guests.into_iter().find(|guest| match target {
            Target::Id(id) => guest.domain() == Some(*id),
            Target::Name(name) => guest.record.borrow().guest.name == *name,
        });
        found.ok_or_else(|| match target {
            Target::Id(0) => Error::new(
                Kind::State,
                format!("{CONTROL_DOMAIN} is the control domain itself: this is for guests only"),
            ),
            Target::Id(id) if matches!(self.hypervisor.domain(*id), Ok(Some(_))) => Error::new(
                Kind::State,
                format!(
                    "domain {id} was not built by this daemon (or is dying): it is only listed"
                ),
            ),
            _ => Error::new(
                Kind::NotFound,
                format!("there is no domain {target}: `xeno list` shows those there are"),
            ),
        })
    }

    /// How a guest's domain is, if it is there and the guest's.
    ///
    /// # Errors
    /// When the hypervisor cannot say.
    pub fn info(&self, record: &Record) -> xen::Result<Option<DomainInfo>> {
        let Some(built) = record.built else {
            return Ok(None);
        };
        let info = self.hypervisor.domain(built.domain)?;
        Ok(info.filter(|info| info.handle == record.uuid.0))
    }

    /// Tells those who follow that something happened to a guest.
    pub fn tell(&self, guest: &Guest, gone: bool) {
        let record = guest.record.borrow();
        if let Ok(Some(info)) = self.info(&record) {
            let domain = self.summary(&info, Some(guest));
            let _nobody_follows = self.news.send(News { domain, gone });
        }
    }

    /// A domain in a list.
    pub fn summary(&self, info: &DomainInfo, guest: Option<&Guest>) -> Summary {
        let (life, reason) = life::of_domain(info);
        let record = guest.map(|guest| guest.record.borrow());
        let name = match &record {
            Some(record) => Some(record.guest.name.to_string()),
            None if info.domain == 0 => Some(CONTROL_DOMAIN.to_owned()),
            None => {
                let path = format!("/local/domain/{}/name", info.domain);
                self.store
                    .borrow_mut()
                    .text(&path)
                    .filter(|name| !name.is_empty())
            }
        };
        let since = record
            .and_then(|record| record.built)
            .map(|built| built.since_s);
        Summary {
            id: info.domain,
            name,
            life,
            reason,
            memory_bytes: info.pages * xen::PAGE as u64,
            vcpus: info.online_vcpus,
            cpu_ns: info.cpu_time_ns,
            age_s: since.map(|since| now_s().saturating_sub(since)),
        }
    }
}

/// Seconds since 1970.
pub fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

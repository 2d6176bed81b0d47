//! Which of our event channels is for what, and the loop that serves them.
//!
//! A port that speaks is silent until it was served and unmasked, so one that always has something to say is served
//! once a round, as all others.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use xen::{DomId, EventChannels, Port};

use crate::daemon::Daemon;
use crate::uuid::Uuid;

/// What a port is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A domain shut down, or is gone.
    Exceptions,
    /// The store's ring of a domain.
    Store(DomId),
    /// The console of a guest.
    Console(Uuid),
}

/// Our ports.
pub struct Ports {
    channels: Arc<dyn EventChannels>,
    purposes: RefCell<BTreeMap<Port, Purpose>>,
}

/// Whether there is more to do for a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Not until it speaks again.
    Done,
    /// In the next round.
    Again,
}

impl Ports {
    /// None yet.
    pub fn new(channels: Arc<dyn EventChannels>) -> Rc<Self> {
        Rc::new(Self {
            channels,
            purposes: RefCell::default(),
        })
    }

    /// Binds the interrupt by which the hypervisor tells of domains.
    ///
    /// # Errors
    /// When somebody else has it.
    pub fn bind_exceptions(&self) -> xen::Result<Port> {
        let port = self.channels.bind_virq(guest_abi::event::Virq::DomExc)?;
        self.purposes.borrow_mut().insert(port, Purpose::Exceptions);
        Ok(port)
    }

    /// Connects to a domain's port. It speaks at once.
    ///
    /// # Errors
    /// When that port does not wait for us.
    pub fn bind(&self, domain: DomId, remote: Port, purpose: Purpose) -> xen::Result<Port> {
        let port = self.channels.bind_interdomain(domain, remote)?;
        self.purposes.borrow_mut().insert(port, purpose);
        Ok(port)
    }

    /// Gives a port up. The domain's end may already be gone.
    pub fn unbind(&self, port: Port) {
        if self.purposes.borrow_mut().remove(&port).is_some() {
            let _gone_already = self.channels.unbind(port);
        }
    }

    /// Signals the other end. A domain that is gone does not hear it, and need not.
    pub fn notify(&self, port: Port) {
        let _nobody_there = self.channels.notify(port);
    }

    /// What a port is for; nothing if it was given up meanwhile.
    pub fn purpose(&self, port: Port) -> Option<Purpose> {
        self.purposes.borrow().get(&port).copied()
    }

    /// The ports that speak, masked from now on.
    fn speaking(&self) -> Vec<Port> {
        match self.channels.pending() {
            Ok(ports) => ports,
            // More came than the device remembers: all are looked at.
            Err(_) => self.purposes.borrow().keys().copied().collect(),
        }
    }

    fn unmask(&self, port: Port) {
        let _given_up = self.channels.unmask(port);
    }
}

/// Serves the ports, for ever.
///
/// # Errors
/// When the event device cannot be waited for.
pub async fn serve(daemon: Rc<Daemon>) -> io::Result<()> {
    let device = daemon.ports.channels.fd().try_clone_to_owned()?;
    // SAFETY: the descriptor is this value's own, and open until this value is dropped.
    let device = unsafe { AsyncFd::register_with_interest(device, Interest::READABLE)? };
    let mut ready: VecDeque<Port> = VecDeque::new();
    loop {
        if ready.is_empty() {
            device.readable().await?.clear_ready();
        }
        loop {
            let speaking = daemon.ports.speaking();
            if speaking.is_empty() {
                break;
            }
            let fresh: Vec<Port> = speaking
                .into_iter()
                .filter(|port| !ready.contains(port))
                .collect();
            if fresh.is_empty() {
                break;
            }
            ready.extend(fresh);
        }
        for _ in 0..ready.len() {
            let Some(port) = ready.pop_front() else {
                break;
            };
            match daemon.serve_port(port) {
                Turn::Done => daemon.ports.unmask(port),
                Turn::Again => ready.push_back(port),
            }
        }
        tokio::task::yield_now().await;
    }
}

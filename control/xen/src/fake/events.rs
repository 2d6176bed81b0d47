//! Event channels of the fake hypervisor.

use super::Fake;
use crate::{DomId, Error, EventChannels, Port, Result};
use guest_abi::event::Virq;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// All ports there are.
#[derive(Debug, Default)]
pub(super) struct Ports {
    next: BTreeMap<DomId, Port>,
    /// Ports of domains: who may connect, and to which port of the control domain they are connected.
    guests: BTreeMap<(DomId, Port), (DomId, Option<Port>)>,
    /// Ports of the control domain.
    own: BTreeMap<Port, Own>,
    notified: BTreeMap<(DomId, Port), u64>,
    openings: u64,
    wakers: BTreeMap<u64, UnixStream>,
}

#[derive(Debug)]
struct Own {
    opening: u64,
    kind: Kind,
    pending: bool,
    masked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Virq(Virq),
    Interdomain(DomId, Port),
    Unbound(DomId),
}

impl Ports {
    pub(super) fn alloc(&mut self, domain: DomId, remote: DomId) -> Port {
        let port = self.number(domain);
        self.guests.insert((domain, port), (remote, None));
        port
    }

    fn number(&mut self, domain: DomId) -> Port {
        let next = self.next.entry(domain).or_insert(0);
        *next += 1;
        *next
    }

    /// Ports of a domain that is destroyed.
    pub(super) fn close_all(&mut self, domain: DomId) {
        self.guests.retain(|(of, _), _| *of != domain);
        self.notified.retain(|(of, _), _| *of != domain);
        self.next.remove(&domain);
        for own in self.own.values_mut() {
            if let Kind::Interdomain(of, _) = own.kind
                && of == domain
            {
                own.kind = Kind::Unbound(domain);
            }
        }
    }

    pub(super) fn leftovers(&self) -> Vec<String> {
        let guests = self
            .guests
            .keys()
            .map(|(domain, port)| format!("port {port} of domain {domain}"));
        guests.collect()
    }

    pub(super) fn raise_virq(&mut self, virq: Virq) {
        let ports: Vec<Port> = self
            .own
            .iter()
            .filter(|(_, own)| own.kind == Kind::Virq(virq))
            .map(|(port, _)| *port)
            .collect();
        for port in ports {
            self.raise(port);
        }
    }

    pub(super) fn raise_from(&mut self, domain: DomId, port: Port) -> bool {
        match self.guests.get(&(domain, port)) {
            Some((_, Some(own))) => {
                let own = *own;
                self.raise(own);
                true
            }
            _ => false,
        }
    }

    pub(super) fn take_notified(&mut self, domain: DomId, port: Port) -> u64 {
        self.notified.remove(&(domain, port)).unwrap_or(0)
    }

    fn raise(&mut self, port: Port) {
        let Some(own) = self.own.get_mut(&port) else {
            return;
        };
        own.pending = true;
        if !own.masked
            && let Some(waker) = self.wakers.get_mut(&own.opening)
        {
            // Full means that it is awake.
            let _ = waker.write(&[1]);
        }
    }

    fn bind(&mut self, opening: u64, kind: Kind) -> Port {
        let port = self.number(0);
        self.own.insert(
            port,
            Own {
                opening,
                kind,
                pending: false,
                masked: false,
            },
        );
        port
    }

    fn unbind(&mut self, port: Port) {
        if let Some(Own {
            kind: Kind::Interdomain(domain, remote),
            ..
        }) = self.own.remove(&port)
            && let Some((_, connected)) = self.guests.get_mut(&(domain, remote))
        {
            *connected = None;
        }
    }
}

/// One opening.
#[derive(Debug)]
pub(super) struct FakeEvents {
    fake: Fake,
    opening: u64,
    woken: UnixStream,
}

impl FakeEvents {
    pub(super) fn open(fake: &Fake) -> Result<FakeEvents> {
        let failed = |_| Error::refused("open the event device", None, libc::EMFILE);
        let (woken, waker) = UnixStream::pair().map_err(failed)?;
        woken.set_nonblocking(true).map_err(failed)?;
        waker.set_nonblocking(true).map_err(failed)?;
        let mut state = fake.state();
        state.ports.openings += 1;
        let opening = state.ports.openings;
        state.ports.wakers.insert(opening, waker);
        drop(state);
        Ok(FakeEvents {
            fake: fake.clone(),
            opening,
            woken,
        })
    }

    /// Does something with a port of this opening's.
    fn with<T>(
        &self,
        doing: &'static str,
        port: Port,
        act: impl FnOnce(&mut Ports) -> T,
    ) -> Result<T> {
        let mut state = self.fake.step(doing, None)?;
        match state.ports.own.get(&port) {
            Some(own) if own.opening == self.opening => Ok(act(&mut state.ports)),
            _ => Err(Error::refused(doing, None, libc::ENOTCONN)),
        }
    }
}

impl Drop for FakeEvents {
    fn drop(&mut self) {
        let mut state = self.fake.state();
        let ports: Vec<Port> = state
            .ports
            .own
            .iter()
            .filter(|(_, own)| own.opening == self.opening)
            .map(|(port, _)| *port)
            .collect();
        for port in ports {
            state.ports.unbind(port);
        }
        state.ports.wakers.remove(&self.opening);
    }
}

impl EventChannels for FakeEvents {
    fn bind_virq(&self, virq: Virq) -> Result<Port> {
        let doing = "bind a virtual interrupt";
        let mut state = self.fake.step(doing, None)?;
        let kind = Kind::Virq(virq);
        if state.ports.own.values().any(|own| own.kind == kind) {
            return Err(Error::refused(doing, None, libc::EEXIST));
        }
        Ok(state.ports.bind(self.opening, kind))
    }

    fn bind_interdomain(&self, domain: DomId, remote: Port) -> Result<Port> {
        let doing = "connect to a port";
        let mut state = self.fake.step(doing, Some(domain))?;
        if !matches!(state.ports.guests.get(&(domain, remote)), Some((0, None))) {
            return Err(Error::refused(doing, Some(domain), libc::EINVAL));
        }
        let port = state
            .ports
            .bind(self.opening, Kind::Interdomain(domain, remote));
        state.ports.guests.insert((domain, remote), (0, Some(port)));
        // What was sent before is not lost.
        state.ports.raise(port);
        Ok(port)
    }

    fn bind_unbound(&self, domain: DomId) -> Result<Port> {
        let mut state = self.fake.step_of("make a port", domain)?;
        Ok(state.ports.bind(self.opening, Kind::Unbound(domain)))
    }

    fn unbind(&self, port: Port) -> Result<()> {
        self.with("give a port up", port, |ports| ports.unbind(port))
    }

    fn notify(&self, port: Port) -> Result<()> {
        self.with("raise an event", port, |ports| {
            if let Some(own) = ports.own.get(&port)
                && let Kind::Interdomain(domain, remote) = own.kind
            {
                *ports.notified.entry((domain, remote)).or_insert(0) += 1;
            }
        })
    }

    fn pending(&self) -> Result<Vec<Port>> {
        let mut bytes = [0; 64];
        while matches!((&self.woken).read(&mut bytes), Ok(got) if got > 0) {}
        let mut state = self.fake.step("take events", None)?;
        let opening = self.opening;
        let ports = state
            .ports
            .own
            .iter_mut()
            .filter(|(_, own)| own.opening == opening && own.pending && !own.masked)
            .map(|(port, own)| {
                own.pending = false;
                own.masked = true;
                *port
            });
        Ok(ports.collect())
    }

    fn unmask(&self, port: Port) -> Result<()> {
        self.with("let a port speak again", port, |ports| {
            let pending = ports.own.get_mut(&port).is_some_and(|own| {
                own.masked = false;
                own.pending
            });
            if pending {
                ports.raise(port);
            }
        })
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.woken.as_fd()
    }
}

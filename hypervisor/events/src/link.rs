//! Links between domains: making a port another domain may bind to, binding to it, and sending.

use crate::bits::{self, Raised};
use crate::{Binding, DomId, EventError, Port, PortState, Ports, SharedBits, Target, VcpuId};

/// The table at the other end of a link.
pub enum Peer<'p, 'a> {
    /// The very table the operation was called on: a domain linked to itself.
    Itself,
    /// Another domain's, locked as well.
    Other(&'p mut Ports<'a>),
    /// No table, but this record of an end in ring 0, locked before the table.
    End {
        /// The record's number.
        link: u16,
    },
}

/// What a sent event comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendTo<'t> {
    /// Nobody listens; the sender is not told.
    Nothing,
    /// Raise this port of the sender itself.
    Local(Target<'t>),
    /// Raise a port of another domain: ask that domain's table with [`Ports::receive`].
    Remote {
        /// The domain to notify.
        domain: DomId,
        /// Its port.
        port: Port,
        /// The sender's own port, which `receive` checks.
        from_port: Port,
    },
    /// Tell an end in ring 0.
    End {
        /// Which.
        end: DomId,
        /// Its record of the link.
        link: u16,
        /// The sender's own port, which the record names if it still is of this link.
        from_port: Port,
    },
}

/// A port about to become unbound.
#[must_use]
pub struct UnboundPlan<'p, 'a> {
    table: &'p mut Ports<'a>,
    port: Port,
    remote: DomId,
}

impl UnboundPlan<'_, '_> {
    /// The port that will be allocated.
    #[must_use]
    pub fn port(&self) -> Port {
        self.port
    }

    /// Allocates it. `bits` are those of the domain whose table it is (E8).
    pub fn commit(self, bits: &impl SharedBits) -> Port {
        bits.clear_pending(self.port);
        let binding = Binding::Unbound {
            remote: self.remote,
        };
        self.table.set(
            self.port,
            PortState {
                binding,
                vcpu: VcpuId(0),
            },
        );
        self.port
    }
}

/// Two ports about to be linked.
#[must_use]
pub struct InterdomainPlan<'p, 'a> {
    local: &'p mut Ports<'a>,
    /// `None` for the local table.
    remote: Option<&'p mut Ports<'a>>,
    local_port: Port,
    remote_port: Port,
    remote_vcpu: VcpuId,
}

impl InterdomainPlan<'_, '_> {
    /// The local port that will be allocated.
    #[must_use]
    pub fn port(&self) -> Port {
        self.local_port
    }

    /// Links the two, and raises an event on the *local* port: what the other side sent before there was a link is lost,
    /// so the binder looks once for itself. `bits` are those of the local domain (E8).
    pub fn commit(self, bits: &impl SharedBits) -> Raised {
        bits.clear_pending(self.local_port);
        let Self {
            local,
            remote,
            local_port,
            remote_port,
            remote_vcpu,
        } = self;
        let local_dom = local.domain();
        let remote_dom = remote.as_ref().map_or(local_dom, |table| table.domain());
        let here = Binding::Interdomain {
            remote: remote_dom,
            port: remote_port,
        };
        let there = Binding::Interdomain {
            remote: local_dom,
            port: local_port,
        };
        // The remote port keeps the vCPU its owner chose.
        let there = PortState {
            binding: there,
            vcpu: remote_vcpu,
        };
        local.set(
            local_port,
            PortState {
                binding: here,
                vcpu: VcpuId(0),
            },
        );
        match remote {
            None => local.set(remote_port, there),
            Some(table) => table.set(remote_port, there),
        }
        bits::raise(bits, local_port, VcpuId(0))
    }
}

impl<'a> Ports<'a> {
    /// Prepares a port that `remote` may bind to. `NoSpace` if all are taken.
    pub fn plan_alloc_unbound(&mut self, remote: DomId) -> Result<UnboundPlan<'_, 'a>, EventError> {
        let port = self.lowest_free()?;
        Ok(UnboundPlan {
            table: self,
            port,
            remote,
        })
    }

    /// Prepares a link from a new port here to the unbound port `remote_claim` there. `Invalid` unless
    /// that port waits for this very domain; `NoSpace` if all ports here are taken.
    pub fn plan_bind_interdomain<'p>(
        &'p mut self,
        remote: Peer<'p, 'a>,
        remote_claim: u32,
    ) -> Result<InterdomainPlan<'p, 'a>, EventError> {
        let remote_port = Port::from_claim(remote_claim).ok_or(EventError::Invalid)?;
        let (there, remote) = match remote {
            Peer::Itself => (self.in_use(remote_port)?, None),
            Peer::Other(table) if table.domain() != self.domain() => {
                (table.in_use(remote_port)?, Some(table))
            }
            Peer::Other(_) | Peer::End { .. } => return Err(EventError::Invalid),
        };
        if there.binding
            != (Binding::Unbound {
                remote: self.domain(),
            })
        {
            return Err(EventError::Invalid);
        }
        // Free, hence another port than the remote one even where both are in this table.
        let local_port = self.lowest_free()?;
        Ok(InterdomainPlan {
            local: self,
            remote,
            local_port,
            remote_port,
            remote_vcpu: there.vcpu,
        })
    }

    /// What to do when the guest sends on a port. `Invalid` for ports it cannot send on: free ones and
    /// those of interrupts.
    pub fn send(&self, claim: u32) -> Result<SendTo<'_>, EventError> {
        let from_port = Port::from_claim(claim).ok_or(EventError::Invalid)?;
        let state = self.in_use(from_port)?;
        match state.binding {
            Binding::Unbound { .. } => Ok(SendTo::Nothing),
            Binding::Ipi => Ok(SendTo::Local(Target::new(self, from_port, state.vcpu))),
            Binding::Interdomain { remote, port } if remote == self.domain() => Ok(self
                .receive(port, remote, from_port)
                .map_or(SendTo::Nothing, SendTo::Local)),
            Binding::Interdomain { remote, port } => Ok(SendTo::Remote {
                domain: remote,
                port,
                from_port,
            }),
            Binding::End { end, link } => Ok(SendTo::End {
                end,
                link,
                from_port,
            }),
            Binding::Free | Binding::Pirq { .. } | Binding::Virq { .. } => Err(EventError::Invalid),
        }
    }

    /// What to raise for an event that (`from`, `from_port`) sent to `port` here. `None` if the link
    /// has gone since the sender's table was read: nothing is to be raised then.
    #[must_use]
    pub fn receive(&self, port: Port, from: DomId, from_port: Port) -> Option<Target<'_>> {
        let state = self.in_use(port).ok()?;
        let expected = Binding::Interdomain {
            remote: from,
            port: from_port,
        };
        (state.binding == expected).then(|| Target::new(self, port, state.vcpu))
    }
}

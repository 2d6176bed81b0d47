//! Closing a port (invariant E1).

use crate::{Binding, DomId, EventError, Peer, Port, PortState, Ports, VcpuId, Virq};

/// What a closed port was bound to, for what the caller has to undo elsewhere. The guest's pending bit
/// of the port is to be cleared in every case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    /// Nothing more to do.
    Nothing,
    /// The port at the other end is unbound now, and waits for this domain.
    Peer {
        /// The other domain.
        domain: DomId,
        /// Its port.
        port: Port,
    },
    /// The physical interrupt has no port any more: it is to be masked.
    Pirq {
        /// Its number in the domain.
        pirq: u16,
    },
    /// The virtual interrupt has no port any more: raising it does nothing from here on.
    Virq {
        /// Which.
        virq: u8,
        /// The vCPU it belonged to.
        vcpu: VcpuId,
    },
}

/// A port about to be closed.
#[must_use]
pub struct ClosePlan<'p, 'a> {
    table: &'p mut Ports<'a>,
    peer: Peer<'p, 'a>,
    port: Port,
    state: PortState,
}

impl<'a> Ports<'a> {
    /// The domain whose table [`Self::plan_close`] needs besides this one; `None` if it needs none.
    /// `Invalid` for ports that are free or do not exist.
    pub fn close_needs(&self, claim: u32) -> Result<Option<DomId>, EventError> {
        let port = Port::from_claim(claim).ok_or(EventError::Invalid)?;
        Ok(match self.in_use(port)?.binding {
            Binding::Interdomain { remote, .. } if remote != self.domain() => Some(remote),
            _ => None,
        })
    }

    /// Prepares to close a port. For a link to another domain `peer` is that domain's table, else
    /// [`Peer::Itself`]; `Again` if the port needs another table than that, because it was bound anew
    /// since [`Self::close_needs`] was asked. `Invalid` for ports that are free or do not exist.
    pub fn plan_close<'p>(
        &'p mut self,
        claim: u32,
        peer: Peer<'p, 'a>,
    ) -> Result<ClosePlan<'p, 'a>, EventError> {
        let port = Port::from_claim(claim).ok_or(EventError::Invalid)?;
        let state = self.in_use(port)?;
        let given = match &peer {
            Peer::Itself => None,
            Peer::Other(table) => Some(table.domain()),
        };
        match self.close_needs(claim)? {
            Some(needed) if given != Some(needed) => Err(EventError::Again),
            _ => Ok(ClosePlan {
                table: self,
                peer,
                port,
                state,
            }),
        }
    }
}

impl ClosePlan<'_, '_> {
    /// Closes it.
    pub fn commit(self) -> (Port, Released) {
        let Self {
            table,
            peer,
            port,
            state,
        } = self;
        let released = match state.binding {
            Binding::Free | Binding::Unbound { .. } | Binding::Ipi => Released::Nothing,
            Binding::Interdomain {
                remote,
                port: peer_port,
            } => {
                let closer = table.domain();
                if remote == closer {
                    unlink(table, peer_port, closer);
                } else if let Peer::Other(peer) = peer {
                    unlink(peer, peer_port, closer);
                }
                Released::Peer {
                    domain: remote,
                    port: peer_port,
                }
            }
            Binding::Pirq { pirq } => {
                if let Some(slot) = table.pirqs.get_mut(usize::from(pirq)) {
                    *slot = None;
                }
                Released::Pirq { pirq }
            }
            Binding::Virq { virq } => {
                // A global one is looked up under vCPU 0, whichever vCPU it notifies by now.
                let owner = if Virq::is_global(virq) {
                    VcpuId(0)
                } else {
                    state.vcpu
                };
                table.virqs.set(virq, owner, None);
                Released::Virq { virq, vcpu: owner }
            }
        };
        table.set(port, PortState::FREE);
        (port, released)
    }
}

/// Makes the far end of a link wait for `closer` again. It keeps its vCPU.
fn unlink(table: &mut Ports<'_>, port: Port, closer: DomId) {
    if let Ok(state) = table.in_use(port) {
        table.set(
            port,
            PortState {
                binding: Binding::Unbound { remote: closer },
                ..state
            },
        );
    }
}

//! Closing a port (invariant E1).

use crate::{Binding, DomId, EventError, Peer, Port, PortState, Ports, SharedBits, VcpuId, Virq};

/// What a closed port was bound to, for what the caller has to undo elsewhere.
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
    /// The record of a link to an end in ring 0 has no port any more: the end is to be told.
    End {
        /// The end.
        end: DomId,
        /// Its record.
        link: u16,
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

/// What closing a port needs besides its own table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// The table of this domain.
    Table(DomId),
    /// The record of a link to an end in ring 0.
    End {
        /// The end.
        end: DomId,
        /// Its record.
        link: u16,
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
    /// What [`Self::plan_close`] needs besides this table. `Invalid` for ports that are free or do not exist.
    pub fn close_needs(&self, claim: u32) -> Result<Needs, EventError> {
        let port = Port::from_claim(claim).ok_or(EventError::Invalid)?;
        Ok(match self.in_use(port)?.binding {
            Binding::Interdomain { remote, .. } if remote != self.domain() => Needs::Table(remote),
            Binding::End { end, link } => Needs::End { end, link },
            _ => Needs::Nothing,
        })
    }

    /// Prepares to close a port. `peer` is what [`Self::close_needs`] said, locked, else [`Peer::Itself`]; `Again` if
    /// the port needs another than that, because it was bound anew since. `Invalid` for ports that are free or do not
    /// exist.
    pub fn plan_close<'p>(
        &'p mut self,
        claim: u32,
        peer: Peer<'p, 'a>,
    ) -> Result<ClosePlan<'p, 'a>, EventError> {
        let port = Port::from_claim(claim).ok_or(EventError::Invalid)?;
        let state = self.in_use(port)?;
        let enough = match (self.close_needs(claim)?, &peer) {
            (Needs::Nothing, _) => true,
            (Needs::Table(needed), Peer::Other(table)) => table.domain() == needed,
            (Needs::End { link: needed, .. }, Peer::End { link }) => *link == needed,
            (Needs::Table(_) | Needs::End { .. }, _) => false,
        };
        if !enough {
            return Err(EventError::Again);
        }
        Ok(ClosePlan {
            table: self,
            peer,
            port,
            state,
        })
    }
}

impl ClosePlan<'_, '_> {
    /// Closes it. `bits` are those of the domain whose table it is (E8).
    pub fn commit(self, bits: &impl SharedBits) -> (Port, Released) {
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
            Binding::End { end, link } => Released::End { end, link },
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
        bits.clear_pending(port);
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

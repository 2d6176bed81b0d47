//! Links to ends in ring 0: services of the hypervisor's that have a domain number, but no table of ports.
//!
//! What stands behind such a port is a record of the hypervisor's, named by a number. It is made by whoever may, not by
//! a binding of the other side, and while it stands the record and the port name each other.

use crate::{Binding, DomId, EventError, Port, PortState, Ports, Target};

/// A port about to be linked to an end.
#[must_use]
pub struct EndPlan<'p, 'a> {
    table: &'p mut Ports<'a>,
    port: Port,
    state: PortState,
}

impl EndPlan<'_, '_> {
    /// The port.
    #[must_use]
    pub fn port(&self) -> Port {
        self.port
    }

    /// Links it. It keeps the vCPU its owner chose.
    pub fn commit(self) {
        self.table.set(self.port, self.state);
    }
}

impl<'a> Ports<'a> {
    /// Prepares to link an unbound port to the record `link` of an end. `Invalid` unless the port waits for that end,
    /// and in a domain that is dying.
    pub fn plan_bind_end(
        &mut self,
        claim: u32,
        end: DomId,
        link: u16,
    ) -> Result<EndPlan<'_, 'a>, EventError> {
        let port = Port::from_claim(claim).ok_or(EventError::Invalid)?;
        let state = self.in_use(port)?;
        if self.retired || state.binding != (Binding::Unbound { remote: end }) {
            return Err(EventError::Invalid);
        }
        let binding = Binding::End { end, link };
        Ok(EndPlan {
            table: self,
            port,
            state: PortState { binding, ..state },
        })
    }

    /// The end goes: its port waits for it again. False, and nothing changed, if the port is not linked so.
    pub fn unbind_end(&mut self, port: Port, end: DomId, link: u16) -> bool {
        let Ok(state) = self.in_use(port) else {
            return false;
        };
        if state.binding != (Binding::End { end, link }) {
            return false;
        }
        let binding = Binding::Unbound { remote: end };
        self.set(port, PortState { binding, ..state });
        true
    }

    /// What to raise for an event of an end's. `None` if the port is not linked so.
    #[must_use]
    pub fn receive_from_end(&self, port: Port, end: DomId, link: u16) -> Option<Target<'_>> {
        let state = self.in_use(port).ok()?;
        let is_its = state.binding == Binding::End { end, link };
        is_its.then(|| Target::new(self, port, state.vcpu))
    }
}

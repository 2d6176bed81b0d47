//! What an event leads to (invariant E9).

use crate::bits::{self, Raised, SharedBits, Wake};
use crate::{Port, Ports, VcpuId};
use core::marker::PhantomData;

/// A port that is bound, and the vCPU it notifies, for as long as the table in which it was found is held: it cannot be closed
/// meanwhile, nor its number be bound to something else, which would get an event that is not its own.
///
/// ```compile_fail,E0505
/// # use events::{Ports, SharedBits, VcpuId, Virq};
/// fn raise_late(table: std::sync::MutexGuard<'_, Ports<'_>>, bits: &impl SharedBits) {
///     let Some(target) = table.virq_port(Virq::TIMER, VcpuId(0)) else { return };
///     drop(table);
///     let _ = target.raise(bits);
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Target<'t> {
    port: Port,
    vcpu: VcpuId,
    held: PhantomData<&'t Ports<'t>>,
}

impl<'t> Target<'t> {
    pub(crate) const fn new(_: &'t Ports<'_>, port: Port, vcpu: VcpuId) -> Self {
        Self {
            port,
            vcpu,
            held: PhantomData,
        }
    }

    /// The port.
    #[must_use]
    pub const fn port(self) -> Port {
        self.port
    }

    /// The vCPU it notifies.
    #[must_use]
    pub const fn vcpu(self) -> VcpuId {
        self.vcpu
    }

    /// Raises an event. `bits` are those of the domain whose table it is. Whom that wakes may be woken when the table is let
    /// go: who is woken for nothing looks, and sleeps again.
    #[inline]
    pub fn raise(self, bits: &impl SharedBits) -> Raised {
        bits::raise(bits, self.port, self.vcpu)
    }

    /// Unmasks the port on behalf of a guest, and notifies its vCPU if an event came while it was masked.
    #[inline]
    pub fn unmask(self, bits: &impl SharedBits) -> Wake {
        bits::unmask(bits, self.port, self.vcpu)
    }
}

//! The 2-level protocol: which bits of shared memory are set, in which order (invariant E7).
//!
//! Three levels stand between an event and a vCPU: the port's pending bit, the bit of that word in the
//! vCPU's selector, and the vCPU's "upcall pending" byte. Each is set by test-and-set from the bottom up
//! and the walk stops where one was set already, because whoever set it has gone, or is going, the rest
//! of the way. The guest clears them from the top down before it looks at the level below, so an event
//! is seen by that scan or raises the levels anew.
//!
//! A masked port stops the walk after its pending bit. The guest unmasks by clearing the mask and *then*
//! looking at the pending bit; we set the pending bit and *then* look at the mask. One of the two sees
//! the other's write, provided neither pair is reordered: hence sequential consistency below.
//!
//! The guest can write all these bits. The worst it can do is lose its own events.

use crate::{Port, VcpuId};

/// Atomic bits in memory shared with one guest.
///
/// Every operation is sequentially consistent with every other (on x86, a locked instruction; a plain
/// load suffices for [`Self::is_masked`] and [`Self::is_pending`] behind one). `vcpu` comes from the
/// port table, so it is one the domain has (E4).
pub trait SharedBits {
    /// Sets the port's pending bit; the value it had.
    fn test_and_set_pending(&self, port: Port) -> bool;
    /// Clears the port's pending bit, as when a port is closed.
    fn clear_pending(&self, port: Port);
    /// The port's pending bit.
    fn is_pending(&self, port: Port) -> bool;
    /// The port's mask bit.
    fn is_masked(&self, port: Port) -> bool;
    /// Clears the port's mask bit.
    fn clear_mask(&self, port: Port);
    /// Sets bit `word` (0 to 63) of the vCPU's selector; the value it had.
    fn test_and_set_selector(&self, vcpu: VcpuId, word: usize) -> bool;
    /// Sets all bits of the vCPU's selector.
    fn set_all_selectors(&self, vcpu: VcpuId);
    /// Sets the vCPU's "upcall pending" byte; whether it was set.
    fn test_and_set_upcall_pending(&self, vcpu: VcpuId) -> bool;
}

/// Whom to wake, or to interrupt if it runs on another CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Wake {
    /// Nobody.
    None,
    /// This vCPU of the domain: if it is blocked it becomes runnable, if it runs it looks at its events.
    Vcpu(VcpuId),
}

/// What raising an event came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Raised {
    /// The port was not pending before. A vCPU that polls it must be woken even if it is masked; if the
    /// port *was* pending, a poller has seen that before it went to sleep.
    pub newly_pending: bool,
    /// Whom to wake for it.
    pub wake: Wake,
    /// The port.
    pub port: Port,
    /// The vCPU that it notifies.
    pub vcpu: VcpuId,
}

/// Raises an event on `port`, which notifies `vcpu`.
#[inline]
pub(crate) fn raise(bits: &impl SharedBits, port: Port, vcpu: VcpuId) -> Raised {
    if bits.test_and_set_pending(port) {
        return Raised {
            newly_pending: false,
            wake: Wake::None,
            port,
            vcpu,
        };
    }
    let wake = if bits.is_masked(port) {
        Wake::None
    } else {
        select(bits, port, vcpu)
    };
    Raised {
        newly_pending: true,
        wake,
        port,
        vcpu,
    }
}

/// Unmasks a port on behalf of a guest, and notifies `vcpu` if an event came while it was masked.
#[inline]
pub(crate) fn unmask(bits: &impl SharedBits, port: Port, vcpu: VcpuId) -> Wake {
    // Whether it was masked does not matter: the guest may have cleared the bit itself before asking.
    bits.clear_mask(port);
    if bits.is_pending(port) {
        select(bits, port, vcpu)
    } else {
        Wake::None
    }
}

/// Makes a vCPU look at every port, as after its bits have moved to another place in memory: an event
/// that was signalled in the old place only is not lost that way.
pub fn rescan(bits: &impl SharedBits, vcpu: VcpuId) -> Wake {
    bits.set_all_selectors(vcpu);
    upcall(bits, vcpu)
}

fn select(bits: &impl SharedBits, port: Port, vcpu: VcpuId) -> Wake {
    if bits.test_and_set_selector(vcpu, port.word()) {
        Wake::None
    } else {
        upcall(bits, vcpu)
    }
}

fn upcall(bits: &impl SharedBits, vcpu: VcpuId) -> Wake {
    if bits.test_and_set_upcall_pending(vcpu) {
        Wake::None
    } else {
        Wake::Vcpu(vcpu)
    }
}

//! The small values: domain, port and vCPU numbers, what a port is bound to, and errors.

use core::num::NonZeroU16;

use crate::MAX_PORTS;

/// A domain's number, resolved: never one of the special values such as "self".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct DomId(pub u16);

/// A vCPU's number within its domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct VcpuId(pub u16);

/// A port number in range: 1 to 4095. What a guest names is a bare `u32` until it is one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Port(NonZeroU16);

impl Port {
    /// The port a guest names; `None` for 0 and for numbers no table can have.
    #[must_use]
    pub const fn from_claim(claim: u32) -> Option<Self> {
        if claim as usize >= MAX_PORTS {
            return None;
        }
        match NonZeroU16::new(claim as u16) {
            Some(port) => Some(Self(port)),
            None => None,
        }
    }

    pub(crate) const fn from_index(index: usize) -> Option<Self> {
        if index >= MAX_PORTS {
            None
        } else {
            Self::from_claim(index as u32)
        }
    }

    /// The number, as the guest knows it.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get() as u32
    }

    /// The number as a stored 16-bit value.
    #[must_use]
    pub const fn get16(self) -> NonZeroU16 {
        self.0
    }

    pub(crate) const fn index(self) -> usize {
        self.0.get() as usize
    }

    /// The word of the pending and mask arrays that holds the port, 0 to 63: also its selector bit.
    #[must_use]
    pub const fn word(self) -> usize {
        self.index() / 64
    }

    /// The port's bit in its word.
    #[must_use]
    pub const fn bit(self) -> u32 {
        self.get() % 64
    }
}

/// What a port is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Binding {
    /// Nothing. The discriminant is zero, so a zeroed frame is a bucket of free ports.
    Free = 0,
    /// Waits for `remote` to bind to it.
    Unbound {
        /// The one domain that may.
        remote: DomId,
    } = 1,
    /// One end of a link.
    Interdomain {
        /// The domain at the other end.
        remote: DomId,
        /// Its port there.
        port: Port,
    } = 2,
    /// A physical interrupt.
    Pirq {
        /// Its number in the domain.
        pirq: u16,
    } = 3,
    /// A virtual interrupt.
    Virq {
        /// Which.
        virq: u8,
    } = 4,
    /// An interrupt from one vCPU of the domain to the one the port notifies.
    Ipi = 5,
    /// A link to a service in ring 0. To its domain it looks like one to another domain.
    End {
        /// The domain number by which the service goes.
        end: DomId,
        /// The service's record of this link.
        link: u16,
    } = 6,
}

impl Binding {
    /// The number by which the `status` operation tells it.
    #[must_use]
    pub const fn status(&self) -> u32 {
        match self {
            Self::Free => 0,
            Self::Unbound { .. } => 1,
            Self::Interdomain { .. } | Self::End { .. } => 2,
            Self::Pirq { .. } => 3,
            Self::Virq { .. } => 4,
            Self::Ipi => 5,
        }
    }
}

/// One port: what it is bound to and the vCPU it notifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct PortState {
    /// What it is bound to.
    pub binding: Binding,
    /// The vCPU told of its events. Zero, and meaningless, while the port is free.
    pub vcpu: VcpuId,
}

// 128 of them are a `Bucket`.
const _: () = assert!(size_of::<PortState>() == 8);

impl PortState {
    /// A free port.
    pub const FREE: Self = Self {
        binding: Binding::Free,
        vcpu: VcpuId(0),
    };
}

/// Why an operation was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventError {
    /// The number names no port, interrupt or vCPU of this use, or the port is bound otherwise (EINVAL).
    Invalid,
    /// That interrupt has a port already (EEXIST).
    Exists,
    /// All ports are taken (ENOSPC). If [`crate::Ports::wants_bucket`] says so, another bucket helps.
    NoSpace,
    /// The caller may not (EPERM). Found by whoever knows rights, not here.
    NotPermitted,
    /// The domain has no such vCPU (ENOENT).
    NoVcpu,
    /// There is no such domain (ESRCH). Found by whoever knows domains, not here.
    NoDomain,
    /// The port's peer is not the one whose table was given: look again and retry (EAGAIN). Not meant
    /// for guests.
    Again,
}

impl EventError {
    /// The positive error number of the guest interface.
    #[must_use]
    pub const fn errno(self) -> i32 {
        match self {
            Self::NotPermitted => 1,
            Self::NoVcpu => 2,
            Self::NoDomain => 3,
            Self::Again => 11,
            Self::Exists => 17,
            Self::Invalid => 22,
            Self::NoSpace => 28,
        }
    }
}

//! The control domain's way to the hypervisor: the stock kernel's Xen devices as typed, safe operations.
//!
//! [`Hypervisor`] is what the layers above are written against: domains, their memory, their ports. [`Xen`] is the
//! one that speaks to the machine, through `/dev/xen/privcmd`, `/dev/xen/evtchn` and `/dev/xen/gntdev`; with the
//! feature `fake` there is another in memory, for host tests (`fake`). [`OwnStore`] is the control domain's own
//! store page, which no call reaches.
//!
//! # Invariants
//! - X1: `unsafe` code is system calls and memory that others change: `sys` and `mapping`, which hand every pointer to the
//!   kernel, and the devices' modules around them (`privcmd`, `evtchn`, `grants`, `own_store`, `buffer`); nothing else.
//! - X2: what a hypercall reads or writes lies in pages of `/dev/xen/hypercall`, which the kernel never moves or swaps,
//!   and is copied in before and out after; no reference to it lives across a call.
//! - X3: memory of other domains is read and written through [`Mapping`] only, by value: it changes under us.
//! - X4: dropping a value gives back what it stands for: a mapping is unmapped, ports of a closed device are unbound.

mod accounts;
mod buffer;
mod describe;
mod device;
mod domain;
mod error;
mod events;
mod evtchn;
#[cfg(feature = "fake")]
pub mod fake;
mod grants;
mod hypervisor;
mod ioctl;
mod mapping;
mod open;
mod own_store;
mod privcmd;
mod reserve;
mod sys;

pub use accounts::{Accounts, Part};
pub use device::Xen;
pub use domain::{
    DomainHandle, DomainInfo, MachineInfo, NewDomain, ShutdownReason, State, VcpuInfo,
};
pub use error::{Cause, Error, Result};
pub use events::{EventChannels, Port};
pub use guest_abi::DomId;
pub use hypervisor::{Access, Hypervisor};
pub use mapping::Mapping;
pub use own_store::OwnStore;
pub use reserve::{CpuAnswer, CpuRefusal, CpuReserved, CpuRules, CpuTerms};

/// Bytes of a page or frame.
pub const PAGE: usize = 4096;

//! Event channels: which port leads where, and the bits that tell a guest so.
//!
//! A domain's ports are a [`Ports`] table. Each port is free or bound to one source of events; a link
//! between two domains is a port in each, naming the other:
//!
//! ```text
//!            alloc_unbound             bind_interdomain (by the other side)
//!   Free ──────────────────▶ Unbound ───────────────────────▶ Interdomain
//!    ▲ │                       ▲                                   │  │
//!    │ │ bind_virq, bind_pirq, └───────────────────────────────────┘  │
//!    │ │ bind_ipi                     the other side closes           │
//!    │ └──────────▶ Virq, Pirq, Ipi                                   │
//!    └──────────────────┴───────────────── close ─────────────────────┘
//! ```
//!
//! `End` is another kind of link, to a service in ring 0: an unbound port that names the end becomes one when the end
//! is attached to it, and is unbound again when the end is detached.
//!
//! # Invariants
//! - E1: links are symmetric: where a port is `Interdomain` to (D, q), port q of domain D is
//!   `Interdomain` to it. So no port ever names a peer that is gone.
//!   A port that is `End` to a record in ring 0 is the one that record names: it changes only in the hands of who holds
//!   the record's lock, which is taken before the table's.
//! - E2: a port is free exactly if its bit in the free map is set; port 0 is neither free nor bound.
//! - E3: a virtual interrupt of a vCPU, a global one of a domain, and a physical one have at most one
//!   port each, and the lookup names the port exactly while it is bound so.
//! - E4: a port notifies a vCPU the domain has; an IPI or per-vCPU interrupt never moves from its own.
//! - E5: every refusal comes before the first change: a plan borrows all tables it will write, and its
//!   `commit` cannot fail.
//! - E6: every operation is bounded by a constant.
//! - E7: an event raised while its port is unmasked is never lost: see [`Target::raise`] and the module `bits`.
//! - E8: a port's pending bit is cleared by whoever gives the port out or takes it back, in the `commit` of its plan and
//!   so under the table's lock: before a source can find the port, and before another binding can get it. Whatever is
//!   raised for a binding comes later.
//! - E9: an event is raised while the table is held in which its port was found: in the guest's eyes it comes to what the
//!   port is bound to, or not at all, and never to what it is bound to next. A [`Target`], which alone can be raised, lives
//!   no longer than that.
//! - O1 to O4: of whom an event wakes because it polls, see [`pollers`].
//!
//! # Locking
//! One lock a table, the caller's. Where an operation takes two, the lower domain number goes first.
//! What was read under a lock since dropped is checked again here ([`EventError::Again`]).
//! A domain's number is not used again before all its ports are closed (E1 rests on it).

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod bits;
mod close;
mod end;
mod free_map;
mod link;
pub mod pollers;
mod port;
mod table;
mod target;
mod virq;

mod atomic {
    //! The atomics of `core`, and in tests ones that let a test choose who moves next.
    #[cfg(not(test))]
    pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64};
    #[cfg(test)]
    pub(crate) use interleave::{AtomicU32, AtomicU64};
}

pub use bits::{Raised, SharedBits, Wake, rescan};
pub use close::{ClosePlan, Needs, Released};
pub use end::EndPlan;
pub use link::{InterdomainPlan, Peer, SendTo, UnboundPlan};
pub use port::{Binding, DomId, EventError, Port, PortState, VcpuId};
pub use table::{Bucket, Ports};
pub use target::Target;
pub use virq::{IpiPlan, PirqPlan, Virq, VirqPlan};

/// Ports the 2-level interface has: 64 words of 64 bits.
pub const MAX_PORTS: usize = 4096;
/// Ports in a bucket, the step by which a table grows: few, since most domains have few.
pub const PORTS_PER_BUCKET: usize = 1024 / size_of::<PortState>();
/// Buckets of a table at its largest.
pub const MAX_BUCKETS: usize = MAX_PORTS / PORTS_PER_BUCKET;
/// vCPUs a domain can have, as far as its ports are concerned.
pub const MAX_VCPUS: usize = 64;

//! The store: a small tree of names and values in which the control domain and its guests tell each other what
//! devices there are and how far each side is. The protocol is xenstore's, as stock kernels and tools speak it.
//!
//! ```text
//!   socket bytes ──▶ wire ──▶ ops ──▶ plan ──▶ tree          (a request: decode, check, commit)
//!   ring page ──▶ ring ──┘     │                │
//!                              └── watch, events ┴──▶ client queues ──▶ ring, socket
//!                                        record ──▶ journal          (before anything is shown)
//! ```
//!
//! [`Store`] is the service as a value: requests in, answers and events out, no input and output of its own.
//! [`Service`] drives it: it keeps the journal, and moves bytes between the store and the domains' ring pages.
//! Mapping pages and ringing event channels is the program's, behind [`Machine`].
//!
//! What guests can do to it: the bytes of a ring are copied once and checked before they mean anything; indexes
//! that make no sense, and messages that are too long, end that ring's connection and nothing else; what a guest
//! uses is counted and limited ([`Limits`]).

#![forbid(unsafe_code)]

mod client;
mod control;
mod domains;
mod error;
mod events;
mod journal;
mod map;
mod ops;
mod path;
mod perms;
mod plan;
mod pump;
mod quota;
mod record;
mod ring;
mod service;
mod sessions;
mod snapshot;
mod store;
mod transaction;
mod tree;
mod watch;
pub mod wire;

pub use client::ClientId;
pub use error::Errno;
pub use journal::{Journal, JournalError, Recovery};
pub use path::Path;
pub use perms::{Access, Caller, Need, Perm, Perms};
pub use pump::Pumped;
pub use quota::{Limits, Usage};
pub use ring::{Fault, Page};
pub use service::{Fed, Machine, Service};
pub use store::{Host, Place, Store};

/// A domain's number.
pub type DomId = u16;

/// The first number that no domain has: those from here on have meanings of their own.
pub const FIRST_RESERVED_DOMID: DomId = 0x7ff0;

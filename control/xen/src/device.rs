//! The hypervisor behind the stock kernel's devices.

use crate::Result;

/// The hypervisor that the control domain runs on.
#[derive(Debug)]
pub struct Xen {}

impl Xen {
    /// Opens the devices.
    ///
    /// # Errors
    /// When `/dev/xen/privcmd` is not there: not on a hypervisor, or without the module `xen-privcmd`.
    pub fn open() -> Result<Xen> {
        todo!()
    }
}

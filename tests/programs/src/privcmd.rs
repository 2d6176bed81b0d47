//! Hypercalls from a program: the kernel makes them for us, through `/dev/xen/privcmd` (module `xen-privcmd`).
//!
//! Memory that a hypercall names must be in place when it is made: the hypervisor walks the page tables as they are.
//! What a program has just written is.

use crate::sys::{self, Errno};

/// The door to the hypervisor.
#[derive(Debug)]
pub struct Privcmd(i32);

/// `struct privcmd_hypercall`.
#[repr(C)]
struct Call {
    number: u64,
    arguments: [u64; 5],
}

/// `_IOC(_IOC_NONE, 'P', 0, sizeof(struct privcmd_hypercall))`.
const HYPERCALL: usize = size_of::<Call>() << 16 | (b'P' as usize) << 8;

impl Privcmd {
    /// Opens the device.
    ///
    /// # Errors
    /// The kernel's: it is not there on the bare machine, or without its module.
    pub fn open() -> Result<Privcmd, Errno> {
        sys::open(c"/dev/xen/privcmd").map(Privcmd)
    }

    /// Makes a hypercall.
    ///
    /// # Errors
    /// The hypervisor's or the kernel's.
    ///
    /// # Safety
    /// What the call does to the memory that its arguments name keeps Rust's rules.
    pub unsafe fn call(&self, number: u64, arguments: [u64; 5]) -> Result<usize, Errno> {
        let call = Call { number, arguments };
        // SAFETY: the kernel reads `call`; for the rest the caller answers.
        unsafe { sys::ioctl(self.0, HYPERCALL, &raw const call as usize) }
    }
}

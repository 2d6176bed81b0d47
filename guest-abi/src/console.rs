//! Consoles: the machine's, through a hypercall, and a domain's own, a ring in a shared page.

use crate::wire::{operations, wire_struct};

operations! {
    /// Operations of [`Hypercall::ConsoleIo`](crate::Hypercall::ConsoleIo).
    pub enum ConsoleIoOp: u32 {
        /// Write the buffer. Result: 0.
        Write "write" = 0,
        /// Read what has come. Result: the number of bytes.
        Read "read" = 1,
    }
}

/// Bytes of a console ring towards the domain.
pub const XENCONS_IN_BYTES: u32 = 1024;
/// Bytes of a console ring from the domain.
pub const XENCONS_OUT_BYTES: u32 = 2048;

wire_struct! {
    /// The head of a domain's console page. Indexes run freely; a byte's place is its index modulo the size of
    /// the array. Each side writes its own two indexes only.
    pub struct XenconsInterface: 3088 {
        /// Bytes to the domain.
        0x000 input: [u8; 1024],
        /// Bytes from the domain.
        0x400 out: [u8; 2048],
        /// Read so far of `input`, by the domain.
        0xc00 in_cons: u32,
        /// Written so far to `input`, by the back end.
        0xc04 in_prod: u32,
        /// Read so far of `out`, by the back end.
        0xc08 out_cons: u32,
        /// Written so far to `out`, by the domain.
        0xc0c out_prod: u32,
    }
}

//! Guest kernels as files: read, checked, unpacked, and kept unpacked by what is in them.
//!
//! [`Cache::kernel`] makes a [`Kernel`] of a file: the bzImage or ELF file is identified, unpacked and placed by the
//! code that ring 0 starts its own first guest with (`image`), and what comes out, page by page and without the empty
//! pages, is kept under the BLAKE3 hash of the file, so that the next guest does without the unpacking.
//!
//! # Invariants
//! - K1: a [`Kernel`] has been checked: it is for this interface, and nothing in it overlaps or wraps.
//! - K2: what is in the cache under a name is complete and was made of a file with that hash, or it is found out by its
//!   check sums before it is used and made anew. Files appear there in one step (rename).
//! - K3: the cache is an acceleration: whatever is wrong with its directory, a kernel can be had without it.
//! - K4: the cache holds at most its limit, oldest use first out, but always what was asked for last.
#![forbid(unsafe_code)]

mod cache;
mod entry;
mod error;
mod kernel;
mod unpack;

pub use cache::Cache;
pub use error::KernelError;
pub use kernel::{Extent, Kernel, Pages};

//! Why a guest cannot be built: one sentence each, with the remedy.

use image::ImageError;
use std::io;
use std::path::PathBuf;

/// Why a guest cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The kernel cannot be placed.
    #[error("the kernel {0}")]
    Kernel(#[from] ImageError),
    /// The initial file system cannot be read.
    #[error("the initrd {} cannot be read: {source}", .path.display())]
    Initrd {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The unpacked kernel cannot be read.
    #[error("the unpacked kernel cannot be read: {0}")]
    Pages(io::Error),
    /// The kernel's words are too long.
    #[error("the kernel's command line has {len} bytes, and at most 1023 fit: shorten it")]
    CommandLine {
        /// Its bytes.
        len: usize,
    },
    /// There is a NUL in the kernel's words.
    #[error("the kernel's command line has a NUL in it: remove it")]
    CommandLineNul,
    /// Too few or too many vCPUs.
    #[error("{vcpus} vCPUs were asked for: a guest has 1 to {max}")]
    Vcpus {
        /// How many were asked for.
        vcpus: u32,
        /// The most there can be.
        max: u32,
    },
    /// Kernel and initrd do not fit.
    #[error(
        "kernel and initrd need {} MiB and the guest has {} MiB: give it more memory",
        .need.div_ceil(256), .have >> 8
    )]
    TooSmall {
        /// Pages needed at least.
        need: u64,
        /// Pages the guest would have.
        have: u64,
    },
    /// More memory than a guest can be built with.
    #[error("{} MiB were asked for, and a guest can have at most {} MiB", .pages >> 8, .max >> 8)]
    TooBig {
        /// Pages asked for.
        pages: u64,
        /// The most.
        max: u64,
    },
    /// The most it may have is less than what it starts with.
    #[error("the guest starts with {} MiB but may have only {} MiB: raise its maximum", .pages >> 8, .max >> 8)]
    Maximum {
        /// Pages it starts with.
        pages: u64,
        /// Pages it may have.
        max: u64,
    },
    /// The machine has not enough memory.
    #[error(
        "the guest needs {} MiB and the machine has {} MiB free: \
         give it less, or free some by ending or shrinking another guest",
        .need.div_ceil(256), .free >> 8
    )]
    NoMemory {
        /// Pages needed.
        need: u64,
        /// Pages that are free.
        free: u64,
    },
    /// The machine cannot run such guests.
    #[error("this hypervisor does not run paravirtualized guests")]
    NoPv,
    /// The domain was destroyed by somebody else meanwhile.
    #[error("the guest was destroyed while it was being built")]
    Vanished,
    /// A ring's frame has a number that its grant entry has no room for.
    #[error("a ring of the guest lies above 16 TiB, where it cannot be granted")]
    HighFrame,
    /// The hypervisor refused.
    #[error(transparent)]
    Hypervisor(#[from] xen::Error),
    /// A step failed, and so did taking back what was done before.
    #[error(
        "{error}; and domain {domain} could not be destroyed again ({undo}): try `xeno destroy {domain}`"
    )]
    Undo {
        /// What failed first.
        error: Box<BuildError>,
        /// What is left.
        domain: xen::DomId,
        /// Why.
        undo: xen::Error,
    },
}

//! Why the initial domain could not be built: one sentence each.

use crate::arch::paging::NoFrame;
use core::fmt;
use image::{ImageError, LayoutError};

/// Why the initial domain could not be built.
#[derive(Debug)]
pub enum BuildError {
    NoModule,
    Kernel(ImageError),
    NoRoom {
        what: &'static str,
        need: u64,
        have: u64,
    },
    CommandLine {
        len: usize,
    },
    TooFewFrames {
        need: u64,
        have: u64,
    },
    Refused,
    NoFrame,
}

impl From<ImageError> for BuildError {
    fn from(e: ImageError) -> Self {
        BuildError::Kernel(e)
    }
}

impl From<LayoutError> for BuildError {
    fn from(e: LayoutError) -> Self {
        match e {
            LayoutError::Image(e) => BuildError::Kernel(e),
            LayoutError::TooFewPages { need, have } => BuildError::TooFewFrames { need, have },
        }
    }
}

impl From<NoFrame> for BuildError {
    fn from(_: NoFrame) -> Self {
        BuildError::NoFrame
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::NoModule => write!(
                f,
                "no kernel: the boot loader passed no module; name a Linux kernel as the first module (QEMU: -initrd \"KERNEL ARGS,INITRD\")"
            ),
            BuildError::Kernel(e) => write!(f, "module 1 (the kernel) {e}"),
            BuildError::NoRoom { what, need, have } => write!(
                f,
                "{what} does not fit: it needs {} MiB and {} MiB are free; give the machine more memory or ask for less",
                need >> 8,
                have >> 8
            ),
            BuildError::CommandLine { len } => write!(
                f,
                "the kernel's command line has {len} bytes; shorten it to at most 1023"
            ),
            BuildError::TooFewFrames { need, have } => write!(
                f,
                "dom0_mem is too small: kernel and initrd need {} MiB and it gives {} MiB; raise it",
                need.div_ceil(256),
                have >> 8
            ),
            BuildError::Refused => write!(
                f,
                "the initial page tables did not validate; this is a fault of the hypervisor"
            ),
            BuildError::NoFrame => write!(
                f,
                "out of memory while building the initial domain; give the machine more memory"
            ),
        }
    }
}

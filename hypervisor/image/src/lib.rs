//! Kernel images: what a file is, how it is unpacked, where its parts belong, and what a guest of it looks like.
//!
//! Used by ring 0 for the initial domain and by the control domain's builder for all others.
//!
//! The steps, each its own type, so that none can be left out:
//!
//! ```text
//! module bytes ── Container::identify ──▶ BzImage ── payload() ──▶ Payload ── decompress ──▶ ELF bytes ─┐
//!                                    └──▶ Elf ──────────────────────────────────────────────────────────┤
//!        Placement ◀── ElfKernel::placement ── XenNotes ◀── ElfKernel::xen_notes ── ElfKernel::parse ◀──┘
//! ```
//!
//! # Invariants
//! - I1: the bytes are a stranger's. No input panics, reads out of bounds, or writes outside the output given; every
//!   offset and length is checked before use.
//! - I2: a payload that decompresses did so completely, to the length it announced, and where the
//!   format has a check sum (all but lz4's), it agrees.
//! - I3: the segments of a parsed ELF lie inside the file, do not wrap and do not overlap each other in memory.
//! - I4: a [`Placement`] spans every segment, its entry point lies inside it, and nothing in it wraps.
//!
//! A [`Layout`] then says where everything else of the guest goes and what is in its first page tables.
//!
//! Nothing here allocates: a payload is unpacked straight into its destination, which is also the dictionary the
//! decoders look back into, and their tables live in a [`Scratch`] that the caller puts where it likes.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate alloc;

mod bytes;
mod bzimage;
mod crc32;
mod elf;
mod error;
mod features;
mod guest_section;
mod gzip;
mod layout;
mod lz4;
mod notes;
mod payload;
mod placement;
mod tables;
mod xxh64;
mod xz;
mod zstd;

pub use bzimage::BzImage;
pub use elf::{ElfKernel, Segment};
pub use error::ImageError;
pub use features::FeatureName;
pub use layout::{LIST_ENTRIES_PER_PAGE, Layout, LayoutError, NO_FRAME, Rings, Run};
pub use notes::XenNotes;
pub use payload::{Compression, MAX_KERNEL_LEN, Payload, Scratch};
pub use placement::{HYPERVISOR_HOLE, Load, Placement};
pub use tables::Link;

/// What a kernel module turns out to be.
#[derive(Clone, Copy, Debug)]
pub enum Container<'a> {
    /// A Linux boot image with a compressed kernel inside.
    BzImage(BzImage<'a>),
    /// An ELF file, not yet looked into: hand it to [`ElfKernel::parse`].
    Elf(&'a [u8]),
}

impl<'a> Container<'a> {
    /// Tells what `module` is.
    ///
    /// # Errors
    /// [`ImageError`] if it is no kernel, one for another architecture, too old, or cut short.
    pub fn identify(module: &'a [u8]) -> Result<Self, ImageError> {
        if module.starts_with(b"\x7fELF") {
            return Ok(Container::Elf(module));
        }
        BzImage::parse(module).map(Container::BzImage)
    }
}

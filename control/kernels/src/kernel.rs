//! A kernel that is ready to be put into a domain.

use image::Placement;
use std::fs::File;
use std::io;

/// Bytes of a page.
pub(crate) const PAGE: u64 = 4096;

/// A run of pages that are not empty, all behind each other in the domain and in the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first pseudo-physical page.
    pub first_pfn: u64,
    /// How many pages.
    pub pages: u64,
    /// Where its bytes begin in the source.
    pub offset: u64,
}

/// Where the bytes of a kernel are.
#[derive(Debug)]
pub enum Pages {
    /// In memory.
    Memory(Vec<u8>),
    /// In a file that nobody changes.
    File(File),
}

/// A kernel, unpacked and checked: where it goes and what its pages hold. Pages of the placement that are in no extent
/// are zero.
#[derive(Debug)]
pub struct Kernel {
    placement: Placement,
    extents: Vec<Extent>,
    pages: Pages,
}

impl Kernel {
    /// The kernel in the bytes of a file.
    ///
    /// # Errors
    /// [`image::ImageError`] if it is none for us.
    pub fn unpack(file: Vec<u8>) -> Result<Kernel, image::ImageError> {
        crate::unpack::unpack(file)
    }

    pub(crate) fn new(placement: Placement, extents: Vec<Extent>, pages: Pages) -> Kernel {
        Kernel {
            placement,
            extents,
            pages,
        }
    }

    /// Where it goes.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Its pages that are not empty, in order.
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// Where their bytes are.
    pub fn pages(&self) -> &Pages {
        &self.pages
    }

    /// Copies a part of the source.
    ///
    /// # Errors
    /// The file's.
    pub fn read(&self, offset: u64, to: &mut [u8]) -> io::Result<()> {
        match &self.pages {
            Pages::File(file) => std::os::unix::fs::FileExt::read_exact_at(file, to, offset),
            Pages::Memory(bytes) => {
                let from = usize::try_from(offset)
                    .ok()
                    .and_then(|offset| bytes.get(offset..)?.get(..to.len()))
                    .ok_or(io::ErrorKind::UnexpectedEof)?;
                to.copy_from_slice(from);
                Ok(())
            }
        }
    }

    /// Bytes of the pages that are not empty.
    pub fn len(&self) -> u64 {
        self.extents.iter().map(|extent| extent.pages * PAGE).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.extents.is_empty()
    }
}

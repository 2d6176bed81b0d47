//! `/dev/xen/privcmd`: hypercalls, and mappings of what other domains have.

use crate::buffer::Buffers;
use crate::{Access, Error, Mapping, PAGE, Result, ioctl, sys};
use guest_abi::{DomId, Hypercall};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;

const PATH: &str = "/dev/xen/privcmd";

/// The device, and the memory its hypercalls use.
#[derive(Debug)]
pub(crate) struct Privcmd {
    device: File,
    pub(crate) buffers: Buffers,
}

impl Privcmd {
    pub(crate) fn open() -> Result<Privcmd> {
        Ok(Privcmd {
            device: crate::open::device(PATH)?,
            buffers: Buffers::open()?,
        })
    }

    /// Makes a hypercall. Addresses among its arguments, and in what they lead to, are those of a
    /// [`crate::buffer::Buffer`].
    pub(crate) fn call(
        &self,
        doing: &'static str,
        domain: Option<DomId>,
        call: Hypercall,
        arguments: [u64; 5],
    ) -> Result<i64> {
        let mut call = ioctl::Hypercall {
            op: call.number(),
            arguments,
        };
        // SAFETY: the kernel reads `call`; the hypervisor touches only buffers (X2), which nobody has a reference into.
        let result = unsafe {
            sys::ioctl(
                self.device.as_fd(),
                ioctl::PRIVCMD_HYPERCALL,
                (&raw mut call).cast(),
            )
        };
        result.map_err(|e| refused(doing, domain, &e))
    }

    /// Maps frames of a domain.
    pub(crate) fn map_frames(
        &self,
        domain: DomId,
        frames: &[u64],
        access: Access,
    ) -> Result<Mapping> {
        const DOING: &str = "map memory";
        let mapping = self.reserve(DOING, domain, frames.len(), access)?;
        let count = u32::try_from(frames.len())
            .map_err(|_| Error::refused(DOING, Some(domain), libc::E2BIG))?;
        let mut errors = vec![0i32; frames.len()];
        let mut batch = ioctl::MapBatch {
            count,
            domain,
            _pad: 0,
            address: mapping.address(),
            frames: frames.as_ptr(),
            errors: errors.as_mut_ptr(),
        };
        // SAFETY: both lists have `count` elements; the kernel changes the mapping, which nobody refers to yet.
        let result = unsafe {
            sys::ioctl(
                self.device.as_fd(),
                ioctl::PRIVCMD_MAP_BATCH,
                (&raw mut batch).cast(),
            )
        };
        result.map_err(|e| refused(DOING, Some(domain), &e))?;
        match errors.iter().find(|error| **error != 0) {
            Some(error) => Err(Error::refused(DOING, Some(domain), error.wrapping_abs())),
            None => Ok(mapping),
        }
    }

    /// Maps the first frames of a resource of a domain, to be written.
    pub(crate) fn map_resource(
        &self,
        doing: &'static str,
        domain: DomId,
        kind: u16,
        id: u32,
        frames: u32,
    ) -> Result<Mapping> {
        let mapping = self.reserve(doing, domain, frames as usize, Access::Write)?;
        let mut resource = ioctl::MapResource {
            domain,
            _pad: 0,
            kind: u32::from(kind),
            id,
            index: 0,
            count: u64::from(frames),
            address: mapping.address(),
        };
        // SAFETY: the kernel changes the mapping, which nobody refers to yet.
        let result = unsafe {
            sys::ioctl(
                self.device.as_fd(),
                ioctl::PRIVCMD_MAP_RESOURCE,
                (&raw mut resource).cast(),
            )
        };
        match result {
            Ok(_) => Ok(mapping),
            Err(e) => Err(refused(doing, Some(domain), &e)),
        }
    }

    /// Addresses for `pages` pages, with nothing behind them yet.
    fn reserve(
        &self,
        doing: &'static str,
        domain: DomId,
        pages: usize,
        access: Access,
    ) -> Result<Mapping> {
        let writable = access == Access::Write;
        let len = pages * PAGE;
        let base = sys::map(self.device.as_fd(), len, 0, writable)
            .map_err(|e| refused(doing, Some(domain), &e))?;
        // SAFETY: just mapped, and nobody else knows of it. It is handed out only when there is something behind it.
        Ok(unsafe { Mapping::new(base, len, writable, None) })
    }
}

/// The error that a device answered with.
pub(crate) fn refused(doing: &'static str, domain: Option<DomId>, error: &io::Error) -> Error {
    let number = error.raw_os_error().unwrap_or(libc::EIO);
    Error::refused(doing, domain, number)
}

//! `/dev/xen/gntdev`: mappings of what other domains grant us.

use crate::privcmd::refused;
use crate::{Access, Error, Mapping, PAGE, Result, ioctl, sys};
use guest_abi::DomId;
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;

const PATH: &str = "/dev/xen/gntdev";
const DOING: &str = "map what is granted to us";

/// The device.
#[derive(Clone, Debug)]
pub(crate) struct Grants(Arc<File>);

/// References that the device knows under an index; it forgets them when this is dropped.
struct Announced {
    device: Arc<File>,
    index: u64,
    count: u32,
}

impl Drop for Announced {
    fn drop(&mut self) {
        let mut unmap = ioctl::UnmapGrants {
            index: self.index,
            count: self.count,
            _pad: 0,
        };
        // SAFETY: the kernel reads `unmap`. It can fail only for an index it did not give.
        let _ = unsafe {
            sys::ioctl(
                self.device.as_fd(),
                ioctl::GNTDEV_UNMAP,
                (&raw mut unmap).cast(),
            )
        };
    }
}

impl Grants {
    pub(crate) fn open() -> Result<Grants> {
        Ok(Grants(Arc::new(crate::open::device(PATH)?)))
    }

    pub(crate) fn map(&self, domain: DomId, references: &[u32], access: Access) -> Result<Mapping> {
        let announced = self.announce(domain, references)?;
        let writable = access == Access::Write;
        let len = references.len() * PAGE;
        let base = sys::map(self.0.as_fd(), len, announced.index, writable)
            .map_err(|e| refused(DOING, Some(domain), &e))?;
        // SAFETY: just mapped, and nobody else knows of it. The device is told after the unmapping.
        Ok(unsafe { Mapping::new(base, len, writable, Some(Box::new(announced))) })
    }

    fn announce(&self, domain: DomId, references: &[u32]) -> Result<Announced> {
        let count = u32::try_from(references.len())
            .ok()
            .filter(|count| *count > 0)
            .ok_or_else(|| Error::refused(DOING, Some(domain), libc::EINVAL))?;
        // The head, then a pair for each reference, in words so that all of it is aligned.
        let mut words = vec![0u64; ioctl::MAP_GRANTS_WORDS + references.len()];
        words[0] = u64::from(count);
        for (word, reference) in words[ioctl::MAP_GRANTS_WORDS..].iter_mut().zip(references) {
            *word = u64::from(domain) | u64::from(*reference) << 32;
        }
        // SAFETY: the kernel reads the head and `count` pairs, all there, and writes `index` in the head.
        let result =
            unsafe { sys::ioctl(self.0.as_fd(), ioctl::GNTDEV_MAP, words.as_mut_ptr().cast()) };
        result.map_err(|e| refused(DOING, Some(domain), &e))?;
        Ok(Announced {
            device: Arc::clone(&self.0),
            index: words[1],
            count,
        })
    }
}

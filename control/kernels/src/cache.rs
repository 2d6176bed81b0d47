//! Unpacked kernels by what is in them.

use crate::{Kernel, KernelError};
use std::path::{Path, PathBuf};

/// A directory of unpacked kernels, each under the SHA-256 of the file it came from.
#[derive(Debug)]
pub struct Cache {
    _dir: PathBuf,
    _limit: u64,
}

impl Cache {
    /// Bytes that the cache may hold unless others are chosen.
    pub const DEFAULT_LIMIT: u64 = 256 << 20;

    /// A cache in `dir`, which is made when it is needed, of at most `limit` bytes.
    pub fn new(dir: &Path, limit: u64) -> Cache {
        Cache {
            _dir: dir.to_owned(),
            _limit: limit,
        }
    }

    /// The kernel in a file, from the cache if it is there.
    ///
    /// # Errors
    /// [`KernelError`] if the file is not a kernel for us. That the cache cannot be used is no error (K3).
    pub fn kernel(&self, _file: &Path) -> Result<Kernel, KernelError> {
        todo!()
    }
}

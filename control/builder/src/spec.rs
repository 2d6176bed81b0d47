//! What a guest is built of, and what comes out.

use kernels::Kernel;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use xen::{DomId, DomainHandle, Port};

/// What a guest is built of.
#[derive(Debug)]
pub struct Spec<'a> {
    /// Its kernel.
    pub kernel: &'a Kernel,
    /// Its initial file system.
    pub initrd: Option<&'a Initrd>,
    /// The kernel's words, at most 1023 bytes.
    pub command_line: &'a [u8],
    /// Pages of 4 KiB it starts with.
    pub pages: u64,
    /// Pages it may have later, at least `pages`.
    pub max_pages: u64,
    /// vCPUs, 1 to [`Spec::MAX_VCPUS`]. The first runs; the guest brings up the others.
    pub vcpus: u32,
    /// What the tools find it by.
    pub handle: DomainHandle,
    /// How many ports and grants it may have.
    pub limits: Limits,
    /// The domain that serves its console ring.
    pub console_domain: DomId,
    /// The domain that serves its store ring.
    pub store_domain: DomId,
}

impl Spec<'_> {
    /// vCPUs a guest can have.
    pub const MAX_VCPUS: u32 = 64;
    /// The most memory a guest can be built with, in pages: 1 TiB.
    pub const MAX_PAGES: u64 = 1 << 28;
}

/// How many ports and grants a guest may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The highest event-channel port.
    pub max_port: u32,
    /// Frames of its grant table.
    pub grant_frames: u32,
    /// Frames of the table of its mappings of others' grants.
    pub maptrack_frames: u32,
}

impl Default for Limits {
    /// As many as stock tools give.
    fn default() -> Limits {
        Limits {
            max_port: 1023,
            grant_frames: 64,
            maptrack_frames: 1024,
        }
    }
}

/// An initial file system: an open file of known length.
#[derive(Debug)]
pub struct Initrd {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    pub(crate) len: u64,
}

impl Initrd {
    /// Opens it.
    ///
    /// # Errors
    /// The file's; [`io::ErrorKind::InvalidInput`] if it is not a regular file.
    pub fn open(path: &Path) -> io::Result<Initrd> {
        // Before it is opened, which waits if it is a pipe that nobody writes to.
        if !std::fs::metadata(path)?.is_file() {
            let what = "it is not a regular file";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        Ok(Initrd {
            file,
            path: path.to_owned(),
            len,
        })
    }

    /// Its bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// A ring of the guest's and what leads to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ring {
    /// Its machine frame.
    pub frame: u64,
    /// The guest's port, which waits for the domain that serves the ring.
    pub port: Port,
    /// The grant reference under which that domain can map it.
    pub reference: u32,
}

/// A guest that is built, complete and paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Built {
    /// Its id.
    pub domain: DomId,
    /// Its console.
    pub console: Ring,
    /// Its way to the store.
    pub store: Ring,
    /// Where its first instruction is.
    pub entry: u64,
}

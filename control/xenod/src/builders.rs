//! How a guest's domain is built: the real way, and the place for another in tests.

use std::path::Path;
use std::sync::Arc;

use builder::{BuildError, Built, Initrd, Limits, Spec};
use kernels::Cache;
use xen::Hypervisor;
use xeno_api::{Error, Guest, Kind};

use crate::uuid::Uuid;

/// Builds guests' domains. Any thread may call; it may take long.
pub trait Builder: Send + Sync {
    /// Checks what can be checked and builds the domain, which is left paused. When it fails nothing is left.
    ///
    /// # Errors
    /// One sentence that names the thing and the remedy.
    fn build(&self, guest: &Guest, handle: Uuid) -> Result<Built, Error>;
}

/// The builder that reads kernels through the cache of unpacked ones.
pub struct Cached {
    /// The hypervisor.
    pub hypervisor: Arc<dyn Hypervisor>,
    /// The cache.
    pub cache: Cache,
}

impl Builder for Cached {
    fn build(&self, guest: &Guest, handle: Uuid) -> Result<Built, Error> {
        check_file("kernel", &guest.kernel)?;
        let kernel = self
            .cache
            .kernel(&guest.kernel)
            .map_err(|error| Error::new(Kind::Description, error.to_string()))?;
        let initrd = match &guest.initrd {
            None => None,
            Some(path) => {
                check_file("initrd", path)?;
                let opened = Initrd::open(path).map_err(|error| {
                    let what = format!("the initrd {} cannot be read: {error}", path.display());
                    Error::new(Kind::Description, what)
                })?;
                Some(opened)
            }
        };
        let spec = Spec {
            kernel: &kernel,
            initrd: initrd.as_ref(),
            command_line: guest.cmdline.as_bytes(),
            pages: guest.memory.pages(),
            max_pages: guest.most_memory().pages(),
            vcpus: guest.vcpus,
            handle: handle.0,
            limits: Limits::default(),
            console_domain: 0,
            store_domain: 0,
        };
        builder::build(self.hypervisor.as_ref(), &spec).map_err(|error| refused(&error))
    }
}

/// Whether a file can be read at all.
///
/// # Errors
/// One sentence that names it.
pub fn check_file(what: &str, path: &Path) -> Result<(), Error> {
    let shown = path.display();
    let refused = |why: String| Err(Error::new(Kind::Description, why));
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => refused(format!(
            "the {what} {shown} does not exist in the control domain: name a file that does"
        )),
        Err(error) => refused(format!("the {what} {shown} cannot be read: {error}")),
        Ok(metadata) if metadata.is_dir() => {
            refused(format!("the {what} {shown} is a directory: name a file"))
        }
        Ok(metadata) if !metadata.is_file() => refused(format!(
            "the {what} {shown} is not a regular file: name one"
        )),
        Ok(_) => match std::fs::File::open(path) {
            Ok(_) => Ok(()),
            Err(error) => refused(format!("the {what} {shown} cannot be read: {error}")),
        },
    }
}

fn refused(error: &BuildError) -> Error {
    let kind = match error {
        BuildError::NoMemory { .. } => Kind::NoMemory,
        BuildError::Hypervisor(error) if error.is_no_memory() => Kind::NoMemory,
        BuildError::Hypervisor(_) | BuildError::NoPv | BuildError::Undo { .. } => Kind::Hypervisor,
        _ => Kind::Description,
    };
    Error::new(kind, error.to_string())
}

//! The stock tool stack to compare with: Debian's `xl` with its libraries and daemons, for an initial file system.

use anyhow::Result;

use crate::extras::read;
use crate::initrd::Part;
use crate::packages::{self, Placed};
use crate::tree::Tree;

/// The package with the tools.
const PACKAGE: &str = "xen-utils-4.17";

/// Where it has them.
const DIR: &str = "usr/lib/xen-4.17/bin";

/// What is needed of it.
const PROGRAMS: &[&str] = &["xl", "xenstored", "xenconsoled", "xen-init-dom0"];

/// The tools and all that they need.
///
/// # Errors
/// When a package cannot be downloaded.
pub fn parts(tree: &Tree) -> Result<Vec<Part>> {
    let mut placed = Vec::new();
    for program in PROGRAMS {
        placed.extend(packages::program(
            tree,
            PACKAGE,
            &format!("{DIR}/{program}"),
        )?);
    }
    // Loaded by the C library when a thread is ended, which nothing says.
    let unwinder = "lib/x86_64-linux-gnu/libgcc_s.so.1";
    placed.push(Placed {
        path: unwinder.to_owned(),
        source: packages::package(tree, "libgcc-s1")?.file(unwinder)?,
    });
    placed.sort();
    placed.dedup();
    let parts = placed.iter();
    let mut parts = parts
        .map(|file| read(file.path.clone(), 0o755, &file.source))
        .collect::<Result<Vec<Part>>>()?;
    parts.push(Part {
        path: "etc/xen/xl.conf".to_owned(),
        permissions: 0o644,
        contents: Vec::new(),
    });
    Ok(parts)
}

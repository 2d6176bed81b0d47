//! What a guest builds under stress: the distribution's small C compiler and its package of single-file libraries, which is
//! C code and nothing else, so that no source package has to be had.

use anyhow::Result;

use crate::extras;
use crate::initrd::Part;
use crate::packages;
use crate::tree::Tree;

/// Headers that come from packages whole; of the kernel's the one that the C library's need.
const HEADERS: &[(&str, &str)] = &[
    ("tcc", "usr/lib/x86_64-linux-gnu/tcc"),
    ("libc6-dev", "usr/include"),
    ("libstb-dev", "usr/include/stb"),
];
const OF_THE_KERNEL: &str = "usr/include/linux/limits.h";

/// The compiler, make, what is compiled, and `builds`, which does it again and again.
///
/// # Errors
/// When a package cannot be had.
pub fn parts(tree: &Tree) -> Result<Vec<Part>> {
    let mut files = packages::program(tree, "tcc", "usr/bin/tcc")?;
    files.extend(packages::program(tree, "make", "usr/bin/make")?);
    for (package, directory) in HEADERS {
        files.extend(packages::files_in(tree, package, directory)?);
    }
    files.push(packages::Placed {
        path: OF_THE_KERNEL.to_owned(),
        source: packages::package(tree, "linux-libc-dev")?.file(OF_THE_KERNEL)?,
    });
    // The programs' libraries are the same.
    files.sort();
    files.dedup();
    let mut parts = extras::placed(&files)?;
    let own = |path: &str, permissions, contents: &str| Part {
        path: path.to_owned(),
        permissions,
        contents: contents.into(),
    };
    parts.push(own("usr/src/Makefile", 0o644, include_str!("Makefile")));
    parts.push(own("usr/bin/builds", 0o755, include_str!("builds.sh")));
    Ok(parts)
}

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

/// Starts the daemons. What guests print goes to `/tmp/guest-NAME.log`.
pub const START: &str = r#"
mkdir -p /var/lib/xen /var/lib/xenstored /var/log/xen /run/xen /run/xenstored /run/lock
ln -s /run /var/run
ln -s /run/lock /var/lock
export PATH=/usr/lib/xen-4.17/bin:$PATH
xenstored --pid-file /run/xenstored.pid
xen-init-dom0 > /dev/null
xenconsoled --log=guest --log-dir=/tmp --pid-file=/run/xenconsoled.pid
"#;

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

/// A guest's description as `xl` reads it. Its time-stamp counter is the machine's.
pub fn config(name: &str, megabytes: &str, words: &str) -> String {
    format!(
        "name = \"{name}\"\ntype = \"pv\"\nkernel = \"/boot/vmlinuz\"\nramdisk = \"/boot/guest.img\"\nmemory = {megabytes}\n\
         vcpus = 1\ntsc_mode = \"native\"\nextra = \"{words}\"\n"
    )
}

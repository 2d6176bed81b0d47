//! The control domain's own programs (`control/`): static Linux programs for its initial file system, and the
//! command's manual pages.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::image;
use crate::shell;
use crate::tree::Tree;

/// The programs: a package and a binary each.
pub const PROGRAMS: &[&str] = &["xeno", "xenod"];

/// A C library linked into the program: the control domain has none to share.
const FLAGS: &str = "-Ctarget-feature=+crt-static";

/// What the programs run on: any Linux. The C library's static form comes with its development files on Debian.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds the programs into `target/xenoserver/control/NAME` and the manual pages beside them, into `man/`.
///
/// # Errors
/// When the compiler or the linker refuses.
pub fn build(tree: &Tree) -> Result<Vec<(String, PathBuf)>> {
    let target_dir = tree.target().join("control");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(tree.root())
        .env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", FLAGS)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .args(["build", "--profile", "control", "--bins"])
        .args(["--target", TARGET, "--target-dir"])
        .arg(&target_dir);
    for program in programs(tree) {
        cargo.args(["--package", program]);
    }
    shell::run(&mut cargo).context("the control domain's programs were not built")?;
    let out = tree.out().join("control");
    let mut built = Vec::new();
    for name in programs(tree) {
        let linked = target_dir.join(TARGET).join("control").join(name);
        let bytes =
            std::fs::read(&linked).with_context(|| format!("the program {name} was not built"))?;
        ensure!(
            image::needs_no_libraries(&bytes),
            "the program {name} needs libraries: install the C library's static form (on Debian: apt-get install \
             libc6-dev)"
        );
        let file = out.join(name);
        shell::write_if_changed(&file, &bytes)?;
        // So that a person can try it on the host too.
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        built.push((name.to_owned(), file));
    }
    shell::run(Command::new(out.join("xeno")).arg("man").arg(manual(tree)))
        .context("the manual pages were not written")?;
    Ok(built)
}

/// Those that the tree has.
fn programs(tree: &Tree) -> impl Iterator<Item = &'static str> {
    let there = |name: &&str| tree.root().join("control").join(name).is_dir();
    PROGRAMS.iter().copied().filter(there)
}

/// Where the manual pages are after [`build`].
pub fn manual(tree: &Tree) -> PathBuf {
    tree.out().join("control/man")
}

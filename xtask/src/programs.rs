//! Static Linux programs of our own (`tests/programs/`), for the initial file system.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::toolchain::{BareMetal, TARGET};
use crate::tree::Tree;
use crate::{build, image, shell};

/// Programs lie at the address their linker script says, below two gibibytes. The code model is the target's own, as
/// for ring 0: it reaches the lowest two gibibytes as well as the highest.
pub const FLAGS: &[&str] = build::GUEST_FLAGS;

/// Where their own cargo output lies.
pub fn target_dir(tree: &Tree) -> PathBuf {
    tree.target().join("programs")
}

/// Builds every program into `target/xenoserver/programs/NAME`; returns where they are, in order of their names.
///
/// # Errors
/// When the compiler or the linker refuses.
pub fn build(tree: &Tree, bare: &BareMetal) -> Result<Vec<(String, PathBuf)>> {
    let package = tree.root().join("tests/programs");
    let mut cargo = bare.cargo(tree, "build", &target_dir(tree), FLAGS);
    cargo
        .arg("--manifest-path")
        .arg(package.join("Cargo.toml"))
        .args(["--package", "programs", "--bins"]);
    shell::run(&mut cargo).context("the programs were not built")?;

    let mut built = Vec::new();
    for name in build::binaries_in(&package.join("src/bin"))? {
        let linked_file = target_dir(tree).join(TARGET).join("release").join(&name);
        let linked = std::fs::read(&linked_file).with_context(|| {
            format!(
                "the program {name} has a source file but {} is missing",
                linked_file.display()
            )
        })?;
        image::check_static(&linked)
            .with_context(|| format!("the program {name} cannot be started"))?;
        let file = tree.out().join("programs").join(&name);
        shell::write_if_changed(&file, &image::strip(&linked)?)?;
        // So that a person can try it on the host too.
        std::fs::set_permissions(&file, Permissions::from_mode(0o755))?;
        built.push((name, file));
    }
    Ok(built)
}

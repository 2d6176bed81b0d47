//! `cargo xtask build` and `guests`: ring 0 and the test guests, linked, checked and laid out under `target/`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::image;
use crate::shell::{self, say};
use crate::toolchain::{BareMetal, TARGET};
use crate::tree::Tree;

/// Position-independent code finds its data relative to itself, so ring 0 may live in address-space slots that no
/// 32-bit displacement from zero reaches; what does not keep to that fails to link. The code model is the target's
/// own, because ready-made core libraries are built with it and link-time optimisation refuses to mix two. Frame
/// pointers are what backtraces walk. Nothing is left to relocate at run time.
pub const RING0_FLAGS: &[&str] = &[
    "-Ccode-model=kernel",
    "-Crelocation-model=pic",
    "-Cforce-frame-pointers=yes",
    "-Clink-arg=--no-pie",
    "-Clink-arg=--build-id=none",
];

/// Test guests are kernels in the top two gibibytes, at the address their linker script says.
pub const GUEST_FLAGS: &[&str] = &[
    "-Crelocation-model=static",
    "-Ccode-model=kernel",
    "-Cforce-frame-pointers=yes",
    "-Clink-arg=--build-id=none",
];

/// Where ring 0's own cargo output lies.
pub fn ring0_target_dir(tree: &Tree) -> PathBuf {
    tree.target().join("ring0")
}

/// What a checked build has besides: assertions that cost time, the order of locks among them (`sync`).
const CHECKED_FLAGS: &[&str] = &["-Cdebug-assertions=yes"];

/// Builds the hypervisor; leaves `hypervisor.elf`, `hypervisor.debug.elf` and `hypervisor.sym`.
///
/// # Errors
/// When the compiler, the linker or one of the image's checks refuses.
pub fn hypervisor(tree: &Tree, bare: &BareMetal) -> Result<()> {
    let linked = ring0(tree, bare, &ring0_target_dir(tree), RING0_FLAGS)?;
    shell::write_if_changed(&tree.hypervisor(), &image::strip(&linked)?)?;
    shell::write_if_changed(&tree.symbols(), &image::symbol_table(&linked)?)?;
    shell::write_if_changed(&tree.hypervisor_debug(), &linked)
}

/// Builds the hypervisor with its assertions checked; leaves `hypervisor.checked.elf` and `hypervisor.checked.sym`.
///
/// # Errors
/// As [`hypervisor`].
pub fn checked_hypervisor(tree: &Tree, bare: &BareMetal) -> Result<()> {
    let flags = [RING0_FLAGS, CHECKED_FLAGS].concat();
    let linked = ring0(tree, bare, &tree.target().join("ring0-checked"), &flags)?;
    shell::write_if_changed(&tree.checked_hypervisor(), &image::strip(&linked)?)?;
    shell::write_if_changed(&tree.checked_symbols(), &image::symbol_table(&linked)?)
}

/// As [`checked_hypervisor`], and puts it where [`hypervisor`] leaves the ordinary one, until that is built again.
///
/// # Errors
/// As [`hypervisor`].
pub fn checked_as_hypervisor(tree: &Tree, bare: &BareMetal) -> Result<()> {
    checked_hypervisor(tree, bare)?;
    for (from, to) in [
        (tree.checked_hypervisor(), tree.hypervisor()),
        (tree.checked_symbols(), tree.symbols()),
    ] {
        std::fs::copy(&from, &to)
            .with_context(|| format!("{} cannot be copied", from.display()))?;
    }
    Ok(())
}

/// Links ring 0; the file's contents, which are fit to be booted.
fn ring0(tree: &Tree, bare: &BareMetal, target_dir: &Path, flags: &[&str]) -> Result<Vec<u8>> {
    let mut cargo = bare.cargo(tree, "build", target_dir, flags);
    cargo.args(["--package", "hypervisor", "--bin", "hypervisor"]);
    shell::run(&mut cargo).context("the hypervisor was not built")?;

    let linked_file = target_dir.join(TARGET).join("release/hypervisor");
    let linked = std::fs::read(&linked_file)
        .with_context(|| format!("{} cannot be read", linked_file.display()))?;
    image::check_static(&linked).context("the hypervisor's image is not bootable")?;
    image::check_bootable(&linked).context("the hypervisor's image is not bootable")?;
    Ok(linked)
}

/// The names of the test guests, from the tree itself, so that a new one cannot be forgotten.
///
/// # Errors
/// When the directory exists and cannot be read.
pub fn guest_names(tree: &Tree) -> Result<Vec<String>> {
    binaries_in(&tree.root().join("tests/guests/src/bin"))
}

/// The binaries that cargo finds in a `src/bin`: one a file, or one a folder with a `main.rs`; in order.
///
/// # Errors
/// When the directory exists and cannot be read.
pub fn binaries_in(dir: &Path) -> Result<Vec<String>> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in
        std::fs::read_dir(dir).with_context(|| format!("{} cannot be read", dir.display()))?
    {
        let path = entry?.path();
        let is_file = path.extension().is_some_and(|e| e == "rs");
        let is_dir = path.join("main.rs").is_file();
        if let (true, Some(name)) = (is_file || is_dir, path.file_stem().and_then(|n| n.to_str())) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Builds every test guest into `target/xenoserver/guests/NAME`; returns where they are.
///
/// # Errors
/// When the compiler, the linker or an image's check refuses.
pub fn guests(tree: &Tree, bare: &BareMetal) -> Result<Vec<(String, PathBuf)>> {
    let names = guest_names(tree)?;
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let manifest = tree.root().join("tests/guests/Cargo.toml");
    let target_dir = tree.target().join("guests");
    let mut cargo = bare.cargo(tree, "build", &target_dir, GUEST_FLAGS);
    cargo
        .arg("--manifest-path")
        .arg(&manifest)
        .args(["--package", "guests", "--bins"]);
    shell::run(&mut cargo).context("the test guests were not built")?;

    let mut built = Vec::new();
    for name in names {
        let linked_file = target_dir.join(TARGET).join("release").join(&name);
        let linked = std::fs::read(&linked_file).with_context(|| {
            format!(
                "the guest {name} has a source file but {} is missing",
                linked_file.display()
            )
        })?;
        image::check_static(&linked)
            .with_context(|| format!("the guest {name} cannot be loaded"))?;
        let file = tree.guests().join(&name);
        shell::write_if_changed(&file, &linked)?;
        built.push((name, file));
    }
    remove_strangers(&tree.guests(), &built)?;
    Ok(built)
}

/// Builds one test guest: where it is.
///
/// # Errors
/// As [`guests`].
pub fn guest(tree: &Tree, bare: &BareMetal, name: &str) -> Result<PathBuf> {
    let target_dir = tree.target().join("guests");
    let mut cargo = bare.cargo(tree, "build", &target_dir, GUEST_FLAGS);
    cargo
        .arg("--manifest-path")
        .arg(tree.root().join("tests/guests/Cargo.toml"))
        .args(["--quiet", "--package", "guests", "--bin", name]);
    shell::run(&mut cargo).with_context(|| format!("the guest {name} was not built"))?;
    Ok(target_dir.join(TARGET).join("release").join(name))
}

/// A guest whose source is gone must not go on passing.
fn remove_strangers(dir: &Path, known: &[(String, PathBuf)]) -> Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if !known.iter().any(|(_, file)| *file == path) {
            std::fs::remove_file(&path)
                .with_context(|| format!("{} cannot be removed", path.display()))?;
        }
    }
    Ok(())
}

/// Options of `cargo xtask build`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// With the order of locks and other assertions checked, which costs time: leaves
    /// target/xenoserver/hypervisor.checked.elf
    #[arg(long)]
    checked: bool,
}

/// Builds what the options name and says where it is.
///
/// # Errors
/// As [`hypervisor`] and [`guests`].
pub fn command(tree: &Tree, options: &Options) -> Result<()> {
    let bare = BareMetal::find(tree)?;
    let file = if options.checked {
        checked_hypervisor(tree, &bare)?;
        tree.checked_hypervisor()
    } else {
        hypervisor(tree, &bare)?;
        tree.hypervisor()
    };
    let size = std::fs::metadata(&file)?.len();
    if size == 0 {
        bail!("{} is empty", file.display());
    }
    say(format!(
        "{} ({} KiB)",
        tree.shown(&file),
        size.div_ceil(1024)
    ));
    Ok(())
}

//! Where things are: the source tree and everything that is built from it.
//!
//! # Invariants
//! - T1: every file made by `xtask` lies under `target/`, so that removing `target/` returns the tree to
//!   what was checked out.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The checked-out tree, and the names of what is built from it.
#[derive(Clone, Debug)]
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// Finds the tree that this program was built from, or, when that moved, the one around the current directory.
    pub fn find() -> Result<Self> {
        let built_from = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
        let manifest_dir = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let candidates = [manifest_dir.as_deref().and_then(Path::parent), built_from];
        for root in candidates.into_iter().flatten() {
            if root.join("rust-toolchain.toml").is_file() {
                return Ok(Self {
                    root: root.to_path_buf(),
                });
            }
        }
        let mut here = std::env::current_dir().context("the current directory cannot be read")?;
        loop {
            if here.join("rust-toolchain.toml").is_file() && here.join("hypervisor").is_dir() {
                return Ok(Self { root: here });
            }
            if !here.pop() {
                anyhow::bail!(
                    "this is not inside the project's tree: change into it and call `cargo xtask` again"
                );
            }
        }
    }

    /// The top of the source tree.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Everything built lies beneath this directory (T1).
    pub fn target(&self) -> PathBuf {
        self.root.join("target")
    }

    /// What a person may want to pick up: the hypervisor, the boot image, guests, logs.
    pub fn out(&self) -> PathBuf {
        self.target().join("xenoserver")
    }

    /// Downloads and what is unpacked from them; safe to delete, slow to fill again.
    pub fn cache(&self) -> PathBuf {
        self.target().join("cache")
    }

    /// The stripped image that QEMU and GRUB start.
    pub fn hypervisor(&self) -> PathBuf {
        self.out().join("hypervisor.elf")
    }

    /// The same image with symbols and line tables, for debuggers.
    pub fn hypervisor_debug(&self) -> PathBuf {
        self.out().join("hypervisor.debug.elf")
    }

    /// The symbol table that ring 0 reads for its backtraces, handed over as the last boot module.
    pub fn symbols(&self) -> PathBuf {
        self.out().join("hypervisor.sym")
    }

    /// Ring 0 with its order of locks and its assertions checked, and the symbols of that.
    pub fn checked_hypervisor(&self) -> PathBuf {
        self.out().join("hypervisor.checked.elf")
    }

    /// The symbol table that belongs to [`Tree::checked_hypervisor`].
    pub fn checked_symbols(&self) -> PathBuf {
        self.out().join("hypervisor.checked.sym")
    }

    /// The test guests, one ELF file each.
    pub fn guests(&self) -> PathBuf {
        self.out().join("guests")
    }

    /// Serial logs of test runs.
    pub fn logs(&self) -> PathBuf {
        self.out().join("logs")
    }

    /// The bootable CD image.
    pub fn iso(&self) -> PathBuf {
        self.out().join("xenoserver.iso")
    }

    /// A path as a person in the tree would type it.
    pub fn shown<'a>(&self, path: &'a Path) -> std::path::Display<'a> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }
}

//! What is put into the initial file system on demand: `cargo xtask run --with stress-ng`.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::domains::{self, Guests};
use crate::initrd::Part;
use crate::shell::say;
use crate::toolchain::BareMetal;
use crate::tree::Tree;
use crate::{added, drivers, initrd, linux_module, packages, programs};

/// Something that can be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Extra {
    /// Our own programs, and the kernel's module through which they reach the hypervisor.
    Programs,
    /// The distribution's stress-ng with its libraries.
    StressNg,
    /// The distribution's e2fsck with its libraries.
    Fsck,
    /// The distribution's tools for the store: xenstore-ls and its kin, with their libraries.
    StoreTools,
    /// The stock kernel's drivers for the machine's disks and network card, and a power button that works.
    Drivers,
    /// The module that offers /dev/xeno: `modprobe xeno`.
    Module,
}

/// The kernel's door to the hypervisor for programs.
const PRIVCMD: &str = "xen_privcmd";

/// Builds the initial file system with these in it. `stock_kernel` is the kernel whose modules fit; without it there
/// are none.
///
/// # Errors
/// When a program cannot be built or downloaded.
pub fn initrd(
    tree: &Tree,
    extras: &[Extra],
    stock_kernel: Option<&Path>,
) -> Result<std::path::PathBuf> {
    build(tree, extras, stock_kernel, None, Vec::new())
}

/// The same with a person's own files in it, and for a control domain if there are `guests`.
///
/// # Errors
/// As [`initrd`], and when a file cannot be where it is to be.
pub fn initrd_with(
    tree: &Tree,
    extras: &[Extra],
    stock_kernel: Option<&Path>,
    guests: Option<Guests<'_>>,
    added: Vec<Part>,
) -> Result<std::path::PathBuf> {
    let guests = guests.map(|guests| (guests, Vec::new()));
    build(tree, extras, stock_kernel, guests, added)
}

/// The same for a control domain with guests; `more` goes in as well.
///
/// # Errors
/// As [`initrd`].
pub fn control_initrd(
    tree: &Tree,
    extras: &[Extra],
    stock_kernel: &Path,
    guests: Guests<'_>,
    more: Vec<Part>,
) -> Result<std::path::PathBuf> {
    let guests = Some((guests, more));
    build(tree, extras, Some(stock_kernel), guests, Vec::new())
}

fn build(
    tree: &Tree,
    extras: &[Extra],
    stock_kernel: Option<&Path>,
    guests: Option<(Guests<'_>, Vec<Part>)>,
    added: Vec<Part>,
) -> Result<std::path::PathBuf> {
    let mut extras = extras.to_vec();
    extras.sort_unstable();
    extras.dedup();
    let mut parts = Vec::new();
    let mut names = Vec::new();
    let mut modules = Vec::new();
    if extras
        .iter()
        .any(|extra| matches!(extra, Extra::Programs | Extra::StressNg))
    {
        parts.extend(own_programs(tree)?);
        names.push("programs");
        if stock_kernel.is_some() {
            modules.push(PRIVCMD);
        } else {
            say(
                "the kernel is not the stock one: programs reach the hypervisor only if it has privcmd built in",
            );
        }
    }
    if extras.contains(&Extra::StressNg) {
        parts.extend(stress_ng(tree)?);
        names.push("stress-ng");
    }
    if extras.contains(&Extra::Fsck) {
        parts.extend(placed(&packages::program(
            tree,
            "e2fsprogs",
            "sbin/e2fsck",
        )?)?);
        names.push("fsck");
    }
    if extras.contains(&Extra::StoreTools) {
        parts.extend(store_tools(tree)?);
        names.push("store-tools");
    }
    if extras.contains(&Extra::Drivers) {
        modules.extend(drivers::DEVICES);
        names.push("drivers");
    }
    if extras.contains(&Extra::Module) {
        let vmlinuz =
            stock_kernel.context("the module xeno is built for the stock kernel alone")?;
        parts.extend(linux_module::parts(tree, vmlinuz)?);
        names.push("module");
    }
    if let Some((guests, more)) = guests {
        modules.extend(drivers::SERVING);
        if let Some(vmlinuz) = stock_kernel {
            parts.extend(linux_module::parts_if_possible(tree, vmlinuz));
        }
        parts.extend(domains::parts(tree, &guests)?);
        parts.extend(more);
        names.push("guests");
    }
    if !modules.is_empty() {
        let vmlinuz = stock_kernel.context(
            "only the stock kernel's drivers are known: give another kernel an `--initrd` with its own",
        )?;
        parts.extend(drivers::parts(vmlinuz, &modules)?);
    }
    if !added.is_empty() {
        for file in &added {
            added::check_place(&file.path, parts.iter().map(|part| part.path.as_str()))?;
        }
        parts.extend(added);
        names.push("added");
    }
    // Programs share libraries: once is enough. Of two files in one place the kernel leaves the later.
    let mut seen = BTreeSet::new();
    parts.reverse();
    parts.retain(|part| seen.insert(part.path.clone()));
    parts.reverse();
    initrd::build_with(tree, &names.join("-"), &parts)
}

/// A file of the host as a part of the initial file system.
///
/// # Errors
/// When it cannot be read.
pub fn read(path: impl Into<String>, permissions: u32, source: &Path) -> Result<Part> {
    Ok(Part {
        path: path.into(),
        permissions,
        contents: std::fs::read(source)
            .with_context(|| format!("{} cannot be read", source.display()))?,
    })
}

fn own_programs(tree: &Tree) -> Result<Vec<Part>> {
    programs::build(tree, &BareMetal::find(tree)?)?
        .iter()
        .map(|(name, file)| read(format!("usr/bin/{name}"), 0o755, file))
        .collect()
}

/// Files of packages as parts of the initial file system.
///
/// # Errors
/// When one cannot be read.
pub fn placed(files: &[packages::Placed]) -> Result<Vec<Part>> {
    let parts = files.iter();
    parts
        .map(|file| read(file.path.clone(), 0o755, &file.source))
        .collect()
}

fn stress_ng(tree: &Tree) -> Result<Vec<Part>> {
    placed(&packages::program(tree, "stress-ng", "usr/bin/stress-ng")?)
}

/// The tools that people and scripts use on the store, as the distribution ships them.
const STORE_TOOLS: &[&str] = &[
    "xenstore-ls",
    "xenstore-read",
    "xenstore-write",
    "xenstore-list",
    "xenstore-rm",
    "xenstore-exists",
    "xenstore-chmod",
    "xenstore-watch",
];

fn store_tools(tree: &Tree) -> Result<Vec<Part>> {
    // A thread that watches is cancelled at the end, for which the C library loads this.
    let unwinder = packages::library(tree, "libgcc-s1", "libgcc_s.so.1")?;
    let mut parts = placed(&[unwinder])?;
    for tool in STORE_TOOLS {
        let path = format!("usr/bin/{tool}");
        parts.extend(placed(&packages::program(tree, "xenstore-utils", &path)?)?);
    }
    Ok(parts)
}

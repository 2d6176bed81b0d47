//! What is put into the initial file system on demand: `cargo xtask run --with stress-ng`.

use std::path::Path;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::initrd::Part;
use crate::shell::say;
use crate::toolchain::BareMetal;
use crate::tree::Tree;
use crate::{drivers, initrd, kernel, packages, programs};

/// Something that can be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Extra {
    /// Our own programs, and the kernel's module through which they reach the hypervisor.
    Programs,
    /// The distribution's stress-ng with its libraries.
    StressNg,
    /// The stock kernel's drivers for the machine's disks and network card, and a power button that works.
    Drivers,
}

/// The kernel's door to the hypervisor for programs.
const PRIVCMD: &str = "drivers/xen/xen-privcmd.ko";

/// Loads the module where there is a hypervisor to reach.
const START_PRIVCMD: &str = "#!/bin/sh
[ -e /sys/hypervisor/type ] && insmod /lib/modules/xen-privcmd.ko
";

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
    let mut extras = extras.to_vec();
    extras.sort_unstable();
    extras.dedup();
    let mut parts = Vec::new();
    let mut names = Vec::new();
    if extras.iter().any(|extra| *extra != Extra::Drivers) {
        parts.extend(own_programs(tree, stock_kernel)?);
        names.push("programs");
    }
    if extras.contains(&Extra::StressNg) {
        parts.extend(stress_ng(tree)?);
        names.push("stress-ng");
    }
    if extras.contains(&Extra::Drivers) {
        let vmlinuz = stock_kernel.context(
            "only the stock kernel's drivers are known: give another kernel an `--initrd` with its own",
        )?;
        parts.extend(drivers::parts(vmlinuz)?);
        names.push("drivers");
    }
    initrd::build_with(tree, &names.join("-"), &parts)
}

fn read(path: impl Into<String>, permissions: u32, source: &Path) -> Result<Part> {
    Ok(Part {
        path: path.into(),
        permissions,
        contents: std::fs::read(source)
            .with_context(|| format!("{} cannot be read", source.display()))?,
    })
}

fn own_programs(tree: &Tree, stock_kernel: Option<&Path>) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    for (name, file) in programs::build(tree, &BareMetal::find(tree)?)? {
        parts.push(read(format!("usr/bin/{name}"), 0o755, &file)?);
    }
    match stock_kernel {
        Some(vmlinuz) => {
            let module = kernel::module(vmlinuz, PRIVCMD)?;
            parts.push(read("lib/modules/xen-privcmd.ko", 0o644, &module)?);
            parts.push(Part {
                path: "etc/start.d/privcmd".to_owned(),
                permissions: 0o755,
                contents: START_PRIVCMD.into(),
            });
        }
        None => say(
            "the kernel is not the stock one: programs reach the hypervisor only if it has privcmd built in",
        ),
    }
    Ok(parts)
}

fn stress_ng(tree: &Tree) -> Result<Vec<Part>> {
    packages::program(tree, "stress-ng", "usr/bin/stress-ng")?
        .iter()
        .map(|placed| read(placed.path.clone(), 0o755, &placed.source))
        .collect()
}

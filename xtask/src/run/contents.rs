//! What the machine starts with: our hypervisor, a kernel, an initial file system, and the words for each.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::added;
use crate::domains::Guests;
use crate::extras;
use crate::initrd::Part;
use crate::provision::{self, Need};
use crate::qemu::{EXIT_PORT, Module, Modules, SYMBOLS_NAME, merge_words};
use crate::run::options::Payload;
use crate::run::sizes::{dom0_memory, megabytes};
use crate::toolchain::BareMetal;
use crate::tree::Tree;
use crate::{build, initrd, iso, kernel};

/// The kernel's words unless others are asked for.
pub const KERNEL_ARGUMENTS: &str = "console=hvc0 earlyprintk=xen nokaslr panic=-1";

pub(super) fn absolute(file: &Path) -> Result<PathBuf> {
    std::fs::canonicalize(file)
        .with_context(|| format!("the file {} cannot be read", file.display()))
}

/// Builds the hypervisor and finds or makes what it starts.
pub(super) fn prepare(
    tree: &Tree,
    payload: &Payload,
    memory: &str,
    needs: &[Need],
) -> Result<iso::Contents> {
    let hypervisor_arguments = merge_words(
        &hypervisor_arguments(&dom0_memory(memory)?),
        &payload.hv_args,
    );
    let added = added::read(&payload.add, control_memory_mb(&hypervisor_arguments))?;
    let mut needs = needs.to_vec();
    if payload.initrd.is_none() {
        needs.push(Need::Busybox);
    }
    if payload.unpacked && payload.kernel.is_none() {
        needs.push(Need::Xz);
    }
    if payload.guests() > 0 {
        needs.extend([Need::Xz, Need::Ext4, Need::ModuleTools]);
    }
    provision::ensure(&needs)?;
    build::hypervisor(tree, &BareMetal::find(tree)?)?;
    let kernel = match &payload.kernel {
        Some(file) => absolute(file)?,
        None if payload.unpacked => kernel::unpacked(&kernel::stock(tree)?)?,
        None => kernel::stock(tree)?,
    };
    let initrd = match &payload.initrd {
        Some(file) => absolute(file)?,
        None => own_initrd(tree, payload, &kernel, added)?,
    };
    Ok(iso::Contents {
        hypervisor_arguments,
        kernel: Module::new(kernel, merge_words(KERNEL_ARGUMENTS, &payload.append)),
        initrd: Some(initrd),
    })
}

/// The initial file system for this kernel: the plain one, or one with what was asked for.
fn own_initrd(tree: &Tree, payload: &Payload, kernel: &Path, added: Vec<Part>) -> Result<PathBuf> {
    if payload.guests() > 0 {
        let stock = kernel::stock(tree)?;
        let guests = Guests {
            count: payload.guests(),
            kernel: &stock,
        };
        return extras::initrd_with(tree, &payload.with, Some(&stock), Some(guests), added);
    }
    if payload.with.is_empty() && added.is_empty() {
        return initrd::build(tree);
    }
    let stock = payload.kernel.is_none().then_some(kernel);
    extras::initrd_with(tree, &payload.with, stock, None, added)
}

/// The initial domain's memory as the hypervisor is told, if that is a plain size.
fn control_memory_mb(words: &str) -> Option<u64> {
    let mut sizes = words
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("dom0_mem="));
    sizes.next_back().and_then(megabytes)
}

/// The hypervisor's words unless others are asked for.
pub fn hypervisor_arguments(dom0_memory: &str) -> String {
    format!("console=com1 com1=115200,8n1 dom0_mem={dom0_memory} loglvl=all exit_port={EXIT_PORT}")
}

/// The boot modules for the emulator's own loader; the symbols come last, and only for our own image.
pub fn direct(tree: &Tree, contents: &iso::Contents, other_hypervisor: Option<&Path>) -> Modules {
    let mut modules = vec![contents.kernel.clone()];
    modules.extend(contents.initrd.iter().map(|file| Module::new(file, "")));
    if other_hypervisor.is_none() {
        modules.push(Module::new(tree.symbols(), SYMBOLS_NAME));
    }
    let hypervisor = other_hypervisor.map(Path::to_path_buf);
    Modules {
        hypervisor,
        hypervisor_arguments: contents.hypervisor_arguments.clone(),
        modules,
    }
}

/// As [`direct`], with the hypervisor that checks itself.
pub fn direct_checked(tree: &Tree, contents: &iso::Contents) -> Modules {
    let checked = tree.checked_hypervisor();
    let mut modules = direct(tree, contents, Some(&checked));
    let symbols = Module::new(tree.checked_symbols(), SYMBOLS_NAME);
    modules.modules.push(symbols);
    modules
}

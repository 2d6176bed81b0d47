//! `cargo xtask bench`: what things cost, beside Xen and the bare machine.
//!
//! Counts of executed instructions on an emulated machine whose clock counts instructions: they repeat exactly, on any
//! host, busy or not. Caches, TLB misses and flushes cost nothing on this clock; `docs/costs.md` says what follows.

mod boot;
mod create;
mod density;
mod machines;
mod micro;
mod sched;
mod sections;
mod stack;
mod store;
mod table;
mod xen_tools;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};

use crate::bench::machines::{Files, Host, Setting};
use crate::initrd::Part;
use crate::provision::{self, Need};
use crate::shell::say;
use crate::toolchain::BareMetal;
use crate::tree::Tree;
use crate::{build, initrd, kernel, programs, xen};

/// Options of `cargo xtask bench`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Clone, Debug)]
enum What {
    /// Instructions from power-on to the kernel's first one and to /init
    Boot(boot::Options),
    /// Instructions of system calls, page faults, processes, signals and hypercalls
    Micro(micro::Options),
    /// Instructions from the command that builds a guest to its first instruction and first program
    Create(create::Options),
    /// How many of the smallest stock guests fit, and what each costs beyond its memory
    Density(density::Options),
    /// Whether domains get the CPU time they reserved, what sharing costs, and how late sleepers wake
    Sched(sched::Options),
    /// The longest stretches in which the hypervisor lets nobody else in
    Sections(sections::Options),
}

/// What all benchmarks take.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Only this machine (may be given again); default: all three
    #[arg(long, value_name = "WHICH")]
    machine: Vec<Host>,
    /// Only this isolation setting; default: both
    #[arg(long, value_name = "WHICH")]
    setting: Option<Setting>,
    /// Another kernel (a bzImage) than the distribution's stock kernel
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Another Xen than Debian's 4.17: an unpacked image
    #[arg(long, value_name = "FILE")]
    xen: Option<PathBuf>,
    /// Measure again what was measured with the same inputs before
    #[arg(long)]
    fresh: bool,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
    /// Fail where ours is slower than it may be
    #[arg(long)]
    check: bool,
}

impl Common {
    fn hosts(&self) -> Vec<Host> {
        let wanted = |host: &Host| self.machine.is_empty() || self.machine.contains(host);
        Host::ALL.into_iter().filter(wanted).collect()
    }

    fn settings(&self) -> Vec<Setting> {
        let wanted = |setting: &Setting| self.setting.is_none_or(|only| only == *setting);
        Setting::ALL.into_iter().filter(wanted).collect()
    }

    /// Whether a check is of the machines that are measured.
    ///
    /// # Errors
    /// When `--check` was asked for without a machine that it is about.
    fn can_check(&self, about: &[Host]) -> Result<()> {
        let hosts = self.hosts();
        for host in about {
            ensure!(
                !self.check || hosts.contains(host),
                "`--check` is about {}: name it with `--machine` too, or name none",
                host.name()
            );
        }
        Ok(())
    }

    /// The status to end with.
    fn status(&self, good: bool) -> ExitCode {
        if self.check && !good {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }
}

/// Runs the benchmark that was asked for.
///
/// # Errors
/// When something is missing or a machine does not do what it should.
pub fn command(tree: &Tree, options: &Options) -> Result<ExitCode> {
    match &options.what {
        What::Boot(options) => boot::command(tree, options),
        What::Micro(options) => micro::command(tree, options),
        What::Create(options) => create::command(tree, options),
        What::Density(options) => density::command(tree, options),
        What::Sched(options) => sched::command(tree, options),
        What::Sections(options) => sections::command(tree, options),
    }
}

/// Builds ours, and finds or fetches what is compared with it.
fn prepare(tree: &Tree, common: &Common) -> Result<Files> {
    common.can_check(&[Host::Ours])?;
    provision::ensure(&[Need::BareMetal, Need::Qemu, Need::Xz, Need::Busybox])?;
    let bare = BareMetal::find(tree)?;
    if common.hosts().contains(&Host::Ours) {
        build::hypervisor(tree, &bare)?;
    }
    let (_, micro) = programs::build(tree, &bare)?
        .into_iter()
        .find(|(name, _)| name == "micro")
        .context("the tree has no program `micro`")?;
    let micro = Part {
        path: "bin/micro".to_owned(),
        permissions: 0o755,
        contents: machines::contents(&micro)?,
    };
    let absolute = |file: &PathBuf| {
        std::fs::canonicalize(file)
            .with_context(|| format!("the file {} cannot be read", file.display()))
    };
    let xen = match &common.xen {
        Some(file) => absolute(file)?,
        None if common.hosts().contains(&Host::Xen) => {
            let xen = xen::stock(tree)?;
            say(format!("comparing with Debian's Xen {}", xen.version));
            xen.image
        }
        None => PathBuf::new(),
    };
    let kernel = match &common.kernel {
        Some(file) => absolute(file)?,
        None => kernel::stock(tree)?,
    };
    Ok(Files {
        kernel,
        initrd: initrd::build_with(tree, "bench", &[micro])?,
        xen,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_needs_the_machines_that_it_is_about() {
        let common = |machine, check| Common {
            machine,
            setting: None,
            kernel: None,
            xen: None,
            fresh: false,
            json: false,
            check,
        };
        let both = [Host::Ours, Host::Xen];
        assert!(common(vec![], true).can_check(&both).is_ok());
        let ours = common(vec![Host::Ours], true);
        assert!(ours.can_check(&[Host::Ours]).is_ok());
        assert!(ours.can_check(&both).is_err());
        let xens = common(vec![Host::Xen], true);
        assert!(xens.can_check(&[Host::Ours]).is_err());
        assert!(common(vec![Host::Xen], false).can_check(&both).is_ok());
    }
}

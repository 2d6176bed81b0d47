//! `cargo xtask`: everything this project does to itself, one verb per task.

mod added;
mod bench;
mod build;
mod control;
mod domains;
mod drivers;
mod extras;
mod image;
mod initrd;
mod iso;
mod kernel;
mod linux_module;
mod packages;
mod programs;
mod provision;
mod qemu;
mod run;
mod shell;
mod stats;
mod testing;
mod toolchain;
mod tree;
mod xen;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::provision::Need;
use crate::tree::Tree;

/// Build the hypervisor, run it, test it.
///
/// Each verb finds what it needs and says what it does: tools are installed by apt where that is allowed,
/// kernels are downloaded and unpacked under target/, never installed. Deleting target/ undoes everything else.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    version,
    disable_help_subcommand = true,
    after_help = EXAMPLES
)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask run                        a control domain of the stock Debian kernel with two guests, on our ring 0
  cargo xtask run --guests 0             the plain shell
  cargo xtask run --iso bios --memory 4G the same from a CD image through GRUB
  cargo xtask run --kernel ./vmlinuz --append 'console=hvc0 debug'
  cargo xtask run --add ./vmlinuz --add web.toml     your own files in the control domain's /root: xeno create web.toml
  cargo xtask test --quick               before each commit
  cargo xtask bench boot                 instructions to /init: bare machine, Xen, ours
  cargo xtask bench micro --check        of system calls, page faults, fork ...; fails where Xen is faster
  cargo xtask bench sched --on ours      shares of the CPU: what was reserved, what was got
  cargo xtask stats --check              how large ring 0 is; fails where a limit is passed
  cargo xtask test --only 'bad input'    the tests whose name has that in it
Afterwards the console of each tested machine is in target/xenoserver/logs/.";

#[derive(Subcommand)]
enum Verb {
    /// Build ring 0: leaves target/xenoserver/hypervisor.elf
    Build(build::Options),
    /// Build the test guests: leaves target/xenoserver/guests/NAME
    Guests,
    /// Build the programs for the initial file system: leaves target/xenoserver/programs/NAME
    Programs,
    /// Build the module xeno for the stock kernel: leaves target/xenoserver/linux/RELEASE/xeno.ko
    Module,
    /// Make a CD image that boots under BIOS and UEFI: leaves target/xenoserver/xenoserver.iso
    Iso(run::Payload),
    /// Boot to a shell on the serial console: `poweroff` leaves, as does Ctrl-A x
    Run(run::Options),
    /// Count what things cost, beside Xen and the bare machine
    Bench(bench::Options),
    /// Measure how large ring 0 is: image, memory, code, `unsafe`, dependencies
    Stats(stats::Options),
    /// Run the tests: without options everything once, at most twenty minutes
    Test(testing::Options),
}

fn main() -> ExitCode {
    match dispatch(Arguments::parse().verb) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(verb: Verb) -> Result<ExitCode> {
    let tree = Tree::find()?;
    match verb {
        Verb::Build(options) => {
            provision::ensure(&[Need::BareMetal])?;
            build::command(&tree, &options)?;
        }
        Verb::Guests => {
            provision::ensure(&[Need::BareMetal])?;
            let bare = toolchain::BareMetal::find(&tree)?;
            let built = build::guests(&tree, &bare)?;
            shell::say(format!(
                "{} guests in {}",
                built.len(),
                tree.shown(&tree.guests())
            ));
        }
        Verb::Programs => {
            provision::ensure(&[Need::BareMetal])?;
            let bare = toolchain::BareMetal::find(&tree)?;
            for (_, file) in programs::build(&tree, &bare)? {
                shell::say(tree.shown(&file).to_string());
            }
        }
        Verb::Module => {
            provision::ensure(&[Need::ModuleTools])?;
            let built = linux_module::build(&tree, &kernel::stock(&tree)?)?;
            shell::say(tree.shown(&built).to_string());
        }
        Verb::Iso(payload) => run::iso_command(&tree, &payload)?,
        Verb::Run(options) => {
            run::check(&options)?;
            return run::command(&tree, &options);
        }
        Verb::Stats(options) => return stats::command(&tree, &options),
        Verb::Bench(options) => return bench::command(&tree, &options),
        Verb::Test(options) => return testing::command(&tree, &options),
    }
    Ok(ExitCode::SUCCESS)
}

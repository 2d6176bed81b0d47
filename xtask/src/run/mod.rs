//! `cargo xtask run`: from nothing to a shell on top of our ring 0.
//!
//! - `options` - what can be asked for.
//! - `sizes` - how much memory and how many guests, where that is not said.
//! - `contents` - building the hypervisor, and finding or making what it starts.
//! - `watch` - the emulator as a child, and its end.

mod contents;
mod options;
mod sizes;
mod watch;

pub use contents::{KERNEL_ARGUMENTS, direct, direct_checked, hypervisor_arguments};
pub use options::{Firmware, Options, Payload};
pub use watch::end;

use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::extras::Extra;
use crate::iso;
use crate::provision::{self, Need};
use crate::qemu::{Boot, Disk, Machine, Network, Serial};
use crate::shell::say;
use crate::tree::Tree;
use contents::{absolute, prepare};
use sizes::{dom0_memory, guests, memory};
use watch::watch;

/// Runs the machine; the status is the emulator's (0 after a clean power-off).
///
/// # Errors
/// When something is missing or does not build.
pub fn command(tree: &Tree, options: &Options) -> Result<ExitCode> {
    let mut needs = vec![Need::BareMetal, Need::Qemu];
    match options.iso {
        None => {}
        Some(Firmware::Bios) => needs.push(Need::Grub),
        Some(Firmware::Uefi) => needs.extend([Need::Grub, Need::Ovmf]),
    }
    let disks = options
        .disk
        .iter()
        .map(|disk| {
            let file = absolute(&disk.file)?;
            Ok(Disk {
                file,
                ..disk.clone()
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let mut payload = options.payload.clone();
    payload.guests = Some(guests(options));
    if (options.net || !disks.is_empty()) && payload.kernel.is_none() {
        payload.with.push(Extra::Drivers);
    }
    let memory = memory(options);
    let contents = prepare(tree, &payload, &memory, &needs)?;
    let boot = match options.iso {
        None => Boot::Direct(direct(tree, &contents, options.hypervisor.as_deref())),
        Some(firmware) => {
            iso::build(tree, &contents, &tree.iso())?;
            let uefi = match firmware {
                Firmware::Bios => None,
                Firmware::Uefi => Some(
                    provision::ovmf()
                        .context("there is no OVMF firmware")?
                        .to_path_buf(),
                ),
            };
            Boot::Iso {
                image: tree.iso(),
                uefi,
            }
        }
    };
    let machine = Machine {
        memory,
        smp: options.smp,
        cpu: options.cpu.clone(),
        model: options.machine.clone(),
        no_reboot: options.headless,
        icount: options.icount,
        serial: if options.headless {
            Serial::Pipes
        } else {
            Serial::Terminal
        },
        disks,
        network: options.net.then(Network::default),
        extra: options.extra.clone(),
        ..Machine::new(boot)
    };
    let mut command = machine.command(tree)?;
    if options.headless {
        command.stdin(Stdio::null());
    } else {
        say("starting; Ctrl-C goes to the guest, Ctrl-A x leaves the emulator");
    }
    if options.verbose {
        say(format!("{command:?}"));
    }
    watch(&mut command, options.timeout.map(Duration::from_secs))
}

/// Makes the CD image and says where it is.
///
/// # Errors
/// When something is missing or does not build.
pub fn iso_command(tree: &Tree, payload: &Payload) -> Result<()> {
    let contents = prepare(tree, payload, "1G", &[Need::BareMetal, Need::Grub])?;
    iso::build(tree, &contents, &tree.iso())?;
    say(format!(
        "{} boots under BIOS and UEFI",
        tree.shown(&tree.iso())
    ));
    Ok(())
}

/// Refuses a size that is no size before anything is built for it.
///
/// # Errors
/// One sentence that names it.
pub fn check(options: &Options) -> Result<()> {
    dom0_memory(&memory(options))?;
    if options.smp == 0 {
        bail!("`--smp 0` is no machine: it takes at least one processor");
    }
    Ok(())
}

//! A device asserts its line and nobody tells it to stop. The kernel gives the line up; everything else works on.

use anyhow::{Result, ensure};

use crate::testing::Context;
use crate::testing::console_shell::Shell;
use crate::testing::devices::disks::Disks;
use crate::testing::devices::{BOOT_LIMIT, STALLED, ends_well, machine, network_up};
use crate::testing::serial::Session;

/// Plays it on a machine of this model.
///
/// # Errors
/// When the machine does not go on.
pub fn play(
    context: &Context,
    slot: &mut Option<Session>,
    model: &str,
    name: &str,
) -> Result<String> {
    let disks = Disks::make(&context.tree.out().join("disks"), name, 16)?;
    let mut machine = machine(context, model, "isolate=yes", disks.list())?;
    // The same line for both: the card's driver has the line open, the other device asserts it.
    machine.network = None;
    machine.extra = [
        "-netdev",
        "user,id=net0,restrict=on",
        "-device",
        "e1000,netdev=net0,addr=0x10",
        "-device",
        "edu,addr=0x14",
    ]
    .map(str::to_owned)
    .to_vec();
    let session = slot.insert(Session::start(&context.tree, &machine, name)?);
    {
        let mut shell = Shell::at_prompt(session, BOOT_LIMIT)?;
        network_up(&mut shell)?;
        // Its registers: the device is asked to interrupt, and never told that it has.
        let said = shell.output_of(
            "echo 1 > /sys/bus/pci/devices/0000:00:14.0/enable; \
             set -- $(cat /sys/bus/pci/devices/0000:00:14.0/resource); \
             devmem $(($1 + 0x60)) 32 1; echo asked",
            STALLED,
        )?;
        ensure!(said.ends_with("asked"), "the device: `{said}`");
        let mut given_up = String::new();
        for _ in 0..60 {
            given_up = shell.output_of("dmesg | grep 'nobody cared'; sleep 1", STALLED)?;
            if !given_up.is_empty() {
                break;
            }
        }
        ensure!(
            given_up.contains("nobody cared"),
            "the kernel never gave the line up"
        );
        let read = shell.output_of("dd if=/dev/vdb of=/dev/null bs=64k 2>&1", STALLED)?;
        ensure!(read.contains("records out"), "dd said `{read}`");
    }
    session.send("poweroff\n")?;
    ends_well(session)?;
    disks.remove();
    Ok("the kernel gave the line up".to_owned())
}

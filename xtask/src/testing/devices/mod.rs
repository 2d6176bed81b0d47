//! The control domain drives real devices: interrupts of all three kinds, disks that keep what is written to them, the
//! power button; and a line that storms.
//!
//! A row is a machine, an address-space form and an amount to copy. The story goes over three boots: two in one emulator
//! and one in a new one.

mod disks;
mod storm;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use regex_lite::Regex;

use crate::extras::{self, Extra};
use crate::qemu::{Disk, Machine, Module, Network, Serial, merge_words};
use crate::run;
use crate::testing::console_shell::Shell;
use crate::testing::devices::disks::Disks;
use crate::testing::runner::{Case, Needs, Outcome, Stage, Tier};
use crate::testing::serial::Session;
use crate::testing::{Context, check_last_words};
use crate::{iso, provision};

struct Row {
    tier: Tier,
    model: &'static str,
    isolate: &'static str,
    /// What is copied from one disk to another.
    mebibytes: u64,
    /// More words for the hypervisor.
    words: &'static str,
}

const SHORT: u64 = 64;
const LONG: u64 = 1024;

const fn row(tier: Tier, model: &'static str, isolate: &'static str, mebibytes: u64) -> Row {
    Row {
        tier,
        model,
        isolate,
        mebibytes,
        words: "",
    }
}

const ROWS: &[Row] = &[
    row(Tier::Normal, "pc", "yes", SHORT),
    Row {
        words: "dom0_max_vcpus=2",
        ..row(Tier::Normal, "pc", "no", SHORT)
    },
    row(Tier::Normal, "q35", "yes", SHORT),
    row(Tier::Normal, "q35", "no", SHORT),
    // Every device storms: its interrupts are held back again and again, and none is lost.
    Row {
        words: "irq_ratelimit=3",
        ..row(Tier::Normal, "q35", "yes", 16)
    },
    row(Tier::Full, "pc", "no", LONG),
    row(Tier::Full, "q35", "yes", LONG),
];

/// From power-on to a prompt, drivers and all.
const BOOT_LIMIT: Duration = Duration::from_secs(180);
/// For a command that waits for nothing.
const AT_ONCE: Duration = Duration::from_secs(30);
/// A device whose interrupt is lost is found out by its driver's own limit at the latest: 30 seconds for disks.
const STALLED: Duration = Duration::from_secs(120);

/// Where the network's echo answers, and the host's command that does it.
const ECHO: (&str, &str) = ("10.0.2.100:7", "cat");

/// What a driver says when an interrupt did not come, or nobody wanted it.
const LOST: &str =
    "[Tt]imed? ?out|[Ll]ost|nobody cared|NETDEV WATCHDOG|Hang|hung|frozen|failed command|I/O error";

/// One case for each row, and the storm.
pub fn cases() -> Vec<Case> {
    let case = |name: String, tier, run: Box<dyn Fn(&Context) -> Outcome + Send + Sync>| Case {
        name,
        tier,
        stage: Stage::Machine,
        needs: Needs::System,
        run,
    };
    let mut cases: Vec<Case> = ROWS
        .iter()
        .map(|row| {
            case(
                row.name(),
                row.tier,
                Box::new(move |context| row.judge(context)),
            )
        })
        .collect();
    for model in ["pc", "q35"] {
        let tier = if model == "pc" {
            Tier::Normal
        } else {
            Tier::Full
        };
        let name = format!("devices: a line that storms ({model})");
        cases.push(case(
            name.clone(),
            tier,
            Box::new(move |context| {
                outcome(context, &name, |s| storm::play(context, s, model, &name))
            }),
        ));
    }
    cases
}

/// Runs a story; what the last machine said is shown if it fails.
fn outcome(
    context: &Context,
    name: &str,
    story: impl FnOnce(&mut Option<Session>) -> Result<String>,
) -> Outcome {
    if provision::ensure(&[provision::Need::Ext4]).is_err() {
        return Outcome::skipped("there is no mke2fs (on Debian: apt-get install e2fsprogs)");
    }
    let mut session = None;
    match story(&mut session) {
        Ok(note) => Outcome::passed(note),
        Err(error) => {
            let report = session.map_or_else(
                || format!("{name}: no machine was started"),
                |session| session.report(&context.tree),
            );
            Outcome::failed(format!("{error:#}"), report)
        }
    }
}

impl Row {
    fn name(&self) -> String {
        let words = if self.words.is_empty() { "" } else { ", " };
        format!(
            "devices: disks and network, {} MiB copied ({}, isolate={}{words}{})",
            self.mebibytes, self.model, self.isolate, self.words
        )
    }

    fn judge(&self, context: &Context) -> Outcome {
        let name = self.name();
        outcome(context, &name, |session| {
            let disks = Disks::make(&context.tree.out().join("disks"), &name, self.mebibytes)?;
            let told = self.play(context, session, &disks);
            disks.remove();
            told
        })
    }

    fn play(&self, context: &Context, slot: &mut Option<Session>, disks: &Disks) -> Result<String> {
        let words = format!("isolate={} {}", self.isolate, self.words);
        let machine = machine(context, self.model, &words, disks.list())?;
        let session = slot.insert(Session::start(&context.tree, &machine, &self.name())?);
        let (sum, seconds) = self.first_boot(session)?;
        let storms = session.text().contains(" storms; it is held back");
        ensure!(
            storms == self.words.contains("irq_ratelimit"),
            "the hypervisor speaks of storms: {storms}"
        );
        shell_reboot(session)?;
        second_boot(session, &sum)?;
        drop(slot.take());
        disks.compare()?;
        let name = format!("{} again", self.name());
        let session = slot.insert(Session::start(&context.tree, &machine, &name)?);
        third_boot(session, &sum)?;
        Ok(format!("copied in {seconds:.1} s"))
    }

    /// Everything is written, and everything is busy at once.
    fn first_boot(&self, session: &mut Session) -> Result<(String, f64)> {
        let mut shell = Shell::at_prompt(session, BOOT_LIMIT)?;
        mount(&mut shell)?;
        let sum = shell.output_of(
            "dd if=/dev/urandom of=/mnt/numbers bs=1M count=4 2>/dev/null; sync; \
             md5sum < /mnt/numbers",
            STALLED,
        )?;
        ensure!(sum.len() >= 32, "md5sum said `{sum}`");
        network_up(&mut shell)?;
        all_busy(&mut shell)?;
        let count = self.mebibytes;
        let copied = shell.output_of(
            &format!("time dd if=/dev/vdb of=/dev/sda bs=1M count={count} conv=fsync 2>&1"),
            Duration::from_secs(60 + count),
        )?;
        ensure!(
            copied.contains(&format!("{count}+0 records out")),
            "dd said `{copied}`"
        );
        let sums = shell.output_of(
            &format!(
                "echo 3 > /proc/sys/vm/drop_caches; for d in vdb sda; do \
                 dd if=/dev/$d bs=1M count={count} 2>/dev/null | md5sum; done | uniq | wc -l"
            ),
            Duration::from_secs(60 + 2 * count),
        )?;
        ensure!(
            sums.lines().last() == Some("1"),
            "the copied disk differs from its source: {sums} sums"
        );
        shell.output_of("umount /mnt && sync", AT_ONCE)?;
        nothing_lost(&mut shell)?;
        Ok((sum, real_seconds(&copied).unwrap_or_default()))
    }
}

/// The line `real 0m 1.53s` of busybox's `time`.
fn real_seconds(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|l| l.strip_prefix("real"))?;
    let (minutes, seconds) = line.trim().split_once('m')?;
    let minutes: f64 = minutes.parse().ok()?;
    let seconds: f64 = seconds.trim().strip_suffix('s')?.parse().ok()?;
    Some(minutes * 60.0 + seconds)
}

/// The same machine after a reset: what was written is there. The power button turns it off.
fn second_boot(session: &mut Session, sum: &str) -> Result<()> {
    {
        let mut shell = Shell::at_prompt(session, BOOT_LIMIT)?;
        same_numbers(&mut shell, sum).context("after a reboot")?;
        nothing_lost(&mut shell)?;
    }
    // The emulator's monitor shares the line.
    session.send("\u{1}c")?;
    session.expect(r"\(qemu\)", AT_ONCE)?;
    session.send("system_powerdown\n\u{1}c")?;
    session
        .expect("The power button was pressed", AT_ONCE)
        .context("the power button")?;
    ends_well(session)
}

/// Another emulator, the same disks.
fn third_boot(session: &mut Session, sum: &str) -> Result<()> {
    {
        let mut shell = Shell::at_prompt(session, BOOT_LIMIT)?;
        same_numbers(&mut shell, sum).context("in a new emulator")?;
    }
    session.send("poweroff\n")?;
    ends_well(session)
}

fn shell_reboot(session: &mut Session) -> Result<()> {
    session.send("reboot\n")?;
    session
        .expect("Linux version ", BOOT_LIMIT)
        .context("after reboot the kernel did not start again")?;
    Ok(())
}

fn ends_well(session: &mut Session) -> Result<()> {
    let status = session.wait(Duration::from_secs(60)).context("power off")?;
    ensure!(status == 0, "the emulator ended with status {status}");
    check_last_words(&session.text()).map_err(anyhow::Error::msg)
}

fn mount(shell: &mut Shell<'_>) -> Result<()> {
    let said = shell.output_of(
        "mkdir -p /mnt; mount -t ext4 /dev/vda /mnt && echo mounted",
        STALLED,
    )?;
    ensure!(said.ends_with("mounted"), "mount said `{said}`");
    Ok(())
}

fn same_numbers(shell: &mut Shell<'_>, sum: &str) -> Result<()> {
    mount(shell)?;
    let now = shell.output_of("md5sum < /mnt/numbers", STALLED)?;
    ensure!(
        now == sum,
        "the file's sum is `{now}`, where `{sum}` was written"
    );
    shell.output_of("umount /mnt", AT_ONCE)?;
    Ok(())
}

fn network_up(shell: &mut Shell<'_>) -> Result<()> {
    let said = shell.output_of(
        "ifconfig eth0 10.0.2.15 up && ping -c 5 10.0.2.2 | grep received",
        STALLED,
    )?;
    ensure!(
        said.contains("5 packets received"),
        "the gateway was asked five times: `{said}`"
    );
    Ok(())
}

/// Both disks are read and the network carries data, all at once; each interrupt is of the kind it should be, and
/// arrived.
fn all_busy(shell: &mut Shell<'_>) -> Result<()> {
    let before = Counts::read(shell)?;
    let said = shell.output_of(
        "echo 3 > /proc/sys/vm/drop_caches; \
         dd if=/dev/zero of=/tmp/sent bs=64k count=64 2>/dev/null; \
         (dd if=/dev/vdb of=/dev/null bs=16k & dd if=/dev/sda of=/dev/null bs=16k & \
         nc 10.0.2.100 7 < /tmp/sent | head -c 4194304 | cmp - /tmp/sent && echo echoed & wait) 2>&1; \
         rm /tmp/sent",
        STALLED,
    )?;
    ensure!(
        said.matches("records out").count() == 2 && said.contains("echoed"),
        "not all three devices did their work: `{said}`"
    );
    let after = Counts::read(shell)?;
    for (what, before, after) in [
        ("virtio-blk (MSI-X)", before.virtio, after.virtio),
        ("AHCI (MSI)", before.ahci, after.ahci),
        ("e1000 (a level line)", before.network, after.network),
    ] {
        ensure!(
            after > before + 10,
            "{what} interrupted {before} times before and {after} after"
        );
    }
    Ok(())
}

/// Interrupts so far, by the kinds that are wanted.
struct Counts {
    virtio: u64,
    ahci: u64,
    network: u64,
}

impl Counts {
    fn read(shell: &mut Shell<'_>) -> Result<Self> {
        let text = shell.output_of("cat /proc/interrupts", AT_ONCE)?;
        let sum = |kind: &str| -> Result<u64> {
            // A column for each processor.
            let line = Regex::new(&format!(r"(?m)^ *\d+:((?: +\d+)+) +xen-pirq +{kind}"))?;
            let counts: Vec<u64> = line
                .captures_iter(&text)
                .filter_map(|found| found.get(1))
                .flat_map(|columns| columns.as_str().split_whitespace())
                .filter_map(|count| count.parse().ok())
                .collect();
            ensure!(
                !counts.is_empty(),
                "no interrupt of the kind `{kind}` in `{text}`"
            );
            Ok(counts.iter().sum())
        };
        Ok(Self {
            virtio: sum(r"-msi-x +virtio\d+-req")?,
            ahci: sum(r"-msi +ahci")?,
            network: sum(r"-ioapic-level +.*eth0")?,
        })
    }
}

fn nothing_lost(shell: &mut Shell<'_>) -> Result<()> {
    // The kernel measures its clocks at boot and calls one that is not there lost.
    let said = shell.output_of(&format!("dmesg | grep -E '{LOST}'"), AT_ONCE)?;
    ensure!(said.is_empty(), "the kernel's log complains: {said}");
    shell.kernel_has_no_complaint()
}

/// A machine with the disks and a network card.
fn machine(context: &Context, model: &str, words: &str, disks: Vec<Disk>) -> Result<Machine> {
    let system = context.stock()?;
    let initrd = extras::initrd(&context.tree, &[Extra::Drivers], Some(&system.vmlinuz))?;
    let contents = iso::Contents {
        hypervisor_arguments: merge_words(&run::hypervisor_arguments("512M"), words),
        kernel: Module::new(&system.vmlinux, run::KERNEL_ARGUMENTS),
        initrd: Some(initrd),
    };
    let (place, command) = ECHO;
    Ok(Machine {
        model: model.to_owned(),
        no_reboot: false,
        serial: Serial::Monitored,
        disks,
        network: Some(Network {
            service: Some((place.to_owned(), command.to_owned())),
        }),
        ..Machine::new(context.direct(&contents))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busyboxs_time_is_read() {
        assert_eq!(real_seconds("x\nreal\t0m 1.53s\nuser"), Some(1.53));
        assert_eq!(real_seconds("real 2m 0.50s"), Some(120.5));
        assert_eq!(real_seconds("nothing"), None);
    }
}

//! `cargo xtask bench boot`: how many ticks a boot takes, to two moments.
//!
//! | moment | bare machine | Xen | ours |
//! |---|---|---|---|
//! | the kernel's first instruction | the first program's start less the kernel's own clock then | the stamp of Xen's last line before it (`console_timestamps=raw`) | what ring 0 says (`begins at tick`) |
//! | the first program's start | it reads the counter first thing | the same | the same |
//!
//! The time-stamp counter begins at power-on and ticks once an instruction; waiting counts as well, as far as the clock
//! jumps over it. Firmware and the emulator's loader come before the hypervisor's entry: they are the same for both.
//! The bare kernel's own clock starts a little after its first instruction, so that its part is a little larger.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;

use crate::bench::machines::{Files, Host, MEMORY, Setting, Subject};
use crate::bench::store::{self, Figures};
use crate::bench::table::{Table, grouped, ratio};
use crate::bench::{Common, prepare};
use crate::kernel;
use crate::shell::say;
use crate::tree::Tree;

/// The most that one machine may take in real time.
const LIMIT: Duration = Duration::from_secs(180);
/// What Xen 4.17 once took with such a kernel; ours may take no more, whatever the Xen at hand takes.
const LIMITS: [(Part, u64); 2] = [
    (Part::Hypervisor, 5_500_000_000),
    (Part::Kernel, 3_310_000_000),
];

/// Options of `cargo xtask bench boot`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    #[command(flatten)]
    common: Common,
}

/// The parts of a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Hypervisor,
    Kernel,
    Whole,
}

impl Part {
    const ALL: [Self; 3] = [Self::Hypervisor, Self::Kernel, Self::Whole];

    fn name(self) -> &'static str {
        match self {
            Self::Hypervisor => "power-on to the kernel's first instruction",
            Self::Kernel => "the kernel's first instruction to /init",
            Self::Whole => "power-on to /init",
        }
    }

    /// Its length, when the boot came so far.
    fn of(self, figures: &Figures) -> Option<u64> {
        let at = |moment: &str| store::find(figures, moment);
        match self {
            Self::Hypervisor => at("first"),
            Self::Kernel => at("init")?.checked_sub(at("first")?),
            Self::Whole => at("init"),
        }
    }
}

/// The kernel as it is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Packed,
    Unpacked,
}

impl Form {
    fn name(self) -> &'static str {
        match self {
            Self::Packed => "bzImage",
            Self::Unpacked => "unpacked ELF",
        }
    }
}

/// One column of the table.
struct Boot {
    host: Host,
    setting: Setting,
    form: Form,
    figures: Figures,
}

/// Measures the boots and shows them.
///
/// # Errors
/// When something is missing or a machine does not come to its first program.
pub fn command(tree: &Tree, options: &Options) -> Result<ExitCode> {
    let common = &options.common;
    let packed = prepare(tree, common)?;
    let unpacked = Files {
        kernel: kernel::unpacked(&packed.kernel)?,
        ..packed.clone()
    };
    let mut boots = Vec::new();
    for (form, files) in [(Form::Packed, &packed), (Form::Unpacked, &unpacked)] {
        for setting in common.settings() {
            for host in common.hosts() {
                // The emulator's own loader takes no plain ELF kernel, and the form matters to unpacking alone.
                if form == Form::Unpacked && (host == Host::Bare || setting == Setting::Shared) {
                    continue;
                }
                let subject = Subject {
                    tree,
                    host,
                    setting,
                    files,
                    words: "rdinit=/bin/micro -- boot",
                    memory: MEMORY,
                    hypervisor_words: "",
                };
                let what = format!("boot-{form:?}").to_lowercase();
                let figures = store::figures(&what, &subject, common.fresh, || {
                    say(format!("booting {}, {}", subject.name(), form.name()));
                    let console = subject.run(&what, "reboot: Power down", LIMIT)?;
                    moments(host, &console).with_context(|| {
                        format!("{} did not come to its first program", subject.name())
                    })
                })?;
                boots.push(Boot {
                    host,
                    setting,
                    form,
                    figures,
                });
            }
        }
    }
    show(common, &boots);
    let slow = complaints(&boots);
    for line in &slow {
        say(line);
    }
    Ok(common.status(slow.is_empty()))
}

/// The moments that a console tells of.
fn moments(host: Host, console: &str) -> Result<Figures> {
    let init: u64 = console
        .lines()
        .find_map(|line| line.trim_end().strip_prefix("MICRO start "))
        .context("the program did not speak")?
        .parse()?;
    let first = match host {
        Host::Bare => init
            .checked_sub(kernel_clock(console).context("the kernel started no program")?)
            .context("the kernel's clock is ahead of the machine's")?,
        Host::Xen => last_stamp(console).context("Xen's lines bear no time stamps")?,
        Host::Ours => console
            .lines()
            .find_map(|line| line.split_once("begins at tick ")?.1.trim().parse().ok())
            .context("ring 0 does not say when its first domain begins")?,
    };
    Ok([("first", first), ("init", init)]
        .map(|(name, at)| (name.to_owned(), at))
        .into())
}

/// What the kernel's own clock showed when it started the first program, in nanoseconds.
fn kernel_clock(console: &str) -> Option<u64> {
    let line = console
        .lines()
        .find(|l| l.contains("] Run /bin/micro as"))?;
    let stamp = line.trim_start().strip_prefix('[')?.split(']').next()?;
    let (seconds, microseconds) = stamp.trim().split_once('.')?;
    let microseconds: u64 = microseconds.parse().ok()?;
    Some((seconds.parse::<u64>().ok()? * 1_000_000 + microseconds) * 1000)
}

/// The counter at Xen's last line before the kernel's first: `(XEN) [0000000012ab34cd] words`.
fn last_stamp(console: &str) -> Option<u64> {
    let before = console.split("Linux version").next()?;
    before.lines().rev().find_map(|line| {
        let stamp = line.strip_prefix("(XEN) [")?.split(']').next()?;
        u64::from_str_radix(stamp.trim(), 16).ok()
    })
}

fn show(common: &Common, boots: &[Boot]) {
    if common.json {
        let all: Vec<_> = boots
            .iter()
            .map(|boot| {
                let parts: serde_json::Map<_, _> = Part::ALL
                    .iter()
                    .map(|part| (part.name().to_owned(), json!(part.of(&boot.figures))))
                    .collect();
                json!({
                    "host": boot.host.name(),
                    "setting": boot.setting.name(),
                    "kernel": boot.form.name(),
                    "ticks": parts,
                })
            })
            .collect();
        println!("{}", json!({ "bench": "boot", "boots": all }));
        return;
    }
    for setting in common.settings() {
        for form in [Form::Packed, Form::Unpacked] {
            let columns: Vec<&Boot> = boots
                .iter()
                .filter(|boot| boot.setting == setting && boot.form == form)
                .collect();
            if !columns.is_empty() {
                println!("{}", table(setting, form, &columns));
            }
        }
    }
}

fn table(setting: Setting, form: Form, columns: &[&Boot]) -> Table {
    let mut heads = vec![format!("{}, {}", setting.name(), form.name())];
    heads.extend(columns.iter().map(|boot| boot.host.name().to_owned()));
    let of = |host: Host| columns.iter().find(|boot| boot.host == host);
    let both = of(Host::Ours).zip(of(Host::Xen));
    if both.is_some() {
        heads.push("ours / Xen".to_owned());
    }
    let mut table = Table::new(heads);
    for part in Part::ALL {
        let mut row = vec![part.name().to_owned()];
        row.extend(columns.iter().map(|boot| {
            part.of(&boot.figures)
                .map_or_else(|| "-".to_owned(), grouped)
        }));
        if let Some((ours, xen)) = both {
            row.push(ratio(part.of(&ours.figures), part.of(&xen.figures)));
        }
        table.row(row);
    }
    table
}

/// Where ours takes more than Xen did, or more than the fixed limits.
fn complaints(boots: &[Boot]) -> Vec<String> {
    let mut lines = Vec::new();
    for ours in boots.iter().filter(|boot| boot.host == Host::Ours) {
        let xen = boots.iter().find(|boot| {
            boot.host == Host::Xen && boot.setting == ours.setting && boot.form == ours.form
        });
        for (part, limit) in LIMITS {
            let Some(mine) = part.of(&ours.figures) else {
                continue;
            };
            let xens = xen.and_then(|boot| part.of(&boot.figures));
            for (other, whose) in [(Some(limit), "the limit of"), (xens, "Xen's")] {
                if let Some(other) = other.filter(|other| mine > *other) {
                    lines.push(format!(
                        "slower: {} ({}, {}): {} is more than {whose} {}",
                        part.name(),
                        ours.setting.name(),
                        ours.form.name(),
                        grouped(mine),
                        grouped(other)
                    ));
                }
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(host: Host, first: u64, init: u64) -> Boot {
        Boot {
            host,
            setting: Setting::Isolated,
            form: Form::Packed,
            figures: [("first".to_owned(), first), ("init".to_owned(), init)].into(),
        }
    }

    #[test]
    fn the_moments_are_read_from_each_console() {
        let bare = "[    1.500000] Run /bin/micro as init process\r\nMICRO start 4000000000\r\n";
        let of = |host, console| moments(host, console).unwrap();
        assert_eq!(of(Host::Bare, bare)[0].1, 2_500_000_000);
        let xen = "(XEN) [00000000000000ff] a\r\n(XEN) [0000000000000100] b\r\nLinux version\r\n\
                   (XEN) [0000000000000200] c\r\nMICRO start 4096\r\n";
        assert_eq!(of(Host::Xen, xen)[0].1, 256);
        let ours = "(xeno) domain 0 begins at tick 77\r\nMICRO start 99\r\n";
        assert_eq!(Part::Hypervisor.of(&of(Host::Ours, ours)), Some(77));
        assert_eq!(Part::Whole.of(&of(Host::Ours, ours)), Some(99));
        assert!(moments(Host::Ours, "MICRO start 99\n").is_err());
    }

    #[test]
    fn parts_add_up_to_the_whole() {
        let boot = boot(Host::Xen, 30, 70);
        let parts: Vec<u64> = Part::ALL
            .iter()
            .filter_map(|p| p.of(&boot.figures))
            .collect();
        assert_eq!(parts, [30, 40, 70]);
    }

    #[test]
    fn what_is_slower_than_xen_is_named() {
        let xen = boot(Host::Xen, 30, 70);
        assert_eq!(complaints(&[xen, boot(Host::Ours, 31, 60)]).len(), 1);
        let xen = boot(Host::Xen, 30, 70);
        assert!(complaints(&[xen, boot(Host::Ours, 30, 60)]).is_empty());
    }
}

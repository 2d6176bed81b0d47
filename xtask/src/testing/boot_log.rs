//! The stock kernel's boot log on our ring 0 beside the one on Xen 4.17: same kernel, initial file system, machine and
//! clock of instructions. Each line that only one of them has must be in the list of `differences.rs`, with its reason;
//! each row of that list must still occur.
//!
//! # Invariants
//! - L1: only times and measured rates are taken out of lines before they are compared ([`normal`]); whatever else differs is listed.
//! - L2: lines are compared in their order: one that comes elsewhere is a line that each side has alone.

mod differences;

use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result};
use regex_lite::Regex;

use crate::qemu::{Boot, Machine, Module, merge_words};
use crate::testing::boot_log::differences::{DIFFERENCES, Difference, Side};
use crate::testing::console_shell::Shell;
use crate::testing::runner::{Case, Needs, Outcome, Stage, Tier};
use crate::testing::serial::Session;
use crate::testing::stories::BOOT_LIMIT;
use crate::testing::{Context, System};
use crate::{iso, run, xen};

/// Xen's words for the same domain: as much memory, no more to come, one vCPU, and AVX not taken from guests.
const XEN_ARGUMENTS: &str =
    "console=com1 com1=115200,8n1 dom0_mem=512M,max:512M dom0_max_vcpus=1 spec-ctrl=gds-mit=no";

/// Machines, and the smallest tier that compares on each.
const MODELS: &[(&str, Tier)] = &[("pc", Tier::Normal), ("q35", Tier::Normal)];

/// One case for each machine.
pub fn cases() -> Vec<Case> {
    MODELS
        .iter()
        .map(|&(model, tier)| Case {
            name: format!("boot log beside Xen's ({model})"),
            tier,
            stage: Stage::Machine,
            needs: Needs::System,
            run: Box::new(move |context| play(context, model)),
        })
        .collect()
}

fn play(context: &Context, model: &str) -> Outcome {
    let xen = match stock_xen(context) {
        Ok(xen) => xen,
        Err(error) => return Outcome::skipped(format!("no Xen to compare with: {error:#}")),
    };
    let compared = logs(context, model, &xen).map(|(xens, ours)| judge(model, &xens, &ours));
    match compared {
        Ok(Ok(count)) => Outcome::passed(format!(
            "{count} lines differ from those on Xen {}, each for a known reason",
            xen.version
        )),
        Ok(Err(report)) => Outcome::failed("see differences.rs", report),
        Err(error) => Outcome::failed(format!("{error:#}"), ""),
    }
}

/// Xen, downloaded by whoever comes first.
fn stock_xen(context: &Context) -> Result<xen::Xen> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _held = ONE_AT_A_TIME
        .lock()
        .map_err(|_| anyhow::anyhow!("another's download was cut short"))?;
    xen::stock(&context.tree)
}

/// Both logs: Xen's and ours.
fn logs(context: &Context, model: &str, xen: &xen::Xen) -> Result<(String, String)> {
    let system = context.stock()?;
    let ours = boot(context, &ours(context, system), model, "ours").context("on our ring 0")?;
    let other = Boot::Direct(run::direct(
        &context.tree,
        &contents(system, XEN_ARGUMENTS.to_owned()),
        Some(&xen.image),
    ));
    let xens = boot(context, &other, model, "xen").context("on Xen")?;
    Ok((xens, ours))
}

fn contents(system: &System, hypervisor_arguments: String) -> iso::Contents {
    iso::Contents {
        hypervisor_arguments,
        kernel: Module::new(&system.vmlinux, run::KERNEL_ARGUMENTS),
        initrd: Some(system.initrd.clone()),
    }
}

fn ours(context: &Context, system: &System) -> Boot {
    let arguments = merge_words(&run::hypervisor_arguments("512M"), "isolate=yes");
    context.direct(&contents(system, arguments))
}

/// Boots to the shell and asks for the log.
fn boot(context: &Context, boot: &Boot, model: &str, whose: &str) -> Result<String> {
    let machine = Machine {
        model: model.to_owned(),
        icount: true,
        ..Machine::new(boot.clone())
    };
    let name = format!("boot log {model} {whose}");
    let mut session = Session::start(&context.tree, &machine, &name)?;
    let mut shell = Shell::at_prompt(&mut session, BOOT_LIMIT)?;
    shell.output_of("dmesg", Duration::from_secs(120))
}

/// Compares two logs; how many lines differ. What is told of a failure says what to do.
fn judge(model: &str, xens: &str, ours: &str) -> Result<usize, String> {
    let rows: Vec<&Difference> = DIFFERENCES
        .iter()
        .filter(|row| row.only_on.is_none_or(|only| only == model))
        .collect();
    let mut seen = vec![[false; 2]; rows.len()];
    let mut report = Vec::new();
    let (alone_there, alone_here) = differing(&lines(xens), &lines(ours));
    let total = alone_there.len() + alone_here.len();
    for (side, alone, name) in [
        (0, alone_there, "only Xen's has"),
        (1, alone_here, "only ours has"),
    ] {
        for line in alone {
            let mut listed = false;
            for (row, seen) in rows.iter().zip(&mut seen) {
                if row.sides().get(side) == Some(&true) && matches(row.pattern, &line)? {
                    seen[side] = true;
                    listed = true;
                }
            }
            if !listed {
                report.push(format!("{name}, and no row says why: {line}"));
            }
        }
    }
    for (row, seen) in rows.iter().zip(&seen) {
        if *seen != row.sides() {
            report.push(format!(
                "a row that no longer occurs, or on one side only: {}",
                row.pattern
            ));
        }
    }
    if report.is_empty() {
        Ok(total)
    } else {
        Err(report.join("\n"))
    }
}

fn matches(pattern: &str, line: &str) -> Result<bool, String> {
    match Regex::new(pattern) {
        Ok(regex) => Ok(regex.is_match(line)),
        Err(error) => Err(format!("the pattern `{pattern}` is none: {error}")),
    }
}

/// The log's lines, comparable (L1).
fn lines(log: &str) -> Vec<String> {
    log.lines().map(normal).collect()
}

/// A line without its time stamp, and with what it says of the time of day, of rates and durations measured and of
/// the clock's state put as `#`: a measurement is right to a millionth, and differs in that from build to build.
fn normal(line: &str) -> String {
    const TIMES: &[(&str, &str)] = &[
        (r"^\[ *\d+\.\d+\] ", ""),
        (r"audit\(\d+\.\d+:", "audit(#:"),
        (
            r"setting system clock to \S+ UTC \(\d+\)",
            "setting system clock to # UTC (#)",
        ),
        (r"Detected \d+\.\d+ MHz", "Detected # MHz"),
        (r"\d+\.\d+ BogoMIPS \(lpj=\d+\)", "# BogoMIPS (lpj=#)"),
        (
            r"(clocksource: tsc.*) max_cycles: 0x[0-9a-f]+, max_idle_ns: \d+ ns",
            "$1 max_cycles: #, max_idle_ns: # ns",
        ),
        (
            r"deferred pages initialised in \d+ms",
            "deferred pages initialised in #ms",
        ),
        (
            r"sched_clock: Marking stable \(.*",
            "sched_clock: Marking stable (#)",
        ),
    ];
    let mut line = line.trim_end().to_owned();
    for (pattern, instead) in TIMES {
        if let Ok(regex) = Regex::new(pattern) {
            line = regex.replace(&line, *instead).into_owned();
        }
    }
    line
}

/// The lines that only the first has and those that only the second has, by a longest common subsequence (L2).
fn differing(first: &[String], second: &[String]) -> (Vec<String>, Vec<String>) {
    let width = second.len() + 1;
    // Length of the longest common subsequence of what follows each pair of places.
    let mut longest = vec![0_u32; (first.len() + 1) * width];
    for i in (0..first.len()).rev() {
        for j in (0..second.len()).rev() {
            longest[i * width + j] = if first[i] == second[j] {
                longest[(i + 1) * width + j + 1] + 1
            } else {
                longest[(i + 1) * width + j].max(longest[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let (mut only_first, mut only_second) = (Vec::new(), Vec::new());
    while i < first.len() && j < second.len() {
        if first[i] == second[j] {
            i += 1;
            j += 1;
        } else if longest[(i + 1) * width + j] >= longest[i * width + j + 1] {
            only_first.push(first[i].clone());
            i += 1;
        } else {
            only_second.push(second[j].clone());
            j += 1;
        }
    }
    only_first.extend_from_slice(&first[i..]);
    only_second.extend_from_slice(&second[j..]);
    (only_first, only_second)
}

impl Difference {
    /// Whether Xen's log and ours have lines of this row.
    fn sides(&self) -> [bool; 2] {
        match self.side {
            Side::Xen => [true, false],
            Side::Ours => [false, true],
            Side::Both => [true, true],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn a_line_that_moved_is_one_of_each_side() {
        let (there, here) = differing(&owned(&["a", "b", "c"]), &owned(&["b", "c", "a"]));
        assert_eq!((there, here), (owned(&["a"]), owned(&["a"])));
        let same = owned(&["a", "b"]);
        assert_eq!(differing(&same, &same), (vec![], vec![]));
    }

    #[test]
    fn times_and_rates_are_taken_out_and_nothing_else() {
        assert_eq!(
            normal(
                "clocksource: tsc: mask: 0xff max_cycles: 0x1cd42c7a813, max_idle_ns: 881590565951 ns"
            ),
            "clocksource: tsc: mask: 0xff max_cycles: #, max_idle_ns: # ns"
        );
        assert_eq!(
            normal("[    0.0] tsc: Detected 999.999 MHz processor"),
            "tsc: Detected # MHz processor"
        );
        assert_eq!(
            normal("[    0.9] node 0 deferred pages initialised in 4ms"),
            "node 0 deferred pages initialised in #ms"
        );
        assert_eq!(
            normal("[    2.048003] RAMDISK: [mem 0x04c00000-0x04dedfff]"),
            "RAMDISK: [mem 0x04c00000-0x04dedfff]"
        );
        assert_eq!(
            normal("[    1.0] audit: type=2000 audit(1704067203.557:1): state=initialized"),
            "audit: type=2000 audit(#:1): state=initialized"
        );
    }

    /// A log of each side in which every row occurs, from examples that the rows themselves carry.
    fn examples() -> (String, String) {
        let of = |wanted: usize| {
            let mut log = String::from("common\n");
            for row in DIFFERENCES.iter().filter(|row| row.only_on.is_none()) {
                if row.sides()[wanted] {
                    log.push_str(row.examples[wanted]);
                    log.push('\n');
                }
            }
            log
        };
        (of(0), of(1))
    }

    #[test]
    fn listed_differences_pass_and_others_fail() {
        let (xens, ours) = examples();
        judge("none", &xens, &ours).unwrap();
        let more = format!("{ours}Xen: something failed\n");
        let report = judge("none", &xens, &more).unwrap_err();
        assert!(report.contains("only ours has") && report.contains("something failed"));
        let report = judge("none", &format!("{xens}Oops\n"), &ours).unwrap_err();
        assert!(report.contains("only Xen's has"));
    }

    #[test]
    fn a_row_that_no_longer_occurs_fails() {
        let (xens, ours) = examples();
        assert!(judge("none", &xens, "common\n").is_err());
        assert!(judge("none", "common\n", &ours).is_err());
        assert!(judge("none", "common\n", "common\n").is_err());
    }
}

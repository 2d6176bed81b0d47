//! stress-ng in the control domain, with verification on, and the audit before and after: no error, no complaint, and
//! every frame back with its owner.
//!
//! All stressors run at once on one vCPU, so that each interrupts the others. The machine's clock is the host's, as a
//! person's is: how much is done in the time depends on the host, that something was done by each stressor is checked.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use regex_lite::Regex;

use crate::extras::{self, Extra};
use crate::qemu::{Machine, Module, merge_words};
use crate::testing::console_shell::Shell;
use crate::testing::runner::{Case, Needs, Outcome, Stage, Tier};
use crate::testing::serial::{self, Session};
use crate::testing::stories::{BOOT_LIMIT, power_off};
use crate::testing::{Context, System};
use crate::{iso, run};

/// What runs: name as stress-ng prints it, and its options. Sizes are such that an emulated CPU gets through many
/// rounds of each in half a minute.
const STRESSORS: &[(&str, &str)] = &[
    ("cpu", "--cpu 1"),
    ("vm", "--vm 1 --vm-bytes 16M"),
    ("fork", "--fork 1"),
    ("mmap", "--mmap 1 --mmap-bytes 4M"),
    ("signal", "--signal 1"),
    ("sigsegv", "--sigsegv 1"),
    ("sigq", "--sigq 1"),
    ("switch", "--switch 1"),
    ("timer", "--timer 1 --timer-freq 1000"),
    ("pipe", "--pipe 1"),
    ("hdd", "--hdd 1 --hdd-bytes 4M"),
    ("rename", "--rename 1"),
];

/// An emulator that gets no processor for half a minute, on a busy host, is not the kernel's lock-up: its watchdog is to
/// wait for two minutes.
pub const KERNEL_WORDS: &str = "watchdog_thresh=60";

/// Forms and lengths. A minute in all for every day, ten minutes of each form in the long matrix.
const RUNS: &[(Tier, &str, u64)] = &[
    (Tier::Normal, "yes", 30),
    (Tier::Normal, "no", 30),
    (Tier::Full, "yes", 600),
    (Tier::Full, "no", 600),
];

/// One case for each form and length.
pub fn cases() -> Vec<Case> {
    RUNS.iter()
        .map(|&(tier, isolate, seconds)| Case {
            name: format!("stress for {seconds} s (isolate={isolate})"),
            tier,
            stage: Stage::Machine,
            needs: Needs::System,
            run: Box::new(move |context| play(context, isolate, seconds)),
        })
        .collect()
}

fn play(context: &Context, isolate: &str, seconds: u64) -> Outcome {
    let name = format!("stress for {seconds} s isolate={isolate}");
    let session = machine(context, isolate).and_then(|m| Session::start(&context.tree, &m, &name));
    serial::played(session, &context.tree, |session| act(session, seconds))
}

fn machine(context: &Context, isolate: &str) -> Result<Machine> {
    let system = context.stock()?;
    let contents = iso::Contents {
        hypervisor_arguments: merge_words(
            &run::hypervisor_arguments("512M"),
            &format!("isolate={isolate}"),
        ),
        kernel: Module::new(
            &system.vmlinux,
            format!("{} {KERNEL_WORDS}", run::KERNEL_ARGUMENTS),
        ),
        initrd: Some(initrd(context, system)?),
    };
    Ok(Machine::new(context.direct(&contents)))
}

/// The file system with stress-ng in it; downloaded by whoever comes first.
fn initrd(context: &Context, system: &System) -> Result<std::path::PathBuf> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _held = ONE_AT_A_TIME
        .lock()
        .map_err(|_| anyhow::anyhow!("another's download was cut short"))?;
    extras::initrd(&context.tree, &[Extra::StressNg], Some(&system.vmlinuz))
}

fn act(session: &mut Session, seconds: u64) -> Result<String> {
    let mut shell = Shell::at_prompt(session, BOOT_LIMIT)?;
    let before = audit(&mut shell)?;
    let said = shell.output_of(
        &command(seconds),
        // On a busy host a stressor comes to its end late.
        Duration::from_secs(2 * seconds + 120),
    )?;
    check_stressed(&said)?;
    let after = audit(&mut shell)?;
    check_all_back(&before, &after)?;
    shell.kernel_has_no_complaint()?;
    power_off(session)?;
    no_complaint_of_the_hypervisor(&session.text())?;
    let rounds: u64 = rounds(&said).values().sum();
    Ok(format!(
        "{rounds} rounds, all {} frames back",
        before.sum("frames")?
    ))
}

/// What has all stressors run for so long.
pub fn command(seconds: u64) -> String {
    let options: Vec<&str> = STRESSORS.iter().map(|(_, options)| *options).collect();
    format!(
        "cd /tmp; stress-ng {} --verify --metrics-brief --timeout {seconds}; echo status $?; cd",
        options.join(" ")
    )
}

/// What an audit said: a number a name.
#[derive(Debug)]
pub struct Audit(BTreeMap<String, u64>);

impl Audit {
    /// Reads it.
    pub fn parse(said: &str) -> Audit {
        let pair = |line: &str| {
            let (name, number) = line.trim().split_once(' ')?;
            Some((name.to_owned(), number.parse().ok()?))
        };
        Audit(said.lines().filter_map(pair).collect())
    }

    /// One of its numbers.
    pub fn sum(&self, name: &str) -> Result<u64> {
        let value = self.0.get(name).copied();
        value.with_context(|| format!("the audit says nothing of `{name}`"))
    }
}

/// Recounts, after the kernel gave back what it only keeps because nobody else wants it.
fn audit(shell: &mut Shell<'_>) -> Result<Audit> {
    let said = shell.output_of(
        "sync; echo 3 > /proc/sys/vm/drop_caches; audit; echo status $?",
        Duration::from_secs(60),
    )?;
    ensure!(said.contains("status 0"), "the audit said `{said}`");
    Ok(Audit::parse(&said))
}

/// Each stressor did something, none failed.
pub fn check_stressed(said: &str) -> Result<()> {
    ensure!(
        said.lines().any(|line| line.trim() == "status 0"),
        "stress-ng failed"
    );
    for bad in ["fail:", "error:", "killed by", "terminated on signal"] {
        if let Some(line) = said.lines().find(|line| line.contains(bad)) {
            bail!("stress-ng says `{}`", line.trim());
        }
    }
    let rounds = rounds(said);
    for (name, _) in STRESSORS {
        match rounds.get(*name) {
            None => bail!("stress-ng says nothing of `{name}`"),
            Some(0) => bail!("the stressor `{name}` did nothing"),
            Some(_) => {}
        }
    }
    Ok(())
}

/// Rounds by stressor: `stress-ng: metrc: [101] cpu    148     27.44 …`.
pub fn rounds(said: &str) -> BTreeMap<String, u64> {
    let Ok(line) = Regex::new(r"metrc: \[\d+\] (\S+) +(\d+) +\d+\.\d+ +\d+\.\d+ ") else {
        return BTreeMap::new();
    };
    line.captures_iter(said)
        .filter_map(|found| Some((found[1].to_owned(), found[2].parse().ok()?)))
        .collect()
}

/// What must be as it was: whose each frame is, and what the hypervisor has and is charged. What the kernel uses its
/// frames as may differ a little: it keeps a few page tables of its own address space (of stacks and buffers once
/// mapped there), and a kernel thread may keep a program's root until the next one runs. A program
/// that kept its tables would show at once: the run makes and ends hundreds.
fn check_all_back(before: &Audit, after: &Audit) -> Result<()> {
    const EXACT: &[&str] = &[
        "mismatches",
        "frames",
        "free",
        "hypervisor",
        "domain",
        "others",
        "overhead",
        "type-descriptors",
    ];
    const NEARLY: &[&str] = &["type-l1", "type-l2", "type-l3", "type-l4"];
    const MOST: u64 = 16;
    for name in EXACT {
        let (old, new) = (before.sum(name)?, after.sum(name)?);
        ensure!(
            old == new,
            "`{name}` was {old}, and is {new} after the load"
        );
    }
    for name in NEARLY {
        let (old, new) = (before.sum(name)?, after.sum(name)?);
        ensure!(
            old.abs_diff(new) <= MOST,
            "`{name}` was {old}, and is {new} after the load"
        );
    }
    Ok(())
}

/// It warned of nothing.
pub fn no_complaint_of_the_hypervisor(console: &str) -> Result<()> {
    let complaint = console
        .lines()
        .find(|line| line.contains("(xeno) error:") || line.contains("(xeno) warning:"));
    match complaint {
        Some(line) => bail!("the hypervisor complains: {}", line.trim()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "stress-ng: info:  [101] dispatching hogs: 1 cpu
stress-ng: metrc: [101] stressor       bogo ops real time  usr time  sys time   bogo ops/s     bogo ops/s
stress-ng: metrc: [101] cpu                 148     27.44      1.82      0.09         5.39          77.45
stress-ng: metrc: [101] pipe                   0.51 MB per sec pipe write rate (geometic mean of 1 instances)
status 0";

    #[test]
    fn rounds_are_read_from_the_metrics() {
        assert_eq!(rounds(SAID), BTreeMap::from([("cpu".to_owned(), 148)]));
    }

    #[test]
    fn a_stressor_that_did_nothing_is_a_failure() {
        assert!(
            check_stressed(SAID)
                .unwrap_err()
                .to_string()
                .contains("`vm`")
        );
        let line = |name: &str, rounds| format!("metrc: [1] {name} {rounds} 1.00 1.00 1.00 1 1\n");
        let all = |rounds| {
            let lines: String = STRESSORS.iter().map(|(n, _)| line(n, rounds)).collect();
            format!("{lines}status 0")
        };
        check_stressed(&all(1)).unwrap();
        assert!(check_stressed(&all(0)).is_err());
        assert!(check_stressed(&all(1).replace("status 0", "status 2")).is_err());
        assert!(check_stressed(&format!("stress-ng: fail: [1] vm\n{}", all(1))).is_err());
    }

    #[test]
    fn a_frame_that_stayed_with_the_hypervisor_is_a_failure() {
        let said = |hypervisor: u64, l1: u64| {
            Audit::parse(&format!(
                "mismatches 0\nframes 9\nfree 3\nhypervisor {hypervisor}\ndomain 4\nothers 0\noverhead 1\n\
                 type-descriptors 1\ntype-l1 {l1}\ntype-l2 0\ntype-l3 0\ntype-l4 1\nstatus 0"
            ))
        };
        check_all_back(&said(2, 100), &said(2, 110)).unwrap();
        assert!(check_all_back(&said(2, 100), &said(3, 100)).is_err());
        assert!(check_all_back(&said(2, 100), &said(2, 200)).is_err());
        assert!(check_all_back(&said(2, 100), &Audit::parse("")).is_err());
    }
}

//! Each test guest as the initial domain of a machine of its own.
//!
//! A guest passes when its console has the line `GUEST PASS name` and the emulator ended by itself with status 0.
//! One that says `GUEST EXPECT CRASH name` must be crashed by the hypervisor: the emulator then ends through its
//! exit device, after the hypervisor said which domain it was. `GUEST SKIP name: reason` is a skip.
//!
//! A guest says what it needs in comments of its source file, one word a line:
//! `//! xtask: memory=1G`, `tier=full`, `smp=2`, `dom0_mem=256M`, `seconds=120`, `append=WORDS`, `hv=WORDS`, `clock=host`,
//! `device=WORDS` (as the emulator's `-device` takes it; may come again), `domain=ordinary` (it is not tried here, but by
//! the story of a control domain that creates it), `parallel=4` (it is tried once more, on so many CPUs that all run
//! vCPUs, and with the word `parallel` on its own command line; may come again), `parallel_full=4` (the same, in the long
//! tier only).
//!
//! Unless a guest asks for the host's clock or for several CPUs, its machine's clock counts instructions: a run then
//! repeats exactly, and a busy host cannot make a timer late.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::qemu::{Boot, Machine, Module, merge_words};
use crate::testing::runner::{Case, Needs, Outcome, Stage, Tier};
use crate::testing::serial::Session;
use crate::testing::{Context, EXIT_BY_PORT_AT_LEAST, RING0_CRASHED, check_last_words};
use crate::tree::Tree;
use crate::{iso, run};

/// A form in which a guest is tried.
#[derive(Clone, Copy, Debug)]
struct Form {
    /// In the case's name.
    name: &'static str,
    /// Whether ring 0 is unmapped while the guest runs.
    isolate: &'static str,
    /// On the hypervisor that checks itself, its order of locks above all.
    checked: bool,
    /// So many CPUs, all of which run vCPUs; otherwise as many as the guest says.
    parallel: Option<u32>,
    /// The smallest tier that tries it.
    tier: Tier,
}

/// Both forms of the address space a domain may run in; and the checked hypervisor, which is slow.
const FORMS: &[Form] = &[
    Form {
        name: "isolate=yes",
        isolate: "yes",
        checked: false,
        parallel: None,
        tier: Tier::Quick,
    },
    Form {
        name: "isolate=no",
        isolate: "no",
        checked: false,
        parallel: None,
        tier: Tier::Quick,
    },
    Form {
        name: "checked",
        isolate: "yes",
        checked: true,
        parallel: None,
        tier: Tier::Normal,
    },
];

/// A guest that says so is tried on several CPUs, too, on the hypervisor that checks itself.
const fn parallel(cpus: u32, tier: Tier) -> Form {
    Form {
        name: "parallel",
        isolate: "yes",
        checked: true,
        parallel: Some(cpus),
        tier,
    }
}

impl Form {
    /// What tells it from the others.
    fn title(self) -> String {
        match self.parallel {
            Some(cpus) => format!("{} on {cpus}", self.name),
            None => self.name.to_owned(),
        }
    }

    /// The smallest tier that tries a guest in this form. One that is over as soon as it runs takes few locks.
    fn tier_for(self, guest: &str) -> Tier {
        let is_short = guest.ends_with("_crashes") || guest.starts_with("placed_");
        if self.checked && is_short {
            Tier::Full
        } else {
            self.tier
        }
    }
}

/// How much longer than the ordinary hypervisor the checked one may take.
const CHECKED_SLOWER: u32 = 3;

/// What a guest asks of its machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wants {
    /// Its machine's memory, as the emulator takes it.
    pub memory: String,
    tier: Option<Tier>,
    dom0_memory: String,
    smp: u32,
    /// How many CPUs run its vCPUs where it is tried on several, and the tier in which it is.
    parallel: Vec<(u32, Tier)>,
    limit: Duration,
    /// Words of its own command line.
    pub append: String,
    /// Words of the hypervisor's.
    pub hypervisor: String,
    counted_clock: bool,
    devices: Vec<String>,
    /// It is a guest of a control domain, and no initial domain.
    ordinary: bool,
}

impl Default for Wants {
    fn default() -> Self {
        Self {
            memory: "256M".to_owned(),
            tier: None,
            dom0_memory: "128M".to_owned(),
            smp: 1,
            parallel: Vec::new(),
            limit: Duration::from_secs(60),
            append: String::new(),
            hypervisor: String::new(),
            counted_clock: true,
            devices: Vec::new(),
            ordinary: false,
        }
    }
}

/// One case for each guest in the tree and each form.
///
/// # Errors
/// When the tree cannot be read or a guest asks for something unknown.
pub fn cases(tree: &Tree) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for name in crate::build::guest_names(tree)? {
        let wants = wants(tree, &name)?;
        if wants.ordinary {
            continue;
        }
        // Long ones in one form: what they try is the same in both, and two at a time may be more than the host has.
        let forms = if wants.tier.is_some() { 1 } else { FORMS.len() };
        let several = wants.parallel.iter();
        let several = several.map(|&(cpus, tier)| parallel(cpus, tier));
        for form in FORMS.iter().copied().take(forms).chain(several) {
            let (guest, wants) = (name.clone(), wants.clone());
            cases.push(Case {
                name: format!("guest {name} ({})", form.title()),
                tier: wants.tier.unwrap_or_else(|| form.tier_for(&name)),
                stage: Stage::Machine,
                needs: if form.checked {
                    Needs::Checked
                } else {
                    Needs::Guests
                },
                run: Box::new(move |context| one(context, &guest, form, &wants)),
            });
        }
    }
    Ok(cases)
}

/// What a guest of the tree asks of its machine.
///
/// # Errors
/// When it asks for something unknown.
pub fn wants(tree: &Tree, name: &str) -> Result<Wants> {
    read_wants(&tree.root().join("tests/guests/src/bin"), name)
}

fn read_wants(source: &Path, name: &str) -> Result<Wants> {
    let files = [
        source.join(format!("{name}.rs")),
        source.join(name).join("main.rs"),
    ];
    let text = files
        .iter()
        .find_map(|f| std::fs::read_to_string(f).ok())
        .unwrap_or_default();
    parse_wants(&text).with_context(|| format!("the guest {name} asks for something unknown"))
}

fn parse_wants(text: &str) -> Result<Wants> {
    let mut wants = Wants::default();
    for line in text
        .lines()
        .filter_map(|l| l.trim().strip_prefix("//! xtask:"))
    {
        let (key, value) = line
            .trim()
            .split_once('=')
            .context("a line `xtask:` has no `key=value`")?;
        let text = || value.to_owned();
        match key {
            "memory" => wants.memory = text(),
            "dom0_mem" => wants.dom0_memory = text(),
            "smp" => wants.smp = value.parse().context("`smp` is not a number")?,
            "parallel" | "parallel_full" => {
                let cpus = value.parse().context("`parallel` is not a number")?;
                let is_full = key != "parallel";
                let tier = if is_full { Tier::Full } else { Tier::Normal };
                wants.parallel.push((cpus, tier));
            }
            "seconds" => {
                wants.limit =
                    Duration::from_secs(value.parse().context("`seconds` is not a number")?)
            }
            "tier" => match value {
                "full" => wants.tier = Some(Tier::Full),
                _ => bail!("`tier` is `full` or not given"),
            },
            "append" => wants.append = text(),
            "hv" => wants.hypervisor = text(),
            "device" => wants.devices.push(text()),
            "domain" => match value {
                "ordinary" => wants.ordinary = true,
                _ => bail!("`domain` is `ordinary` or not given"),
            },
            "clock" => match value {
                "host" => wants.counted_clock = false,
                _ => bail!("`clock` is `host` or not given"),
            },
            _ => bail!("there is no `xtask: {key}`"),
        }
    }
    Ok(wants)
}

fn one(context: &Context, name: &str, form: Form, wants: &Wants) -> Outcome {
    let tree = &context.tree;
    if let Some(why) = too_large(&wants.memory) {
        return Outcome::skipped(why);
    }
    let defaults = format!(
        "{} isolate={}",
        run::hypervisor_arguments(&wants.dom0_memory),
        form.isolate
    );
    // The guest is told, too.
    let told = match form.parallel {
        Some(_) => "parallel",
        None => "",
    };
    let contents = iso::Contents {
        hypervisor_arguments: merge_words(&defaults, &wants.hypervisor),
        kernel: Module::new(tree.guests().join(name), merge_words(&wants.append, told)),
        initrd: None,
    };
    let modules = match &context.other_hypervisor {
        None if form.checked => run::direct_checked(tree, &contents),
        other => run::direct(tree, &contents, other.as_deref()),
    };
    let machine = Machine {
        memory: wants.memory.clone(),
        smp: form.parallel.unwrap_or(wants.smp),
        icount: wants.counted_clock && wants.smp == 1 && form.parallel.is_none(),
        extra: wants
            .devices
            .iter()
            .flat_map(|device| ["-device".to_owned(), device.clone()])
            .collect(),
        ..Machine::new(Boot::Direct(modules))
    };
    let log = format!("guest {name} {}", form.title());
    let mut session = match Session::start(tree, &machine, &log) {
        Ok(session) => session,
        Err(error) => return Outcome::failed("not started", format!("{error:#}")),
    };
    let limit = if form.checked {
        wants.limit * CHECKED_SLOWER
    } else {
        wants.limit
    };
    let ended = match context.other_hypervisor {
        None => session.wait(limit),
        Some(_) => ended_elsewhere(&mut session, limit),
    };
    match ended {
        Err(error) => Outcome::failed(format!("{error:#}"), session.report(tree)),
        Ok(status) => match judge(&session.text(), name, status) {
            Verdict::Passed(note) => Outcome::passed(note),
            Verdict::Skipped(reason) => Outcome::skipped(reason),
            Verdict::Failed(why) => Outcome::failed(why, session.report(tree)),
        },
    }
}

/// Why a machine with so much memory is not for this host, if it asks for gibibytes and there are not as many to be had.
fn too_large(memory: &str) -> Option<String> {
    let wanted: u64 = memory.strip_suffix('G')?.parse().ok()?;
    let told = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = told.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    let have = kib >> 20;
    (have <= wanted).then(|| format!("it takes {wanted} GiB, and this host has {have} to spare"))
}

/// Another hypervisor that we compare with halts instead of ending the emulator, and says so.
fn ended_elsewhere(session: &mut Session, limit: Duration) -> Result<i32> {
    let said = session.expect(r"Hardware Dom0 \w+|Domain 0 crashed", limit)?;
    Ok(if said.ends_with("halted") {
        0
    } else {
        EXIT_BY_PORT_AT_LEAST
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Passed(String),
    Skipped(String),
    Failed(String),
}

/// Why what a guest said is not what one says that passed, if it is not; whatever the hypervisor said after it.
pub fn complaint(console: &str, name: &str) -> Option<String> {
    let mut lines = console.lines().map(str::trim);
    if let Some(failure) = lines.clone().find(|l| l.contains("GUEST FAIL ")) {
        return Some(failure.to_owned());
    }
    let pass = format!("GUEST PASS {name}");
    let passed = lines.any(|l| l == pass || l.ends_with(&format!(" {pass}")));
    (!passed).then(|| format!("it did not say `{pass}`"))
}

/// What a console and the emulator's status say about a guest.
fn judge(console: &str, name: &str, status: i32) -> Verdict {
    // The hypervisor may put a prefix of its own before a domain's line.
    let line = |wanted: &str| {
        console.lines().map(str::trim_end).find(|l| {
            l.strip_suffix(wanted)
                .is_some_and(|before| before.is_empty() || before.ends_with(' '))
        })
    };
    let mut failures = console.lines().filter(|l| l.contains("GUEST FAIL "));
    if let Some(first) = failures.next() {
        return Verdict::Failed(match failures.count() {
            0 => first.trim().to_owned(),
            more => format!("{} (and {more} more)", first.trim()),
        });
    }
    if let Some((_, reason)) = console
        .lines()
        .find_map(|l| l.split_once(&format!("GUEST SKIP {name}")))
    {
        return Verdict::Skipped(reason.trim_start_matches([':', ' ']).to_owned());
    }
    if line(&format!("GUEST EXPECT CRASH {name}")).is_some() {
        return if status < EXIT_BY_PORT_AT_LEAST {
            Verdict::Failed(format!(
                "should have been crashed, and the emulator ended with status {status}"
            ))
        } else if console.contains(RING0_CRASHED) {
            Verdict::Failed("the hypervisor itself crashed".to_owned())
        } else if !console
            .lines()
            .any(|l| l.contains("domain 0") && l.contains("crashed"))
        {
            Verdict::Failed("no line says that domain 0 crashed".to_owned())
        } else {
            Verdict::Passed("crashed, as it should be".to_owned())
        };
    }
    match (line(&format!("GUEST PASS {name}")), status) {
        (Some(_), 0) => match check_last_words(console) {
            Ok(()) => Verdict::Passed(checks(console, name)),
            Err(why) => Verdict::Failed(format!("passed, yet {why}")),
        },
        (Some(_), status) => Verdict::Failed(format!(
            "passed, yet the emulator ended with status {status}"
        )),
        (None, status) => Verdict::Failed(format!("no line `GUEST PASS {name}`, status {status}")),
    }
}

/// The guest's own count, `name: 12 checks`, for its line.
fn checks(console: &str, name: &str) -> String {
    let prefix = format!("{name}: ");
    console
        .lines()
        .filter_map(|l| l.split_once(&prefix))
        .map(|(_, rest)| rest.trim())
        .find(|rest| rest.starts_with(|c: char| c.is_ascii_digit()) && rest.contains(" checks"))
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_needs_the_line_and_a_clean_end() {
        let console = "booting\nhello: 3 checks\nGUEST PASS hello\n";
        assert_eq!(
            judge(console, "hello", 0),
            Verdict::Passed("3 checks".to_owned())
        );
        assert!(matches!(judge(console, "hello", 3), Verdict::Failed(_)));
        assert!(matches!(judge(console, "hell", 0), Verdict::Failed(_)));
        assert!(matches!(
            judge("GUEST FAIL hello: x\nGUEST PASS hello", "hello", 0),
            Verdict::Failed(_)
        ));
    }

    #[test]
    fn a_guest_that_failed_or_is_not_done_is_complained_of() {
        assert_eq!(complaint("x\nGUEST PASS hello\r\n", "hello"), None);
        assert!(complaint("GUEST PASS hello\n", "hell").is_some());
        assert!(complaint("GUEST FAIL hello: x\nGUEST PASS hello", "hello").is_some());
        assert!(complaint("booting\n", "hello").is_some());
    }

    #[test]
    fn a_pass_needs_right_counts_and_books() {
        let pass = "(xeno) booting\nGUEST PASS hello\n";
        assert!(matches!(judge(pass, "hello", 0), Verdict::Failed(_)));
        let books = format!("{pass}(xeno) CPU 0: 1 in all; the books balance\n");
        assert!(matches!(judge(&books, "hello", 0), Verdict::Failed(_)));
        let books = format!("{books}(xeno) accounts: 1 given; the accounts add up\n");
        assert!(matches!(judge(&books, "hello", 0), Verdict::Failed(_)));
        let both = format!("{books}(xeno) audit: all counts of 7 frames are right\n");
        assert!(matches!(judge(&both, "hello", 0), Verdict::Passed(_)));
    }

    #[test]
    fn a_guest_that_must_crash_does_not_pass_by_powering_off() {
        let console = "GUEST EXPECT CRASH bad\n(xeno) domain 0 vCPU 0 crashed: bad stack\n";
        assert!(matches!(judge(console, "bad", 0), Verdict::Failed(_)));
        assert!(matches!(judge(console, "bad", 1), Verdict::Failed(_)));
        assert!(matches!(judge(console, "bad", 3), Verdict::Passed(_)));
        let ring0 = "GUEST EXPECT CRASH bad\nring 0 crashed: x, domain 0 crashed\n";
        assert!(matches!(judge(ring0, "bad", 3), Verdict::Failed(_)));
    }

    #[test]
    fn a_guest_asks_for_its_machine_in_comments() {
        let wants =
            parse_wants("//! Words.\n//! xtask: memory=1G\n//! xtask: append=a=b c\n").unwrap();
        assert_eq!(
            (wants.memory.as_str(), wants.append.as_str()),
            ("1G", "a=b c")
        );
        assert!(!wants.ordinary && parse_wants("//! xtask: domain=ordinary").unwrap().ordinary);
        assert!(parse_wants("//! xtask: colour=red").is_err());
    }
}

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

mod judged;
mod wants;

pub use judged::complaint;
pub use wants::{Wants, wants};

use std::time::Duration;

use anyhow::Result;

use crate::qemu::{Boot, Machine, Module, merge_words};
use crate::testing::runner::{Case, Needs, Outcome, Stage, Tier};
use crate::testing::serial::Session;
use crate::testing::{Context, EXIT_BY_PORT_AT_LEAST};
use crate::tree::Tree;
use crate::{iso, run};
use judged::{Verdict, judge};

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

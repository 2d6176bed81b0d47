//! Four CPUs under load: stress-ng on all vCPUs of the control domain while they are taken off line and put on line again, a
//! stock guest of four vCPUs builds C code on all of them while they go and come, small guests are built and destroyed, and
//! all frames are recounted again and again. No error, no complaint, each build is the same, and every frame of the guests is
//! back.
//!
//! The machine's clock is the host's: how much is done in the time depends on the host, that each did something is checked.

mod compiler;

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::domains::Guests;
use crate::extras::Extra;
use crate::qemu::{Machine, Module, merge_words};
use crate::testing::domains;
use crate::testing::guided::Guided;
use crate::testing::runner::{Case, Needs, Outcome, Stage, Tier};
use crate::testing::serial::{self, Session};
use crate::testing::stories::power_off;
use crate::testing::stress::{self, Audit};
use crate::testing::{Context, check_cpus_started, check_last_words};
use crate::{iso, run};

const CPUS: u32 = 4;

/// Forms and lengths.
const RUNS: &[(&str, u64)] = &[("yes", 60), ("no", 60), ("yes", 600)];

/// What is done meanwhile, each by a verb of the story that says how often in a file of its name, and what that means.
const MEANWHILE: &[(&str, &str)] = &[
    ("hotplug", "times all vCPUs but one"),
    ("churned", "guests"),
    ("plugged", "times vCPUs of a guest"),
    ("recounted", "audits"),
];

/// One case for each form and length.
pub fn cases() -> Vec<Case> {
    let case = |&(isolate, seconds): &(&'static str, u64)| Case {
        name: format!("{CPUS} CPUs under stress for {seconds} s (isolate={isolate})"),
        tier: Tier::Full,
        stage: Stage::Machine,
        needs: Needs::Guested,
        run: Box::new(move |context| play(context, isolate, seconds)),
    };
    RUNS.iter().map(case).collect()
}

fn play(context: &Context, isolate: &str, seconds: u64) -> Outcome {
    let name = format!("{CPUS} CPUs under stress for {seconds} s isolate={isolate}");
    let session = machine(context, isolate).and_then(|m| Session::start(&context.tree, &m, &name));
    serial::played(session, &context.tree, |session| act(session, seconds))
}

fn machine(context: &Context, isolate: &str) -> Result<Machine> {
    let system = context.stock()?;
    let guests = Guests {
        count: 0,
        kernel: &system.vmlinux,
    };
    let words = format!("isolate={isolate} dom0_max_vcpus={CPUS}");
    let contents = iso::Contents {
        hypervisor_arguments: merge_words(&run::hypervisor_arguments("512M"), &words),
        kernel: Module::new(
            &system.vmlinux,
            format!("{} {}", run::KERNEL_ARGUMENTS, stress::KERNEL_WORDS),
        ),
        initrd: Some(domains::initrd(
            context,
            guests,
            &[Extra::StressNg],
            compiler::parts(&context.tree)?,
            "-stress",
        )?),
    };
    Ok(Machine {
        smp: CPUS,
        ..Machine::new(context.direct(&contents))
    })
}

fn act(session: &mut Session, seconds: u64) -> Result<String> {
    let mut guided = Guided::at_prompt(session, None)?;
    // The kernel says a line for each vCPU that goes or comes, in the middle of others; the log has them.
    guided.done("dmesg -n 1")?;
    guided.done(&format!("memory=160M story guest four --vcpus {CPUS}"))?;
    guided.guest_is_up("four")?;
    guided.typed("four", "builds &")?;
    let first = "until [ -e /tmp/builds ]; do sleep 1; done; echo bu''ilt";
    guided.at_guest("four", first, "built")?;
    let before = audit(&mut guided)?;
    guided.done(
        "touch /tmp/traffic; for what in hotplug churn plugged recount; do story $what & done",
    )?;
    // On a busy host a stressor comes to its end late.
    let limit = Duration::from_secs(3 * seconds + 240);
    let stress = stress::command(seconds);
    guided.output_within(&format!("{{ {stress}; }} > /tmp/stressed 2>&1"), limit)?;
    guided.done("rm /tmp/traffic; wait")?;
    let said = guided.output("cat /tmp/stressed")?;
    stress::check_stressed(&said)?;
    let mut did = Vec::new();
    for (what, did_what) in MEANWHILE {
        let times = guided.done(&format!("cat /tmp/{what}"))?;
        let count = times.parse::<u64>();
        ensure!(
            count.is_ok_and(|count| count > 0),
            "`{what}` says {times:?}: {did_what} should be a number"
        );
        did.push(format!("{times} {did_what}"));
    }
    let after = audit(&mut guided)?;
    ensure!(
        before.sum("others")? == after.sum("others")?,
        "guests had {} frames, and have {}",
        before.sum("others")?,
        after.sum("others")?
    );
    did.push(builds(&mut guided)?);
    guided.done("xeno destroy four")?;
    guided.alone()?;
    ensure!(
        audit(&mut guided)?.sum("others")? == 0,
        "frames of guests that are gone are left"
    );
    guided.shell().kernel_has_no_complaint()?;
    power_off(session)?;
    let console = session.text();
    stress::no_complaint_of_the_hypervisor(&console)?;
    check_cpus_started(&console, CPUS).map_err(anyhow::Error::msg)?;
    check_last_words(&console).map_err(anyhow::Error::msg)?;
    did.push(format!(
        "{} rounds",
        stress::rounds(&said).values().sum::<u64>()
    ));
    Ok(did.join(", "))
}

/// Ends the guest's builds; how many there were, all alike.
fn builds(guided: &mut Guided<'_>) -> Result<String> {
    guided.typed(
        "four",
        "touch /tmp/enough; wait; sed s/^/ma''de:/ /tmp/builds",
    )?;
    let made = "xeno console four --past | tr -d '\\r' | sed -n 's/^made://p' | grep .";
    guided.until(made)?;
    let made = guided.done(made)?;
    ensure!(
        made.ends_with(" 0 wrong"),
        "what is built is not the same each time: {made}"
    );
    Ok(made)
}

fn audit(guided: &mut Guided<'_>) -> Result<Audit> {
    let audit = Audit::parse(&guided.done("audit")?);
    ensure!(
        audit.sum("mismatches")? == 0,
        "the audit found wrong counts"
    );
    Ok(audit)
}

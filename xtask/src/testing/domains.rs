//! A control domain with guests, told as short stories at its shell: built by the daemon, commanded by the command.
//!
//! The stories run on Debian's Xen too (`--hypervisor`), which serves the same calls.

use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::domains::Guests;
use crate::extras::{self, Extra};
use crate::initrd::Part;
use crate::qemu::{Boot, Machine, Module, merge_words};
use crate::testing::console_shell::Shell;
use crate::testing::runner::{Case, Needs, Outcome, Stage, Tier};
use crate::testing::serial::Session;
use crate::testing::{Context, check_last_words};
use crate::toolchain::BareMetal;
use crate::{build, iso, run};

/// A busy host takes its time over a control domain and two guests.
const BOOT_LIMIT: Duration = Duration::from_secs(400);

/// One command that has nothing to wait for.
const SOON: Duration = Duration::from_secs(60);

/// One that waits for a guest.
const LATER: Duration = Duration::from_secs(240);

/// What the stories do again and again, in the control domain: a busy machine loses characters of long typed lines.
const SCRIPT: &str = include_str!("story.sh");

/// A kernel that crashes as soon as it runs, as `/boot/crash`.
const CRASHES: &str = "asked_crashes";

/// What is done at the control domain's shell.
#[derive(Clone, Copy)]
struct Story {
    name: &'static str,
    tier: Tier,
    isolate: &'static str,
    guests: u32,
    act: fn(&mut Guided<'_>) -> Result<String>,
}

const STORIES: &[Story] = &[
    Story {
        name: "two guests are built, talk, and go",
        tier: Tier::Normal,
        isolate: "yes",
        guests: 2,
        act: two_guests,
    },
    Story {
        name: "two guests are built, talk, and go",
        tier: Tier::Full,
        isolate: "no",
        guests: 2,
        act: two_guests,
    },
    Story {
        name: "wrong descriptions are refused",
        tier: Tier::Normal,
        isolate: "yes",
        guests: 1,
        act: crate::testing::domains_wrong::all,
    },
    Story {
        name: "a disk outlives its guest",
        tier: Tier::Normal,
        isolate: "yes",
        guests: 1,
        act: |guided| disk_outlives(guided, 1),
    },
    Story {
        name: "a disk outlives its guest three times",
        tier: Tier::Full,
        isolate: "no",
        guests: 1,
        act: |guided| disk_outlives(guided, 3),
    },
    Story {
        name: "the daemon is killed 12 times",
        tier: Tier::Normal,
        isolate: "yes",
        guests: 1,
        act: |guided| daemon_killed(guided, 12),
    },
    Story {
        name: "the daemon is killed 300 times",
        tier: Tier::Full,
        isolate: "no",
        guests: 2,
        act: |guided| daemon_killed(guided, 300),
    },
];

/// The cases, one a story.
pub fn cases() -> Vec<Case> {
    let case = |story: &'static Story| Case {
        name: format!("{} isolate={}", story.name, story.isolate),
        tier: story.tier,
        stage: Stage::Machine,
        needs: Needs::Guested,
        run: Box::new(move |context| play(context, story)),
    };
    STORIES.iter().map(case).collect()
}

fn play(context: &Context, story: &Story) -> Outcome {
    let name = format!("{} isolate={}", story.name, story.isolate);
    let session = machine(context, story).and_then(|m| Session::start(&context.tree, &m, &name));
    let mut session = match session {
        Ok(session) => session,
        Err(error) => return Outcome::failed("not started", format!("{error:#}")),
    };
    match act(&mut session, story) {
        Ok(note) => Outcome::passed(note),
        Err(error) => Outcome::failed(format!("{error:#}"), session.report(&context.tree)),
    }
}

fn machine(context: &Context, story: &Story) -> Result<Machine> {
    let system = context
        .system
        .as_ref()
        .context("the stock kernel is not there")?;
    // Guests have the unpacked kernel: unpacking is measured elsewhere, and takes most of the time.
    let guests = Guests {
        count: story.guests,
        kernel: &system.vmlinux,
    };
    let other = context.other_hypervisor.as_deref();
    // Xen has no word for it.
    let isolate = if other.is_some() {
        String::new()
    } else {
        format!("isolate={}", story.isolate)
    };
    let contents = iso::Contents {
        hypervisor_arguments: merge_words(&run::hypervisor_arguments("512M"), &isolate),
        kernel: Module::new(&system.vmlinux, run::KERNEL_ARGUMENTS),
        initrd: Some(initrd(context, guests)?),
    };
    Ok(Machine::new(Boot::Direct(run::direct(
        &context.tree,
        &contents,
        other,
    ))))
}

/// Built by whoever comes first, as its name is the same for any number of guests.
fn initrd(context: &Context, guests: Guests<'_>) -> Result<std::path::PathBuf> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _held = ONE_AT_A_TIME
        .lock()
        .map_err(|_| anyhow::anyhow!("another's file system was not made"))?;
    let script = Part {
        path: "usr/bin/story".to_owned(),
        permissions: 0o755,
        contents: SCRIPT.into(),
    };
    let crash = build::guest(&context.tree, &BareMetal::find(&context.tree)?, CRASHES)?;
    let crash = extras::read("boot/crash", 0o644, &crash)?;
    let made = extras::control_initrd(
        &context.tree,
        &[Extra::Fsck],
        guests.kernel,
        guests,
        vec![script, crash],
    )?;
    // The next story's may have another number of guests in it.
    let own = made.with_file_name(format!("initrd-guested-{}.img", guests.count));
    std::fs::copy(&made, &own).with_context(|| format!("{} cannot be made", own.display()))?;
    Ok(own)
}

fn act(session: &mut Session, story: &Story) -> Result<String> {
    let mut guided = Guided {
        shell: Shell::at_prompt(session, BOOT_LIMIT)?,
    };
    let seconds = guided.shell.seconds_to_prompt();
    let note = (story.act)(&mut guided)?;
    guided.shell.kernel_has_no_complaint()?;
    session.send("poweroff\n")?;
    let status = session.wait(SOON)?;
    ensure!(status == 0, "the machine ended with status {status}");
    check_last_words(&session.text()).map_err(anyhow::Error::msg)?;
    let note = if note.is_empty() {
        note
    } else {
        format!("{note}; ")
    };
    Ok(format!("{note}prompt after {seconds:.0} s"))
}

/// The control domain's shell, with what the stories do again and again.
pub struct Guided<'a> {
    shell: Shell<'a>,
}

impl Guided<'_> {
    /// What a command wrote, on both outputs.
    pub fn output(&mut self, command: &str) -> Result<String> {
        self.shell
            .output_of(&format!("{{ {command}; }} 2>&1"), SOON)
    }

    /// The same, of a command that has to succeed.
    pub fn done(&mut self, command: &str) -> Result<String> {
        let output = self
            .shell
            .output_of(&format!("{{ {command}; }} 2>&1; echo status=$?"), LATER)?;
        match output.rsplit_once("status=") {
            Some((said, "0")) => Ok(said.trim().to_owned()),
            _ => bail!("`{command}` failed: {output}"),
        }
    }

    /// Waits for a shell command to succeed.
    pub fn until(&mut self, condition: &str) -> Result<()> {
        self.done(&format!("story until {}", quoted(condition)))
            .map(|_| ())
            .with_context(|| format!("`{condition}` did not come true"))
    }

    /// Waits for a guest's shell.
    pub fn guest_is_up(&mut self, name: &str) -> Result<()> {
        self.done(&format!("story up {name}"))
            .map(|_| ())
            .with_context(|| format!("{name} did not come to its shell"))
    }

    /// Types a line into a guest's console and waits for a line of exactly this.
    pub fn at_guest(&mut self, name: &str, line: &str, wanted: &str) -> Result<()> {
        self.typed(name, line)?;
        self.done(&format!("story says {name} {}", quoted(wanted)))
            .map(|_| ())
            .with_context(|| format!("{name} did not answer {wanted:?} to {line:?}"))
    }

    /// Types a line into a guest's console.
    pub fn typed(&mut self, name: &str, line: &str) -> Result<()> {
        self.done(&format!("story type {name} {}", quoted(line)))
            .map(|_| ())
    }

    /// Waits until only the control domain is there.
    pub fn alone(&mut self) -> Result<()> {
        self.done("story alone").map(|_| ())
    }

    /// The names of all domains, by number.
    pub fn names(&mut self) -> Result<String> {
        let names = self.done("story names")?;
        Ok(names.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    /// The machine's free memory in bytes.
    pub fn free(&mut self) -> Result<u64> {
        let said = self.done("story free")?;
        said.parse()
            .with_context(|| format!("the free memory is {said:?}"))
    }
}

/// A word of the shell's.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Both come up, answer, and are gone when they are told to; all memory is back.
fn two_guests(guided: &mut Guided<'_>) -> Result<String> {
    let names = guided.names()?;
    ensure!(
        names == "Domain-0 guest1 guest2",
        "at the first prompt there are {names}"
    );
    for name in ["guest1", "guest2"] {
        guided.guest_is_up(name)?;
        // The quotes keep what the terminal echoes from looking like the answer.
        guided.at_guest(
            name,
            "echo an''swer $((6*7)) $(hostname)",
            &format!("answer 42 {name}"),
        )?;
    }
    let info = guided.done("xeno info guest2")?;
    for part in ["96M of at most 96M", "xvda", "/boot/guest-initrd.img"] {
        ensure!(
            info.contains(part),
            "`xeno info` does not say {part}: {info}"
        );
    }
    guided.done("xeno pause guest2")?;
    ensure!(
        guided.done("xeno list")?.contains("paused"),
        "the paused guest is not listed as such"
    );
    guided.done("xeno unpause guest2")?;
    guided.at_guest("guest2", "echo aw''ake", "awake")?;
    guided.done("xeno shutdown --wait --timeout 120 guest1")?;
    guided.done("xeno destroy guest2")?;
    guided.alone()?;
    let free = guided.free()?;
    guided.done("xeno create /etc/xeno/guest1.toml")?;
    guided.guest_is_up("guest1")?;
    guided.done("xeno destroy guest1")?;
    guided.alone()?;
    let after = guided.free()?;
    ensure!(
        free == after,
        "of {free} free bytes {after} are left after a guest came and went"
    );
    Ok(String::new())
}

/// What was synced is there after the guest was destroyed in the middle of writing, and the file system is whole.
fn disk_outlives(guided: &mut Guided<'_>, rounds: u32) -> Result<String> {
    for round in 0..rounds {
        guided.guest_is_up("guest1")?;
        guided.at_guest(
            "guest1",
            &format!("echo kept{round} > /mnt/file{round}; sync; echo syn''ced{round}"),
            &format!("synced{round}"),
        )?;
        guided.typed(
            "guest1",
            "while true; do dd if=/dev/zero of=/mnt/busy bs=64k count=20 conv=fsync; done",
        )?;
        guided.done("xeno destroy guest1")?;
        guided.alone()?;
        // The journal is replayed, and then nothing is wrong.
        guided.done("story fsck")?;
        guided.done("xeno create /etc/xeno/guest1.toml")?;
        guided.guest_is_up("guest1")?;
        for old in 0..=round {
            guided.at_guest(
                "guest1",
                &format!("cat /mnt/file{old}"),
                &format!("kept{old}"),
            )?;
        }
    }
    guided.done("xeno destroy guest1")?;
    guided.alone()?;
    // What may only be read stays as it is.
    let before = guided.done("story disk")?;
    guided.done("story reader")?;
    guided.guest_is_up("reader")?;
    guided.at_guest("reader", "echo x > /dev/xvda || echo can''not", "cannot")?;
    guided.done("xeno destroy reader")?;
    let after = guided.done("story disk")?;
    ensure!(before == after, "a disk that may only be read was written");
    Ok(String::new())
}

/// Guests go on, and what the store acknowledged is there.
fn daemon_killed(guided: &mut Guided<'_>, rounds: u32) -> Result<String> {
    guided.guest_is_up("guest1")?;
    let before = guided.done("story ids")?;
    let limit = Duration::from_secs(60 + 6 * u64::from(rounds));
    let said = guided
        .shell
        .output_of(&format!("story kill {rounds}"), limit)?;
    ensure!(said.ends_with("lost 0"), "after {rounds} deaths: {said}");
    let count = guided.done("xeno store list /test | wc -l")?;
    ensure!(
        count == rounds.to_string(),
        "of {rounds} values {count} are in the store"
    );
    let after = guided.done("story ids")?;
    ensure!(before == after, "before: {before}; after: {after}");
    guided.at_guest("guest1", "echo al''ive", "alive")?;
    guided.at_guest(
        "guest1",
        "echo on''disk > /mnt/x; sync; cat /mnt/x",
        "ondisk",
    )?;
    guided.done("xeno shutdown --wait --timeout 120 guest1")?;
    Ok(format!("{rounds} deaths"))
}

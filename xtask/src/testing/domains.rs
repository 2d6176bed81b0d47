//! A control domain with guests, told as short stories at its shell: built by the daemon, commanded by the command.
//!
//! The stories run on Debian's Xen too (`--hypervisor`), which serves the same calls.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::domains::{self, Guests};
use crate::extras::{self, Extra};
use crate::initrd::Part;
use crate::qemu::{Boot, Bus, Disk, Machine, Module, merge_words};
use crate::testing::guided::Guided;
use crate::testing::runner::{Case, Needs, Outcome, Stage, Tier};
use crate::testing::serial::Session;
use crate::testing::{
    Context, check_last_words, domains_disks, domains_hostile, domains_killed, domains_ledger,
    domains_store, domains_vcpus, linux_module,
};
use crate::toolchain::BareMetal;
use crate::tree::Tree;
use crate::{build, iso, run};

/// The machine's end.
const SOON: Duration = Duration::from_secs(60);

/// What the stories do again and again, in the control domain: a busy machine loses characters of long typed lines.
pub const SCRIPT: &str = include_str!("story.sh");

/// Kernels of our own that the stories start: where they are in the control domain, and their names. The first crashes as
/// soon as it runs.
const KERNELS: [(&str, &str); 2] = [
    ("boot/crash", "asked_crashes"),
    ("boot/hostile_disk", "hostile_disk"),
];

/// What is done at the control domain's shell.
#[derive(Clone, Copy)]
struct Story {
    name: &'static str,
    tier: Tier,
    isolate: &'static str,
    /// CPUs of the machine.
    smp: u32,
    guests: u32,
    /// The machine has a disk, `/dev/vda`.
    disk: bool,
    act: fn(&mut Guided<'_>) -> Result<String>,
}

const STORIES: &[Story] = &[
    Story {
        name: "two guests are built, talk, and go",
        tier: Tier::Normal,
        isolate: "yes",
        smp: 2,
        guests: 2,
        disk: false,
        act: two_guests,
    },
    Story {
        name: "two guests are built, talk, and go",
        tier: Tier::Full,
        isolate: "no",
        smp: 4,
        guests: 2,
        disk: false,
        act: two_guests,
    },
    Story {
        name: "wrong descriptions are refused",
        tier: Tier::Normal,
        isolate: "yes",
        smp: 1,
        guests: 1,
        disk: false,
        act: crate::testing::domains_wrong::all,
    },
    Story {
        name: "a disk outlives its guest",
        tier: Tier::Normal,
        isolate: "yes",
        smp: 1,
        guests: 1,
        disk: false,
        act: |guided| domains_disks::outlive(guided, 1),
    },
    Story {
        name: "a disk outlives its guest three times",
        tier: Tier::Full,
        isolate: "no",
        smp: 1,
        guests: 1,
        disk: false,
        act: |guided| domains_disks::outlive(guided, 3),
    },
    Story {
        name: "a disk that fails is one guest's",
        tier: Tier::Normal,
        isolate: "no",
        smp: 1,
        guests: 1,
        disk: true,
        act: |guided| {
            domains_hostile::front_end(guided)?;
            domains_disks::fail(guided)
        },
    },
    Story {
        name: "the usage record is whole, and what is done to it is found",
        tier: Tier::Normal,
        isolate: "yes",
        smp: 1,
        guests: 1,
        disk: false,
        act: domains_ledger::all,
    },
    Story {
        name: "the daemon is killed 12 times",
        tier: Tier::Normal,
        isolate: "yes",
        smp: 1,
        guests: 1,
        disk: false,
        act: |guided| domains_killed::all(guided, 12),
    },
    Story {
        name: "the daemon is killed 300 times",
        tier: Tier::Full,
        isolate: "yes",
        smp: 1,
        guests: 1,
        disk: false,
        act: |guided| domains_killed::all(guided, 300),
    },
    Story {
        name: "the daemon is killed 300 times",
        tier: Tier::Full,
        isolate: "no",
        smp: 1,
        guests: 2,
        disk: false,
        act: |guided| domains_killed::all(guided, 300),
    },
];

/// The cases, one a story.
pub fn cases() -> Vec<Case> {
    let case = |story: &'static Story| Case {
        name: story.title(),
        tier: story.tier,
        stage: Stage::Machine,
        needs: Needs::Guested,
        run: Box::new(move |context| play(context, story)),
    };
    STORIES.iter().map(case).collect()
}

impl Story {
    /// What tells it from the others.
    fn title(&self) -> String {
        let cpus = match self.smp {
            1 => String::new(),
            several => format!(" on {several} processors"),
        };
        format!("{}{cpus} isolate={}", self.name, self.isolate)
    }
}

fn play(context: &Context, story: &Story) -> Outcome {
    let name = story.title();
    let session = machine(context, story).and_then(|machine| {
        let disk = machine.disks.first().map(|disk| disk.file.clone());
        Ok((Session::start(&context.tree, &machine, &name)?, disk))
    });
    let (mut session, disk) = match session {
        Ok(session) => session,
        Err(error) => return Outcome::failed("not started", format!("{error:#}")),
    };
    match act(&mut session, story, disk) {
        Ok(note) => Outcome::passed(note),
        Err(error) => Outcome::failed(format!("{error:#}"), session.report(&context.tree)),
    }
}

fn machine(context: &Context, story: &Story) -> Result<Machine> {
    let disks = if story.disk {
        vec![empty_disk(&context.tree)?]
    } else {
        Vec::new()
    };
    Ok(Machine {
        smp: story.smp,
        ..machine_with(context, story.isolate, story.guests, disks)?
    })
}

/// A control domain with so many guests; it drives the machine's disks.
///
/// # Errors
/// When something of it cannot be made.
pub fn machine_with(
    context: &Context,
    isolate: &str,
    guests: u32,
    disks: Vec<Disk>,
) -> Result<Machine> {
    let system = context
        .system
        .as_ref()
        .context("the stock kernel is not there")?;
    // Guests have the unpacked kernel: unpacking is measured elsewhere, and takes most of the time.
    let guests = Guests {
        count: guests,
        kernel: &system.vmlinux,
    };
    let other = context.other_hypervisor.as_deref();
    // Xen has no word for it.
    let isolate = if other.is_some() {
        String::new()
    } else {
        format!("isolate={isolate}")
    };
    let contents = iso::Contents {
        hypervisor_arguments: merge_words(&run::hypervisor_arguments("512M"), &isolate),
        kernel: Module::new(&system.vmlinux, run::KERNEL_ARGUMENTS),
        initrd: Some(if disks.is_empty() {
            initrd(context, guests, &[], Vec::new(), "")?
        } else {
            initrd(context, guests, &[Extra::Drivers], Vec::new(), "-drivers")?
        }),
    };
    let boot = Boot::Direct(run::direct(&context.tree, &contents, other));
    Ok(Machine {
        disks,
        ..Machine::new(boot)
    })
}

/// A disk of the machine's, all zeros.
fn empty_disk(tree: &Tree) -> Result<Disk> {
    const BYTES: u64 = 16 << 20;
    let file = tree.out().join("disks/domains.img");
    let made = || {
        std::fs::create_dir_all(tree.out().join("disks"))?;
        std::fs::File::create(&file)?.set_len(BYTES)
    };
    made().with_context(|| format!("{} cannot be made", file.display()))?;
    let bus = Bus::Virtio;
    Ok(Disk {
        bus,
        file,
        log: None,
    })
}

/// A control domain's file system with these besides, and with these files in its guests' file system; `kind` is in its name,
/// and a different one for each that differs. Built by whoever comes first, as its name is the same for any number of guests.
///
/// # Errors
/// When something of it cannot be made.
pub fn initrd(
    context: &Context,
    guests: Guests<'_>,
    besides: &[Extra],
    in_guests: Vec<Part>,
    kind: &str,
) -> Result<PathBuf> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _held = ONE_AT_A_TIME
        .lock()
        .map_err(|_| anyhow::anyhow!("another's file system was not made"))?;
    let script = Part {
        path: "usr/bin/story".to_owned(),
        permissions: 0o755,
        contents: SCRIPT.into(),
    };
    let program = linux_module::program(context)?;
    let in_guests = [vec![program.clone()], in_guests].concat();
    let guest = domains::guest_initrd(&context.tree, guests.kernel, in_guests)?;
    let guest = extras::read(domains::GUEST_INITRD, 0o644, &guest)?;
    let mut more = vec![script, program, guest];
    for (path, name) in KERNELS {
        let kernel = build::guest(&context.tree, &BareMetal::find(&context.tree)?, name)?;
        more.push(extras::read(path, 0o644, &kernel)?);
    }
    let extras = [&[Extra::Fsck, Extra::StoreTools], besides].concat();
    let made = extras::control_initrd(&context.tree, &extras, guests.kernel, guests, more)?;
    // The next story's may have another number of guests in it.
    let own = made.with_file_name(format!("initrd-guested{kind}-{}.img", guests.count));
    std::fs::copy(&made, &own).with_context(|| format!("{} cannot be made", own.display()))?;
    Ok(own)
}

fn act(session: &mut Session, story: &Story, disk: Option<PathBuf>) -> Result<String> {
    let mut guided = Guided::at_prompt(session, disk)?;
    let seconds = guided.shell().seconds_to_prompt();
    let note = (story.act)(&mut guided)?;
    guided.shell().kernel_has_no_complaint()?;
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
    let top = guided.done("xeno top --count 1")?;
    ensure!(
        top.contains("guest2"),
        "`xeno top` does not show guest2: {top}"
    );
    domains_store::tools(guided)?;
    linux_module::in_control_domain(guided)?;
    linux_module::in_guest(guided, "guest1")?;
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
    domains_vcpus::two(guided)?;
    own_kernel(guided)?;
    let after = guided.free()?;
    ensure!(
        free == after,
        "of {free} free bytes {after} are left after a guest came and went"
    );
    Ok(String::new())
}

/// The kernel of one page, as docs/guests.md has it: it says what it was given, repeats what is typed, and goes.
fn own_kernel(guided: &mut Guided<'_>) -> Result<()> {
    let create = "xeno create --name talk --kernel /boot/talk --memory 16M";
    guided.done(&format!("{create} --cmdline hello"))?;
    guided.until("story says talk 'I have 16384 KiB of memory and am told: hello'")?;
    guided.at_guest("talk", "good day", "you typed: good day")?;
    guided.typed("talk", "bye")?;
    guided.alone()?;
    guided.done(create)?;
    guided.until("story says talk 'type something, or bye:'")?;
    guided.done("xeno destroy talk")?;
    guided.alone()
}

//! The module of `linux-patches/xeno`: `/dev/xeno` tells what the hypervisor tells, refuses what is wrong, may come and go
//! while it is used, and is not there without our hypervisor.
//!
//! What is tried in a control domain and in a guest is part of a story of `domains`. Here are the machines that it takes
//! beside these: other kernels, other hypervisors, none.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::extras::{self, Extra};
use crate::initrd::Part;
use crate::kernel::{self, Release};
use crate::qemu::{Boot, Machine, Module, Modules};
use crate::testing::console_shell::Shell;
use crate::testing::domains::SCRIPT;
use crate::testing::guided::Guided;
use crate::testing::runner::{Case, Needs, Outcome, Stage, Tier};
use crate::testing::serial::{self, Session};
use crate::testing::stories::{BOOT_LIMIT, power_off};
use crate::testing::{Context, check_last_words};
use crate::toolchain::BareMetal;
use crate::{iso, programs, run, xen};

/// The program that tries the device.
const PROGRAM: &str = "devxeno";

/// One command.
const SOON: Duration = Duration::from_secs(60);

/// What the kernel runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Host {
    Ours,
    Xen,
    Bare,
}

const CASES: &[(&str, Release, Host)] = &[
    (
        "the module xeno serves Linux 6.12",
        Release::Newer,
        Host::Ours,
    ),
    (
        "the module xeno is refused on Xen",
        Release::Stable,
        Host::Xen,
    ),
    (
        "the module xeno is refused on the bare machine",
        Release::Stable,
        Host::Bare,
    ),
];

/// The machines.
pub fn cases() -> Vec<Case> {
    let case = |&(name, release, host): &(&'static str, Release, Host)| Case {
        name: name.to_owned(),
        tier: Tier::Full,
        stage: Stage::Machine,
        needs: Needs::Guested,
        run: Box::new(move |context| play(context, name, release, host)),
    };
    CASES.iter().map(case).collect()
}

fn play(context: &Context, name: &str, release: Release, host: Host) -> Outcome {
    let shipped = match kernel::release(&context.tree, release) {
        Ok(shipped) => shipped,
        Err(reason) => return Outcome::skipped(format!("{reason:#}")),
    };
    let started = machine(context, &shipped, host)
        .and_then(|machine| Session::start(&context.tree, &machine, name));
    serial::played(started, &context.tree, |session| match host {
        Host::Ours => served(session),
        Host::Xen => refused(session, "the hypervisor is Xen"),
        Host::Bare => refused(session, "does not run as a guest of a Xenoserver"),
    })
}

fn machine(context: &Context, shipped: &Path, host: Host) -> Result<Machine> {
    let script = Part {
        path: "usr/bin/story".to_owned(),
        permissions: 0o755,
        contents: SCRIPT.into(),
    };
    // The next case's may be another kernel's, and is made at the same place, perhaps at the same time.
    static MAKING: Mutex<()> = Mutex::new(());
    let making = MAKING.lock();
    let initrd = extras::initrd_with(
        &context.tree,
        &[Extra::Module, Extra::Programs],
        Some(shipped),
        None,
        vec![script],
    )?;
    let own = initrd.with_file_name(format!("initrd-module-{host:?}.img"));
    std::fs::copy(&initrd, &own).with_context(|| format!("{} cannot be made", own.display()))?;
    drop(making);
    let kernel = kernel::unpacked(shipped)?;
    let boot = match host {
        Host::Bare => Boot::Direct(Modules {
            hypervisor: Some(shipped.to_path_buf()),
            hypervisor_arguments: "console=ttyS0 panic=-1".to_owned(),
            modules: vec![Module::new(own, "")],
        }),
        Host::Ours | Host::Xen => {
            let other = match host {
                Host::Xen => Some(xen::stock(&context.tree)?.image),
                _ => context.other_hypervisor.clone(),
            };
            let contents = iso::Contents {
                hypervisor_arguments: run::hypervisor_arguments("512M"),
                kernel: Module::new(kernel, run::KERNEL_ARGUMENTS),
                initrd: Some(own),
            };
            Boot::Direct(run::direct(&context.tree, &contents, other.as_deref()))
        }
    };
    Ok(Machine {
        no_reboot: true,
        ..Machine::new(boot)
    })
}

/// All that is tried in a control domain, and the machine ends well.
fn served(session: &mut Session) -> Result<String> {
    let mut guided = Guided::at_prompt(session, None)?;
    in_control_domain(&mut guided)?;
    guided.shell().kernel_has_no_complaint()?;
    let version = guided.done("uname -r")?;
    power_off(session)?;
    check_last_words(&session.text()).map_err(anyhow::Error::msg)?;
    Ok(version)
}

/// It says in a sentence why there is none, leaves nothing behind, and says so again.
fn refused(session: &mut Session, why: &str) -> Result<String> {
    let mut shell = Shell::at_prompt(session, BOOT_LIMIT)?;
    // Busybox's `modprobe` asks for it by its file, and when that is refused, with the file's contents.
    for times in ["2", "4"] {
        let said = shell.output_of("modprobe xeno; echo status $?", SOON)?;
        ensure!(
            said.contains("No such device") && said.ends_with("status 1"),
            "`modprobe xeno` says {said:?}"
        );
        let log = shell.output_of(&format!("dmesg | grep -c 'xeno: .*{why}'"), SOON)?;
        ensure!(
            log == times,
            "the kernel's log says {log} times that {why}, not {times}"
        );
    }
    let left = shell.output_of("ls /dev/xeno; lsmod | grep -c xeno", SOON)?;
    ensure!(left.ends_with('0'), "the module left something: {left:?}");
    shell.kernel_has_no_complaint()?;
    Ok(why.to_owned())
}

/// The program that tries it, for an initial file system.
///
/// # Errors
/// When it does not build.
pub fn program(context: &Context) -> Result<Part> {
    let built = programs::build(&context.tree, &BareMetal::find(&context.tree)?)?;
    let (_, file) = built
        .iter()
        .find(|(name, _)| name == PROGRAM)
        .context("there is no such program")?;
    extras::read(format!("usr/bin/{PROGRAM}"), 0o755, file)
}

/// At the shell of a control domain: the device is anybody's to read, agrees with the hypervisor, refuses what is wrong,
/// and comes and goes.
///
/// # Errors
/// With the first that is not so.
pub fn in_control_domain(guided: &mut Guided<'_>) -> Result<()> {
    guided.done("modprobe xeno")?;
    let mode = guided.done("stat -c '%a %U %F' /dev/xeno")?;
    ensure!(
        mode == "444 root character special file",
        "/dev/xeno is {mode:?}"
    );
    let agrees = guided.done("devxeno agrees")?;
    ensure!(agrees.ends_with("with privcmd"), "{agrees}");
    guided.done("devxeno area")?;
    guided.done("devxeno wrong")?;
    let reload = guided.done("story reload 3")?;
    ensure!(
        reload.contains("status 0, gone "),
        "while the module came and went: {reload}"
    );
    let agrees = guided.done("devxeno agrees")?;
    ensure!(agrees.ends_with("with privcmd"), "{agrees}");
    Ok(())
}

/// At the shell of a guest: the same; and what its device says lies between two answers to the control domain about it.
///
/// # Errors
/// With the first that is not so.
pub fn in_guest(guided: &mut Guided<'_>, name: &str) -> Result<()> {
    guided.at_guest(
        name,
        "modprobe xeno && devxeno agrees && devxeno area && devxeno wrong && devxeno race 2 && echo mod''ule is well",
        "module is well",
    )?;
    let ask = format!("devxeno ask $(story id {name})");
    let before = guided.done(&ask)?;
    guided.at_guest(name, "grep -v vcpu /dev/xeno; echo sho''wn", "shown")?;
    let after = guided.done(&ask)?;
    let console = guided.done(&format!("xeno console {name} --past | tr -d '\\r'"))?;
    let number = |text: &str, name: &str| {
        let mut lines = text.lines().rev();
        lines.find_map(|line| {
            line.strip_prefix(name)?
                .strip_prefix(' ')?
                .parse::<u128>()
                .ok()
        })
    };
    let names = before.lines().filter_map(|line| line.split(' ').next());
    let mut compared = 0;
    for counter in names {
        let values = [&before, &console, &after].map(|text| number(text, counter));
        ensure!(
            values.is_sorted() && values[0].is_some(),
            "{counter} of {name} is, before, in the guest and after: {values:?}"
        );
        compared += 1;
    }
    ensure!(compared >= 18, "only {compared} numbers were compared");
    Ok(())
}

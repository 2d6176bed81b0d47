//! `cargo xtask test`: what is tried, in tiers.
//!
//! Kinds of cases: checks and tests on the host (`checks`, `size`), test guests (`guests`), the stock kernels or what
//! should have been one (`stories`, `kernels`, `stress`, `boot_log`, `restart`, `bad_input`), machines (`cpus`,
//! `devices`, `firmware`), a control domain with guests (`domains`), the module for stock kernels (`linux_module`), and
//! ring 0's own end (`crash_report`). Each is a table or is read from the tree, so that a new case is one row and cannot
//! be forgotten.

mod bad_input;
mod boot_log;
mod checks;
mod console_shell;
mod cpus;
mod crash_report;
mod devices;
mod domains;
mod domains_disks;
mod domains_hostile;
mod domains_killed;
mod domains_ledger;
mod domains_store;
mod domains_vcpus;
mod domains_wrong;
mod firmware;
pub mod guests;
mod guided;
mod kernels;
mod linux_module;
mod lost;
mod restart;
mod runner;
mod said;
mod serial;
mod size;
mod stories;
mod stress;
mod stress_cpus;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::provision::{self, Need};
use crate::qemu::Boot;
use crate::testing::runner::{Case, Needs, Outcome, Reporter, Tier};
use crate::toolchain::BareMetal;
use crate::tree::Tree;
use crate::{build, initrd, iso, kernel, run};
use said::{
    BUILT_ANEW, EXIT_BY_PORT_AT_LEAST, RING0_CRASHED, check_cpus_started, check_last_words,
};

/// Options of `cargo xtask test`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// What a person runs before each commit: at most five minutes
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// The long forms and the whole matrix
    #[arg(long)]
    full: bool,
    /// On the hypervisor that checks itself (`cargo xtask build --checked`), which is slow
    #[arg(long, conflicts_with = "hypervisor")]
    checked: bool,
    /// Run only the tests whose name has this in it, of every tier
    #[arg(long, value_name = "PATTERN")]
    only: Option<String>,
    /// Say what would be run, and run nothing
    #[arg(long)]
    list: bool,
    /// One JSON object a line on standard output; what a person reads goes to standard error
    #[arg(long)]
    json: bool,
    /// Another hypervisor instead of ours where the emulator starts it itself, to compare with
    #[arg(long, value_name = "FILE")]
    hypervisor: Option<PathBuf>,
}

/// What cases work with.
pub struct Context {
    /// The source tree and what is built from it.
    pub tree: Tree,
    /// The stock system, when it could be had.
    pub system: Option<System>,
    /// Another hypervisor to compare with.
    pub other_hypervisor: Option<PathBuf>,
    /// Whether ours is the one that checks itself, in every test.
    checked: bool,
    /// Why the hypervisor, the guests or the system are not there.
    missing: Missing,
    images: Mutex<Vec<PathBuf>>,
}

/// The stock kernel in its two forms and an initial file system.
pub struct System {
    /// As shipped.
    pub vmlinuz: PathBuf,
    /// Unpacked.
    pub vmlinux: PathBuf,
    /// A shell.
    pub initrd: PathBuf,
}

#[derive(Default)]
struct Missing {
    hypervisor: Option<String>,
    checked: Option<String>,
    guests: Option<String>,
    system: Option<String>,
}

impl Context {
    /// Why a case cannot be tried.
    pub fn missing(&self, needs: Needs) -> Option<String> {
        let Missing {
            hypervisor,
            checked,
            guests,
            system,
        } = &self.missing;
        let reasons: &[&Option<String>] = match needs {
            Needs::Tree => &[],
            Needs::Hypervisor => &[hypervisor],
            Needs::Guests => &[hypervisor, guests],
            Needs::Checked => &[checked, guests],
            Needs::System | Needs::Guested | Needs::Kernels | Needs::Image | Needs::Uefi => {
                &[hypervisor, system]
            }
        };
        reasons.iter().find_map(|reason| reason.as_ref()).cloned()
    }

    /// The stock system, for a case that needs it.
    ///
    /// # Errors
    /// Where it could not be had, which the case's needs say before.
    pub fn stock(&self) -> Result<&System> {
        self.system
            .as_ref()
            .context("the stock kernel is not there")
    }

    /// A machine's start by the emulator's own loader, with the hypervisor that is tested.
    pub fn direct(&self, contents: &iso::Contents) -> Boot {
        let other = self.other_hypervisor.as_deref();
        Boot::Direct(run::direct(&self.tree, contents, other))
    }

    /// Makes a CD image unless this run already made it.
    ///
    /// # Errors
    /// As [`iso::build`].
    pub fn build_image_once(&self, contents: &iso::Contents, image: &Path) -> Result<()> {
        let mut made = self
            .images
            .lock()
            .map_err(|_| anyhow::anyhow!("another image's making was cut short"))?;
        if !made.iter().any(|m| m == image) {
            iso::build(&self.tree, contents, image)?;
            made.push(image.to_path_buf());
        }
        Ok(())
    }
}

/// Runs the tests that the options select; the status is a failure's if one failed.
///
/// # Errors
/// When the tree's tests cannot be listed, or a tool is missing and may not be installed.
pub fn command(tree: &Tree, options: &Options) -> Result<ExitCode> {
    let cases = select(tree, options)?;
    if options.list {
        for case in &cases {
            println!("{}", case.name);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if cases.is_empty() {
        bail!(
            "no test's name has `{}` in it: `cargo xtask test --full --list` names them all",
            pattern(options)
        );
    }
    provision::ensure(&tools(&cases))?;
    let preparations = preparations(&cases);
    let reporter = Reporter::new(preparations.len() + cases.len(), options.json);
    let mut context = Context {
        tree: tree.clone(),
        system: None,
        other_hypervisor: options
            .hypervisor
            .as_ref()
            .map(std::fs::canonicalize)
            .transpose()?,
        checked: options.checked,
        missing: Missing::default(),
        images: Mutex::default(),
    };
    for preparation in preparations {
        prepare(&mut context, preparation, &reporter);
    }
    reporter.run(&context, cases);
    Ok(if reporter.close() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn pattern(options: &Options) -> &str {
    options.only.as_deref().unwrap_or_default()
}

fn select(tree: &Tree, options: &Options) -> Result<Vec<Case>> {
    let tier = match (options.quick, options.full) {
        (true, _) => Tier::Quick,
        (_, true) => Tier::Full,
        _ if options.only.is_some() => Tier::Full,
        _ => Tier::Normal,
    };
    let mut cases = checks::cases();
    cases.extend(guests::cases(tree)?);
    if !options.checked {
        // What is measured is what ships.
        cases.extend(size::cases());
    }
    cases.extend(bad_input::cases());
    cases.extend(crash_report::cases());
    cases.extend(cpus::cases());
    cases.extend(stories::cases());
    cases.extend(stress::cases());
    cases.extend(stress_cpus::cases());
    cases.extend(boot_log::cases());
    cases.extend(restart::cases());
    cases.extend(kernels::cases());
    cases.extend(devices::cases());
    cases.extend(domains::cases());
    cases.extend(linux_module::cases());
    cases.extend(lost::cases());
    cases.extend(firmware::cases());
    cases.retain(|case| case.tier <= tier && case.name.contains(pattern(options)));
    Ok(cases)
}

/// What is tried with a stock kernel and a file system for it.
const SYSTEM: &[Needs] = &[
    Needs::System,
    Needs::Guested,
    Needs::Kernels,
    Needs::Image,
    Needs::Uefi,
];

/// The programs that these cases call for.
fn tools(cases: &[Case]) -> Vec<Need> {
    let mut tools = vec![Need::BareMetal, Need::BareMetalLints, Need::PublicHeaders];
    let wants = |needs: &[Needs]| cases.iter().any(|case| needs.contains(&case.needs));
    if cases.iter().any(|case| case.needs != Needs::Tree) {
        tools.push(Need::Qemu);
    }
    if wants(SYSTEM) {
        tools.extend([Need::Xz, Need::Busybox]);
    }
    if wants(&[Needs::Guested]) {
        tools.extend([Need::Ext4, Need::ModuleTools]);
    }
    if wants(&[Needs::Kernels]) {
        tools.push(Need::Packers);
    }
    if wants(&[Needs::Image, Needs::Uefi]) {
        tools.push(Need::Grub);
    }
    if wants(&[Needs::Uefi]) {
        tools.push(Need::Ovmf);
    }
    tools
}

/// What is made before the cases run; each is told about like a case, because a broken build is a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Preparation {
    Hypervisor,
    Checked,
    Guests,
    System,
}

fn preparations(cases: &[Case]) -> Vec<Preparation> {
    let wants = |needs: &[Needs]| cases.iter().any(|case| needs.contains(&case.needs));
    let mut all = Vec::new();
    let without = [Needs::Tree, Needs::Checked];
    if cases.iter().any(|case| !without.contains(&case.needs)) {
        all.push(Preparation::Hypervisor);
    }
    if wants(&[Needs::Checked]) {
        all.push(Preparation::Checked);
    }
    if wants(&[Needs::Guests, Needs::Checked]) {
        all.push(Preparation::Guests);
    }
    if wants(SYSTEM) {
        all.push(Preparation::System);
    }
    all
}

fn prepare(context: &mut Context, preparation: Preparation, reporter: &Reporter) {
    let started = Instant::now();
    let (name, result) = match preparation {
        Preparation::Hypervisor => ("build the hypervisor", build_hypervisor(context)),
        Preparation::Checked => ("build the checked hypervisor", build_checked(&context.tree)),
        Preparation::Guests => ("build the test guests", build_guests(&context.tree)),
        Preparation::System => ("fetch the stock kernel", fetch_system(context)),
    };
    let outcome = match &result {
        Ok(note) => Outcome::passed(note.clone()),
        Err(error) => Outcome::failed("", format!("{error:#}")),
    };
    if result.is_err() {
        let (slot, reason) = match preparation {
            Preparation::Hypervisor => (
                &mut context.missing.hypervisor,
                "the hypervisor was not built",
            ),
            Preparation::Checked => (
                &mut context.missing.checked,
                "the checked hypervisor was not built",
            ),
            Preparation::Guests => (
                &mut context.missing.guests,
                "the test guests were not built",
            ),
            Preparation::System => (&mut context.missing.system, "the stock kernel is not there"),
        };
        *slot = Some(reason.to_owned());
    }
    reporter.tell(name, &outcome, started.elapsed().as_secs_f64());
}

fn build_hypervisor(context: &Context) -> Result<String> {
    let tree = &context.tree;
    let bare = BareMetal::find(tree)?;
    if context.checked {
        build::checked_as_hypervisor(tree, &bare)?;
    } else {
        build::hypervisor(tree, &bare)?;
    }
    let size = std::fs::metadata(tree.hypervisor())?.len();
    Ok(format!("{} KiB", size.div_ceil(1024)))
}

fn build_checked(tree: &Tree) -> Result<String> {
    build::checked_hypervisor(tree, &BareMetal::find(tree)?)?;
    Ok(String::new())
}

fn build_guests(tree: &Tree) -> Result<String> {
    let built = build::guests(tree, &BareMetal::find(tree)?)?;
    Ok(format!("{} guests", built.len()))
}

fn fetch_system(context: &mut Context) -> Result<String> {
    let vmlinuz = kernel::stock(&context.tree)?;
    let vmlinux = kernel::unpacked(&vmlinuz)?;
    let initrd = initrd::build(&context.tree)?;
    let name = vmlinuz
        .parent()
        .and_then(Path::file_name)
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    context.system = Some(System {
        vmlinuz,
        vmlinux,
        initrd,
    });
    Ok(name)
}

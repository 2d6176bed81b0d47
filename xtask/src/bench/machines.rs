//! The three machines that are compared, and the conditions they share.
//!
//! # Invariants
//! - M1: but for what is compared all three are the same machine: processor, memory, clock, firmware, kernel, initial
//!   file system.
//! - M2: virtual time counts instructions, so that a run with the same inputs gives the same figures.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::qemu::{Boot, Machine, Module, Modules, Serial};
use crate::run;
use crate::shell;
use crate::tree::Tree;

/// The processor of all figures. Without `erms` clearing a page counts 512 instructions, not 4096.
pub const CPU: &str = "Haswell-noTSX,-erms";
/// The machine's memory, but where memory is what is measured.
pub const MEMORY: &str = "1G";
/// What of it the kernel has, on the bare machine too.
const KERNEL_MEMORY: &str = "512M";
/// The kernel's words on all three.
const KERNEL_WORDS: &str = "nokaslr norandmaps panic=-1";

/// What the kernel runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Host {
    /// Nothing: the machine itself
    Bare,
    /// Debian's Xen 4.17, the kernel as its control domain
    Xen,
    /// Our ring 0, the kernel as its control domain
    Ours,
}

/// How the defences against reading other address spaces by speculation stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Setting {
    /// Everybody's default on this processor: Linux's and Xen's own page-table isolation, ours by isolate=yes
    Isolated,
    /// Off everywhere: Linux mitigations=off, Xen xpti=no spec-ctrl=no, ours isolate=no
    Shared,
}

impl Host {
    /// All of them, in the order of the tables.
    pub const ALL: [Self; 3] = [Self::Bare, Self::Xen, Self::Ours];

    /// A column's head.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Xen => "Xen",
            Self::Ours => "ours",
        }
    }
}

impl Setting {
    /// Both, the defaults first.
    pub const ALL: [Self; 2] = [Self::Isolated, Self::Shared];

    /// A table's head.
    pub fn name(self) -> &'static str {
        match self {
            Self::Isolated => "isolated",
            Self::Shared => "not isolated",
        }
    }

    fn hypervisor_words(self, host: Host) -> &'static str {
        match (host, self) {
            (Host::Ours, Self::Isolated) => "isolate=yes",
            (Host::Ours, Self::Shared) => "isolate=no",
            (Host::Xen, Self::Shared) => "xpti=no spec-ctrl=no",
            (Host::Xen, Self::Isolated) | (Host::Bare, _) => "",
        }
    }

    fn kernel_words(self) -> &'static str {
        match self {
            Self::Isolated => "",
            Self::Shared => "mitigations=off",
        }
    }
}

/// The files that a machine starts from.
#[derive(Clone, Debug)]
pub struct Files {
    /// A bzImage, or an ELF file where a hypervisor loads it.
    pub kernel: PathBuf,
    /// The initial file system.
    pub initrd: PathBuf,
    /// Xen's image.
    pub xen: PathBuf,
}

/// One machine to be started.
pub struct Subject<'a> {
    /// The source tree.
    pub tree: &'a Tree,
    /// What the kernel runs on.
    pub host: Host,
    /// How isolation stands.
    pub setting: Setting,
    /// What it starts from.
    pub files: &'a Files,
    /// More words for the kernel, at the end.
    pub words: &'a str,
    /// The machine's memory.
    pub memory: &'a str,
    /// More words for the hypervisor, at the end.
    pub hypervisor_words: &'a str,
}

impl Subject<'_> {
    /// The hypervisor's image, or the kernel where there is none.
    pub fn first_image(&self) -> PathBuf {
        match self.host {
            Host::Bare => self.files.kernel.clone(),
            Host::Xen => self.files.xen.clone(),
            Host::Ours => self.tree.hypervisor(),
        }
    }

    /// The emulator's command line; the console goes to the named file under `target/xenoserver/logs`.
    ///
    /// # Errors
    /// When the log's directory cannot be made or a file's name cannot be handed over.
    pub fn command(&self, log: &str) -> Result<Command> {
        std::fs::create_dir_all(self.tree.logs())?;
        let log = self.tree.logs().join(log);
        let shown = log.strip_prefix(self.tree.target()).unwrap_or(&log);
        let machine = Machine {
            cpu: CPU.to_owned(),
            memory: self.memory.to_owned(),
            icount: true,
            serial: Serial::Elsewhere,
            extra: vec!["-serial".to_owned(), format!("file:{}", shown.display())],
            ..Machine::new(Boot::Direct(self.modules()))
        };
        machine.command(self.tree)
    }

    /// Runs the machine until its console has the line `last` in it, or to its end; answers what it said on its console, also kept in
    /// `target/xenoserver/logs/bench-WHAT-….log`.
    ///
    /// # Errors
    /// When it cannot be started or does not end in time.
    pub fn run(&self, what: &str, last: &str, limit: Duration) -> Result<String> {
        let name = format!("bench-{what}-{:?}-{:?}.log", self.host, self.setting).to_lowercase();
        let log = self.tree.logs().join(&name);
        let mut command = self.command(&name)?;
        // What an earlier run left must not end this one.
        let _ = std::fs::remove_file(&log);
        let started = Instant::now();
        let mut machine = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("qemu-system-x86_64 cannot be started")?;
        let has_said = || contents(&log).is_ok_and(|said| is_in(last.as_bytes(), &said));
        while machine.try_wait()?.is_none() {
            if has_said() {
                run::end(&mut machine)?;
                break;
            }
            if started.elapsed() > limit {
                run::end(&mut machine)?;
                bail!(
                    "{} did not end within {} seconds: its console is in {}",
                    self.name(),
                    limit.as_secs(),
                    self.tree.shown(&log)
                );
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        shell::say(format!("  took {:.0} s", started.elapsed().as_secs_f64()));
        let bytes = contents(&log)?;
        if bytes.is_empty() {
            let output = machine.wait_with_output()?;
            bail!(
                "the emulator said: {}",
                shell::tail(&String::from_utf8_lossy(&output.stderr), 3)
            );
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn modules(&self) -> Modules {
        let console = match self.host {
            Host::Bare => format!("console=ttyS0 mem={KERNEL_MEMORY}"),
            Host::Xen | Host::Ours => "console=hvc0".to_owned(),
        };
        let kernel = join(&[
            &console,
            KERNEL_WORDS,
            self.setting.kernel_words(),
            self.words,
        ]);
        let initrd = Module::new(&self.files.initrd, "");
        if self.host == Host::Bare {
            return Modules {
                hypervisor: Some(self.first_image()),
                hypervisor_arguments: kernel,
                modules: vec![initrd],
            };
        }
        let common =
            format!("console=com1 com1=115200,8n1 dom0_mem={KERNEL_MEMORY},max:{KERNEL_MEMORY}");
        let own = if self.host == Host::Ours {
            "exit_port=0xf4"
        } else {
            "console_timestamps=raw"
        };
        Modules {
            hypervisor: Some(self.first_image()),
            hypervisor_arguments: join(&[
                &common,
                own,
                self.setting.hypervisor_words(self.host),
                self.hypervisor_words,
            ]),
            modules: vec![Module::new(&self.files.kernel, kernel), initrd],
        }
    }

    /// A number that changes with anything the figures could depend on: the command line, the emulator, the files.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn fingerprint(&self) -> Result<u64> {
        let mut hasher = DefaultHasher::new();
        // The words, not the directory: another checkout's figures are as good.
        for word in self.command("x")?.get_args() {
            word.hash(&mut hasher);
        }
        shell::read(Command::new("qemu-system-x86_64").arg("--version"))?.hash(&mut hasher);
        for file in [&self.first_image(), &self.files.kernel, &self.files.initrd] {
            contents(file)?.hash(&mut hasher);
        }
        Ok(hasher.finish())
    }

    /// As a person would call it.
    pub fn name(&self) -> String {
        format!("{}, {}", self.host.name(), self.setting.name())
    }
}

/// A file's bytes.
///
/// # Errors
/// When it cannot be read.
pub fn contents(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))
}

fn is_in(part: &[u8], whole: &[u8]) -> bool {
    whole.windows(part.len()).any(|window| window == part)
}

fn join(words: &[&str]) -> String {
    let kept: Vec<&str> = words.iter().filter(|w| !w.is_empty()).copied().collect();
    kept.join(" ")
}

//! One emulated machine: its command line, and what boots on it.
//!
//! # Invariants
//! - Q1: only the emulator's own translator is used (`-accel tcg`): results are the same with and without KVM.
//! - Q2: the symbol table is the last boot module, with the command line `xeno-symbols`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::tree::Tree;

/// The command line of the symbol table's module (Q2).
pub const SYMBOLS_NAME: &str = "xeno-symbols";

/// The port of the emulator's exit device; writing `v` ends it with status `2·v + 1`.
pub const EXIT_PORT: &str = "0xf4";

/// A processor that both old and new emulators get right; newer models trip over emulated SMAP in QEMU 7.2.
pub const CPU: &str = "Haswell-noTSX";

/// What the machine starts.
#[derive(Clone, Debug)]
pub enum Boot {
    /// QEMU loads the hypervisor itself, by multiboot1.
    Direct(Modules),
    /// A CD image starts it through GRUB, by multiboot2.
    Iso {
        /// The image.
        image: PathBuf,
        /// UEFI firmware instead of the BIOS.
        uefi: Option<PathBuf>,
    },
}

/// A file for the hypervisor, with its command line.
#[derive(Clone, Debug)]
pub struct Module {
    /// The file to load.
    pub file: PathBuf,
    /// Its command line.
    pub arguments: String,
}

impl Module {
    /// A module with a command line.
    pub fn new(file: impl Into<PathBuf>, arguments: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            arguments: arguments.into(),
        }
    }
}

/// The hypervisor's command line and its modules, the first of which is the kernel.
#[derive(Clone, Debug, Default)]
pub struct Modules {
    /// The hypervisor itself, when it is not the one built here.
    pub hypervisor: Option<PathBuf>,
    /// The hypervisor's own words.
    pub hypervisor_arguments: String,
    /// Kernel first, then its initial file system.
    pub modules: Vec<Module>,
}

/// A machine to be started.
#[derive(Clone, Debug)]
pub struct Machine {
    /// What it starts.
    pub boot: Boot,
    /// As QEMU writes it: `512M`, `4G`.
    pub memory: String,
    /// Number of processors.
    pub smp: u32,
    /// Processor model and flags.
    pub cpu: String,
    /// Machine model: `pc` or `q35`.
    pub model: String,
    /// Whether a reset ends the emulator instead of starting the machine again.
    pub no_reboot: bool,
    /// Whether virtual time counts instructions, so that each run repeats exactly.
    pub icount: bool,
    /// How the serial port is connected.
    pub serial: Serial,
    /// Its disks.
    pub disks: Vec<Disk>,
    /// Whether there is a network card (e1000), on a network that reaches nobody but the emulator's own gateway.
    pub network: Option<Network>,
    /// More words for the emulator, as they are.
    pub extra: Vec<String>,
}

/// A disk: a file on the bus of its choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The bus, and with it the driver.
    pub bus: Bus,
    /// The file, byte for byte.
    pub file: PathBuf,
    /// A file in which the emulator notes every write and every flush in their order.
    pub log: Option<PathBuf>,
}

/// How a disk is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bus {
    /// `/dev/vda` and so on; interrupts by messages from a table (MSI-X).
    Virtio,
    /// `/dev/sda` and so on, on a controller of their own; interrupts by one message (MSI).
    Ahci,
}

impl std::str::FromStr for Disk {
    type Err = String;

    /// `FILE`, `virtio:FILE` or `ahci:FILE`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (bus, file) = match text.split_once(':') {
            Some(("virtio", file)) => (Bus::Virtio, file),
            Some(("ahci", file)) => (Bus::Ahci, file),
            Some((bus, _)) if !bus.contains('/') => {
                return Err(format!(
                    "there is no bus `{bus}`: it is `virtio:FILE` or `ahci:FILE`"
                ));
            }
            _ => (Bus::Virtio, text),
        };
        Ok(Self {
            bus,
            file: file.into(),
            log: None,
        })
    }
}

/// The network card's other end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// An address and port (`10.0.2.100:7`) where a command of the host answers, and the command.
    pub service: Option<(String, String)>,
}

/// Where the first serial port goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serial {
    /// Standard input and output, shared with the emulator's monitor: Ctrl-A c goes from one to the other.
    Monitored,
    /// The person's terminal; Ctrl-C belongs to the guest, Ctrl-A x leaves.
    Terminal,
    /// Standard input and output as they are.
    Pipes,
    /// Where `extra` says.
    Elsewhere,
}

impl Machine {
    /// The CPU model. With a clock of instructions without x2APIC: QEMU 10 has it, and aborts with "Bad icount read" when
    /// its timer is read through a model-specific register.
    fn cpu_model(&self) -> String {
        let without = if self.icount { ",-x2apic" } else { "" };
        format!("{}{without}", self.cpu)
    }

    /// A machine of the usual shape.
    pub fn new(boot: Boot) -> Self {
        Self {
            boot,
            memory: "1G".to_owned(),
            smp: 1,
            cpu: CPU.to_owned(),
            model: "pc".to_owned(),
            no_reboot: true,
            icount: false,
            serial: Serial::Pipes,
            disks: Vec::new(),
            network: None,
            extra: Vec::new(),
        }
    }

    /// The emulator's whole command line.
    ///
    /// # Errors
    /// When a file's name cannot be handed to the emulator.
    pub fn command(&self, tree: &Tree) -> Result<Command> {
        let mut command = Command::new("qemu-system-x86_64");
        // Names beneath `target/` are given relative to it: the tree's own path may hold blanks.
        command.current_dir(tree.target());
        command.args([
            "-machine",
            &self.model,
            "-accel",
            "tcg",
            "-cpu",
            &self.cpu_model(),
            "-m",
            &self.memory,
        ]);
        command.args([
            "-smp",
            &self.smp.to_string(),
            "-display",
            "none",
            "-nic",
            "none",
            "-no-user-config",
        ]);
        command.args([
            "-device",
            &format!("isa-debug-exit,iobase={EXIT_PORT},iosize=4"),
        ]);
        match self.serial {
            Serial::Terminal | Serial::Monitored => command.args(["-serial", "mon:stdio"]),
            Serial::Pipes => command.args(["-serial", "stdio", "-monitor", "none"]),
            Serial::Elsewhere => command.args(["-monitor", "none"]),
        };
        if self.no_reboot {
            command.arg("-no-reboot");
        }
        if self.icount {
            command.args([
                "-icount",
                "shift=0,sleep=off",
                "-rtc",
                "base=2024-01-01,clock=vm",
                "-seed",
                "1",
            ]);
        }
        match &self.boot {
            Boot::Direct(modules) => {
                let hypervisor = modules
                    .hypervisor
                    .clone()
                    .unwrap_or_else(|| tree.hypervisor());
                command
                    .arg("-kernel")
                    .arg(name_for_qemu(tree, &hypervisor)?);
                command.args(["-append", &modules.hypervisor_arguments]);
                if !modules.modules.is_empty() {
                    command.args(["-initrd", &modules.initrd_argument(tree)?]);
                }
            }
            Boot::Iso { image, uefi } => {
                command
                    .args(["-boot", "d", "-cdrom"])
                    .arg(name_for_qemu(tree, image)?);
                if let Some(firmware) = uefi {
                    command.arg("-bios").arg(firmware);
                }
            }
        }
        command.args(self.devices(tree)?);
        command.args(&self.extra);
        Ok(command)
    }

    /// The options that make disks and network card.
    fn devices(&self, tree: &Tree) -> Result<Vec<String>> {
        let mut options = Vec::new();
        let mut option = |name: &str, value: String| options.extend([name.to_owned(), value]);
        if self.disks.iter().any(|disk| disk.bus == Bus::Ahci) {
            option("-device", "ich9-ahci,id=ahci".to_owned());
        }
        let mut on_ahci = 0;
        for (n, disk) in self.disks.iter().enumerate() {
            let file = name_for_qemu(tree, &disk.file)?.replace(',', ",,");
            match &disk.log {
                None => option(
                    "-drive",
                    format!("if=none,id=disk{n},format=raw,file={file}"),
                ),
                // The host is not what is lost: it need not flush anything itself.
                Some(log) => {
                    let log = name_for_qemu(tree, log)?.replace(',', ",,");
                    option(
                        "-blockdev",
                        format!(
                            "driver=blklogwrites,node-name=disk{n},\
                             file.driver=file,file.filename={file},file.cache.no-flush=on,\
                             log.driver=file,log.filename={log},log.cache.no-flush=on"
                        ),
                    );
                }
            }
            option(
                "-device",
                match disk.bus {
                    Bus::Virtio => format!("virtio-blk-pci,drive=disk{n}"),
                    Bus::Ahci => {
                        on_ahci += 1;
                        format!("ide-hd,drive=disk{n},bus=ahci.{}", on_ahci - 1)
                    }
                },
            );
        }
        if let Some(network) = &self.network {
            let service = network
                .service
                .as_ref()
                .map_or(String::new(), |(place, command)| {
                    format!(",guestfwd=tcp:{place}-cmd:{}", command.replace(',', ",,"))
                });
            option("-netdev", format!("user,id=net0,restrict=on{service}"));
            option("-device", "e1000,netdev=net0".to_owned());
        }
        Ok(options)
    }
}

impl Modules {
    /// `FILE words,FILE words`, with the commas inside doubled, as the emulator takes its boot modules.
    fn initrd_argument(&self, tree: &Tree) -> Result<String> {
        let mut all = Vec::new();
        for module in &self.modules {
            let name = name_for_qemu(tree, &module.file)?;
            let line = if module.arguments.is_empty() {
                name
            } else {
                format!("{name} {}", module.arguments)
            };
            all.push(line.replace(',', ",,"));
        }
        Ok(all.join(","))
    }
}

/// A file's name as the emulator's module list can express it: it splits at the first blank.
fn name_for_qemu(tree: &Tree, file: &Path) -> Result<String> {
    let name = file.strip_prefix(tree.target()).unwrap_or(file);
    let name = name.to_str().unwrap_or_default();
    ensure!(
        !name.is_empty() && !name.contains(char::is_whitespace),
        "the emulator cannot be given the file name `{}`: use one without blanks",
        file.display()
    );
    Ok(name.to_owned())
}

/// Joins default words with a person's own, which win over a default of the same name.
///
/// `dom0_mem=512M loglvl=all` with `dom0_mem=1G` is `loglvl=all dom0_mem=1G`.
pub fn merge_words(defaults: &str, own: &str) -> String {
    let key = |word: &str| word.split('=').next().unwrap_or_default().to_owned();
    let own_keys: Vec<String> = own.split_whitespace().map(key).collect();
    let kept = defaults
        .split_whitespace()
        .filter(|word| !own_keys.contains(&key(word)));
    kept.chain(own.split_whitespace())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_ones_own_replaces_the_default_of_that_name() {
        assert_eq!(merge_words("a=1 b c=2", "a=3"), "b c=2 a=3");
        assert_eq!(merge_words("a=1", ""), "a=1");
        assert_eq!(merge_words("a=1", "a=2 a=3"), "a=2 a=3");
    }

    #[test]
    fn commas_in_a_command_line_are_doubled() {
        let tree = Tree::find().unwrap();
        let modules = Modules {
            modules: vec![
                Module::new("/k", "console=ttyS0,115200"),
                Module::new("/i", ""),
            ],
            ..Modules::default()
        };
        assert_eq!(
            modules.initrd_argument(&tree).unwrap(),
            "/k console=ttyS0,,115200,/i"
        );
    }

    #[test]
    fn a_file_name_with_a_blank_is_refused() {
        let tree = Tree::find().unwrap();
        assert!(name_for_qemu(&tree, Path::new("/some where/kernel")).is_err());
    }
}

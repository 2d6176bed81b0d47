//! `cargo xtask run`: from nothing to a shell on top of our ring 0.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::domains::{self, Guests};
use crate::extras::{self, Extra};
use crate::provision::{self, Need};
use crate::qemu::{
    Boot, CPU, Disk, EXIT_PORT, Machine, Module, Modules, Network, SYMBOLS_NAME, Serial,
    merge_words,
};
use crate::shell::say;
use crate::toolchain::BareMetal;
use crate::tree::Tree;
use crate::{build, initrd, iso, kernel};

/// The kernel's words unless others are asked for.
pub const KERNEL_ARGUMENTS: &str = "console=hvc0 earlyprintk=xen nokaslr panic=-1";

/// The guests that `run` starts unless another number is asked for.
const USUAL_GUESTS: u32 = 2;

/// The least memory in MiB that has room for them beside the control domain.
const USUAL_MEMORY_MB: u64 = 1024;

/// The most guests that `--guests` starts.
const MOST_GUESTS: i64 = 64;

/// The status with which a run ends that reached its `--timeout`, as `timeout(1)` has it.
const TIMED_OUT: u8 = 124;

/// Firmware that starts the CD image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Firmware {
    /// SeaBIOS.
    Bios,
    /// OVMF.
    Uefi,
}

/// What the machine starts with; the same for `run` and `iso`.
#[derive(Args, Clone, Debug)]
pub struct Payload {
    /// The initial domain's kernel: a bzImage or an ELF file. Default: the distribution's stock kernel,
    /// downloaded by apt into target/cache and never installed
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Its initial file system. Default: a shell, made from a static busybox
    #[arg(long, value_name = "FILE")]
    initrd: Option<PathBuf>,
    /// Words for the kernel; they replace defaults of the same name in
    /// `console=hvc0 earlyprintk=xen nokaslr panic=-1`
    #[arg(
        long,
        value_name = "ARGS",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    append: String,
    /// Words for the hypervisor; they replace defaults of the same name in
    /// `console=com1 com1=115200,8n1 dom0_mem=512M loglvl=all exit_port=0xf4`
    #[arg(
        long,
        value_name = "ARGS",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    hv_args: String,
    /// Put more into the initial file system: each time `--with` is given, one of these; any of them brings our own
    /// programs (`audit`) too
    #[arg(long, value_name = "WHAT", conflicts_with = "initrd")]
    with: Vec<Extra>,
    /// Hand the stock kernel over already unpacked: saves the unpacking under emulation
    #[arg(long)]
    unpacked: bool,
    /// Make it a control domain, with the daemon, the command and this many guests of the same kernel; 0 leaves the
    /// plain shell. Default: 2 where `run` has the stock kernel, its own file system and 1G of memory or more, else 0
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=MOST_GUESTS),
          conflicts_with_all = ["kernel", "initrd"])]
    guests: Option<u32>,
}

/// Options of `cargo xtask run`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    #[command(flatten)]
    payload: Payload,
    /// Start from the CD image through GRUB instead of letting the emulator load the hypervisor
    #[arg(long, value_name = "FIRMWARE")]
    iso: Option<Firmware>,
    /// Number of processors
    #[arg(long, value_name = "N", default_value_t = 1)]
    smp: u32,
    /// The machine's memory, as the emulator writes it. Default: 1G, or what as many guests need
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// A disk: FILE (or virtio:FILE) is /dev/vda, ahci:FILE is /dev/sda; may be given again. The initial file system
    /// then has the stock kernel's drivers
    #[arg(long, value_name = "[BUS:]FILE")]
    disk: Vec<Disk>,
    /// A network card (e1000), on a network that ends at the emulator's gateway 10.0.2.2
    #[arg(long)]
    net: bool,
    /// No keyboard: standard input is closed, and a reset ends the run instead of starting the machine again
    #[arg(long)]
    headless: bool,
    /// End the run after this many seconds, with status 124
    #[arg(long, value_name = "S")]
    timeout: Option<u64>,
    /// Machine model: pc or q35
    #[arg(long, value_name = "MODEL", default_value = "pc")]
    machine: String,
    /// Processor model and flags
    #[arg(long, value_name = "MODEL", default_value = CPU)]
    cpu: String,
    /// Let virtual time count instructions: each run repeats exactly
    #[arg(long)]
    icount: bool,
    /// Another hypervisor instead of ours, to compare with: an image that the emulator's `-kernel` takes
    #[arg(long, value_name = "FILE", conflicts_with = "iso")]
    hypervisor: Option<PathBuf>,
    /// Say the emulator's command line before starting it
    #[arg(long)]
    verbose: bool,
    /// More options for the emulator, after `--`
    #[arg(last = true, value_name = "QEMU OPTIONS")]
    extra: Vec<String>,
}

/// Runs the machine; the status is the emulator's (0 after a clean power-off).
///
/// # Errors
/// When something is missing or does not build.
pub fn command(tree: &Tree, options: &Options) -> Result<ExitCode> {
    let mut needs = vec![Need::BareMetal, Need::Qemu];
    match options.iso {
        None => {}
        Some(Firmware::Bios) => needs.push(Need::Grub),
        Some(Firmware::Uefi) => needs.extend([Need::Grub, Need::Ovmf]),
    }
    let disks = options
        .disk
        .iter()
        .map(|disk| {
            let file = absolute(&disk.file)?;
            Ok(Disk { file, ..*disk })
        })
        .collect::<Result<Vec<_>>>()?;
    let mut payload = options.payload.clone();
    payload.guests = Some(guests(options));
    if (options.net || !disks.is_empty()) && payload.kernel.is_none() {
        payload.with.push(Extra::Drivers);
    }
    let memory = memory(options);
    let contents = prepare(tree, &payload, &memory, &needs)?;
    let boot = match options.iso {
        None => Boot::Direct(direct(tree, &contents, options.hypervisor.as_deref())),
        Some(firmware) => {
            iso::build(tree, &contents, &tree.iso())?;
            let uefi = match firmware {
                Firmware::Bios => None,
                Firmware::Uefi => Some(
                    provision::ovmf()
                        .context("there is no OVMF firmware")?
                        .to_path_buf(),
                ),
            };
            Boot::Iso {
                image: tree.iso(),
                uefi,
            }
        }
    };
    let machine = Machine {
        memory,
        smp: options.smp,
        cpu: options.cpu.clone(),
        model: options.machine.clone(),
        no_reboot: options.headless,
        icount: options.icount,
        serial: if options.headless {
            Serial::Pipes
        } else {
            Serial::Terminal
        },
        disks,
        network: options.net.then(Network::default),
        extra: options.extra.clone(),
        ..Machine::new(boot)
    };
    let mut command = machine.command(tree)?;
    if options.headless {
        command.stdin(Stdio::null());
    } else {
        say("starting; Ctrl-C goes to the guest, Ctrl-A x leaves the emulator");
    }
    if options.verbose {
        say(format!("{command:?}"));
    }
    watch(&mut command, options.timeout.map(Duration::from_secs))
}

/// Makes the CD image and says where it is.
///
/// # Errors
/// When something is missing or does not build.
pub fn iso_command(tree: &Tree, payload: &Payload) -> Result<()> {
    let contents = prepare(tree, payload, "1G", &[Need::BareMetal, Need::Grub])?;
    iso::build(tree, &contents, &tree.iso())?;
    say(format!(
        "{} boots under BIOS and UEFI",
        tree.shown(&tree.iso())
    ));
    Ok(())
}

impl Payload {
    /// How many guests there are to be.
    fn guests(&self) -> u32 {
        self.guests.unwrap_or(0)
    }
}

/// How many guests are started: as many as were asked for, or the usual number where nothing speaks against them.
fn guests(options: &Options) -> u32 {
    let payload = &options.payload;
    let room = options
        .memory
        .as_deref()
        .and_then(megabytes)
        .unwrap_or(USUAL_MEMORY_MB)
        >= USUAL_MEMORY_MB;
    let plain = payload.kernel.is_some() || payload.initrd.is_some() || !room;
    payload
        .guests
        .unwrap_or(if plain { 0 } else { USUAL_GUESTS })
}

/// The machine's memory: what was asked for, or what the guests need beside the control domain's half a gigabyte.
fn memory(options: &Options) -> String {
    let guests = u64::from(guests(options)) * domains::GUEST_COST_MB;
    let usual = (512 + 64 + guests)
        .next_multiple_of(256)
        .max(USUAL_MEMORY_MB);
    options
        .memory
        .clone()
        .unwrap_or_else(|| format!("{usual}M"))
}

fn absolute(file: &Path) -> Result<PathBuf> {
    std::fs::canonicalize(file)
        .with_context(|| format!("the file {} cannot be read", file.display()))
}

/// Builds the hypervisor and finds or makes what it starts.
fn prepare(tree: &Tree, payload: &Payload, memory: &str, needs: &[Need]) -> Result<iso::Contents> {
    let mut needs = needs.to_vec();
    if payload.initrd.is_none() {
        needs.push(Need::Busybox);
    }
    if payload.unpacked && payload.kernel.is_none() {
        needs.push(Need::Xz);
    }
    if payload.guests() > 0 {
        needs.extend([Need::Xz, Need::Ext4]);
    }
    provision::ensure(&needs)?;
    build::hypervisor(tree, &BareMetal::find(tree)?)?;
    let kernel = match &payload.kernel {
        Some(file) => absolute(file)?,
        None if payload.unpacked => kernel::unpacked(&kernel::stock(tree)?)?,
        None => kernel::stock(tree)?,
    };
    let initrd = match &payload.initrd {
        Some(file) => absolute(file)?,
        None if payload.with.is_empty() && payload.guests() == 0 => initrd::build(tree)?,
        None if payload.guests() > 0 => {
            let stock = kernel::stock(tree)?;
            let guests = Guests {
                count: payload.guests(),
                kernel: &stock,
            };
            extras::control_initrd(tree, &payload.with, &stock, guests, Vec::new())?
        }
        None => {
            let stock = payload.kernel.is_none().then_some(kernel.as_path());
            extras::initrd(tree, &payload.with, stock)?
        }
    };
    Ok(iso::Contents {
        hypervisor_arguments: merge_words(
            &hypervisor_arguments(&dom0_memory(memory)?),
            &payload.hv_args,
        ),
        kernel: Module::new(kernel, merge_words(KERNEL_ARGUMENTS, &payload.append)),
        initrd: Some(initrd),
    })
}

/// The hypervisor's words unless others are asked for.
pub fn hypervisor_arguments(dom0_memory: &str) -> String {
    format!("console=com1 com1=115200,8n1 dom0_mem={dom0_memory} loglvl=all exit_port={EXIT_PORT}")
}

/// Half a gigabyte for the initial domain, or what fits beside the hypervisor on a small machine.
fn dom0_memory(memory: &str) -> Result<String> {
    let megabytes = megabytes(memory)
        .with_context(|| format!("`--memory {memory}` is not a size: write it as 512M or 4G"))?;
    Ok(if megabytes >= 1024 {
        "512M".to_owned()
    } else {
        format!("{}M", megabytes * 5 / 8)
    })
}

/// A size as the emulator writes it (`512`, `512M`, `4G`), in MiB.
fn megabytes(size: &str) -> Option<u64> {
    let (digits, unit) = size.split_at(
        size.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(size.len()),
    );
    let factor = match unit {
        "" | "M" | "m" | "MB" => 1,
        "G" | "g" | "GB" => 1024,
        _ => return None,
    };
    digits
        .parse::<u64>()
        .ok()?
        .checked_mul(factor)
        .filter(|&m| m > 0)
}

/// The boot modules for the emulator's own loader; the symbols come last, and only for our own image.
pub fn direct(tree: &Tree, contents: &iso::Contents, other_hypervisor: Option<&Path>) -> Modules {
    let mut modules = vec![contents.kernel.clone()];
    modules.extend(contents.initrd.iter().map(|file| Module::new(file, "")));
    if other_hypervisor.is_none() {
        modules.push(Module::new(tree.symbols(), SYMBOLS_NAME));
    }
    let hypervisor = other_hypervisor.map(Path::to_path_buf);
    Modules {
        hypervisor,
        hypervisor_arguments: contents.hypervisor_arguments.clone(),
        modules,
    }
}

/// As [`direct`], with the hypervisor that checks itself.
pub fn direct_checked(tree: &Tree, contents: &iso::Contents) -> Modules {
    let checked = tree.checked_hypervisor();
    let mut modules = direct(tree, contents, Some(&checked));
    let symbols = Module::new(tree.checked_symbols(), SYMBOLS_NAME);
    modules.modules.push(symbols);
    modules
}

/// Starts the emulator and waits for its end, at most so long.
fn watch(command: &mut Command, limit: Option<Duration>) -> Result<ExitCode> {
    let mut child = command
        .spawn()
        .context("qemu-system-x86_64 cannot be started")?;
    let Some(limit) = limit else {
        return Ok(mirrored(child.wait()?));
    };
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(mirrored(status));
        }
        if Instant::now() >= deadline {
            end(&mut child)?;
            say(format!(
                "the run did not end within {} seconds",
                limit.as_secs()
            ));
            return Ok(ExitCode::from(TIMED_OUT));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Asks the emulator to end (it gives the terminal back), and insists after a while.
pub fn end(child: &mut Child) -> Result<()> {
    let asked = Command::new("sh")
        .args(["-c", &format!("kill -TERM {}", child.id())])
        .status();
    if asked.is_ok_and(|status| status.success()) {
        for _ in 0..100 {
            if child.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// The emulator's status as ours.
fn mirrored(status: ExitStatus) -> ExitCode {
    match status.code() {
        Some(code) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
        None => {
            say(format!("the emulator was ended from outside ({status})"));
            ExitCode::FAILURE
        }
    }
}

/// Refuses a size that is no size before anything is built for it.
///
/// # Errors
/// One sentence that names it.
pub fn check(options: &Options) -> Result<()> {
    dom0_memory(&memory(options))?;
    if options.smp == 0 {
        bail!("`--smp 0` is no machine: it takes at least one processor");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_the_emulator_reads_them() {
        assert_eq!(megabytes("512"), Some(512));
        assert_eq!(megabytes("512M"), Some(512));
        assert_eq!(megabytes("4G"), Some(4096));
        assert_eq!(megabytes("4T"), None);
        assert_eq!(megabytes("0"), None);
        assert_eq!(megabytes(""), None);
    }

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn guests_of(words: &[&str]) -> u32 {
        let line = <Line as clap::Parser>::parse_from(["run"].iter().chain(words));
        guests(&line.options)
    }

    #[test]
    fn two_guests_start_where_nothing_speaks_against_them() {
        assert_eq!(guests_of(&[]), 2);
        assert_eq!(guests_of(&["--memory", "4G", "--net"]), 2);
        assert_eq!(guests_of(&["--memory", "512M"]), 0);
        assert_eq!(guests_of(&["--kernel", "mine"]), 0);
        assert_eq!(guests_of(&["--initrd", "mine"]), 0);
        assert_eq!(guests_of(&["--guests", "0"]), 0);
        assert_eq!(guests_of(&["--guests", "5"]), 5);
    }

    #[test]
    fn a_small_machine_leaves_room_for_the_hypervisor() {
        assert_eq!(dom0_memory("1G").unwrap(), "512M");
        assert_eq!(dom0_memory("512M").unwrap(), "320M");
    }
}

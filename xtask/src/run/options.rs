//! What can be asked of `run` and `iso`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::added::Added;
use crate::extras::Extra;
use crate::qemu::{CPU, Disk};

/// The most guests that `--guests` starts.
const MOST_GUESTS: i64 = 64;

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
    pub(super) kernel: Option<PathBuf>,
    /// Its initial file system. Default: a shell, made from a static busybox
    #[arg(long, value_name = "FILE")]
    pub(super) initrd: Option<PathBuf>,
    /// Words for the kernel; they replace defaults of the same name in
    /// `console=hvc0 earlyprintk=xen nokaslr panic=-1`
    #[arg(
        long,
        value_name = "ARGS",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    pub(super) append: String,
    /// Words for the hypervisor; they replace defaults of the same name in
    /// `console=com1 com1=115200,8n1 dom0_mem=512M loglvl=all exit_port=0xf4`
    #[arg(
        long,
        value_name = "ARGS",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    pub(super) hv_args: String,
    /// Put more into the initial file system: each time `--with` is given, one of these; any of them brings our own
    /// programs (`audit`) too
    #[arg(long, value_name = "WHAT", conflicts_with = "initrd")]
    pub(super) with: Vec<Extra>,
    /// Put a file of your own into the initial file system: as /root/NAME, where the shell starts, or at PATH. May be
    /// given again; then `xeno create` makes guests of it: `--add ./vmlinuz --add web.toml`, or
    /// `--add web.toml=/etc/xeno/` for one that starts by itself
    #[arg(long, value_name = "FILE[=PATH]", conflicts_with = "initrd")]
    pub(super) add: Vec<Added>,
    /// Hand the stock kernel over already unpacked: saves the unpacking under emulation
    #[arg(long)]
    pub(super) unpacked: bool,
    /// Make it a control domain, with the daemon, the command and this many guests of the same kernel; 0 leaves the
    /// plain shell. Default: 2 where `run` has the stock kernel, its own file system and 1G of memory or more, else 0
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=MOST_GUESTS),
          conflicts_with_all = ["kernel", "initrd"])]
    pub(super) guests: Option<u32>,
}

/// Options of `cargo xtask run`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    #[command(flatten)]
    pub(super) payload: Payload,
    /// Start from the CD image through GRUB instead of letting the emulator load the hypervisor
    #[arg(long, value_name = "FIRMWARE")]
    pub(super) iso: Option<Firmware>,
    /// Number of processors
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) smp: u32,
    /// The machine's memory, as the emulator writes it. Default: 1G, or what as many guests need
    #[arg(long, value_name = "SIZE")]
    pub(super) memory: Option<String>,
    /// A disk: FILE (or virtio:FILE) is /dev/vda, ahci:FILE is /dev/sda; may be given again. The initial file system
    /// then has the stock kernel's drivers
    #[arg(long, value_name = "[BUS:]FILE")]
    pub(super) disk: Vec<Disk>,
    /// A network card (e1000), on a network that ends at the emulator's gateway 10.0.2.2
    #[arg(long)]
    pub(super) net: bool,
    /// No keyboard: standard input is closed, and a reset ends the run instead of starting the machine again
    #[arg(long)]
    pub(super) headless: bool,
    /// End the run after this many seconds, with status 124
    #[arg(long, value_name = "S")]
    pub(super) timeout: Option<u64>,
    /// Machine model: pc or q35
    #[arg(long, value_name = "MODEL", default_value = "pc")]
    pub(super) machine: String,
    /// Processor model and flags
    #[arg(long, value_name = "MODEL", default_value = CPU)]
    pub(super) cpu: String,
    /// Let virtual time count instructions: each run repeats exactly
    #[arg(long)]
    pub(super) icount: bool,
    /// Another hypervisor instead of ours, to compare with: an image that the emulator's `-kernel` takes
    #[arg(long, value_name = "FILE", conflicts_with = "iso")]
    pub(super) hypervisor: Option<PathBuf>,
    /// Say the emulator's command line before starting it
    #[arg(long)]
    pub(super) verbose: bool,
    /// More options for the emulator, after `--`
    #[arg(last = true, value_name = "QEMU OPTIONS")]
    pub(super) extra: Vec<String>,
}

impl Payload {
    /// How many guests there are to be.
    pub(super) fn guests(&self) -> u32 {
        self.guests.unwrap_or(0)
    }
}

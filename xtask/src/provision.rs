//! Finding what the machine lacks, and installing it where we may.
//!
//! Each verb names what it needs; what is there costs a few file look-ups. What is missing is installed by apt
//! when we are root or `sudo` asks no questions; otherwise one message gives the line to type.
//!
//! # Invariants
//! - P1: nothing that is installed changes how the machine boots: kernels are downloaded and unpacked under
//!   `target/`, never installed.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::shell::{self, say};
use crate::toolchain;

/// Something a verb needs from the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A compiler and core library for bare metal.
    BareMetal,
    /// The lints of that compiler.
    BareMetalLints,
    /// The emulator.
    Qemu,
    /// What unpacks a kernel's payload on the host.
    Xz,
    /// What packs and unpacks kernels' payloads in the newer ways.
    Packers,
    /// A statically linked busybox: the whole userland of our boot image.
    Busybox,
    /// The tools that make a bootable CD image.
    Grub,
    /// UEFI firmware for the emulator.
    Ovmf,
    /// What makes an ext4 file system.
    Ext4,
    /// The public headers that `guest-abi` is compared with.
    PublicHeaders,
    /// What builds a module for the stock kernel, beside the kernel's headers.
    ModuleTools,
}

impl Need {
    /// Whether it is there.
    pub fn is_met(self) -> bool {
        let program = |name: &str| shell::which(name).is_some();
        match self {
            Self::BareMetal => toolchain::BareMetal::is_available(),
            Self::BareMetalLints => toolchain::BareMetal::has_lints(),
            Self::Qemu => program("qemu-system-x86_64"),
            Self::Xz => program("xz"),
            Self::Packers => program("zstd") && program("lz4"),
            Self::Busybox => static_busybox().is_some(),
            Self::Grub => {
                program("grub-mkrescue")
                    && program("xorriso")
                    && program("mformat")
                    && Path::new("/usr/lib/grub/i386-pc/multiboot2.mod").is_file()
                    && Path::new("/usr/lib/grub/x86_64-efi/multiboot2.mod").is_file()
            }
            Self::Ovmf => ovmf().is_some(),
            Self::Ext4 => program("mke2fs"),
            Self::PublicHeaders => Path::new("/usr/include/xen/xen.h").is_file(),
            Self::ModuleTools => {
                program("make") && program("gcc-12") && program("ld") && has_library("libelf.so.1")
            }
        }
    }

    /// Debian's packages that meet it.
    pub fn packages(self) -> &'static [&'static str] {
        match self {
            Self::BareMetal => &["rustc-web", "cargo-web", "rust-web-src"],
            Self::BareMetalLints => &["rust-web-clippy"],
            Self::Qemu => &["qemu-system-x86"],
            Self::Xz => &["xz-utils"],
            Self::Packers => &["zstd", "lz4"],
            Self::Busybox => &["busybox-static"],
            Self::Grub => &[
                "grub-common",
                "grub-pc-bin",
                "grub-efi-amd64-bin",
                "xorriso",
                "mtools",
            ],
            Self::Ovmf => &["ovmf"],
            Self::Ext4 => &["e2fsprogs"],
            Self::PublicHeaders => &["libxen-dev"],
            // Modules are built by the compiler that built the kernel.
            Self::ModuleTools => &["make", "gcc-12", "libelf1"],
        }
    }

    /// It in words.
    pub fn description(self) -> &'static str {
        match self {
            Self::BareMetal => {
                "a core library for x86_64-unknown-none, of Rust 1.95 or newer (also: `rustup target add x86_64-unknown-none`)"
            }
            Self::BareMetalLints => "clippy for the compiler that builds ring 0",
            Self::Qemu => "the emulator qemu-system-x86_64",
            Self::Xz => "xz",
            Self::Packers => "zstd and lz4",
            Self::Busybox => "a static busybox",
            Self::Grub => "GRUB's image tools for BIOS and UEFI, xorriso and mtools",
            Self::Ovmf => "UEFI firmware for the emulator (OVMF)",
            Self::Ext4 => "mke2fs",
            Self::PublicHeaders => "the public interface headers (xen/xen.h)",
            Self::ModuleTools => "what builds modules for the stock kernel (make, gcc-12, libelf)",
        }
    }

    /// Whether the work can go on without it: a test is skipped, or a guest has no `/dev/xeno`.
    fn is_optional(self) -> bool {
        matches!(
            self,
            Self::PublicHeaders | Self::BareMetalLints | Self::ModuleTools
        )
    }
}

/// Makes sure that everything named is there, installing it where we may.
///
/// # Errors
/// When something is missing and may not or cannot be installed: one message with the line to type.
pub fn ensure(needs: &[Need]) -> Result<()> {
    let missing: Vec<Need> = needs
        .iter()
        .copied()
        .filter(|need| !need.is_met())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let may_install = shell::which("apt-get").is_some() && privileged("true").is_some();
    if !may_install && missing.iter().all(|need| need.is_optional()) {
        return Ok(());
    }
    if shell::which("apt-get").is_none() {
        let (described, packages) = in_words(&missing);
        bail!(
            "this machine lacks {described}: install what provides it (on Debian: {})",
            packages.join(" ")
        );
    }
    if !may_install {
        // Which says the one line to type.
        return install(&missing);
    }
    let (optional, required): (Vec<Need>, Vec<Need>) =
        missing.iter().copied().partition(|need| need.is_optional());
    install(&required)?;
    // Another release of the distribution may not have it.
    if let Err(error) = install(&optional) {
        say(format!("{error:#}; going on without"));
    }
    if let Some(still) = missing.iter().find(|n| !n.is_met() && !n.is_optional()) {
        bail!(
            "apt installed {}, yet this is still missing: {}",
            still.packages().join(" "),
            still.description()
        );
    }
    Ok(())
}

/// What is missing, and the packages that have it.
fn in_words(needs: &[Need]) -> (String, Vec<&'static str>) {
    let described: Vec<&str> = needs.iter().map(|need| need.description()).collect();
    let packages = needs.iter().flat_map(|need| need.packages()).copied();
    (described.join("; "), packages.collect())
}

fn install(needs: &[Need]) -> Result<()> {
    if needs.is_empty() {
        return Ok(());
    }
    let (described, packages) = in_words(needs);
    let Some(mut command) = privileged("apt-get") else {
        bail!(
            "this machine lacks {described}: run `sudo apt-get install -y {}`",
            packages.join(" ")
        );
    };
    // Always: lists as old as the machine's image name a compiler that is too old, and files that are gone.
    update();
    if let Some(package) = packages.iter().find(|package| !is_known(package)) {
        bail!(
            "apt knows no package {package}, which has {described}: check the machine's apt sources"
        );
    }
    say(format!(
        "installing {described}: apt-get install {}",
        packages.join(" ")
    ));
    command
        .args(["install", "-y", "-q", "--no-install-recommends"])
        .args(&packages);
    // What apt says is progress; standard output is for results.
    shell::run(command.stdin(Stdio::null()).stdout(std::io::stderr()))
}

/// A command as root, if we may: directly, or through a `sudo` that asks no question.
pub fn privileged(program: &str) -> Option<Command> {
    let mut command = if is_root() {
        Command::new(program)
    } else {
        let sudo = shell::which("sudo")?;
        let quiet = Command::new(&sudo)
            .args(["-n", "true"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !quiet.is_ok_and(|status| status.success()) {
            return None;
        }
        let mut command = Command::new(sudo);
        command.args(["-n", "DEBIAN_FRONTEND=noninteractive", program]);
        command
    };
    command.env("DEBIAN_FRONTEND", "noninteractive");
    Some(command)
}

/// Whether we are root: whoever owns our own entry under `/proc`.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0)
}

/// Whether apt has a candidate for this package.
fn is_known(package: &str) -> bool {
    shell::read(Command::new("apt-cache").args(["show", "--no-all-versions", package]))
        .is_ok_and(|s| !s.is_empty())
}

/// Refreshes apt's lists, once a run; a failure shows in what is asked of apt next.
pub fn update() {
    use std::sync::Once;
    static UPDATED: Once = Once::new();
    UPDATED.call_once(|| {
        if let Some(mut command) = privileged("apt-get") {
            say("refreshing apt's package lists: apt-get update");
            if let Err(error) = shell::run(command.args(["update", "-q"]).stdout(std::io::stderr()))
            {
                say(format!("{error:#}; going on with the lists as they are"));
            }
        }
    });
}

/// Whether the machine's own programs find this library.
fn has_library(name: &str) -> bool {
    [
        "/lib/x86_64-linux-gnu",
        "/usr/lib/x86_64-linux-gnu",
        "/lib64",
        "/usr/lib64",
        "/usr/lib",
    ]
    .iter()
    .any(|dir| Path::new(dir).join(name).is_file())
}

/// A busybox that needs no libraries, which an initial file system has none of.
pub fn static_busybox() -> Option<std::path::PathBuf> {
    let candidates = ["busybox", "busybox.static", "busybox-static"];
    candidates
        .iter()
        .filter_map(|name| shell::which(name))
        .find(|file| {
            std::fs::read(file).is_ok_and(|image| crate::image::needs_no_libraries(&image))
        })
}

/// UEFI firmware in one file.
pub fn ovmf() -> Option<&'static Path> {
    [
        "/usr/share/ovmf/OVMF.fd",
        "/usr/share/qemu/OVMF.fd",
        "/usr/share/edk2/ovmf/OVMF_CODE.fd",
    ]
    .map(Path::new)
    .into_iter()
    .find(|file| file.is_file())
}

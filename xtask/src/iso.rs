//! `cargo xtask iso`: a CD image that GRUB starts under BIOS and under UEFI.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::qemu::{Module, SYMBOLS_NAME};
use crate::shell;
use crate::tree::Tree;

/// What goes into an image.
#[derive(Clone, Debug)]
pub struct Contents {
    /// The hypervisor's command line.
    pub hypervisor_arguments: String,
    /// The kernel and its command line.
    pub kernel: Module,
    /// The initial file system.
    pub initrd: Option<PathBuf>,
}

/// Every time in an image: the same input gives the same bytes.
const EPOCH: &str = "1704067200"; // 2024-01-01

/// Makes the image.
///
/// # Errors
/// When a file cannot be read or `grub-mkrescue` fails; the message has the end of what it said.
pub fn build(tree: &Tree, contents: &Contents, image: &Path) -> Result<()> {
    build_with_tables(tree, contents, &[], image)
}

/// Makes an image whose loader puts ACPI tables in place of the machine's own: signatures and the tables' bytes.
///
/// # Errors
/// As [`build`].
pub fn build_with_tables(
    tree: &Tree,
    contents: &Contents,
    tables: &[(&str, Vec<u8>)],
    image: &Path,
) -> Result<()> {
    let name = image
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let stage = tree.out().join(format!("{name}-{}", std::process::id()));
    let made = fill(tree, contents, tables, &stage).and_then(|()| write(&stage, image));
    std::fs::remove_dir_all(&stage)
        .with_context(|| format!("{} cannot be removed", stage.display()))?;
    made
}

/// Lays out the image's files in a directory.
fn fill(tree: &Tree, contents: &Contents, tables: &[(&str, Vec<u8>)], stage: &Path) -> Result<()> {
    let boot = stage.join("boot");
    std::fs::create_dir_all(boot.join("grub"))
        .with_context(|| format!("{} cannot be made", boot.display()))?;
    copy(&tree.hypervisor(), &boot.join("hypervisor.elf"))?;
    copy(&tree.symbols(), &boot.join("hypervisor.sym"))?;
    copy(&contents.kernel.file, &boot.join("vmlinuz"))?;
    if let Some(initrd) = &contents.initrd {
        copy(initrd, &boot.join("initrd.img"))?;
    }
    let mut replaced = String::new();
    for (signature, table) in tables {
        std::fs::write(boot.join(format!("{signature}.aml")), table)?;
        replaced.push_str(&format!(
            "acpi --exclude={signature} /boot/{signature}.aml\n"
        ));
    }
    std::fs::write(boot.join("grub/grub.cfg"), replaced + &menu(contents))?;
    Ok(())
}

/// Has `grub-mkrescue` make the image of a directory.
fn write(stage: &Path, image: &Path) -> Result<()> {
    let aside = image.with_extension("iso-new");
    let output = Command::new(shell::which("grub-mkrescue").context("there is no grub-mkrescue")?)
        .env("SOURCE_DATE_EPOCH", EPOCH)
        .arg("-o")
        .arg(&aside)
        .arg(stage)
        // Options after the two dashes are the CD writer's: times that do not depend on when this runs.
        .args([
            "--",
            "-volid",
            "XENOSERVER",
            "-volume_date",
            "all_file_dates",
            &format!("={EPOCH}"),
        ])
        .args(["-volume_date", "uuid", "2024010100000000"])
        .stdin(Stdio::null())
        .output()
        .context("grub-mkrescue cannot be started")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        anyhow::bail!("grub-mkrescue failed: {}", shell::tail(&said, 5));
    }
    settle_fat_serial(&aside)?;
    std::fs::rename(&aside, image)
        .with_context(|| format!("{} cannot be put in place", image.display()))
}

/// The UEFI loader lies in a FAT image to which `mformat` gives a random serial number that nothing uses:
/// the only bytes of the CD that would differ from run to run.
fn settle_fat_serial(image: &Path) -> Result<()> {
    const SERIAL: std::ops::Range<usize> = 0x27..0x2b;
    const KIND: std::ops::Range<usize> = 0x36..0x3b;
    let mut bytes = std::fs::read(image)?;
    for sector in bytes.chunks_exact_mut(2048) {
        if sector.starts_with(&[0xeb, 0x3c, 0x90]) && sector[KIND] == *b"FAT12" {
            sector[SERIAL].copy_from_slice(b"XENO");
        }
    }
    std::fs::write(image, bytes).with_context(|| format!("{} cannot be written", image.display()))
}

/// GRUB's menu: one entry, started at once, spoken on the serial line as well.
fn menu(contents: &Contents) -> String {
    let initrd = if contents.initrd.is_some() {
        "    module2 --nounzip /boot/initrd.img\n"
    } else {
        ""
    };
    format!(
        "serial --unit=0 --speed=115200\n\
         terminal_input serial console\n\
         terminal_output serial console\n\
         set timeout=0\n\
         menuentry \"Xenoserver\" {{\n\
         \x20   multiboot2 /boot/hypervisor.elf {}\n\
         \x20   module2 --nounzip /boot/vmlinuz {}\n\
         {initrd}\
         \x20   module2 --nounzip /boot/hypervisor.sym {SYMBOLS_NAME}\n\
         }}\n",
        quoted(&contents.hypervisor_arguments),
        quoted(&contents.kernel.arguments),
    )
}

/// Each word in single quotes: GRUB's script language gives meaning to `$`, `;` and others.
fn quoted(words: &str) -> String {
    words
        .split_whitespace()
        .map(|w| format!("'{}'", w.replace('\'', "'\\''")))
        .collect::<Vec<_>>()
        .join(" ")
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to).with_context(|| format!("{} cannot be read", from.display()))?;
    Ok(())
}

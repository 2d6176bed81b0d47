//! The stock kernel's own drivers: taken out of the package the kernel came in, for machines with devices.
//!
//! # Invariants
//! - D1: a directory of drivers exists under its name only when it is complete.
//! - D2: in [`Drivers::in_order`] each module comes after all that it depends on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use object::{Object, ObjectSection};

use crate::initrd::Part;
use crate::packages;
use crate::shell::{self, say};

/// What our machines' devices and their tests need: disks on two buses, a network card, a file system, the power
/// button. The rest of the list follows from what these depend on.
pub const DEVICES: &[&str] = &[
    "virtio_pci",
    "virtio_blk",
    "ahci",
    "sd_mod",
    "e1000",
    // ext4 finds its checksum through the kernel's cryptography, which no dependency tells.
    "crc32c_generic",
    "ext4",
    "button",
    "evdev",
];

/// What the control domain needs to serve guests: the doors to the hypervisor for its programs, and back ends.
pub const SERVING: &[&str] = &[
    "xenfs",
    "xen_privcmd",
    "xen_evtchn",
    "xen_gntdev",
    "xen_blkback",
    "loop",
];

/// What a guest needs for its disks.
pub const GUESTS: &[&str] = &["xen_blkfront", "crc32c_generic", "ext4"];

/// Where in a kernel's package they may be.
const PLACES: &[&str] = &[
    "*/kernel/arch/x86/crypto/*",
    "*/kernel/block/*",
    "*/kernel/crypto/*",
    "*/kernel/drivers/acpi/*",
    "*/kernel/drivers/ata/*",
    "*/kernel/drivers/block/*",
    "*/kernel/drivers/input/evdev.ko*",
    "*/kernel/drivers/net/ethernet/intel/e1000/*",
    "*/kernel/drivers/scsi/*",
    "*/kernel/drivers/virtio/*",
    "*/kernel/drivers/xen/*",
    "*/kernel/fs/ext4/*",
    "*/kernel/fs/jbd2/*",
    "*/kernel/fs/mbcache.ko*",
    "*/kernel/lib/*",
];

/// A kernel's modules on the host.
pub struct Drivers {
    files: BTreeMap<String, PathBuf>,
}

impl Drivers {
    /// The drivers of a stock kernel, unpacked on first use.
    ///
    /// # Errors
    /// When the kernel did not come in a package, or the package is gone.
    pub fn of(vmlinuz: &Path) -> Result<Self> {
        let no_package = || {
            format!(
                "{} is not the stock kernel, so its drivers are not known: put them in an initrd of its own",
                vmlinuz.display()
            )
        };
        let version = vmlinuz.parent().with_context(no_package)?;
        // Called otherwise when the places were fewer.
        let dir = version.join("drivers-and-xen");
        if !dir.is_dir() {
            let package = package(version).with_context(no_package)?;
            unpack(&package, &dir)?;
        }
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(&dir)? {
            let file = entry?.path();
            if let Some(name) = file.file_stem().and_then(|n| n.to_str()) {
                files.insert(name.replace('-', "_"), file);
            }
        }
        Ok(Self { files })
    }

    /// The modules of these names and what they depend on, in an order in which they can be loaded (D2).
    ///
    /// # Errors
    /// When one is not there.
    pub fn in_order(&self, wanted: &[&str]) -> Result<Vec<&Path>> {
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        for name in wanted {
            self.visit(name, &mut seen, &mut order)?;
        }
        Ok(order)
    }

    fn visit<'a>(
        &'a self,
        name: &str,
        seen: &mut BTreeSet<String>,
        order: &mut Vec<&'a Path>,
    ) -> Result<()> {
        let name = name.replace('-', "_");
        if !seen.insert(name.clone()) {
            return Ok(());
        }
        let file = self.files.get(&name).with_context(|| {
            format!("the kernel's package has no driver {name} where it is looked for")
        })?;
        let image =
            std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
        for needed in dependencies(&image)? {
            self.visit(&needed, seen, order)
                .with_context(|| format!("{name} depends on {needed}"))?;
        }
        order.push(file);
        Ok(())
    }
}

/// Loads the drivers, and lets the power button work.
const START: &str = r#"#!/bin/sh
for module in $(cat /lib/drivers/order); do
    # On the bare machine there is nobody behind these.
    case $module in xen*) [ -e /sys/hypervisor/type ] || continue;; esac
    insmod "/lib/drivers/$module" || echo "the driver $module does not load"
done
# Takes the input devices there are now.
[ -e /dev/input/event0 ] && acpid -l /dev/null
"#;

/// What is done when the power button is pressed.
const POWER_BUTTON: &str = r#"#!/bin/sh
echo "The power button was pressed." > /dev/console
poweroff
"#;

/// What goes into an initial file system to have these modules of the stock kernel `vmlinuz` loaded when it starts.
///
/// # Errors
/// As [`Drivers::of`].
pub fn parts(vmlinuz: &Path, wanted: &[&str]) -> Result<Vec<Part>> {
    let part = |path: String, permissions, contents| Part {
        path,
        permissions,
        contents,
    };
    let drivers = Drivers::of(vmlinuz)?;
    let mut parts = Vec::new();
    let mut order = String::new();
    for module in drivers.in_order(wanted)? {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        let contents = std::fs::read(module)?;
        parts.push(part(format!("lib/drivers/{name}"), 0o644, contents));
        order.push_str(&name);
        order.push('\n');
    }
    let texts = [
        ("lib/drivers/order", 0o644, order.as_str()),
        // Before what uses them.
        ("etc/start.d/10-drivers", 0o755, START),
        ("etc/acpi/PWRF/00000080", 0o755, POWER_BUTTON),
    ];
    for (path, permissions, text) in texts {
        parts.push(part(path.to_owned(), permissions, text.into()));
    }
    Ok(parts)
}

/// The modules a module names as those it depends on.
fn dependencies(image: &[u8]) -> Result<Vec<String>> {
    let file = object::File::parse(image).context("a driver cannot be read")?;
    let info = file
        .section_by_name(".modinfo")
        .context("a driver has no description")?;
    let info = info.data()?;
    let depends = info
        .split(|&byte| byte == 0)
        .find_map(|entry| entry.strip_prefix(b"depends="))
        .unwrap_or_default();
    Ok(String::from_utf8_lossy(depends)
        .split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect())
}

/// The package a kernel's directory was unpacked from: it lies beside, under the same name.
fn package(version: &Path) -> Option<PathBuf> {
    let name = version.file_name()?.to_str()?;
    let prefix = format!("{name}_");
    let downloads = version.parent()?.join("download");
    packages::find_prefixed(&downloads, &prefix)
}

fn unpack(package: &Path, dir: &Path) -> Result<()> {
    say("taking the stock kernel's drivers out of its package (once)");
    let staged = dir.with_file_name(format!("drivers-{}", std::process::id()));
    let flat = staged.join("flat");
    std::fs::create_dir_all(&flat).with_context(|| format!("{} cannot be made", flat.display()))?;
    let (mut contents, pipe) = packages::contents(package)?;
    // A place that this kernel does not have makes tar fail, and is found out by what is missing then.
    let _ = Command::new("tar")
        .arg("-xC")
        .arg(&staged)
        .args(["--wildcards", "--no-same-owner"])
        .args(PLACES)
        .stdin(pipe)
        .stderr(Stdio::null())
        .status()
        .context("tar cannot be started")?;
    ensure!(
        contents.wait()?.success(),
        "{} is not a whole package: delete it and try again",
        package.display()
    );
    flatten(&staged, &flat)?;
    if dir.is_dir() {
        // Another run was faster.
        std::fs::remove_dir_all(&staged)?;
        return Ok(());
    }
    std::fs::rename(&flat, dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    std::fs::remove_dir_all(&staged)?;
    Ok(())
}

/// Moves every module below `from` into one directory, unpacked.
fn flatten(from: &Path, flat: &Path) -> Result<()> {
    for entry in std::fs::read_dir(from)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|n| n.to_str())
            .unwrap_or_default()
            .to_owned();
        if path.is_dir() {
            if path != flat {
                flatten(&path, flat)?;
            }
        } else if name.ends_with(".ko") {
            std::fs::rename(&path, flat.join(&name))?;
        } else if name.ends_with(".ko.xz") {
            shell::run(Command::new("xz").arg("-dq").arg(&path))?;
            let unpacked = path.with_extension("");
            let name = unpacked.file_name().unwrap_or_default().to_owned();
            std::fs::rename(&unpacked, flat.join(name))?;
        } else if name.contains(".ko.") {
            bail!("the driver {name} is packed in a way that is not known here");
        }
    }
    Ok(())
}

//! Stock kernels: the distribution's own packages, downloaded and unpacked under `target/cache`, never installed;
//! and the same kernels packed in other ways than the distribution's.
//!
//! # Invariants
//! - K1: `target/cache/kernel/current` (and its like for other releases) names a directory only after that directory
//!   is complete.
//! - K2: what is unpacked came through apt, which checked it against the archive's signed lists.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};

use crate::linux_module;
use crate::packages;
use crate::provision;
use crate::shell::{self, say};
use crate::tree::Tree;

/// Which of the distribution's kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// The one that the distribution installs by itself: 6.1.
    Stable,
    /// The newer one that it offers beside it: 6.12.
    Newer,
}

impl Release {
    /// The version's first two numbers.
    pub fn series(self) -> &'static str {
        match self {
            Self::Stable => "6.1",
            Self::Newer => "6.12",
        }
    }

    /// The packages whose dependency names the concrete kernel, in the order they are tried. The newer kernel came
    /// by the backports suite first, as a second version of the usual package, and later has one of its own.
    fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Stable => &["linux-image-amd64"],
            Self::Newer => &["linux-image-6.12-amd64", "linux-image-amd64"],
        }
    }

    /// The file that names the directory of what was downloaded (K1).
    fn marker(self) -> &'static str {
        match self {
            Self::Stable => "current",
            Self::Newer => "current-6.12",
        }
    }
}

/// The stock kernel as the distribution ships it (a bzImage), downloaded on first use.
///
/// Later calls stay with the version that was downloaded, so that test results are comparable; deleting
/// `target/cache/kernel` gets the current one.
///
/// # Errors
/// When this is no Debian, or apt cannot deliver.
pub fn stock(tree: &Tree) -> Result<PathBuf> {
    release(tree, Release::Stable)
}

/// As [`stock`], for either release.
///
/// # Errors
/// When this is no Debian, or apt offers no such kernel or cannot deliver it.
pub fn release(tree: &Tree, release: Release) -> Result<PathBuf> {
    // Tests run beside each other; one of them downloads.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let cache = tree.cache().join("kernel");
    if let Ok(name) = std::fs::read_to_string(cache.join(release.marker())) {
        let file = cache.join(name.trim()).join("vmlinuz");
        if file.is_file() {
            return Ok(file);
        }
    }
    if ["apt-get", "apt-cache", "dpkg-deb"]
        .iter()
        .any(|tool| shell::which(tool).is_none())
    {
        bail!(
            "there is no apt here to download Debian's kernel with: name a kernel with `--kernel FILE`"
        );
    }
    let (package, version) = resolve(release).or_else(|_| {
        provision::update();
        resolve(release)
    })?;
    let dir = cache.join(format!("{package}_{}", version.replace(':', "%3a")));
    let deb = download(&cache.join("download"), &package, &version)?;
    unpack_boot_files(&deb, &dir)?;
    shell::write_if_changed(
        &cache.join(release.marker()),
        dir.file_name().unwrap_or_default().as_encoded_bytes(),
    )?;
    let vmlinuz = dir.join("vmlinuz");
    // Whoever needs them and finds them missing tries again, and says so.
    let _ = linux_module::fetch_headers(&vmlinuz);
    Ok(vmlinuz)
}

/// The concrete package and version of a release: the newest that apt's sources offer.
fn resolve(release: Release) -> Result<(String, String)> {
    for package in release.packages() {
        let mut command = Command::new("apt-cache");
        command.arg("show");
        if release == Release::Stable {
            command.arg("--no-all-versions");
        }
        let shown = shell::read(command.arg(package)).unwrap_or_default();
        let found = shown
            .lines()
            .filter_map(|line| line.strip_prefix("Depends: "))
            .find_map(|depends| parse_depends(depends, release.series()));
        if let Some(found) = found {
            return Ok(found);
        }
    }
    bail!(
        "apt offers no Linux {} (packages {}): check the machine's apt sources",
        release.series(),
        release.packages().join(", ")
    )
}

/// `linux-image-6.1.0-56-amd64 (= 6.1.192-2)` as package and version.
fn parse_depends(depends: &str, series: &str) -> Option<(String, String)> {
    depends.split(',').find_map(|one| {
        let (package, rest) = one.trim().split_once(' ')?;
        let version = rest.trim().strip_prefix("(=")?.strip_suffix(')')?.trim();
        let of_series = package
            .strip_prefix("linux-image-")?
            .strip_prefix(series)?
            .starts_with('.');
        of_series.then(|| (package.to_owned(), version.to_owned()))
    })
}

fn download(dir: &Path, package: &str, version: &str) -> Result<PathBuf> {
    std::fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    if let Some(there) = packages::find(dir, package, version) {
        return Ok(there);
    }
    say(format!(
        "downloading the stock kernel {package} {version} (about 100 MB, once)"
    ));
    packages::download(dir, &format!("{package}={version}"))
        .context("the stock kernel is missing: name another with `--kernel FILE`")?;
    packages::find(dir, package, version)
        .with_context(|| format!("apt-get download left no {package} in {}", dir.display()))
}

/// Takes the boot files out of the package; its 400 MB of drivers stay packed.
fn unpack_boot_files(deb: &Path, dir: &Path) -> Result<()> {
    let staged = dir.with_file_name(format!("unpacking-{}", std::process::id()));
    std::fs::create_dir_all(&staged)
        .with_context(|| format!("{} cannot be made", staged.display()))?;
    let (mut contents, pipe) = packages::contents(deb)?;
    let unpacked = shell::run(
        Command::new("tar")
            .arg("-xC")
            .arg(&staged)
            .arg("./boot")
            .stdin(pipe),
    );
    if !contents.wait()?.success() {
        // A download that was cut short must not be found again.
        std::fs::remove_file(deb)?;
        std::fs::remove_dir_all(&staged)?;
        bail!(
            "{} was not a whole package and is removed: try again",
            deb.display()
        );
    }
    unpacked?;

    let boot = staged.join("boot");
    let mut vmlinuz = None;
    for entry in std::fs::read_dir(&boot)? {
        let path = entry?.path();
        if path
            .file_name()
            .is_some_and(|n| n.to_string_lossy().starts_with("vmlinuz-"))
        {
            vmlinuz = Some(path);
        }
    }
    let vmlinuz = vmlinuz.with_context(|| format!("{} holds no kernel", deb.display()))?;
    std::fs::rename(vmlinuz, staged.join("vmlinuz"))?;
    if dir.exists() {
        std::fs::remove_dir_all(dir)?;
    }
    std::fs::rename(&staged, dir)
        .with_context(|| format!("{} cannot be put in place", dir.display()))
}

/// The ELF file inside a bzImage, unpacked on the host and kept beside it.
///
/// Unpacking takes most of a boot's instructions under emulation; most tests start from this form.
///
/// # Errors
/// When the file is not a bzImage or its payload cannot be unpacked.
pub fn unpacked(vmlinuz: &Path) -> Result<PathBuf> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let vmlinux = vmlinuz.with_file_name("vmlinux");
    if vmlinux.is_file() {
        return Ok(vmlinux);
    }
    say("unpacking the stock kernel on the host (once)");
    let image =
        std::fs::read(vmlinuz).with_context(|| format!("{} cannot be read", vmlinuz.display()))?;
    let payload =
        payload(&image).with_context(|| format!("{} is not a bzImage", vmlinuz.display()))?;
    let tool: &[&str] = if payload.starts_with(b"\xfd7zXZ\0") {
        &["xz", "-dc", "--single-stream"]
    } else if payload.starts_with(b"\x1f\x8b") {
        &["gzip", "-dcq"]
    } else if payload.starts_with(b"\x28\xb5\x2f\xfd") {
        &["zstd", "-dcq", "--long=31"]
    } else {
        bail!(
            "the payload of {} is packed in a way that is not known here",
            vmlinuz.display()
        );
    };
    // The kernel's build appends the unpacked size to the payload; tools call that trailing garbage, and
    // some end with a warning's status for it. The size says whether they did their work.
    let (packed, size) = payload.split_at(payload.len() - 4);
    let size = size.try_into().map(u32::from_le_bytes)?;
    let aside = vmlinuz.with_file_name(format!("packed{}", std::process::id()));
    std::fs::write(&aside, packed)?;
    let output = Command::new(tool[0])
        .args(&tool[1..])
        .arg(&aside)
        .stderr(Stdio::inherit())
        .output();
    std::fs::remove_file(&aside)?;
    let elf = output
        .with_context(|| format!("{} cannot be started", tool[0]))?
        .stdout;
    ensure!(
        elf.len() == size as usize && elf.starts_with(b"\x7fELF"),
        "the payload of {} does not unpack to an ELF file of {size} bytes",
        vmlinuz.display()
    );
    shell::write_if_changed(&vmlinux, &elf)?;
    Ok(vmlinux)
}

/// How a kernel's payload can be packed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// The kernel's default.
    Gzip,
    /// As Debian's 6.1.
    Xz,
    /// As Debian's 6.12, with a window larger than the decoder's usual one.
    Zstd,
    /// In the older frame format, the one kernels use.
    Lz4,
}

impl Packing {
    /// Its name, which is the host's tool too.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
        }
    }

    /// The tool's words: as the kernel's build has them, but quicker where only the time to pack depends on it.
    fn words(self) -> &'static [&'static str] {
        match self {
            Self::Gzip => &["-n", "-6"],
            Self::Xz => &["--check=crc32", "--x86", "--lzma2=preset=1,dict=32MiB"],
            Self::Zstd => &["-q", "-9", "--long=27"],
            Self::Lz4 => &["-q", "-l", "-9"],
        }
    }
}

/// The bzImage with its kernel packed in another way, made once and kept beside it.
///
/// # Errors
/// When the file is not a bzImage, or the tool is missing or fails.
pub fn repacked(vmlinuz: &Path, packing: Packing) -> Result<PathBuf> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let vmlinux = unpacked(vmlinuz)?;
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let file = vmlinuz.with_file_name(format!("vmlinuz.{}", packing.name()));
    if file.is_file() {
        return Ok(file);
    }
    say(format!(
        "packing a stock kernel with {} (once)",
        packing.name()
    ));
    let packed = Command::new(packing.name())
        .args(packing.words())
        .stdin(std::fs::File::open(&vmlinux)?)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("{} cannot be started", packing.name()))?;
    ensure!(packed.status.success(), "{} failed", packing.name());
    let mut payload = packed.stdout;
    // gzip's own trailer ends with the length.
    if packing != Packing::Gzip {
        let len = u32::try_from(std::fs::metadata(&vmlinux)?.len())?;
        payload.extend(len.to_le_bytes());
    }
    let image = std::fs::read(vmlinuz)?;
    let image = with_payload(&image, &payload)
        .with_context(|| format!("{} is not a bzImage", vmlinuz.display()))?;
    shell::write_if_changed(&file, &image)?;
    Ok(file)
}

/// A bzImage with another payload, which brings its length with it.
pub fn with_payload(image: &[u8], payload: &[u8]) -> Option<Vec<u8>> {
    let start = payload_range(image)?.start;
    let mut file = image.get(..start)?.to_vec();
    file.extend(payload);
    file.get_mut(0x24c..0x250)?
        .copy_from_slice(&u32::try_from(payload.len()).ok()?.to_le_bytes());
    Some(file)
}

/// Where a bzImage keeps its packed kernel: offset and length in the file.
pub fn payload_range(image: &[u8]) -> Option<std::ops::Range<usize>> {
    if image.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let word = |at: usize| {
        image
            .get(at..at + 4)?
            .try_into()
            .ok()
            .map(u32::from_le_bytes)
    };
    let setup_sectors = match *image.get(0x1f1)? {
        0 => 4,
        n => usize::from(n),
    };
    let start = (setup_sectors + 1) * 512 + usize::try_from(word(0x248)?).ok()?;
    let end = start.checked_add(usize::try_from(word(0x24c)?).ok()?)?;
    (end <= image.len() && end - start > 4).then_some(start..end)
}

fn payload(image: &[u8]) -> Option<&[u8]> {
    image.get(payload_range(image)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_meta_package_names_the_concrete_kernel() {
        let stable = "linux-image-6.1.0-56-amd64 (= 6.1.192-2)";
        let (package, version) = parse_depends(stable, "6.1").unwrap();
        assert_eq!(
            (package.as_str(), version.as_str()),
            ("linux-image-6.1.0-56-amd64", "6.1.192-2")
        );
        assert!(parse_depends(stable, "6.12").is_none());
        let newer = "linux-image-6.12.117+deb12-amd64 (= 6.12.117-1~deb12u1)";
        assert!(parse_depends(newer, "6.12").is_some());
        assert!(parse_depends(newer, "6.1").is_none());
        assert!(parse_depends("linux-base (>= 4.3)", "6.1").is_none());
    }

    #[test]
    fn a_payload_beyond_the_file_is_refused() {
        let mut image = vec![0_u8; 0x1000];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x1f1] = 1;
        image[0x248..0x24c].copy_from_slice(&0x100_u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&0x200_u32.to_le_bytes());
        assert_eq!(payload_range(&image), Some(0x500..0x700));
        image[0x24c..0x250].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(payload_range(&image), None);
    }
}

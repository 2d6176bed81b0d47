//! The module of `linux-patches/xeno`, built for a stock kernel: `/dev/xeno` in the control domain and in guests.
//!
//! It is built as anybody would build it, by the kernel's own build system from the headers that the distribution
//! ships with the kernel; these are downloaded with the kernel and unpacked, never installed.
//!
//! # Invariants
//! - M1: a kernel's directory `headers` is there only when it is complete: unpacked aside and renamed.
//! - M2: what is unpacked came through apt, which checked it against the archive's signed lists.
//! - M3: a module is kept under the name of what it was made of: the kernel's package and the sources.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

use crate::initrd::Part;
use crate::packages;
use crate::provision::Need;
use crate::shell::{self, say};
use crate::tree::Tree;

/// The name of the module, its file and its device.
const NAME: &str = "xeno";

/// Where the sources are in the tree.
const SOURCES: &str = "linux-patches/xeno";

/// A kernel of the distribution, by the directory it was unpacked into: `linux-image-RELEASE_VERSION`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kernel {
    dir: PathBuf,
    /// What `uname -r` says.
    release: String,
    version: String,
}

impl Kernel {
    fn of(vmlinuz: &Path) -> Result<Self> {
        let parsed = vmlinuz.parent().and_then(|dir| {
            let name = dir.file_name()?.to_str()?.strip_prefix("linux-image-")?;
            let (release, version) = name.split_once('_')?;
            Some(Self {
                dir: dir.to_path_buf(),
                release: release.to_owned(),
                version: version.replace("%3a", ":"),
            })
        });
        parsed.with_context(|| {
            format!(
                "{} is not the stock kernel, so the headers to build the module {NAME} with are not known",
                vmlinuz.display()
            )
        })
    }

    /// Where the headers are unpacked (M1).
    fn headers(&self) -> PathBuf {
        self.dir.join("headers")
    }

    /// The directory that the kernel's build system is started in.
    fn build(&self, root: &Path) -> PathBuf {
        root.join(format!("usr/src/linux-headers-{}", self.release))
    }
}

/// The module for this stock kernel, in the initial file system where `modprobe xeno` finds it.
///
/// # Errors
/// As [`build`].
pub fn parts(tree: &Tree, vmlinuz: &Path) -> Result<Vec<Part>> {
    let file = build(tree, vmlinuz)?;
    let dir = format!("lib/modules/{}", Kernel::of(vmlinuz)?.release);
    let part = |path: String, contents| Part {
        path,
        permissions: 0o644,
        contents,
    };
    Ok(vec![
        part(format!("{dir}/extra/{NAME}.ko"), std::fs::read(file)?),
        part(
            format!("{dir}/modules.dep"),
            format!("extra/{NAME}.ko:\n").into_bytes(),
        ),
    ])
}

/// As [`parts`], for a system that does without where it cannot be built; why is said once.
pub fn parts_if_possible(tree: &Tree, vmlinuz: &Path) -> Vec<Part> {
    static SAID: std::sync::Once = std::sync::Once::new();
    parts(tree, vmlinuz).unwrap_or_else(|error| {
        SAID.call_once(|| say(format!("there will be no /dev/xeno: {error:#}")));
        Vec::new()
    })
}

/// Builds the module for a stock kernel, unless it is there: the file.
///
/// # Errors
/// When the kernel is not the stock one, its headers cannot be had, or the compiler refuses.
pub fn build(tree: &Tree, vmlinuz: &Path) -> Result<PathBuf> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let kernel = Kernel::of(vmlinuz)?;
    let dir = tree.out().join("linux").join(&kernel.release);
    let made_of = made_of(tree, &kernel)?;
    let (file, note) = (dir.join(format!("{NAME}.ko")), dir.join("made-of"));
    if file.is_file() && std::fs::read(&note).is_ok_and(|noted| noted == made_of) {
        return Ok(file);
    }
    ensure!(
        Need::ModuleTools.is_met(),
        "{} is missing: run `sudo apt-get install -y {}`",
        Need::ModuleTools.description(),
        Need::ModuleTools.packages().join(" ")
    );
    headers(&kernel)?;
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    std::fs::create_dir_all(&dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    for source in sources(tree)? {
        std::fs::copy(&source, dir.join(source.file_name().unwrap_or_default()))?;
    }
    say(format!(
        "building the module {NAME} for Linux {}",
        kernel.release
    ));
    // Without debug information: its types are in the header, and it is thirty times the module.
    shell::read(
        Command::new("make")
            .arg("--silent")
            .arg("-C")
            .arg(kernel.build(&kernel.headers()))
            .arg(format!("M={}", dir.display()))
            .args(["KCFLAGS=-g0 -Werror", "modules"])
            // What a person who builds kernels may have set.
            .env_remove("ARCH")
            .env_remove("CROSS_COMPILE")
            .env_remove("MAKEFLAGS")
            .env_remove("KBUILD_OUTPUT"),
    )
    .with_context(|| format!("the module {NAME} was not built"))?;
    ensure!(file.is_file(), "the build left no {}", file.display());
    shell::write_if_changed(&note, &made_of)?;
    Ok(file)
}

/// The module's source files, in order.
fn sources(tree: &Tree) -> Result<Vec<PathBuf>> {
    let dir = tree.root().join(SOURCES);
    let mut files = std::fs::read_dir(&dir)
        .with_context(|| format!("{} cannot be read", dir.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    files.retain(|file| file.is_file());
    files.sort();
    Ok(files)
}

/// What a module is made of (M3).
fn made_of(tree: &Tree, kernel: &Kernel) -> Result<Vec<u8>> {
    let mut all = format!("{} {}\n", kernel.release, kernel.version).into_bytes();
    for source in sources(tree)? {
        all.extend(std::fs::read(source)?);
    }
    Ok(all)
}

/// Downloads and unpacks the headers of a stock kernel, unless they are there. Called when the kernel itself is
/// downloaded, because the archive keeps a version's packages together, and drops them together.
///
/// # Errors
/// When the kernel is not the stock one, or apt cannot deliver.
pub fn fetch_headers(vmlinuz: &Path) -> Result<()> {
    headers(&Kernel::of(vmlinuz)?)
}

fn headers(kernel: &Kernel) -> Result<()> {
    let root = kernel.headers();
    if root.is_dir() {
        return Ok(());
    }
    say(format!(
        "downloading the headers of Linux {} (about 16 MB, once)",
        kernel.release
    ));
    let staged = kernel.dir.join(format!("headers-{}", std::process::id()));
    if staged.exists() {
        std::fs::remove_dir_all(&staged)?;
    }
    std::fs::create_dir_all(&staged)
        .with_context(|| format!("{} cannot be made", staged.display()))?;
    let unpacked = unpack_headers(kernel, &staged);
    if unpacked.is_ok() {
        std::fs::rename(staged.join("root"), &root)
            .with_context(|| format!("{} cannot be put in place", root.display()))?;
    }
    std::fs::remove_dir_all(&staged)?;
    unpacked.with_context(|| {
        format!(
            "the headers of Linux {} are missing: if the archive has only newer ones by now, delete target/cache/kernel \
             to have the newer kernel",
            kernel.release
        )
    })
}

/// The headers' package and those that it depends on, unpacked as `staged/root`.
fn unpack_headers(kernel: &Kernel, staged: &Path) -> Result<()> {
    let first = format!("linux-headers-{}={}", kernel.release, kernel.version);
    packages::download(staged, &first)?;
    let prefix = format!("linux-headers-{}_", kernel.release);
    let package = packages::find_prefixed(staged, &prefix)
        .with_context(|| format!("apt-get download left no {prefix}"))?;
    let depends = shell::read(
        Command::new("dpkg-deb")
            .arg("--field")
            .arg(&package)
            .arg("Depends"),
    )?;
    for needed in needed_packages(&depends) {
        packages::download(staged, &needed)?;
    }
    let root = staged.join("root");
    for entry in std::fs::read_dir(staged)? {
        let file = entry?.path();
        if file.extension().is_some_and(|e| e == "deb") {
            shell::run(
                Command::new("dpkg-deb")
                    .arg("--extract")
                    .arg(file)
                    .arg(&root)
                    .stdin(Stdio::null()),
            )?;
        }
    }
    let build = kernel.build(&root);
    let makefile = build.join("Makefile");
    let text = std::fs::read_to_string(&makefile)
        .with_context(|| format!("{} cannot be read", makefile.display()))?;
    std::fs::write(&makefile, relocated(&text))?;
    // Types for programs that look into the running kernel: to add ours takes a tool more.
    let types = build.join("vmlinux");
    if types.exists() {
        std::fs::remove_file(types)?;
    }
    Ok(())
}

/// What of a headers package's dependencies is needed to build a module, as apt takes it: the headers that all
/// flavours have, and the build system's programs. The kernel is there, the compiler is the machine's.
fn needed_packages(depends: &str) -> Vec<String> {
    let needed = |one: &str| {
        let one = one.trim();
        let name = one.split_whitespace().next()?;
        if !name.starts_with("linux-headers-") && !name.starts_with("linux-kbuild-") {
            return None;
        }
        let exactly = one
            .split_once("(= ")
            .and_then(|(_, version)| version.strip_suffix(')'));
        Some(match exactly {
            Some(version) => format!("{name}={version}"),
            None => name.to_owned(),
        })
    };
    depends.split(',').filter_map(needed).collect()
}

/// The build's Makefile, which names a file of the installed system, with the one beside it instead.
fn relocated(makefile: &str) -> String {
    makefile.replace(
        "include /usr/src/",
        "include $(dir $(lastword $(MAKEFILE_LIST)))../",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_known_by_its_directory() {
        let kernel = Kernel::of(Path::new(
            "/x/linux-image-6.12.117+deb12-amd64_1%3a6.12.117-1~deb12u1/vmlinuz",
        ))
        .unwrap();
        assert_eq!(kernel.release, "6.12.117+deb12-amd64");
        assert_eq!(kernel.version, "1:6.12.117-1~deb12u1");
        assert!(Kernel::of(Path::new("/boot/vmlinuz")).is_err());
        assert!(Kernel::of(Path::new("vmlinuz")).is_err());
    }

    #[test]
    fn of_what_headers_depend_on_only_the_build_system_is_needed() {
        let old = "linux-headers-6.1.0-56-common (= 6.1.192-2), linux-kbuild-6.1 (>= 6.1.192-2), \
                   linux-compiler-gcc-12-x86";
        assert_eq!(
            needed_packages(old),
            [
                "linux-headers-6.1.0-56-common=6.1.192-2",
                "linux-kbuild-6.1"
            ]
        );
        let new = "linux-base (>= 4.12~), linux-headers-6.12.117+deb12-common (= 6.12.117-1~deb12u1), \
                   linux-image-6.12.117+deb12-amd64 (= 6.12.117-1~deb12u1) | linux-image-6.12.117+deb12-amd64-unsigned \
                   (= 6.12.117-1~deb12u1), linux-kbuild-6.12.117+deb12, gcc-12";
        assert_eq!(
            needed_packages(new),
            [
                "linux-headers-6.12.117+deb12-common=6.12.117-1~deb12u1",
                "linux-kbuild-6.12.117+deb12"
            ]
        );
    }

    #[test]
    fn headers_are_found_beside_each_other_wherever_they_are() {
        assert_eq!(
            relocated("include /usr/src/linux-headers-6.1.0-56-common/Makefile\n"),
            "include $(dir $(lastword $(MAKEFILE_LIST)))../linux-headers-6.1.0-56-common/Makefile\n"
        );
    }
}

//! Packages of the distribution, downloaded and unpacked under `target/cache/packages`, never installed: programs for
//! the initial file system, with the shared libraries they need.
//!
//! Libraries come from packages too, never from the running host: it may be another distribution or release, and a
//! program and its libraries are to fit each other. Which package has a library is found by following the
//! dependencies of the package that needs it, and only as far as the library is found: a graphics library's
//! dependencies alone would be a hundred megabytes.
//!
//! # Invariants
//! - G1: `target/cache/packages/NAME` is there only when it is complete: unpacked aside and renamed.
//! - G2: what is unpacked came through apt, which checked it against the archive's signed lists.
//! - G3: later calls stay with the version that was downloaded, so that results are comparable.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::image;
use crate::provision::{self, is_root};
use crate::shell::{self, say};
use crate::tree::Tree;

/// Where a distribution's packages keep shared libraries.
const LIBRARY_DIRS: &[&str] = &[
    "lib/x86_64-linux-gnu",
    "usr/lib/x86_64-linux-gnu",
    "lib64",
    "usr/lib64",
    "lib",
    "usr/lib",
];

/// Packages a library is looked for in before the search is given up.
const MOST_LOOKED_AT: usize = 60;

/// A package, unpacked.
#[derive(Clone, Debug)]
pub struct Package {
    name: String,
    root: PathBuf,
    depends: Vec<String>,
}

/// A file for the initial file system.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Placed {
    /// Where it goes, without a leading slash.
    pub path: String,
    /// What it is a copy of.
    pub source: PathBuf,
}

/// A package by its name, downloaded and unpacked on first use.
///
/// # Errors
/// When there is no apt, or apt knows no such package or cannot deliver it.
pub fn package(tree: &Tree, name: &str) -> Result<Package> {
    let cache = tree.cache().join("packages");
    let root = cache.join(name);
    if !root.is_dir() {
        ensure!(
            ["apt-get", "dpkg-deb"]
                .iter()
                .all(|tool| shell::which(tool).is_some()),
            "there is no apt here to download the package {name} with"
        );
        let staged = cache.join(format!("unpacking-{name}-{}", std::process::id()));
        if staged.exists() {
            std::fs::remove_dir_all(&staged)?;
        }
        std::fs::create_dir_all(&staged)
            .with_context(|| format!("{} cannot be made", staged.display()))?;
        let unpacked = unpack(name, &staged);
        if unpacked.is_ok() {
            // G1. Losing a race against another run is as good as winning.
            let renamed = std::fs::rename(staged.join("root"), &root);
            ensure!(
                renamed.is_ok() || root.is_dir(),
                "{} cannot be put in place",
                root.display()
            );
        }
        std::fs::remove_dir_all(&staged)?;
        unpacked?;
    }
    let control = std::fs::read_to_string(root.join("DEBIAN/control"))
        .with_context(|| format!("{} is not an unpacked package", root.display()))?;
    Ok(Package {
        name: name.to_owned(),
        depends: parse_depends(&control),
        root,
    })
}

/// Has apt download what `wanted` names (`PACKAGE=VERSION` or `PACKAGE:ARCHITECTURE`) into `dir`, with fresh lists if
/// the archive has it no more.
///
/// # Errors
/// What apt says; the caller adds what that means.
pub fn download(dir: &Path, wanted: &str) -> Result<()> {
    let try_once = || {
        let mut command = Command::new("apt-get");
        command.current_dir(dir).args(["download", "-q"]);
        if is_root() {
            // apt's download user may not write into somebody's tree, and says so at length.
            command.args(["-o", "APT::Sandbox::User=root"]);
        }
        command
            .arg(wanted)
            .stdin(Stdio::null())
            .stdout(std::io::stderr());
        shell::run(&mut command)
    };
    if try_once().is_err() {
        // Lists older than the archive name files that are gone.
        provision::update();
        try_once().with_context(|| format!("{wanted} could not be downloaded"))?;
    }
    Ok(())
}

/// Starts unpacking a package: what it holds, as a tar archive in a pipe. The process has to be waited for; it fails
/// where the file is not a whole package.
///
/// # Errors
/// When dpkg-deb cannot be started.
pub fn contents(package: &Path) -> Result<(Child, ChildStdout)> {
    let mut process = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdout(Stdio::piped())
        .spawn()
        .context("dpkg-deb cannot be started")?;
    let pipe = process.stdout.take().context("dpkg-deb has no output")?;
    Ok((process, pipe))
}

/// The file that a downloaded package of this version has in `dir`.
pub fn find(dir: &Path, package: &str, version: &str) -> Option<PathBuf> {
    find_prefixed(dir, &format!("{package}_{}_", version.replace(':', "%3a")))
}

/// The package in `dir` whose file's name begins so.
pub fn find_prefixed(dir: &Path, prefix: &str) -> Option<PathBuf> {
    std::fs::read_dir(dir)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| {
            let name = path
                .file_name()
                .and_then(|n| n.to_str())
                .unwrap_or_default();
            name.starts_with(prefix) && name.ends_with(".deb")
        })
}

/// Downloads a package into `dir` and unpacks it, with its control files, as `dir/root`.
fn unpack(name: &str, dir: &Path) -> Result<()> {
    say(format!("downloading the package {name} (once)"));
    download(dir, &format!("{name}:amd64"))?;
    let file = std::fs::read_dir(dir)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|e| e == "deb"))
        .with_context(|| format!("apt-get download left no {name} in {}", dir.display()))?;
    shell::run(
        Command::new("dpkg-deb")
            .arg("--raw-extract")
            .arg(file)
            .arg(dir.join("root")),
    )
}

/// The packages that a control file says are needed; of alternatives the first.
fn parse_depends(control: &str) -> Vec<String> {
    let names = |field: &str| {
        control
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(": "))
            .map(|list| {
                let first = |one: &str| {
                    let name = one.split(['|', '(', ':']).next().unwrap_or_default();
                    name.trim().to_owned()
                };
                list.split(',').map(first).collect::<Vec<_>>()
            })
            .unwrap_or_default()
    };
    [names("Depends"), names("Pre-Depends")].concat()
}

impl Package {
    /// A file of the package, which is a copy of what the package had.
    ///
    /// # Errors
    /// When the package has no such file.
    pub fn file(&self, path: &str) -> Result<PathBuf> {
        let file = self.root.join(path);
        ensure!(
            file.is_file(),
            "the package {} has no {path}: it is not the one we know",
            self.name
        );
        Ok(file)
    }

    fn library(&self, name: &str) -> Option<PathBuf> {
        let file = LIBRARY_DIRS
            .iter()
            .map(|dir| self.root.join(dir).join(name))
            .find(|file| file.symlink_metadata().is_ok())?;
        // A link inside a package names a file beside it, or an absolute one of the installed system.
        let resolved = match std::fs::read_link(&file) {
            Err(_) => file,
            Ok(target) => match target.strip_prefix("/") {
                Ok(absolute) => self.root.join(absolute),
                Err(_) => file.parent()?.join(&target),
            },
        };
        resolved.is_file().then_some(resolved)
    }
}

/// A program of a package with everything it needs to start: itself, the dynamic linker, all libraries.
///
/// # Errors
/// When the package has no such program, or a library is in no package that it depends on.
pub fn program(tree: &Tree, package_name: &str, path: &str) -> Result<Vec<Placed>> {
    let mut known: BTreeMap<String, Package> = BTreeMap::new();
    let first = package(tree, package_name)?;
    let program = first.file(path)?;
    let mut placed = vec![Placed {
        path: path.to_owned(),
        source: program.clone(),
    }];
    known.insert(package_name.to_owned(), first);
    // Files whose libraries are to be found, each with the package it came from.
    let mut open = VecDeque::from([(program, package_name.to_owned())]);
    let mut found: BTreeMap<String, PathBuf> = BTreeMap::new();
    while let Some((file, owner)) = open.pop_front() {
        let bytes =
            std::fs::read(&file).with_context(|| format!("{} cannot be read", file.display()))?;
        for library in image::needed_libraries(&bytes)
            .with_context(|| format!("{} is not a program", file.display()))?
        {
            if found.contains_key(&library) {
                continue;
            }
            let (source, from) =
                find_library(tree, &mut known, &owner, &library).with_context(|| {
                    format!("the library {library}, which {} needs", file.display())
                })?;
            open.push_back((source.clone(), from));
            found.insert(library, source);
        }
    }
    let libraries = found.into_iter();
    placed.extend(libraries.map(|(name, source)| placed_library(&name, source)));
    Ok(placed)
}

/// A library of a package by its file's name: for one that a program loads only when it needs it, so that nothing in
/// the program says so.
///
/// # Errors
/// When the package has no such library.
pub fn library(tree: &Tree, package_name: &str, name: &str) -> Result<Placed> {
    let source = package(tree, package_name)?
        .library(name)
        .with_context(|| format!("the package {package_name} has no library {name}"))?;
    Ok(placed_library(name, source))
}

/// All files that a package has in a directory and those in it: for what programs look for while they run.
///
/// # Errors
/// When the package has none there, or they cannot be read.
pub fn files_in(tree: &Tree, package_name: &str, directory: &str) -> Result<Vec<Placed>> {
    let package = package(tree, package_name)?;
    let mut files = Vec::new();
    let mut open = VecDeque::from([directory.to_owned()]);
    while let Some(directory) = open.pop_front() {
        let entries = std::fs::read_dir(package.root.join(&directory));
        let entries =
            entries.with_context(|| format!("the package {package_name} has no {directory}"))?;
        for entry in entries {
            let entry = entry?;
            let path = format!("{directory}/{}", entry.file_name().to_string_lossy());
            match entry.file_type()?.is_dir() {
                true => open.push_back(path),
                false => files.push(Placed {
                    path,
                    source: entry.path(),
                }),
            }
        }
    }
    // A directory's order is not the same everywhere.
    files.sort();
    Ok(files)
}

/// Where programs find a library.
fn placed_library(name: &str, source: PathBuf) -> Placed {
    // The place of the dynamic linker is written in every program.
    let dir = if name.starts_with("ld-linux") {
        "lib64"
    } else {
        "lib/x86_64-linux-gnu"
    };
    Placed {
        path: format!("{dir}/{name}"),
        source,
    }
}

/// Finds a library in the packages that `owner` depends on, nearest first; those named like the library before
/// others, because libraries' packages are.
fn find_library(
    tree: &Tree,
    known: &mut BTreeMap<String, Package>,
    owner: &str,
    library: &str,
) -> Result<(PathBuf, String)> {
    for package in known.values() {
        if let Some(file) = package.library(library) {
            return Ok((file, package.name.clone()));
        }
    }
    let mut queue = VecDeque::from([owner.to_owned()]);
    let mut seen: Vec<String> = Vec::new();
    while let Some(name) = queue.pop_front() {
        if seen.contains(&name) || seen.len() >= MOST_LOOKED_AT {
            continue;
        }
        if !known.contains_key(&name) {
            // A name without a package (a virtual one) leads nowhere.
            let Ok(package) = package(tree, &name) else {
                seen.push(name);
                continue;
            };
            known.insert(name.clone(), package);
        }
        let package = &known[&name];
        if let Some(file) = package.library(library) {
            return Ok((file, name));
        }
        let (alike, others): (Vec<&String>, Vec<&String>) = package
            .depends
            .iter()
            .partition(|other| is_named_like(other, library));
        for other in alike.into_iter().rev() {
            queue.push_front(other.clone());
        }
        queue.extend(others.into_iter().cloned());
        seen.push(name);
    }
    bail!("is in no package that {owner} depends on")
}

/// `libEGL.so.1` is in `libegl1`.
fn is_named_like(package: &str, library: &str) -> bool {
    let plain = |text: &str| {
        text.to_lowercase()
            .replace(|c: char| !c.is_ascii_alphanumeric(), "")
    };
    let stem = library.split(".so").next().unwrap_or(library);
    plain(package).starts_with(&plain(stem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_names_without_versions_and_alternatives() {
        let control =
            "Package: x\nDepends: libc6 (>= 2.36), libegl1, a:any | b (= 1)\nPre-Depends: dpkg\n";
        assert_eq!(parse_depends(control), ["libc6", "libegl1", "a", "dpkg"]);
        assert!(parse_depends("Package: libc\n").is_empty());
    }

    #[test]
    fn a_librarys_package_is_named_like_it() {
        assert!(is_named_like("libegl1", "libEGL.so.1"));
        assert!(is_named_like("libxcb-randr0", "libxcb-randr.so.0"));
        assert!(!is_named_like("libglvnd0", "libGLdispatch.so.0"));
    }
}

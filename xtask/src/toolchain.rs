//! A compiler for code that runs on no operating system: where its core library comes from, and its linker.
//!
//! rustup delivers the `x86_64-unknown-none` target ready made. Where it cannot (no network, a distribution's
//! own toolchain), the core library is built once from the compiler's own source into an overlay system root,
//! and ring 0 is then built against that overlay by a compiler that believes itself stable: nightly features
//! are refused here as they are for everybody.
//!
//! # Invariants
//! - C1: an overlay directory exists only when it is complete (it is built aside and renamed).
//! - C2: `RUSTC_BOOTSTRAP` is set for the core library's build alone, never for our own code.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell::{self, say};
use crate::tree::Tree;

/// The target every piece of bare-metal code here is built for.
pub const TARGET: &str = "x86_64-unknown-none";

/// The oldest compiler that is tried; the workspace's `rust-version` is the same.
const OLDEST: (u32, u32) = (1, 95);

/// A compiler that can build for [`TARGET`], with everything it needs to do so.
#[derive(Clone, Debug)]
pub struct BareMetal {
    rustc: PathBuf,
    cargo: PathBuf,
    /// The system root that holds the core library, when the compiler's own does not.
    overlay: Option<PathBuf>,
    linker: PathBuf,
}

/// What one compiler said about itself.
struct Compiler {
    rustc: PathBuf,
    release: String,
    commit: String,
    host: String,
    sysroot: PathBuf,
}

impl BareMetal {
    /// Finds a compiler for bare metal, building its core library first where that has to be.
    ///
    /// # Errors
    /// When there is none; the message says what to install.
    pub fn find(tree: &Tree) -> Result<Self> {
        let compilers: Vec<Compiler> = candidates()
            .iter()
            .filter_map(|rustc| Compiler::ask(rustc))
            .collect();
        let linker = find_linker(&compilers)?;
        for compiler in &compilers {
            if compiler.has_core() {
                return Ok(Self {
                    rustc: compiler.rustc.clone(),
                    cargo: compiler.cargo(),
                    overlay: None,
                    linker,
                });
            }
        }
        for compiler in &compilers {
            if compiler.has_source() {
                let overlay = compiler.build_overlay(tree)?;
                return Ok(Self {
                    rustc: compiler.rustc.clone(),
                    cargo: compiler.cargo(),
                    overlay: Some(overlay),
                    linker,
                });
            }
        }
        bail!(
            "no compiler here has a core library for {TARGET}: run `rustup target add {TARGET}`, \
             or on Debian `apt-get install rustc-web cargo-web rust-web-src`"
        );
    }

    /// Whether [`BareMetal::find`] would succeed; builds nothing.
    pub fn is_available() -> bool {
        candidates()
            .iter()
            .filter_map(|rustc| Compiler::ask(rustc))
            .any(|c| c.has_core() || c.has_source())
    }

    /// Whether the compiler that [`BareMetal::find`] would choose has its lints; builds nothing.
    pub fn has_lints() -> bool {
        let compilers: Vec<Compiler> = candidates()
            .iter()
            .filter_map(|rustc| Compiler::ask(rustc))
            .collect();
        let ready = compilers.iter().find(|c| c.has_core());
        let chosen = ready.or_else(|| compilers.iter().find(|c| c.has_source()));
        chosen.is_some_and(|c| clippy_beside(&c.rustc).is_some())
    }

    /// A cargo call for [`TARGET`] with these compiler flags, in its own target directory.
    ///
    /// Its own, because the host's compiler and this one may differ and would rebuild each other's work.
    pub fn cargo(&self, tree: &Tree, verb: &str, target_dir: &Path, flags: &[&str]) -> Command {
        let mut rustflags: Vec<String> = flags.iter().map(|&f| f.to_owned()).collect();
        rustflags.push(format!("-Clinker={}", self.linker.display()));
        if let Some(overlay) = &self.overlay {
            rustflags.push(format!("--sysroot={}", overlay.display()));
        }
        // Panic messages name source files: a crate's place in somebody's home directory is nobody's business.
        if let Some(home) = cargo_home() {
            rustflags.push(format!("--remap-path-prefix={}=cargo", home.display()));
        }
        let mut command = shell::clean(&self.cargo);
        command
            .current_dir(tree.root())
            .env("RUSTC", &self.rustc)
            .env("CARGO_ENCODED_RUSTFLAGS", rustflags.join("\u{1f}"))
            .args([verb, "--release", "--target", TARGET, "--target-dir"])
            .arg(target_dir);
        command
    }

    /// The clippy that belongs to this compiler, as the directory to put first in `PATH`.
    pub fn clippy_dir(&self) -> Option<PathBuf> {
        clippy_beside(&self.rustc)
    }
}

fn clippy_beside(rustc: &Path) -> Option<PathBuf> {
    let dir = rustc.parent()?;
    let whole = dir.join("cargo-clippy").is_file() && dir.join("clippy-driver").is_file();
    whole.then(|| dir.to_path_buf())
}

impl Compiler {
    fn ask(rustc: &Path) -> Option<Self> {
        let verbose = shell::read(shell::clean(rustc).arg("-vV")).ok()?;
        let field = |name: &str| {
            verbose
                .lines()
                .find_map(|l| l.strip_prefix(name)?.strip_prefix(": "))
                .map(|v| v.trim().to_owned())
        };
        let release = field("release")?;
        let mut numbers = release.split('.').map(|n| n.parse::<u32>().ok());
        if (numbers.next()??, numbers.next()??) < OLDEST {
            return None;
        }
        let sysroot = shell::read(shell::clean(rustc).args(["--print", "sysroot"])).ok()?;
        Some(Self {
            rustc: rustc.to_path_buf(),
            release,
            commit: field("commit-hash")
                .unwrap_or_default()
                .chars()
                .take(9)
                .collect(),
            host: field("host")?,
            sysroot: PathBuf::from(sysroot.trim()),
        })
    }

    /// The cargo beside this compiler: two of one kind never mix.
    fn cargo(&self) -> PathBuf {
        self.rustc.with_file_name("cargo")
    }

    fn has_core(&self) -> bool {
        let dir = self.sysroot.join("lib/rustlib").join(TARGET).join("lib");
        libraries_in(&dir)
            .iter()
            .any(|name| name.starts_with("libcore-"))
    }

    fn has_source(&self) -> bool {
        self.sysroot
            .join("lib/rustlib/src/rust/library/core/Cargo.toml")
            .is_file()
            && self.cargo().is_file()
    }

    /// The overlay system root of this compiler's core library, built on first use.
    fn build_overlay(&self, tree: &Tree) -> Result<PathBuf> {
        let base = tree.target().join("sysroot");
        let overlay = base.join(format!("{}-{}-frames", self.release, self.commit));
        if overlay.is_dir() {
            return Ok(overlay);
        }
        say(format!(
            "building the core library for {TARGET} with rustc {} (once, about half a minute)",
            self.release
        ));
        let work = base.join(format!("build-{}", std::process::id()));
        let source = work.join("src");
        std::fs::create_dir_all(&source)
            .with_context(|| format!("{} cannot be made", source.display()))?;
        std::fs::write(
            work.join("Cargo.toml"),
            "[package]\nname = \"core-library\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n",
        )?;
        std::fs::write(source.join("lib.rs"), "#![no_std]\n")?;
        let built = work.join("target");
        let mut command = shell::clean(self.cargo());
        command
            .current_dir(&work)
            .env("RUSTC", &self.rustc)
            .env("RUSTC_BOOTSTRAP", "1")
            // `lto = true` in ring 0's profile needs the bitcode of what it links; backtraces need frame pointers.
            .env(
                "CARGO_ENCODED_RUSTFLAGS",
                "-Cembed-bitcode=yes\u{1f}-Cforce-frame-pointers=yes",
            )
            .args(["build", "--quiet", "--release", "--target", TARGET])
            .args([
                "-Zbuild-std=core,alloc,compiler_builtins",
                "-Zbuild-std-features=compiler-builtins-mem",
            ])
            .arg("--target-dir")
            .arg(&built);
        shell::run(&mut command)
            .context("the core library could not be built from the compiler's source")?;

        let deps = built.join(TARGET).join("release/deps");
        let staged = work.join("sysroot");
        let into = staged.join("lib/rustlib").join(TARGET).join("lib");
        std::fs::create_dir_all(&into)?;
        for wanted in ["libcore-", "liballoc-", "libcompiler_builtins-"] {
            let name = libraries_in(&deps)
                .into_iter()
                .find(|name| name.starts_with(wanted))
                .with_context(|| format!("the core library's build left no {wanted}*.rlib"))?;
            std::fs::copy(deps.join(&name), into.join(&name))?;
        }
        // C1: whoever sees the directory sees all of it. Losing a race against another build is as good as winning.
        if std::fs::rename(&staged, &overlay).is_err() && !overlay.is_dir() {
            bail!("{} cannot be put in place", overlay.display());
        }
        std::fs::remove_dir_all(&work)?;
        Ok(overlay)
    }
}

fn libraries_in(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .filter_map(|e| e.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".rlib"))
        .collect();
    names.sort();
    names
}

/// Compilers in the order they are tried: the one that built us, then the distribution's.
fn candidates() -> Vec<PathBuf> {
    let ours = std::env::var_os("CARGO").map(|cargo| PathBuf::from(cargo).with_file_name("rustc"));
    let on_path = || shell::which("rustc");
    let first = ours.filter(|rustc| rustc.is_file()).or_else(on_path);
    let mut all: Vec<PathBuf> = first.into_iter().collect();
    let distribution = PathBuf::from("/usr/bin/rustc");
    if distribution.is_file() && !all.contains(&distribution) {
        all.push(distribution);
    }
    all
}

/// rustup's own linker, else the distribution's LLD, else GNU ld: each of them links ring 0.
fn find_linker(compilers: &[Compiler]) -> Result<PathBuf> {
    let shipped = compilers.iter().map(|c| {
        c.sysroot
            .join("lib/rustlib")
            .join(&c.host)
            .join("bin/rust-lld")
    });
    shipped
        .into_iter()
        .find(|file| file.is_file())
        .or_else(|| shell::which("ld.lld"))
        .or_else(|| shell::which("ld"))
        .context(
            "no linker was found (rust-lld, ld.lld or ld): on Debian, `apt-get install binutils`",
        )
}

fn cargo_home() -> Option<PathBuf> {
    std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")))
}

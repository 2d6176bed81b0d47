//! Starting other programs, and saying what is done.
//!
//! What a person should know goes to standard error as `xtask: …`, so that standard output stays for
//! results and for the guest's console.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// One line of progress for the person who waits.
pub fn say(line: impl AsRef<str>) {
    eprintln!("xtask: {}", line.as_ref());
}

/// The program as a person would recognise it in a message.
fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|a| a.to_string_lossy().into_owned()));
    words.join(" ")
}

/// Runs a program that speaks to the terminal itself.
///
/// # Errors
/// When it cannot be started or does not succeed.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("{} cannot be started", shown(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", shown(command));
    }
    Ok(())
}

/// Runs a program and returns what it wrote on standard output.
///
/// # Errors
/// When it cannot be started or does not succeed; the message carries the end of its standard error.
pub fn read(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{} cannot be started", shown(command)))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!(
            "`{}` failed ({}): {}",
            shown(command),
            output.status,
            tail(&complaint, 8)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The last `lines` lines of a text.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.trim_end().lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Finds a program on `PATH`, or in the system's directories that an ordinary user's `PATH` lacks.
pub fn which(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// A command free of what the `cargo` that started us put into the environment.
///
/// Another toolchain's compiler must not meet this one's libraries (`LD_LIBRARY_PATH`) or its choice of
/// toolchain; settings that a person made (`CARGO_HOME`, `CARGO_NET_*`, `CARGO_BUILD_JOBS`) stay.
pub fn clean(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let Some(name) = name.to_str() else { continue };
        let ours = name.starts_with("CARGO_PKG_")
            || name.starts_with("CARGO_MANIFEST_")
            || name.starts_with("CARGO_BIN_")
            || matches!(
                name,
                "CARGO"
                    | "CARGO_CRATE_NAME"
                    | "CARGO_PRIMARY_PACKAGE"
                    | "CARGO_TARGET_DIR"
                    | "CARGO_ENCODED_RUSTFLAGS"
                    | "RUSTFLAGS"
                    | "RUSTUP_TOOLCHAIN"
                    | "RUST_RECURSION_COUNT"
                    | "LD_LIBRARY_PATH"
            );
        if ours {
            command.env_remove(name);
        }
    }
    command
}

/// Writes a file only when its contents differ, so that what depends on its time is not rebuilt for nothing.
///
/// # Errors
/// When the file cannot be written.
pub fn write_if_changed(file: &Path, contents: &[u8]) -> Result<()> {
    if std::fs::read(file).is_ok_and(|old| old == contents) {
        return Ok(());
    }
    if let Some(dir) = file.parent() {
        std::fs::create_dir_all(dir)
            .with_context(|| format!("{} cannot be made", dir.display()))?;
    }
    // Written aside and renamed: a run that is interrupted, or another one beside it, never sees half a file.
    let aside = file.with_extension(format!("new{}", std::process::id()));
    std::fs::write(&aside, contents)
        .with_context(|| format!("{} cannot be written", aside.display()))?;
    std::fs::rename(&aside, file).with_context(|| format!("{} cannot be replaced", file.display()))
}

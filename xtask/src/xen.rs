//! Xen 4.17 to compare with: Debian's own package, downloaded and unpacked under `target/cache`, never installed.
//!
//! # Invariants
//! - X1: `target/cache/xen/xen` is there only when it is complete.
//! - X2: what is unpacked came through apt, which checked it against the archive's signed lists.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::packages;
use crate::provision;
use crate::shell::{self, say};
use crate::tree::Tree;

/// The package, which Debian 12 has.
const PACKAGE: &str = "xen-hypervisor-4.17-amd64";

/// The file in it that loaders start.
const IMAGE: &str = "./boot/xen-4.17-amd64.gz";

/// The hypervisor's image, unpacked as the emulator's `-kernel` wants it, and its version; downloaded on first use.
///
/// Later calls stay with what was downloaded, so that figures are comparable; deleting `target/cache/xen` gets the
/// current one.
///
/// # Errors
/// When there is no apt, or apt knows no such package or cannot deliver it.
pub fn stock(tree: &Tree) -> Result<Xen> {
    let cache = tree.cache().join("xen");
    let image = cache.join("xen");
    let note = cache.join("version");
    if let (true, Ok(version)) = (image.is_file(), std::fs::read_to_string(&note)) {
        return Ok(Xen { image, version });
    }
    ensure!(
        ["apt-get", "apt-cache", "dpkg-deb", "gzip"]
            .iter()
            .all(|tool| shell::which(tool).is_some()),
        "there is no apt here to download Debian's {PACKAGE} with: name an unpacked Xen with `--xen FILE`"
    );
    let version = candidate().or_else(|_| {
        provision::update();
        candidate()
    })?;
    let package = download(&cache.join("download"), &version)?;
    let unpacked = unpack(&package)?;
    shell::write_if_changed(&note, version.as_bytes())?;
    shell::write_if_changed(&image, &unpacked)?;
    Ok(Xen { image, version })
}

/// A Xen that can be started.
#[derive(Clone, Debug)]
pub struct Xen {
    /// An image that the emulator's `-kernel` takes.
    pub image: PathBuf,
    /// The package's version.
    pub version: String,
}

/// The version that apt would install.
fn candidate() -> Result<String> {
    let policy = shell::read(Command::new("apt-cache").args(["policy", PACKAGE]))?;
    parse_candidate(&policy).with_context(|| {
        format!(
            "apt knows no package {PACKAGE} (Debian 12 has it): name an unpacked Xen with `--xen FILE`"
        )
    })
}

/// `  Candidate: 4.17.7+13-…` of `apt-cache policy`.
fn parse_candidate(policy: &str) -> Option<String> {
    policy
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate: "))
        .filter(|version| *version != "(none)")
        .map(str::to_owned)
}

fn download(dir: &Path, version: &str) -> Result<PathBuf> {
    std::fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    if let Some(there) = packages::find(dir, PACKAGE, version) {
        return Ok(there);
    }
    say(format!(
        "downloading {PACKAGE} {version} to compare with (2 MB, once)"
    ));
    packages::download(dir, &format!("{PACKAGE}={version}"))
        .context("there is no Xen to compare with: name one with `--xen FILE`")?;
    packages::find(dir, PACKAGE, version)
        .with_context(|| format!("apt-get download left no {PACKAGE} in {}", dir.display()))
}

/// Takes the hypervisor out of the package; nothing else in it is needed.
fn unpack(package: &Path) -> Result<Vec<u8>> {
    let (mut contents, pipe) = packages::contents(package)?;
    let mut packed = Command::new("tar")
        .args(["-xO", IMAGE])
        .stdin(pipe)
        .stdout(Stdio::piped())
        .spawn()
        .context("tar cannot be started")?;
    let pipe = packed.stdout.take().context("tar has no output")?;
    let image = Command::new("gzip")
        .arg("-dc")
        .stdin(pipe)
        .stderr(Stdio::inherit())
        .output()
        .context("gzip cannot be started")?;
    let all_well =
        packed.wait()?.success() && image.status.success() && image.stdout.starts_with(b"\x7fELF");
    if !contents.wait()?.success() || !all_well {
        // A download that was cut short must not be found again.
        std::fs::remove_file(package)?;
        anyhow::bail!(
            "{} was not a whole package and is removed: try again",
            package.display()
        );
    }
    Ok(image.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_candidate_is_what_apt_would_install() {
        let policy =
            "xen:\n  Installed: (none)\n  Candidate: 4.17.7+13-g2-0+deb12u1\n  Version table:\n";
        assert_eq!(
            parse_candidate(policy).as_deref(),
            Some("4.17.7+13-g2-0+deb12u1")
        );
        assert_eq!(parse_candidate("x:\n  Candidate: (none)\n"), None);
        assert_eq!(parse_candidate(""), None);
    }
}

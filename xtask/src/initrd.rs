//! The initial file system of our runs: a static busybox and two small scripts, as a cpio archive.
//!
//! The archive is made here byte by byte (format "newc"), so that it is the same on every machine and needs
//! neither root nor a `cpio` program.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::provision;
use crate::shell;
use crate::tree::Tree;

/// The first program: mounts what programs expect, then becomes busybox's init with a shell on the console.
const INIT: &str = r#"#!/bin/sh
# Started by the kernel as the first process of the initial file system.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
hostname xeno
# A shell has job control (Ctrl-C) only on a real terminal, so name the one behind /dev/console.
console=$(cat /sys/class/tty/console/active 2>/dev/null)
console=${console##* }
cat > /etc/inittab <<END
${console:-console}::respawn:-/bin/sh
::ctrlaltdel:/sbin/reboot
END
# What was added on demand says here how it starts.
for script in /etc/start.d/*; do
    [ -x "$script" ] && "$script"
done
exec /sbin/init
"#;

/// What each login shell reads; the prompt is what tests wait for.
const PROFILE: &str = r#"export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=linux
PS1='xeno:\w# '
cd /root
echo
echo "Linux $(uname -r) on $(cat /sys/hypervisor/type 2>/dev/null || echo 'the bare machine'). Leave with poweroff."
"#;

/// Its directories, each after the one it is in.
pub const DIRECTORIES: &[&str] = &[
    "bin", "dev", "etc", "proc", "root", "run", "sbin", "sys", "tmp", "usr", "usr/bin", "usr/sbin",
    "var",
];

/// The prompt of the shell in this file system.
pub const PROMPT: &str = "xeno:~# ";

/// Builds the file system if it is not there or something in it changed.
///
/// # Errors
/// When busybox is missing or cannot be asked for its commands.
pub fn build(tree: &Tree) -> Result<PathBuf> {
    let file = tree.out().join("initrd.img");
    let busybox = provision::static_busybox()
        .context("there is no static busybox: install busybox-static")?;
    shell::write_if_changed(&file, &archive(&busybox)?)?;
    Ok(file)
}

/// A file that is added to the file system on demand.
#[derive(Clone, Debug)]
pub struct Part {
    /// Where it goes, without a leading slash.
    pub path: String,
    /// Its permissions.
    pub permissions: u32,
    /// What is in it.
    pub contents: Vec<u8>,
}

/// Builds the file system with more files in it, as `initrd-NAME.img`.
///
/// # Errors
/// As [`build`].
pub fn build_with(tree: &Tree, name: &str, parts: &[Part]) -> Result<PathBuf> {
    let plain = build(tree)?;
    let mut bytes = std::fs::read(&plain)?;
    bytes.extend(overlay(parts));
    let file = tree.out().join(format!("initrd-{name}.img"));
    shell::write_if_changed(&file, &bytes)?;
    Ok(file)
}

/// An archive of its own: kernels unpack archives that follow each other one over the other.
fn overlay(parts: &[Part]) -> Vec<u8> {
    let mut archive = Archive::default();
    let mut dirs = BTreeSet::new();
    for part in parts {
        for dir in Path::new(&part.path).ancestors().skip(1) {
            dirs.insert(dir.to_string_lossy().into_owned());
        }
    }
    // In order, so that each directory comes after the one it is in.
    for dir in dirs.iter().filter(|dir| !dir.is_empty()) {
        archive.directory(dir);
    }
    for part in parts {
        archive.file(&part.path, part.permissions, &part.contents);
    }
    archive.finish()
}

fn archive(busybox: &Path) -> Result<Vec<u8>> {
    let commands = shell::read(std::process::Command::new(busybox).arg("--list-full"))?;
    let mut archive = Archive::default();
    for dir in DIRECTORIES {
        archive.directory(dir);
    }
    // Where older programs look for what runs, as on every system of the distribution.
    archive.link("var/run", "/run");
    // The kernel opens its console before anything can mount devtmpfs.
    archive.character_device("dev/console", 5, 1);
    archive.file("init", 0o755, INIT.as_bytes());
    archive.file("etc/profile", 0o644, PROFILE.as_bytes());
    archive.file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n");
    archive.file("etc/group", 0o644, b"root:x:0:\n");
    archive.file("bin/busybox", 0o755, &std::fs::read(busybox)?);
    let mut links: Vec<&str> = commands
        .lines()
        .filter(|name| *name != "bin/busybox" && name.contains('/'))
        .collect();
    links.sort_unstable();
    ensure!(
        links.contains(&"bin/sh"),
        "{} has no shell in it",
        busybox.display()
    );
    for link in links {
        archive.link(link, "/bin/busybox");
    }
    Ok(archive.finish())
}

/// A cpio archive in the "newc" form, the one kernels unpack.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    inode: u32,
}

impl Archive {
    fn directory(&mut self, name: &str) {
        self.entry(name, 0o040_755, (0, 0), &[]);
    }

    fn file(&mut self, name: &str, permissions: u32, contents: &[u8]) {
        self.entry(name, 0o100_000 | permissions, (0, 0), contents);
    }

    fn link(&mut self, name: &str, to: &str) {
        self.entry(name, 0o120_777, (0, 0), to.as_bytes());
    }

    fn character_device(&mut self, name: &str, major: u32, minor: u32) {
        self.entry(name, 0o020_600, (major, minor), &[]);
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), contents: &[u8]) {
        self.inode += 1;
        let fields = [
            self.inode,
            mode,
            0, // owner
            0, // group
            1, // links
            0, // time: always the same, so that the archive is too
            u32::try_from(contents.len()).unwrap_or(u32::MAX),
            0, // device the archive was made on
            0,
            device.0,
            device.1,
            u32::try_from(name.len() + 1).unwrap_or(u32::MAX),
            0, // checksum, unused in this form
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(contents);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_brings_its_directories() {
        let part = Part {
            path: "usr/lib/x/y".to_owned(),
            permissions: 0o755,
            contents: b"12345".to_vec(),
        };
        let text = String::from_utf8_lossy(&overlay(&[part])).into_owned();
        let places: Vec<usize> = ["\0usr\0", "\0usr/lib\0", "\0usr/lib/x\0", "\0usr/lib/x/y\0"]
            .iter()
            .map(|name| text.replace("070701", "\0").find(&name[1..]).unwrap())
            .collect();
        assert!(places.is_sorted());
    }

    #[test]
    fn an_archive_is_aligned_and_ends_with_its_trailer() {
        let mut archive = Archive::default();
        archive.file("abc", 0o644, b"12345");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 512, 0);
        assert!(bytes.starts_with(b"070701"));
        // 110 bytes of header and 4 of name round up to 116; the contents to 8.
        assert_eq!(&bytes[116..121], b"12345");
        assert_eq!(&bytes[124..130], b"070701");
        assert!(bytes.windows(10).any(|w| w == b"TRAILER!!!"));
    }
}

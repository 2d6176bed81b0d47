//! Guests' disks: what can be one, and who may have it at the same time.
//!
//! # Invariants
//! - D1: what one guest may write, no other guest has, nor a second disk of the same guest, whatever paths lead
//!   to it: files are compared by file system and inode, block devices by their number, a partition counts as a part
//!   of its disk, and a loop device as what is behind it.
//! - D2: what the control domain itself has mounted, or under a loop device of its own, is nobody's disk.
//! - D3: an image in a format with a header of its own is refused: a guest could rewrite the header of a raw image to
//!   name any file of the control domain, so formats are never guessed.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xeno_api::{Access, Disk, Error, Kind};

/// What a disk is, whatever path leads to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Identity {
    /// A file: its file system's device number, and its inode.
    File {
        /// The device number.
        device: u64,
        /// The inode.
        inode: u64,
    },
    /// A block device, by its number.
    Block {
        /// The number.
        number: u64,
        /// The number of the disk that it is a partition of.
        #[serde(default)]
        part_of: Option<u64>,
    },
}

impl Identity {
    /// A block device, with what the kernel says of its partitions.
    pub fn of_block(number: u64) -> Self {
        let part_of = partitioned(number);
        Self::Block { number, part_of }
    }

    /// Whether what is written to the one is read from the other.
    pub fn overlaps(self, other: Self) -> bool {
        let within = |one, whole| match (one, whole) {
            (Self::Block { part_of, .. }, Self::Block { number, .. }) => part_of == Some(number),
            _ => false,
        };
        self == other || within(self, other) || within(other, self)
    }
}

/// What the kernel keeps of a block device.
fn kept(number: u64) -> PathBuf {
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    PathBuf::from(format!("/sys/dev/block/{major}:{minor}"))
}

/// The number of the disk that this block device is a partition of.
fn partitioned(number: u64) -> Option<u64> {
    let kept = kept(number);
    if !kept.join("partition").exists() {
        return None;
    }
    let whole = std::fs::read_to_string(kept.join("../dev")).ok()?;
    let (major, minor) = whole.trim().split_once(':')?;
    Some(rustix::fs::makedev(
        major.parse().ok()?,
        minor.parse().ok()?,
    ))
}

/// A disk that was opened and looked at.
#[derive(Debug)]
pub struct Opened {
    /// Open for what the guest may do.
    pub file: File,
    /// What it is.
    pub identity: Identity,
    /// The number of the block device, if it is one.
    pub block: Option<u64>,
}

/// Somebody has a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use<'a> {
    /// What.
    pub identity: Identity,
    /// For what.
    pub mode: Access,
    /// Who.
    pub guest: &'a str,
}

/// Unit of all disks, in bytes.
const SECTOR: u64 = 512;

/// `O_EXCL` on a block device: refused while it is mounted or part of something.
const O_EXCL: i32 = 0o200;

/// How formats begin that are not raw: offset, bytes, name, and what `qemu-img` calls it.
const FORMATS: &[(u64, &[u8], &str)] = &[
    (0, b"QFI\xfb", "qcow2"),
    (0, b"QED\0", "qed"),
    (0, b"KDMV", "vmdk"),
    (0, b"# Disk DescriptorFile", "vmdk"),
    (0, b"vhdxfile", "vhdx"),
    (0, b"conectix", "vpc"),
    (0x40, b"\x7f\x10\xda\xbe", "vdi"),
];

/// Opens a disk's file or device and looks whether it can be one.
///
/// # Errors
/// One sentence that names the file and the remedy.
pub fn open(disk: &Disk) -> Result<Opened, Error> {
    let shown = disk.file.display();
    let refused = |what: String| Error::new(Kind::Description, what);
    let metadata = std::fs::metadata(&disk.file).map_err(|error| unreadable(disk, &error))?;
    let kind = metadata.file_type();
    if kind.is_dir() {
        return Err(refused(format!(
            "the disk {shown} is a directory: name a raw image or a block device"
        )));
    }
    if !kind.is_file() && !kind.is_block_device() {
        return Err(refused(format!(
            "the disk {shown} is neither a file nor a block device: name one of these"
        )));
    }
    let mut options = OpenOptions::new();
    options.read(true).write(disk.mode == Access::ReadWrite);
    let file = options
        .open(&disk.file)
        .map_err(|error| unreadable(disk, &error))?;
    if kind.is_file() {
        check_contents(disk, &file, metadata.len())?;
        let (device, inode) = (metadata.dev(), metadata.ino());
        return Ok(Opened {
            file,
            identity: Identity::File { device, inode },
            block: None,
        });
    }
    let number = metadata.rdev();
    // Only asked: a disk that the daemon kept to itself could not be opened again for another guest that reads it, or
    // for the same guest when it is built.
    let asked = options.custom_flags(O_EXCL).open(&disk.file);
    drop(asked.map_err(|error| unreadable(disk, &error))?);
    check_device(disk, &file, number)?;
    Ok(Opened {
        identity: behind(disk, &file)?.unwrap_or_else(|| Identity::of_block(number)),
        file,
        block: Some(number),
    })
}

/// Whether a block device can be a disk as it is.
fn check_device(disk: &Disk, mut file: &File, number: u64) -> Result<(), Error> {
    let shown = disk.file.display();
    let refused = |what: String| Err(Error::new(Kind::Description, what));
    let read_only = std::fs::read_to_string(kept(number).join("ro"));
    if disk.mode == Access::ReadWrite && read_only.is_ok_and(|word| word.trim() == "1") {
        return refused(format!(
            "the disk {shown} cannot be written: give it as read-only (mode = \"ro\")"
        ));
    }
    match file.seek(SeekFrom::End(0)) {
        Ok(0) => refused(format!(
            "the disk {shown} has no medium or nothing behind it: name a block device that has a size"
        )),
        Ok(_) => Ok(()),
        Err(error) => Err(unreadable(disk, &error)),
    }
}

fn unreadable(disk: &Disk, error: &io::Error) -> Error {
    let shown = disk.file.display();
    let (kind, what) = match error.kind() {
        ErrorKind::NotFound => (
            Kind::Description,
            format!(
                "the disk {shown} does not exist: make it with `truncate -s 1G {shown}`, or name another"
            ),
        ),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
            if disk.mode == Access::ReadWrite =>
        {
            (
                Kind::Description,
                format!(
                    "the disk {shown} cannot be written ({error}): give it as read-only (mode = \"ro\")"
                ),
            )
        }
        ErrorKind::ResourceBusy => (
            Kind::Busy,
            format!("the disk {shown} is in use by the control domain: unmount it first"),
        ),
        _ => (
            Kind::Description,
            format!("the disk {shown} cannot be opened: {error}"),
        ),
    };
    Error::new(kind, what)
}

fn check_contents(disk: &Disk, file: &File, bytes: u64) -> Result<(), Error> {
    let shown = disk.file.display();
    let refused = |what: String| Err(Error::new(Kind::Description, what));
    for (offset, magic, format) in FORMATS {
        let mut found = vec![0; magic.len()];
        if file.read_exact_at(&mut found, *offset).is_ok() && found == *magic {
            return refused(format!(
                "the disk {shown} is a {format} image, and only raw images are taken: \
                 `qemu-img convert -O raw {shown} {shown}.raw` makes one"
            ));
        }
    }
    if bytes == 0 {
        return refused(format!(
            "the disk {shown} is empty: give it a size with `truncate -s 1G {shown}`"
        ));
    }
    if !bytes.is_multiple_of(SECTOR) {
        let whole = bytes.next_multiple_of(SECTOR);
        return refused(format!(
            "the disk {shown} has {bytes} bytes, no multiple of {SECTOR}: `truncate -s {whole} {shown}` makes it one"
        ));
    }
    Ok(())
}

/// What is behind a block device that is a loop device.
fn behind(disk: &Disk, device: &File) -> Result<Option<Identity>, Error> {
    let Ok(status) = crate::loops::status(device) else {
        return Ok(None);
    };
    if crate::devices::guest_of(&status.mark).is_some() {
        return Err(Error::new(
            Kind::Busy,
            format!(
                "the disk {} was made by the daemon for another guest: name the file behind it",
                disk.file.display()
            ),
        ));
    }
    Ok(Some(status.behind))
}

/// Whether `wanted` may be used besides what is in use already (D1).
///
/// # Errors
/// One sentence that names the disk and who has it.
pub fn check_free<'a>(
    path: &Path,
    identity: Identity,
    mode: Access,
    uses: impl IntoIterator<Item = Use<'a>>,
) -> Result<(), Error> {
    let shown = path.display();
    let uses = uses.into_iter();
    for other in uses.filter(|other| other.identity.overlaps(identity)) {
        let guest = other.guest;
        let what = match (other.mode, mode) {
            (Access::ReadOnly, Access::ReadOnly) => continue,
            (Access::ReadWrite, _) => format!(
                "the disk {shown} is written by {guest}: end {guest} first, or name another disk"
            ),
            (Access::ReadOnly, Access::ReadWrite) => format!(
                "the disk {shown} is read by {guest}, so nobody can write it: end {guest} first, or give it as \
                 read-only"
            ),
        };
        return Err(Error::new(Kind::Busy, what));
    }
    Ok(())
}

#[cfg(test)]
mod tests;

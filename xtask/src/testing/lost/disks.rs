//! The disks of a machine that is lost: what they held before, what they were told, and what may be on them after.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::qemu::{Bus, Disk};
use crate::shell;
use crate::testing::lost::log::Log;

/// The guest's file system, directly on a disk of the machine's and in a file of the control domain's file system.
const INNER: &str = "16M";
const OUTER: &str = "32M";

/// The file in the control domain's file system.
pub const IMAGE: &str = "guest.img";

/// A machine's two disks as files in a directory of their own.
pub struct Disks {
    dir: PathBuf,
}

/// What is on both after the machine was lost.
pub struct After {
    /// The guest's file system on a disk.
    pub direct: Vec<u8>,
    /// The control domain's file system with the guest's in a file.
    pub within: Vec<u8>,
}

impl Disks {
    /// Makes both in a directory, anew.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn make(dir: PathBuf) -> Result<Self> {
        let _ = fs::remove_dir_all(&dir);
        let staged = dir.join("staged");
        fs::create_dir_all(&staged).with_context(|| format!("{} cannot be made", dir.display()))?;
        ext4(&staged.join(IMAGE), INNER, None)?;
        fs::copy(staged.join(IMAGE), dir.join("direct.base"))?;
        ext4(&dir.join("within.base"), OUTER, Some(&staged))?;
        fs::remove_dir_all(&staged)?;
        Ok(Self { dir })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// For a machine that starts: `/dev/vda` and `/dev/vdb`, with nothing in their logs.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn list(&self) -> Result<Vec<Disk>> {
        let disk = |name: &str| {
            let (file, log) = (
                self.file(&format!("{name}.img")),
                self.file(&format!("{name}.log")),
            );
            fs::copy(self.file(&format!("{name}.base")), &file)?;
            fs::write(&log, [])?;
            Ok(Disk {
                bus: Bus::Virtio,
                file,
                log: Some(log),
            })
        };
        ["direct", "within"].into_iter().map(disk).collect()
    }

    /// What was on both before, and their logs.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn told(&self) -> Result<(After, [Log; 2])> {
        let log = |name: &str| -> Result<Log> {
            let bytes = fs::read(self.file(&format!("{name}.log")))?;
            Log::read(bytes).with_context(|| format!("the disk {name}"))
        };
        let before = After {
            direct: fs::read(self.file("direct.base"))?,
            within: fs::read(self.file("within.base"))?,
        };
        Ok((before, [log("direct")?, log("within")?]))
    }

    /// Makes this what the next machine starts with.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn go_on_with(&self, after: &After) -> Result<()> {
        fs::write(self.file("direct.base"), &after.direct)?;
        fs::write(self.file("within.base"), &after.within)?;
        Ok(())
    }

    /// Checks a guest's file system and takes its files out: where they are.
    ///
    /// # Errors
    /// When it is not whole once its journal is replayed.
    pub fn files_of(&self, image: &[u8]) -> Result<PathBuf> {
        let (file, files) = (self.file("look.img"), self.file("look"));
        fs::write(&file, image)?;
        whole(&file).context("the guest's file system")?;
        let _ = fs::remove_dir_all(&files);
        fs::create_dir_all(&files)?;
        self.debugfs("look.img", "rdump / look")?;
        Ok(files)
    }

    /// Checks the control domain's file system and takes the guest's out of it.
    ///
    /// # Errors
    /// When it is not whole once its journal is replayed, or the guest's is not in it.
    pub fn within(&self, image: &[u8]) -> Result<Vec<u8>> {
        let (file, inner) = (self.file("look-outer.img"), self.file("look-inner.img"));
        fs::write(&file, image)?;
        whole(&file).context("the control domain's file system")?;
        let _ = fs::remove_file(&inner);
        self.debugfs("look-outer.img", &format!("dump /{IMAGE} look-inner.img"))?;
        fs::read(&inner).context("the guest's image is not in the control domain's file system")
    }

    /// Takes a directory out of the control domain's file system that was looked at last: where its files are, if it is
    /// there.
    ///
    /// # Errors
    /// When it cannot be taken out.
    pub fn taken_out(&self, dir: &str) -> Result<PathBuf> {
        let files = self.file("look-record");
        let _ = fs::remove_dir_all(&files);
        fs::create_dir_all(&files)?;
        self.debugfs("look-outer.img", &format!("rdump /{dir} look-record"))?;
        Ok(files.join(dir))
    }

    /// Files are named as they are in the directory: the program takes no blanks in names.
    fn debugfs(&self, file: &str, request: &str) -> Result<()> {
        let mut debugfs = Command::new(tool("debugfs")?);
        debugfs.current_dir(&self.dir).args(["-R", request, file]);
        shell::read(&mut debugfs).map(|_| ())
    }

    /// Deletes all of it.
    pub fn remove(self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Makes an ext4 file system, with what is in a directory.
fn ext4(file: &Path, size: &str, contents: Option<&Path>) -> Result<()> {
    let mut mke2fs = Command::new(tool("mke2fs")?);
    mke2fs.args(["-q", "-F", "-t", "ext4", "-m", "0"]);
    mke2fs.args(["-E", "lazy_itable_init=0,lazy_journal_init=0"]);
    if let Some(dir) = contents {
        mke2fs.arg("-d").arg(dir);
    }
    shell::read(mke2fs.arg(file).arg(size)).map(|_| ())
}

/// Replays a file system's journal and does what is always done at a start; after that nothing may be wrong.
fn whole(file: &Path) -> Result<()> {
    for (how, most) in [("-fp", 1), ("-fn", 0)] {
        let checked = Command::new(tool("e2fsck")?).arg(how).arg(file).output()?;
        let status = checked.status.code().unwrap_or(i32::MAX);
        ensure!(
            status <= most,
            "`e2fsck {how}` ends with status {status}: {}{}",
            String::from_utf8_lossy(&checked.stdout),
            String::from_utf8_lossy(&checked.stderr)
        );
    }
    Ok(())
}

fn tool(name: &str) -> Result<PathBuf> {
    shell::which(name).with_context(|| format!("there is no {name}: install e2fsprogs"))
}

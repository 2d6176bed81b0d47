//! How a guest is described.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Error, Kind, Name, Rate, Reservation, Size};

/// The most vCPUs that a description can ask for: what the hypervisor gives one domain.
pub const MAX_VCPUS: u32 = 64;

/// The most disks of one guest: `xvda` to `xvdz`.
pub const MAX_DISKS: usize = 26;

/// The longest command line that fits a guest's start page, in bytes without its final zero.
const MAX_COMMAND_LINE: usize = 1023;

/// Less memory than this holds no kernel at all.
const MIN_MEMORY: u64 = 1 << 20;

/// What to build: a guest's description, complete and within its bounds ([`Guest::check`]). Whether its files exist
/// and the machine has the memory is for the daemon to see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guest {
    /// What it is called; no two domains have the same name.
    pub name: Name,
    /// Its kernel: a bzImage or an ELF file that carries the notes of a paravirtualized kernel.
    pub kernel: PathBuf,
    /// Its initial file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initrd: Option<PathBuf>,
    /// Its kernel's command line.
    #[serde(default = "default_command_line")]
    pub cmdline: String,
    /// Its memory when it starts.
    pub memory: Size,
    /// The most memory it can be given later; its memory if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_memory: Option<Size>,
    /// Its vCPUs.
    #[serde(default = "default_vcpus")]
    pub vcpus: u32,
    /// The CPU time that each of its vCPUs has reserved; none if absent: they share what nobody reserved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Reservation>,
    /// What it may reserve for itself, all its vCPUs together; nothing if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_allowance: Option<Rate>,
    /// Its disks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<Disk>,
    /// What happens when it powers off.
    #[serde(default = "OnStop::poweroff")]
    pub on_poweroff: OnStop,
    /// What happens when it asks for a reboot.
    #[serde(default = "OnStop::reboot")]
    pub on_reboot: OnStop,
    /// What happens when it crashes.
    #[serde(default = "OnStop::crash")]
    pub on_crash: OnStop,
}

pub(crate) fn default_command_line() -> String {
    "console=hvc0".to_owned()
}

pub(crate) fn default_vcpus() -> u32 {
    1
}

/// A disk of a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// A raw image, or a block device, of the control domain.
    pub file: PathBuf,
    /// Whether the guest may write.
    #[serde(default = "Access::default_of_disks")]
    pub mode: Access,
    /// The guest's name for it: `xvda` to `xvdz`.
    pub device: String,
}

/// Whether something may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// Only read.
    #[serde(rename = "ro")]
    ReadOnly,
    /// Read and written.
    #[serde(rename = "rw")]
    ReadWrite,
}

/// What happens to a guest that has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnStop {
    /// It is destroyed.
    Destroy,
    /// It is destroyed and built anew, with the same description.
    Restart,
    /// It stays as it is, to be looked at, until somebody destroys it.
    Preserve,
}

impl OnStop {
    pub(crate) fn poweroff() -> Self {
        Self::Destroy
    }

    pub(crate) fn reboot() -> Self {
        Self::Restart
    }

    pub(crate) fn crash() -> Self {
        Self::Destroy
    }
}

impl Access {
    pub(crate) fn default_of_disks() -> Self {
        Self::ReadWrite
    }

    /// As it is written: `ro` or `rw`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadOnly => "ro",
            Self::ReadWrite => "rw",
        }
    }
}

impl Disk {
    /// The number of the disk with this name: 0 for `xvda`.
    pub fn index(device: &str) -> Option<u32> {
        match device.as_bytes() {
            [b'x', b'v', b'd', letter @ b'a'..=b'z'] => Some(u32::from(letter - b'a')),
            _ => None,
        }
    }

    /// The number under which front and back end find the disk in the store (`virtual-device`): the first sixteen
    /// have the numbers of the block devices they become, the others the longer form.
    pub fn virtual_device(&self) -> Option<u32> {
        Self::index(&self.device).map(|index| match index {
            0..16 => 202 << 8 | index << 4,
            _ => 1 << 28 | index << 8,
        })
    }
}

impl Guest {
    /// Whether every value is within its bounds, and every path absolute.
    ///
    /// # Errors
    /// Of the kind [`Kind::Description`], naming the first value that is not.
    pub fn check(&self) -> Result<(), Error> {
        let name = &self.name;
        let wrong = |what: String| {
            Err(Error::new(
                Kind::Description,
                format!("the guest {name}: {what}"),
            ))
        };
        for path in self.files() {
            if !path.is_absolute() || path.as_os_str().as_encoded_bytes().contains(&0) {
                return wrong(format!(
                    "{:?} is not an absolute path",
                    path.display().to_string()
                ));
            }
        }
        if let Err(what) = check_command_line(&self.cmdline) {
            return wrong(format!("cmdline: {what}"));
        }
        if let Err(what) = check_vcpus(u64::from(self.vcpus)) {
            return wrong(format!("vcpus: {what}"));
        }
        if let Some(Err(bad)) = self.cpu.map(|cpu| cpu.check()) {
            return wrong(format!("cpu.{bad}"));
        }
        if let Err(what) = check_memory(self.memory) {
            return wrong(format!("memory: {what}"));
        }
        if self.max_memory.is_some_and(|max| max < self.memory) {
            return wrong(format!(
                "max_memory: it is less than memory, {}",
                self.memory
            ));
        }
        if let Err((disk, what)) = check_disks(&self.disks) {
            return wrong(format!("disks[{disk}]: {what}"));
        }
        Ok(())
    }

    /// Every file it needs.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let disks = self.disks.iter().map(|disk| &disk.file);
        std::iter::once(&self.kernel)
            .chain(&self.initrd)
            .chain(disks)
            .map(PathBuf::as_path)
    }

    /// The most memory it can ever have.
    pub fn most_memory(&self) -> Size {
        self.max_memory.unwrap_or(self.memory)
    }
}

pub(crate) fn check_command_line(text: &str) -> Result<(), String> {
    if text.len() > MAX_COMMAND_LINE {
        return Err(format!(
            "its {} bytes are more than a guest's start page holds, {MAX_COMMAND_LINE}",
            text.len()
        ));
    }
    match text.chars().find(|c| c.is_control()) {
        Some(c) => Err(format!("the character {c:?} cannot be in it")),
        None => Ok(()),
    }
}

pub(crate) fn check_vcpus(vcpus: u64) -> Result<u32, String> {
    match u32::try_from(vcpus) {
        Ok(vcpus @ 1..=MAX_VCPUS) => Ok(vcpus),
        _ => Err(format!(
            "{vcpus} is out of range: expected 1 to {MAX_VCPUS}"
        )),
    }
}

pub(crate) fn check_memory(memory: Size) -> Result<(), String> {
    if memory.bytes() < MIN_MEMORY {
        return Err(format!("{memory} holds no kernel: expected at least 1M"));
    }
    Ok(())
}

/// # Errors
/// The place of the wrong disk, and what is wrong with it.
pub(crate) fn check_disks(disks: &[Disk]) -> Result<(), (usize, String)> {
    if disks.len() > MAX_DISKS {
        return Err((MAX_DISKS, format!("there are more than {MAX_DISKS} disks")));
    }
    for (place, disk) in disks.iter().enumerate() {
        let device = &disk.device;
        if Disk::index(device).is_none() {
            return Err((
                place,
                format!("{device:?} is not a disk: expected \"xvda\" to \"xvdz\""),
            ));
        }
        let before = &disks[..place];
        if before.iter().any(|other| other.device == *device) {
            return Err((place, format!("there is another {device}")));
        }
        let written =
            |other: &Disk| other.mode == Access::ReadWrite || disk.mode == Access::ReadWrite;
        if before
            .iter()
            .any(|other| other.file == disk.file && written(other))
        {
            return Err((
                place,
                format!(
                    "{} is another disk of this guest, and written to",
                    disk.file.display()
                ),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn guest() -> Guest {
        Guest {
            name: "web".parse().unwrap(),
            kernel: "/boot/vmlinuz".into(),
            initrd: Some("/boot/initrd".into()),
            cmdline: "console=hvc0".to_owned(),
            memory: "96M".parse().unwrap(),
            max_memory: None,
            vcpus: 1,
            cpu: None,
            cpu_allowance: None,
            disks: vec![Disk {
                file: "/a.img".into(),
                mode: Access::ReadWrite,
                device: "xvda".to_owned(),
            }],
            on_poweroff: OnStop::Destroy,
            on_reboot: OnStop::Restart,
            on_crash: OnStop::Destroy,
        }
    }

    fn refused(change: impl FnOnce(&mut Guest)) -> String {
        let mut guest = guest();
        change(&mut guest);
        guest.check().unwrap_err().message
    }

    #[test]
    fn each_bound_is_held_and_named() {
        assert_eq!(guest().check(), Ok(()));
        assert!(refused(|g| g.kernel = "vmlinuz".into()).contains("absolute path"));
        assert!(refused(|g| g.cmdline = "x".repeat(1024)).contains("1023"));
        assert!(refused(|g| g.cmdline = "a\nb".to_owned()).contains("'\\n'"));
        assert!(refused(|g| g.vcpus = 0).contains("1 to 64"));
        assert!(refused(|g| g.vcpus = 65).contains("1 to 64"));
        let none = Reservation::Quanta {
            quanta: 0,
            period: 1,
        };
        assert!(refused(|g| g.cpu = Some(none)).contains("cpu.quanta: it would never run"));
        assert!(refused(|g| g.memory = "1020K".parse().unwrap()).contains("at least 1M"));
        assert!(
            refused(|g| g.max_memory = Some("92M".parse().unwrap())).contains("less than memory")
        );
        assert!(refused(|g| g.disks[0].device = "sda".to_owned()).contains("xvda"));
        assert!(refused(|g| g.disks.push(g.disks[0].clone())).contains("another xvda"));
        let twice = refused(|g| {
            let disk = Disk {
                device: "xvdb".to_owned(),
                mode: Access::ReadOnly,
                ..g.disks[0].clone()
            };
            g.disks.push(disk);
        });
        assert!(twice.contains("/a.img is another disk"), "{twice}");
    }

    #[test]
    fn disks_have_the_numbers_that_front_ends_know() {
        let number = |device: &str| {
            Disk {
                device: device.to_owned(),
                ..guest().disks[0].clone()
            }
            .virtual_device()
        };
        assert_eq!(number("xvda"), Some(51712));
        assert_eq!(number("xvdp"), Some(51712 + 15 * 16));
        assert_eq!(number("xvdq"), Some((1 << 28) + (16 << 8)));
        assert_eq!(number("xvda1"), None);
    }
}

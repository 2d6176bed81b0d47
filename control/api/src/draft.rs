//! A guest's description on its way: part from a file, part from options.

use std::path::PathBuf;

use crate::guest::{self, check_disks};
use crate::{Access, Disk, Fault, Guest, Name, OnStop, Rate, Reservation, Size};

/// A guest's description with things still missing: what a file says, or the options of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft {
    /// See [`Guest`], as all others.
    pub name: Option<Name>,
    /// Made absolute.
    pub kernel: Option<PathBuf>,
    /// Made absolute.
    pub initrd: Option<PathBuf>,
    /// The command line.
    pub cmdline: Option<String>,
    /// The memory.
    pub memory: Option<Size>,
    /// The most memory.
    pub max_memory: Option<Size>,
    /// vCPUs.
    pub vcpus: Option<u32>,
    /// What each vCPU has reserved.
    pub cpu: Option<Reservation>,
    /// What it may reserve for itself.
    pub cpu_allowance: Option<Rate>,
    /// Disks; those without a name get the first free one.
    pub disks: Vec<DraftDisk>,
    /// On power-off.
    pub on_poweroff: Option<OnStop>,
    /// On reboot.
    pub on_reboot: Option<OnStop>,
    /// On crash.
    pub on_crash: Option<OnStop>,
}

/// A disk that may have no name yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DraftDisk {
    /// Made absolute.
    pub file: PathBuf,
    /// Whether it may be written.
    pub mode: Access,
    /// Its name, if it was given.
    pub device: Option<String>,
}

impl Draft {
    /// The same with what `over` says instead, where it says something; its disks are added.
    #[must_use]
    pub fn overridden(self, over: Self) -> Self {
        Self {
            name: over.name.or(self.name),
            kernel: over.kernel.or(self.kernel),
            initrd: over.initrd.or(self.initrd),
            cmdline: over.cmdline.or(self.cmdline),
            memory: over.memory.or(self.memory),
            max_memory: over.max_memory.or(self.max_memory),
            vcpus: over.vcpus.or(self.vcpus),
            cpu: over.cpu.or(self.cpu),
            cpu_allowance: over.cpu_allowance.or(self.cpu_allowance),
            disks: [self.disks, over.disks].concat(),
            on_poweroff: over.on_poweroff.or(self.on_poweroff),
            on_reboot: over.on_reboot.or(self.on_reboot),
            on_crash: over.on_crash.or(self.on_crash),
        }
    }

    /// The guest, if nothing is missing and everything fits together.
    ///
    /// # Errors
    /// What is missing or does not fit.
    pub fn finish(self) -> Result<Guest, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut fault = |key: &str, problem: String| {
            faults.push(Fault {
                line: None,
                key: key.to_owned(),
                problem,
            });
        };
        if self.name.is_none() {
            fault(
                "name",
                "it is missing: expected what the guest is called, such as \"web\"".to_owned(),
            );
        }
        if self.kernel.is_none() {
            fault(
                "kernel",
                "it is missing: expected the path of a kernel".to_owned(),
            );
        }
        if self.memory.is_none() {
            fault(
                "memory",
                "it is missing: expected a size, such as \"96M\"".to_owned(),
            );
        }
        let disks = named(self.disks);
        if let Err((place, problem)) = check_disks(&disks) {
            fault(&format!("disks[{place}]"), problem);
        }
        if let (Some(memory), Some(max)) = (self.memory, self.max_memory)
            && max < memory
        {
            fault(
                "max_memory",
                format!("{max} is less than the memory it starts with, {memory}"),
            );
        }
        match (self.name, self.kernel, self.memory) {
            (Some(name), Some(kernel), Some(memory)) if faults.is_empty() => Ok(Guest {
                name,
                kernel,
                initrd: self.initrd,
                cmdline: self.cmdline.unwrap_or_else(guest::default_command_line),
                memory,
                max_memory: self.max_memory,
                vcpus: self.vcpus.unwrap_or_else(guest::default_vcpus),
                cpu: self.cpu,
                cpu_allowance: self.cpu_allowance,
                disks,
                on_poweroff: self.on_poweroff.unwrap_or_else(OnStop::poweroff),
                on_reboot: self.on_reboot.unwrap_or_else(OnStop::reboot),
                on_crash: self.on_crash.unwrap_or_else(OnStop::crash),
            }),
            _ => Err(faults),
        }
    }
}

/// Gives each disk without a name the first free one.
fn named(drafts: Vec<DraftDisk>) -> Vec<Disk> {
    let taken: Vec<String> = drafts
        .iter()
        .filter_map(|disk| disk.device.clone())
        .collect();
    let mut free = ('a'..='z')
        .map(|letter| format!("xvd{letter}"))
        .filter(|name| !taken.contains(name));
    drafts
        .into_iter()
        .map(|DraftDisk { file, mode, device }| {
            let device = device.or_else(|| free.next()).unwrap_or_default();
            Disk { file, mode, device }
        })
        .collect()
}

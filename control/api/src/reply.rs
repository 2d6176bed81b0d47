//! What the daemon answers.

use serde::{Deserialize, Serialize};

use crate::{Access, CpuRules, CpuTime, Data, DomId, Error, Guest, PartUsage, Pruned, Size, Usage};

/// A line from the daemon: which request it is about, and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The request's number. 0 where the request was so wrong that it had none.
    pub id: u64,
    /// What is said.
    pub reply: Reply,
}

/// What a line from the daemon says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// It was done.
    Ok(Answer),
    /// It was not.
    Error(Error),
    /// News of a stream.
    Event(Event),
    /// The stream's last line.
    End(End),
}

/// The answer to a request that was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Answer {
    /// Done; there is nothing to say about it.
    Done {},
    /// To `hello`.
    Hello {
        /// The version the daemon speaks.
        version: u32,
        /// The daemon's name and version.
        daemon: String,
    },
    /// To `version`.
    Machine(MachineInfo),
    /// To `create`.
    Created(Created),
    /// To `list`.
    Domains {
        /// All domains, by number.
        domains: Vec<Summary>,
    },
    /// To `info`.
    Domain(Box<DomainInfo>),
    /// To `console`.
    Attached {
        /// Bytes printed before that are no longer kept, or were not asked for.
        skipped_bytes: u64,
    },
    /// To `destroy`.
    Destroyed {
        /// Others still hold some of its memory: it is listed as dying until they let go.
        lingers: bool,
    },
    /// To `dmesg`.
    Log {
        /// The hypervisor's lines.
        text: String,
    },
    /// To `usage`.
    Usage(Usage),
    /// To `usage-of`.
    UsageOf {
        /// Each vCPU by number, then what is in the account of none. Together they are the domain's.
        parts: Vec<PartUsage>,
    },
    /// To `sched-show`.
    CpuTime(CpuTime),
    /// To `sched-rules`.
    CpuRules(CpuRules),
    /// To `prune-ledger`.
    Pruned {
        /// What the usage record says of it; none if nothing went.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pruned: Option<Pruned>,
    },
    /// To `store-read`.
    Value {
        /// What is there.
        value: Data,
    },
    /// To `store-list`.
    Names {
        /// The last components of the paths below, sorted.
        names: Vec<String>,
    },
}

/// A domain that was just built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    /// Its number.
    pub id: DomId,
    /// Its name.
    pub name: String,
}

/// Daemon, hypervisor and machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineInfo {
    /// The daemon's name and version.
    pub daemon: String,
    /// The hypervisor's name and version, as it says itself.
    pub hypervisor: String,
    /// Processors.
    pub cpus: u32,
    /// The clock of the time stamp counter.
    pub cpu_khz: u64,
    /// Memory of the machine.
    pub memory_bytes: u64,
    /// Of it, free for new domains.
    pub free_bytes: u64,
    /// When the daemon began, in seconds since 1970.
    pub daemon_started_s: u64,
}

/// Where a domain is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Life {
    /// Some vCPU runs or wants to.
    Running,
    /// All its vCPUs wait for something.
    Idle,
    /// Somebody paused it, or it was never unpaused.
    Paused,
    /// It ended by itself ([`StopReason`]) and was kept.
    ShutDown,
    /// Its kernel gave up or did something fatal, and it was kept.
    Crashed,
    /// Being destroyed, or waiting for others to let go of its memory.
    Dying,
}

/// How a domain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopReason {
    /// It powered off.
    Poweroff,
    /// It asked for a reboot.
    Reboot,
    /// It suspended itself.
    Suspend,
    /// It crashed.
    Crash,
    /// Its watchdog barked.
    Watchdog,
    /// It asked for a reset without being rebuilt.
    SoftReset,
    /// It was destroyed.
    Destroyed,
}

/// A domain in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Its number.
    pub id: DomId,
    /// Its name; none if nobody named it, such as one built by another tool.
    pub name: Option<String>,
    /// Where it is in its life.
    pub life: Life,
    /// How it ended, if it has.
    pub reason: Option<StopReason>,
    /// Memory it has.
    pub memory_bytes: u64,
    /// vCPUs on line.
    pub vcpus: u32,
    /// CPU time used since it was built.
    pub cpu_ns: u64,
    /// How long ago it was built; none if this is not known.
    pub age_s: Option<u64>,
}

/// All there is to know about a domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainInfo {
    /// As in the list.
    #[serde(flatten)]
    pub summary: Summary,
    /// The handle it was built with, as a UUID.
    pub uuid: String,
    /// The most memory it can have.
    pub max_memory_bytes: u64,
    /// The most vCPUs it can have.
    pub max_vcpus: u32,
    /// Each vCPU.
    pub vcpu: Vec<VcpuInfo>,
    /// What it was built from; none for domains this daemon did not build.
    pub guest: Option<Guest>,
    /// Its disks.
    pub disk: Vec<DiskInfo>,
    /// Bytes its console has printed so far.
    pub console_bytes: u64,
    /// Who watches its console now.
    pub console_watchers: u32,
}

/// One vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VcpuInfo {
    /// Its number.
    pub id: u32,
    /// Whether the guest has it on line.
    pub online: bool,
    /// Whether it waits for something.
    pub blocked: bool,
    /// CPU time used.
    pub cpu_ns: u64,
    /// The processor it last ran on.
    pub cpu: u32,
}

/// One disk of a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskInfo {
    /// The guest's name for it: `xvda`.
    pub device: String,
    /// The control domain's file or block device.
    pub file: String,
    /// Whether the guest may write.
    pub mode: Access,
    /// Whether both ends are connected.
    pub connected: bool,
    /// What went over it.
    pub io: Io,
}

/// What went over a disk or a network card, since it was connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Io {
    /// Reads (packets received).
    pub reads: u64,
    /// Bytes read (received).
    pub read_bytes: u64,
    /// Writes (packets sent).
    pub writes: u64,
    /// Bytes written (sent).
    pub write_bytes: u64,
}

/// News of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Event {
    /// `console`: the guest printed something.
    Output {
        /// What.
        data: Data,
    },
    /// `console`: what was printed here went by faster than this watcher read (A5).
    Lost {
        /// As many bytes.
        bytes: u64,
    },
    /// `store-watch`: this path changed.
    Changed {
        /// Which.
        path: String,
    },
    /// `events`: something happened to a domain.
    Domain {
        /// How it is now; the last news of a domain that is gone has its life `dying`.
        domain: Summary,
        /// It is gone.
        gone: bool,
    },
}

/// The last line of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Why there is no more.
    pub why: EndReason,
}

/// Why a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndReason {
    /// All that was asked for has been sent.
    Complete,
    /// The client cancelled it.
    Cancelled,
    /// The domain is gone.
    Gone,
    /// The daemon stops.
    Stopping,
}

impl MachineInfo {
    /// The free memory in whole pages.
    pub fn free(&self) -> Size {
        Size::from_bytes(self.free_bytes & !4095).expect("rounded to pages")
    }
}

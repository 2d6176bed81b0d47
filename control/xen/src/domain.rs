//! What domains and the machine look like from the control domain.

use guest_abi::DomId;

/// Sixteen bytes that the tools choose for a domain and find it by; a UUID.
pub type DomainHandle = [u8; 16];

/// What a domain is created with; none of it can be changed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewDomain {
    /// Its handle.
    pub handle: DomainHandle,
    /// vCPUs it can have, at least 1.
    pub max_vcpus: u32,
    /// The highest event-channel port it can have.
    pub max_port: u32,
    /// Frames its grant table can grow to.
    pub max_grant_frames: u32,
    /// Frames the table of its own mappings of others' grants can grow to.
    pub max_maptrack_frames: u32,
}

impl NewDomain {
    /// A domain with as many ports and grants as stock tools give one.
    pub fn new(handle: DomainHandle, max_vcpus: u32) -> NewDomain {
        NewDomain {
            handle,
            max_vcpus,
            max_port: 1023,
            max_grant_frames: 64,
            max_maptrack_frames: 1024,
        }
    }
}

/// Why a domain shut down. Numbers are the guest's word, so there may be others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownReason {
    /// It turned itself off.
    Poweroff,
    /// It wants to be started again.
    Reboot,
    /// It is suspended.
    Suspend,
    /// It crashed, or was made to.
    Crash,
    /// Its watchdog ran out.
    Watchdog,
    /// It wants to be started again with its memory kept.
    SoftReset,
    /// Another number.
    Other(u8),
}

impl ShutdownReason {
    /// The reason with this number.
    pub fn from_number(number: u8) -> ShutdownReason {
        match number {
            0 => ShutdownReason::Poweroff,
            1 => ShutdownReason::Reboot,
            2 => ShutdownReason::Suspend,
            3 => ShutdownReason::Crash,
            4 => ShutdownReason::Watchdog,
            5 => ShutdownReason::SoftReset,
            other => ShutdownReason::Other(other),
        }
    }

    /// Its number.
    pub fn number(self) -> u8 {
        match self {
            ShutdownReason::Poweroff => 0,
            ShutdownReason::Reboot => 1,
            ShutdownReason::Suspend => 2,
            ShutdownReason::Crash => 3,
            ShutdownReason::Watchdog => 4,
            ShutdownReason::SoftReset => 5,
            ShutdownReason::Other(number) => number,
        }
    }
}

impl std::fmt::Display for ShutdownReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ShutdownReason::Poweroff => f.write_str("poweroff"),
            ShutdownReason::Reboot => f.write_str("reboot"),
            ShutdownReason::Suspend => f.write_str("suspend"),
            ShutdownReason::Crash => f.write_str("crash"),
            ShutdownReason::Watchdog => f.write_str("watchdog"),
            ShutdownReason::SoftReset => f.write_str("soft reset"),
            ShutdownReason::Other(number) => write!(f, "reason {number}"),
        }
    }
}

/// The one thing to say about a domain's life; flags behind it are in [`DomainInfo`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// On a CPU at this moment.
    Running,
    /// Able to run, or waiting for an event.
    Blocked,
    /// Stopped by the control domain.
    Paused,
    /// It shut down, and stays until it is destroyed.
    Shutdown(ShutdownReason),
    /// It is being destroyed, or waits for others to let go of its memory.
    Dying,
}

/// A domain as the hypervisor describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DomainInfo {
    /// Its id.
    pub domain: DomId,
    /// Its handle.
    pub handle: DomainHandle,
    /// It is being destroyed, or waits for others to let go of its memory.
    pub dying: bool,
    /// It is stopped by the control domain.
    pub paused: bool,
    /// All its vCPUs wait for events.
    pub blocked: bool,
    /// One of its vCPUs is on a CPU.
    pub running: bool,
    /// It shut down, and why.
    pub shutdown: Option<ShutdownReason>,
    /// Pages it has.
    pub pages: u64,
    /// Pages it may have.
    pub max_pages: u64,
    /// Frame of its shared info.
    pub shared_info_frame: u64,
    /// Nanoseconds of CPU time it has used.
    pub cpu_time_ns: u64,
    /// vCPUs that are up.
    pub online_vcpus: u32,
    /// Its highest vCPU number; `None` if it has no vCPUs yet.
    pub max_vcpu_id: Option<u32>,
}

impl DomainInfo {
    /// What to say of it in a word.
    pub fn state(&self) -> State {
        match self.shutdown {
            _ if self.dying => State::Dying,
            Some(reason) => State::Shutdown(reason),
            None if self.paused => State::Paused,
            None if self.running => State::Running,
            None => State::Blocked,
        }
    }
}

/// A vCPU as the hypervisor describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VcpuInfo {
    /// It is up.
    pub online: bool,
    /// It waits for events.
    pub blocked: bool,
    /// It is on a CPU.
    pub running: bool,
    /// Nanoseconds of CPU time it has used.
    pub cpu_time_ns: u64,
    /// The CPU it is on, or was last.
    pub cpu: u32,
}

/// The machine as the hypervisor describes it. Memory is in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineInfo {
    /// CPUs that run.
    pub cpus: u32,
    /// Speed of the time-stamp counter, in kHz.
    pub cpu_khz: u32,
    /// All memory.
    pub total_pages: u64,
    /// Memory that nobody has.
    pub free_pages: u64,
    /// The part of it that is not clean yet.
    pub scrub_pages: u64,
    /// The part of it that is promised to domains.
    pub outstanding_pages: u64,
    /// Threads of a core.
    pub threads_per_core: u32,
    /// Cores of a socket.
    pub cores_per_socket: u32,
    /// Whether paravirtualized guests can be run.
    pub runs_pv: bool,
}

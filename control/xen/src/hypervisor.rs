//! What the control domain can ask for: the one interface that the layers above are written against.

use crate::{
    Accounts, CpuAnswer, CpuReserved, CpuRules, CpuTerms, DomainInfo, EventChannels, MachineInfo,
    Mapping, NewDomain, Port, Result, ShutdownReason, VcpuInfo,
};
use guest_abi::DomId;
use guest_abi::context::VcpuGuestContext;
use guest_abi::memory::E820Entry;

/// How memory of another domain is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To be looked at.
    Read,
    /// To be written too.
    Write,
}

/// The operations of the control domain. Any thread may call any of them; none waits for a guest.
///
/// Each fails with ESRCH for a domain that is not there, and with EPERM outside the control domain. Frames are machine
/// frame numbers, memory is counted in pages of 4 KiB.
pub trait Hypervisor: Accounts + Send + Sync {
    /// Describes the machine.
    ///
    /// # Errors
    /// See above.
    fn machine(&self) -> Result<MachineInfo>;

    /// The messages that the hypervisor still remembers, oldest first. With `clear`, it does not tell those again.
    ///
    /// # Errors
    /// See above.
    fn messages(&self, clear: bool) -> Result<Vec<u8>>;

    /// Creates a domain without memory, paused.
    ///
    /// # Errors
    /// ENOMEM without memory for its record, EINVAL for numbers out of range.
    fn create_domain(&self, new: &NewDomain) -> Result<DomId>;

    /// Makes the domain's vCPUs: as many as it was created for.
    ///
    /// # Errors
    /// EINVAL for another number, ENOMEM.
    fn set_max_vcpus(&self, domain: DomId, vcpus: u32) -> Result<()>;

    /// Sets how many pages a domain may have. It keeps those it has, even if they are more.
    ///
    /// # Errors
    /// See above.
    fn set_max_pages(&self, domain: DomId, pages: u64) -> Result<()>;

    /// Sets the memory map that the guest is told when it asks.
    ///
    /// # Errors
    /// ENOSYS where it is not offered; Linux then makes one up from its size.
    fn set_memory_map(&self, domain: DomId, map: &[E820Entry]) -> Result<()>;

    /// Describes a domain; `None` if there is none of this id.
    ///
    /// # Errors
    /// See above.
    fn domain(&self, domain: DomId) -> Result<Option<DomainInfo>>;

    /// Describes all domains, in order of id, the control domain among them.
    ///
    /// # Errors
    /// See above.
    fn domains(&self) -> Result<Vec<DomainInfo>>;

    /// Describes a vCPU; `None` if the domain has none of this number.
    ///
    /// # Errors
    /// See above.
    fn vcpu(&self, domain: DomId, vcpu: u32) -> Result<Option<VcpuInfo>>;

    /// Stops a domain; it counts, so that each pause wants its unpause.
    ///
    /// # Errors
    /// See above.
    fn pause(&self, domain: DomId) -> Result<()>;

    /// Takes one pause back.
    ///
    /// # Errors
    /// EINVAL if the domain is not paused.
    fn unpause(&self, domain: DomId) -> Result<()>;

    /// Shuts a domain down as if it had done so itself for this reason.
    ///
    /// # Errors
    /// See above.
    fn shut_down(&self, domain: DomId, reason: ShutdownReason) -> Result<()>;

    /// Destroys a domain. When this returns it is gone, or dying because somebody else still maps its memory.
    ///
    /// # Errors
    /// See above.
    fn destroy(&self, domain: DomId) -> Result<()>;

    /// Gives a domain memory: an extent of 2^`order` pages for each element of `frames`, which holds the first
    /// pseudo-physical page of the extent and afterwards its first frame. Returns how many extents were made; the
    /// others are unchanged. The memory is zero.
    ///
    /// # Errors
    /// See above; short memory is no error but a smaller number.
    fn populate(&self, domain: DomId, order: u32, frames: &mut [u64]) -> Result<usize>;

    /// Maps frames of a domain, one after the other.
    ///
    /// # Errors
    /// EINVAL if one of them is not the domain's, or cannot be mapped this way; then none is.
    fn map_frames(&self, domain: DomId, frames: &[u64], access: Access) -> Result<Mapping>;

    /// Maps the first frames of a domain's grant table, to be written.
    ///
    /// # Errors
    /// EINVAL if it may not have so many.
    fn map_grant_table(&self, domain: DomId, frames: u32) -> Result<Mapping>;

    /// Maps what a domain grants us, one page for each reference.
    ///
    /// # Errors
    /// EINVAL if one of them is not granted to us; then none is mapped.
    fn map_grants(&self, domain: DomId, references: &[u32], access: Access) -> Result<Mapping>;

    /// Validates a frame of a domain as a root of page tables and keeps it so.
    ///
    /// # Errors
    /// EINVAL if what hangs off it is not a valid tree of the domain's own.
    fn pin_root(&self, domain: DomId, frame: u64) -> Result<()>;

    /// Fills a frame of a domain with the stubs through which older kernels call the hypervisor.
    ///
    /// # Errors
    /// EINVAL or EACCES if it is not a page the domain may write.
    fn fill_hypercall_page(&self, domain: DomId, frame: u64) -> Result<()>;

    /// Sets all of a vCPU's state.
    ///
    /// # Errors
    /// EINVAL if the state refers to something that is not the domain's.
    fn set_vcpu_context(&self, domain: DomId, vcpu: u32, context: &VcpuGuestContext) -> Result<()>;

    /// Gives all vCPUs of a domain other terms for CPU time, from their next period on; all get them, or none.
    ///
    /// # Errors
    /// ENOSYS or EOPNOTSUPP where no time can be reserved, EINVAL if it has no vCPUs yet.
    fn set_cpu_terms(&self, domain: DomId, terms: CpuTerms) -> Result<CpuAnswer>;

    /// Says what a domain may reserve for itself from now on: nanoseconds of each second, all its vCPUs together, and the
    /// largest weight of one in time that nobody reserved; 0 for no part in that.
    ///
    /// # Errors
    /// ENOSYS or EOPNOTSUPP where no time can be reserved.
    fn allow_cpu(&self, domain: DomId, rate: u64, weight: u16) -> Result<()>;

    /// What CPU time a domain's vCPUs have reserved.
    ///
    /// # Errors
    /// As [`Hypervisor::set_cpu_terms`].
    fn cpu_terms(&self, domain: DomId) -> Result<CpuReserved>;

    /// What holds for all reservations; with a quantum, after that is made the machine's. Reservations that were made stay
    /// as they are.
    ///
    /// # Errors
    /// ENOSYS or EOPNOTSUPP where no time can be reserved, ERANGE for a quantum shorter than the longest section or longer
    /// than a second.
    fn cpu_rules(&self, quantum: Option<u64>) -> Result<CpuRules>;

    /// Makes a port of `domain` that waits for `remote`.
    ///
    /// # Errors
    /// ENOSPC if it has all its ports.
    fn alloc_unbound(&self, domain: DomId, remote: DomId) -> Result<Port>;

    /// Opens the event device.
    ///
    /// # Errors
    /// When it is not there.
    fn event_channels(&self) -> Result<Box<dyn EventChannels>>;
}

//! The page a domain shares with the hypervisor, and the part of it that each vCPU may move elsewhere.
//!
//! # Invariants
//! - S1: `VcpuInfo::evtchn_upcall_mask` is the vCPU's alone while it runs; the hypervisor writes it only when
//!   it enters the guest, or in the vCPU's own hypercall.
//! - S2: the `version` of a time record is odd exactly while it is being changed.
//! - S3: the time record of vCPU 0 has a multiplier from the start, for Linux divides by it.

use crate::wire::wire_struct;

/// Virtual processors that have a place in the page.
pub const XEN_LEGACY_MAX_VCPUS: usize = 32;

wire_struct! {
    /// The architecture's part of [`VcpuInfo`].
    pub struct ArchVcpuInfo: 16 {
        /// Address of the last page fault.
        0x00 cr2: u64,
        /// Padding.
        0x08 _pad: u64,
    }
    /// System time as a function of the time-stamp counter, the record known as pvclock:
    /// `system_time + ((((tsc - tsc_timestamp) << tsc_shift) * tsc_to_system_mul) >> 32)`.
    pub struct VcpuTimeInfo: 32 {
        /// Odd while the record changes (S2).
        0x00 version: u32,
        /// Padding.
        0x04 _pad0: u32,
        /// Time-stamp counter at the record's making.
        0x08 tsc_timestamp: u64,
        /// Nanoseconds since the host started, at the same moment.
        0x10 system_time: u64,
        /// Nanoseconds per shifted tick, times two to the 32.
        0x18 tsc_to_system_mul: u32,
        /// How far to shift ticks left; negative is right.
        0x1c tsc_shift: i8,
        /// `XEN_PVCLOCK_*`.
        0x1d flags: u8,
        /// Padding.
        0x1e _pad1: [u8; 2],
    }
    /// What a vCPU and the hypervisor share.
    pub struct VcpuInfo: 64 {
        /// Non-zero: there are events.
        0x00 evtchn_upcall_pending: u8,
        /// Non-zero: do not deliver them (S1).
        0x01 evtchn_upcall_mask: u8,
        /// Padding.
        0x02 _pad0: [u8; 6],
        /// A bit for each word of `SharedInfo::evtchn_pending` that has events.
        0x08 evtchn_pending_sel: u64,
        /// The architecture's part.
        0x10 arch: ArchVcpuInfo,
        /// The clock.
        0x20 time: VcpuTimeInfo,
    }
    /// The architecture's part of [`SharedInfo`]. The guest writes all of it but `nmi_reason`.
    pub struct ArchSharedInfo: 48 {
        /// Entries of the physical-to-machine list.
        0x00 max_pfn: u64,
        /// Frame of the list's tree; all ones if there is only the linear list.
        0x08 pfn_to_mfn_frame_list_list: u64,
        /// `XEN_NMIREASON_*`.
        0x10 nmi_reason: u64,
        /// Root of the address space the linear list lies in; 0 if it is not published.
        0x18 p2m_cr3: u64,
        /// Virtual address of the linear list.
        0x20 p2m_vaddr: u64,
        /// Odd while the list's mapping changes.
        0x28 p2m_generation: u64,
    }
    /// The page a domain shares with the hypervisor.
    pub struct SharedInfo: 0xc40 {
        /// One for each of the first vCPUs.
        0x000 vcpu_info: [VcpuInfo; 32],
        /// A bit for each port: an event is pending.
        0x800 evtchn_pending: [u64; 64],
        /// A bit for each port: do not notify.
        0xa00 evtchn_mask: [u64; 64],
        /// Odd while the wall clock changes (S2).
        0xc00 wc_version: u32,
        /// Seconds of the wall clock at system time 0, low half.
        0xc04 wc_sec: u32,
        /// Nanoseconds.
        0xc08 wc_nsec: u32,
        /// Seconds, high half.
        0xc0c wc_sec_hi: u32,
        /// The architecture's part.
        0xc10 arch: ArchSharedInfo,
    }
}

/// `VcpuTimeInfo::flags`: all vCPUs read the same time, so a reader needs no memory of the last.
pub const XEN_PVCLOCK_TSC_STABLE_BIT: u8 = 1 << 0;
/// `VcpuTimeInfo::flags`: the guest was stopped meanwhile.
pub const XEN_PVCLOCK_GUEST_STOPPED: u8 = 1 << 1;

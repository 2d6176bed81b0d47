//! One vCPU of a domain: its state in parts, where it may run, and how it is described.

use crate::domctl::Bitmap;
use crate::wire::wire_struct;

wire_struct! {
    /// Argument of [`super::DomctlCommand::Setvcpucontext`] and [`super::DomctlCommand::Getvcpucontext`].
    pub struct Vcpucontext: 16 {
        /// The vCPU.
        0x0 vcpu: u32,
        /// Padding.
        0x4 _pad0: u32,
        /// Pointer to a [`VcpuGuestContext`](crate::context::VcpuGuestContext).
        0x8 ctxt: u64,
    }

    /// Argument of [`super::DomctlCommand::Getvcpuinfo`].
    pub struct Getvcpuinfo: 24 {
        /// In: the vCPU.
        0x0 vcpu: u32,
        /// Whether it is up.
        0x4 online: u8,
        /// Whether it sleeps.
        0x5 blocked: u8,
        /// Whether it is on a CPU.
        0x6 running: u8,
        /// Padding.
        0x7 _pad0: u8,
        /// Nanoseconds it ran.
        0x8 cpu_time: u64,
        /// CPU it is on.
        0x10 cpu: u32,
        /// Padding.
        0x14 _pad1: u32,
    }

    /// Argument of [`super::DomctlCommand::Setvcpuaffinity`] and [`super::DomctlCommand::Getvcpuaffinity`].
    pub struct Vcpuaffinity: 40 {
        /// The vCPU.
        0x0 vcpu: u32,
        /// `XEN_VCPUAFFINITY_*`: which of the two.
        0x4 flags: u32,
        /// CPUs it may run on.
        0x8 cpumap_hard: Bitmap,
        /// CPUs it should run on.
        0x18 cpumap_soft: Bitmap,
    }

    /// Argument of [`super::DomctlCommand::SetExtVcpucontext`] and [`super::DomctlCommand::GetExtVcpucontext`].
    pub struct ExtVcpucontext: 64 {
        /// The vCPU.
        0x0 vcpu: u32,
        /// Bytes from here on that count.
        0x4 size: u32,
        /// Handler of 32-bit `syscall`.
        0x8 syscall32_callback_eip: u64,
        /// Handler of `sysenter`.
        0x10 sysenter_callback_eip: u64,
        /// Its code selector.
        0x18 syscall32_callback_cs: u16,
        /// Its code selector.
        0x1a sysenter_callback_cs: u16,
        /// Whether it masks events.
        0x1c syscall32_disables_events: u8,
        /// Whether it masks events.
        0x1d sysenter_disables_events: u8,
        /// Padding.
        0x1e _pad0: u16,
        /// Machine-check capabilities.
        0x20 mcg_cap: u64,
        /// Machine-check banks.
        0x28 _vmce: [u64; 3],
    }

    /// Argument of [`super::DomctlCommand::Setvcpuextstate`] and [`super::DomctlCommand::Getvcpuextstate`].
    pub struct Vcpuextstate: 32 {
        /// The vCPU.
        0x0 vcpu: u32,
        /// Padding.
        0x4 _pad0: u32,
        /// Parts of the state there are.
        0x8 xfeature_mask: u64,
        /// Bytes.
        0x10 size: u64,
        /// Pointer to them.
        0x18 buffer: u64,
    }

    /// Argument of [`super::DomctlCommand::GetVcpuMsrs`] and [`super::DomctlCommand::SetVcpuMsrs`].
    pub struct VcpuMsrs: 16 {
        /// The vCPU.
        0x0 vcpu: u32,
        /// Registers.
        0x4 msr_count: u32,
        /// Pointer to them.
        0x8 msrs: u64,
    }
}

/// `Vcpuaffinity::flags`: where it may run.
pub const XEN_VCPUAFFINITY_HARD: u32 = 1 << 0;
/// `Vcpuaffinity::flags`: where it should run.
pub const XEN_VCPUAFFINITY_SOFT: u32 = 1 << 1;
/// `Vcpuaffinity::flags`: even if it is pinned elsewhere for a while.
pub const XEN_VCPUAFFINITY_FORCE: u32 = 1 << 2;

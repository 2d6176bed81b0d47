//! Operations on a virtual processor: starting it, its timers, its shared areas.

use crate::wire::{operations, wire_struct};

operations! {
    /// Operations of [`Hypercall::VcpuOp`](crate::Hypercall::VcpuOp).
    pub enum VcpuOp: u32 {
        /// Give it its state. Argument: [`VcpuGuestContext`](crate::context::VcpuGuestContext).
        Initialise "initialise" = 0,
        /// Let it run.
        Up "up" = 1,
        /// Stop it.
        Down "down" = 2,
        /// Result: 1 if it may run, 0 if not, negative if there is no such.
        IsUp "is_up" = 3,
        /// Argument: [`VcpuRunstateInfo`], filled in.
        GetRunstateInfo "get_runstate_info" = 4,
        /// Keep a copy of the runstate in guest memory. Argument: [`RegisterMemoryArea`].
        RegisterRunstateMemoryArea "register_runstate_memory_area" = 5,
        /// Start the periodic timer. Argument: [`SetPeriodicTimer`].
        SetPeriodicTimer "set_periodic_timer" = 6,
        /// Stop the periodic timer.
        StopPeriodicTimer "stop_periodic_timer" = 7,
        /// Set the single-shot timer. Argument: [`SetSingleshotTimer`].
        SetSingleshotTimer "set_singleshot_timer" = 8,
        /// Stop the single-shot timer.
        StopSingleshotTimer "stop_singleshot_timer" = 9,
        /// Move the vCPU's info elsewhere. Argument: [`RegisterVcpuInfo`].
        RegisterVcpuInfo "register_vcpu_info" = 10,
        /// Send it an NMI.
        SendNmi "send_nmi" = 11,
        /// Ask for the processor it is pinned to. Argument: [`GetPhysid`].
        GetPhysid "get_physid" = 12,
        /// Keep a copy of the clock in guest memory. Argument: [`RegisterMemoryArea`].
        RegisterVcpuTimeMemoryArea "register_vcpu_time_memory_area" = 13,
    }
}

operations! {
    /// What a vCPU is doing, in [`VcpuRunstateInfo::state`]. `name()` is the interface's without `RUNSTATE_`.
    pub enum Runstate: u32 {
        /// It runs.
        Running "running" = 0,
        /// It could run, and waits for a processor.
        Runnable "runnable" = 1,
        /// It sleeps.
        Blocked "blocked" = 2,
        /// It is stopped or paused.
        Offline "offline" = 3,
    }
}

/// Bit of `VcpuRunstateInfo::state_entry_time`: the record is being changed.
pub const XEN_RUNSTATE_UPDATE: u64 = 1 << 63;
/// `SetSingleshotTimer::flags`: fail if the time has passed. May be ignored.
pub const VCPU_SSHOTTMR_FUTURE: u32 = 1;

wire_struct! {
    /// How a vCPU has spent its time.
    pub struct VcpuRunstateInfo: 48 {
        /// A number of [`Runstate`].
        0x00 state: u32,
        /// Padding.
        0x04 _pad0: u32,
        /// System time at which it began, in nanoseconds.
        0x08 state_entry_time: u64,
        /// Nanoseconds spent in each state so far.
        0x10 time: [u64; 4],
    }
    /// Argument of [`VcpuOp::RegisterRunstateMemoryArea`] and [`VcpuOp::RegisterVcpuTimeMemoryArea`].
    pub struct RegisterMemoryArea: 8 {
        /// Linear address of the area.
        0x00 addr: u64,
    }
    /// Argument of [`VcpuOp::SetPeriodicTimer`].
    pub struct SetPeriodicTimer: 8 {
        /// Nanoseconds from one tick to the next.
        0x00 period_ns: u64,
    }
    /// Argument of [`VcpuOp::SetSingleshotTimer`].
    pub struct SetSingleshotTimer: 16 {
        /// System time to fire at, in nanoseconds.
        0x00 timeout_abs_ns: u64,
        /// [`VCPU_SSHOTTMR_FUTURE`] or 0.
        0x08 flags: u32,
        /// Padding.
        0x0c _pad0: u32,
    }
    /// Argument of [`VcpuOp::RegisterVcpuInfo`].
    pub struct RegisterVcpuInfo: 16 {
        /// The frame.
        0x00 mfn: u64,
        /// Offset in the frame; the info must not cross its end.
        0x08 offset: u32,
        /// Unused.
        0x0c _rsvd: u32,
    }
    /// Argument of [`VcpuOp::GetPhysid`].
    pub struct GetPhysid: 8 {
        /// Local APIC id in the low half, ACPI id in the high.
        0x00 phys_id: u64,
    }
}

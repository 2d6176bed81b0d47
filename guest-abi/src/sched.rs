//! Scheduling: yield, block, poll, shut down.

use crate::wire::{operations, wire_struct};

operations! {
    /// Operations of [`Hypercall::SchedOp`](crate::Hypercall::SchedOp).
    pub enum SchedOp: u32 {
        /// Give up the processor for now.
        Yield "yield" = 0,
        /// Unmask events and sleep until one is pending.
        Block "block" = 1,
        /// Stop the domain. Argument: [`Shutdown`].
        Shutdown "shutdown" = 2,
        /// Sleep until a port of a set is pending. Argument: [`Poll`].
        Poll "poll" = 3,
        /// Declare another domain stopped. Argument: [`RemoteShutdown`].
        RemoteShutdown "remote_shutdown" = 4,
        /// Remember the reason for a later shutdown. Argument: [`Shutdown`].
        ShutdownCode "shutdown_code" = 5,
        /// Set, poke or remove a watchdog. Argument: [`Watchdog`].
        Watchdog "watchdog" = 6,
        /// Pin the vCPU to a processor for a while. Argument: [`PinOverride`].
        PinOverride "pin_override" = 7,
    }
}

operations! {
    /// Why a domain stopped. `name()` is the interface's name without `SHUTDOWN_`.
    pub enum ShutdownReason: u32 {
        /// It is done.
        Poweroff "poweroff" = 0,
        /// It wants to start again.
        Reboot "reboot" = 1,
        /// It waits to be saved. The third argument of the call is the mfn of its start info.
        Suspend "suspend" = 2,
        /// It crashed.
        Crash "crash" = 3,
        /// Its watchdog expired.
        Watchdog "watchdog" = 4,
        /// It wants its interfaces reset.
        SoftReset "soft_reset" = 5,
    }
}

wire_struct! {
    /// Argument of [`SchedOp::Shutdown`].
    pub struct Shutdown: 4 {
        /// A number of [`ShutdownReason`].
        0x00 reason: u32,
    }
    /// Argument of [`SchedOp::Poll`].
    pub struct Poll: 24 {
        /// Address of the ports, `u32` each.
        0x00 ports: u64,
        /// How many there are.
        0x08 nr_ports: u32,
        /// Padding.
        0x0c _pad0: u32,
        /// System time to give up at, in nanoseconds; 0 is never.
        0x10 timeout: u64,
    }
    /// Argument of [`SchedOp::RemoteShutdown`].
    pub struct RemoteShutdown: 8 {
        /// The domain.
        0x00 domain_id: u16,
        /// Padding.
        0x02 _pad0: u16,
        /// A number of [`ShutdownReason`].
        0x04 reason: u32,
    }
    /// Argument of [`SchedOp::Watchdog`].
    pub struct Watchdog: 8 {
        /// The watchdog; 0 asks for a new one.
        0x00 id: u32,
        /// Seconds until it fires; 0 removes it.
        0x04 timeout: u32,
    }
    /// Argument of [`SchedOp::PinOverride`].
    pub struct PinOverride: 4 {
        /// The processor; negative ends the pin.
        0x00 pcpu: i32,
    }
}

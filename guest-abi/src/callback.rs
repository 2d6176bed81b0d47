//! Callbacks: where the hypervisor enters a guest kernel for anything that is not an exception.

use crate::wire::{operations, wire_struct};

operations! {
    /// Operations of [`Hypercall::CallbackOp`](crate::Hypercall::CallbackOp).
    pub enum CallbackOp: u32 {
        /// Set a handler. Argument: [`CallbackRegister`].
        Register "register" = 0,
        /// Remove a handler; not every one can be. Argument: [`CallbackUnregister`].
        Unregister "unregister" = 1,
    }
}

operations! {
    /// What a callback is for.
    pub enum CallbackType: u16 {
        /// An event is pending. Event delivery is always masked on entry.
        Event "event" = 0,
        /// The guest's segment selectors could not be loaded.
        Failsafe "failsafe" = 1,
        /// `syscall` from 64-bit user mode.
        Syscall "syscall" = 2,
        /// `sysenter`, as 32-bit hypervisors had it.
        SysenterDeprecated "sysenter_deprecated" = 3,
        /// An NMI. Event delivery is always masked on entry.
        Nmi "nmi" = 4,
        /// `sysenter` from user mode, on Intel.
        Sysenter "sysenter" = 5,
        /// `syscall` from 32-bit user mode, on AMD.
        Syscall32 "syscall32" = 7,
    }
}

/// Mask event delivery on entry.
pub const CALLBACKF_MASK_EVENTS: u16 = 1;

wire_struct! {
    /// Argument of [`CallbackOp::Register`].
    pub struct CallbackRegister: 16 {
        /// A number of [`CallbackType`].
        0x00 kind: u16,
        /// `CALLBACKF_*`.
        0x02 flags: u16,
        /// Padding.
        0x04 _pad0: u32,
        /// Linear address of the handler.
        0x08 address: u64,
    }
    /// Argument of [`CallbackOp::Unregister`].
    pub struct CallbackUnregister: 4 {
        /// A number of [`CallbackType`].
        0x00 kind: u16,
        /// Unused.
        0x02 _unused: u16,
    }
}

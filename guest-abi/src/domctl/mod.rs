//! Control of one domain: `domctl`, for the control domain alone.
//!
//! A call is one structure of fixed size: a command, a version, the domain it is about, and 128 bytes that the command
//! gives a meaning ([`Domctl::payload`]). The commands and the call are here; their arguments are
//! in files by what they are about, and have this module's name.
//!
//! - `domain` - a domain as a whole.
//! - `memory` - how much it has, and what its frames are used as.
//! - `vcpu` - its vCPUs' states.
//! - `permission` - parts of the machine it is permitted.
//! - `policy` - what CPUID shows it.

mod domain;
mod memory;
mod permission;
mod policy;
mod vcpu;

pub use domain::*;
pub use memory::*;
pub use permission::*;
pub use policy::*;
pub use vcpu::*;

use crate::wire::{Wire, operations, wire_struct};

/// Version every domctl carries; another one is refused.
pub const XEN_DOMCTL_INTERFACE_VERSION: u32 = 0x15;

/// Bytes a command has for its own arguments.
pub const DOMCTL_PAYLOAD: usize = 128;

operations! {
    /// Commands of [`Hypercall::Domctl`](crate::Hypercall::Domctl) that stock tools issue.
    pub enum DomctlCommand: u32 {
        /// Create a domain.
        Createdomain "createdomain" = 1,
        /// Destroy a domain.
        Destroydomain "destroydomain" = 2,
        /// Pause a domain.
        Pausedomain "pausedomain" = 3,
        /// Let a domain run.
        Unpausedomain "unpausedomain" = 4,
        /// Describe a domain.
        Getdomaininfo "getdomaininfo" = 5,
        /// Set a vCPU's affinity.
        Setvcpuaffinity "setvcpuaffinity" = 9,
        /// Control shadow modes.
        ShadowOp "shadow_op" = 10,
        /// Set a domain's most memory.
        MaxMem "max_mem" = 11,
        /// Set a vCPU's state.
        Setvcpucontext "setvcpucontext" = 12,
        /// Read a vCPU's state.
        Getvcpucontext "getvcpucontext" = 13,
        /// Describe a vCPU.
        Getvcpuinfo "getvcpuinfo" = 14,
        /// Set a domain's vCPUs.
        MaxVcpus "max_vcpus" = 15,
        /// Scheduling parameters.
        SchedulerOp "scheduler_op" = 16,
        /// Set a domain's handle.
        Setdomainhandle "setdomainhandle" = 17,
        /// Debugging on or off.
        Setdebugging "setdebugging" = 18,
        /// Permit an interrupt.
        IrqPermission "irq_permission" = 19,
        /// Permit I/O memory.
        IomemPermission "iomem_permission" = 20,
        /// Permit I/O ports.
        IoportPermission "ioport_permission" = 21,
        /// Fill a hypercall page.
        HypercallInit "hypercall_init" = 22,
        /// Set a domain's time offset.
        Settimeoffset "settimeoffset" = 24,
        /// Read a vCPU's affinity.
        Getvcpuaffinity "getvcpuaffinity" = 25,
        /// Let a suspended domain go on.
        Resumedomain "resumedomain" = 27,
        /// Choose 32 or 64 bits.
        SetAddressSize "set_address_size" = 35,
        /// Which of the two.
        GetAddressSize "get_address_size" = 36,
        /// Set more of a vCPU's state.
        SetExtVcpucontext "set_ext_vcpucontext" = 42,
        /// Read more of a vCPU's state.
        GetExtVcpucontext "get_ext_vcpucontext" = 43,
        /// Read how the counter is presented.
        Gettscinfo "gettscinfo" = 59,
        /// Set how the counter is presented.
        Settscinfo "settscinfo" = 60,
        /// Types of frames.
        Getpageframeinfo3 "getpageframeinfo3" = 61,
        /// Set extended processor state.
        Setvcpuextstate "setvcpuextstate" = 62,
        /// Read extended processor state.
        Getvcpuextstate "getvcpuextstate" = 63,
        /// Set a domain's nodes.
        Setnodeaffinity "setnodeaffinity" = 68,
        /// Read a domain's nodes.
        Getnodeaffinity "getnodeaffinity" = 69,
        /// Read a vCPU's registers.
        GetVcpuMsrs "get_vcpu_msrs" = 72,
        /// Set a vCPU's registers.
        SetVcpuMsrs "set_vcpu_msrs" = 73,
        /// Read what CPUID shows.
        GetCpuPolicy "get_cpu_policy" = 82,
        /// Set what CPUID shows.
        SetCpuPolicy "set_cpu_policy" = 83,
    }
}

wire_struct! {
    /// Argument of [`Hypercall::Domctl`](crate::Hypercall::Domctl).
    pub struct Domctl: 144 {
        /// A [`DomctlCommand`].
        0x0 cmd: u32,
        /// [`XEN_DOMCTL_INTERFACE_VERSION`].
        0x4 interface_version: u32,
        /// The domain it is about.
        0x8 domain: u16,
        /// Padding.
        0xa _pad0: [u16; 3],
        /// What the command takes and gives.
        0x10 u: [u8; DOMCTL_PAYLOAD],
    }

    /// A set of small numbers in the caller's memory, a bit for each.
    pub struct Bitmap: 16 {
        /// Pointer to its bytes.
        0x0 bitmap: u64,
        /// Bits there is room for.
        0x8 nr_bits: u32,
        /// Padding.
        0xc _pad0: u32,
    }
}

impl Domctl {
    /// A call of this command, otherwise zero.
    pub const fn new(cmd: DomctlCommand, domain: u16) -> Self {
        Self {
            cmd: cmd.number(),
            interface_version: XEN_DOMCTL_INTERFACE_VERSION,
            domain,
            ..Self::ZERO
        }
    }

    /// What the command takes and gives, read as its own structure.
    #[inline]
    pub fn payload<T: Wire>(&self) -> T {
        const { assert!(T::SIZE <= DOMCTL_PAYLOAD) };
        T::read_from(&self.u).unwrap_or(T::ZERO)
    }

    /// Sets what the command takes and gives; bytes beyond it are kept.
    #[inline]
    pub fn set_payload<T: Wire>(&mut self, value: &T) {
        const { assert!(T::SIZE <= DOMCTL_PAYLOAD) };
        // It fits.
        let _ = value.write_to(&mut self.u);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_takes_survives_the_way_through_the_call() {
        let mut call = Domctl::new(DomctlCommand::MaxMem, 7);
        let value = MaxMem { max_memkb: 1 << 40 };
        call.set_payload(&value);
        assert_eq!(call.payload::<MaxMem>(), value);
        assert_eq!(call.u[MaxMem::SIZE..].iter().find(|byte| **byte != 0), None);
    }
}

//! Parts of the machine that a domain is permitted, or no longer: interrupts, I/O memory, I/O ports.

use crate::wire::wire_struct;

wire_struct! {
    /// Argument of [`super::DomctlCommand::IrqPermission`].
    pub struct IrqPermission: 8 {
        /// The interrupt.
        0x0 pirq: u32,
        /// Whether to permit it.
        0x4 allow_access: u8,
        /// Padding.
        0x5 _pad0: [u8; 3],
    }

    /// Argument of [`super::DomctlCommand::IomemPermission`].
    pub struct IomemPermission: 24 {
        /// The first frame.
        0x0 first_mfn: u64,
        /// Frames.
        0x8 nr_mfns: u64,
        /// Whether to permit them.
        0x10 allow_access: u8,
        /// Padding.
        0x11 _pad0: [u8; 7],
    }

    /// Argument of [`super::DomctlCommand::IoportPermission`].
    pub struct IoportPermission: 12 {
        /// The first port.
        0x0 first_port: u32,
        /// Ports.
        0x4 nr_ports: u32,
        /// Whether to permit them.
        0x8 allow_access: u8,
        /// Padding.
        0x9 _pad0: [u8; 3],
    }
}

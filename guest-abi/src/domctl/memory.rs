//! A domain's memory: how much, from where, and what its frames are used as.

use crate::domctl::Bitmap;
use crate::wire::wire_struct;

wire_struct! {
    /// Argument of [`super::DomctlCommand::MaxMem`].
    pub struct MaxMem: 8 {
        /// KiB.
        0x0 max_memkb: u64,
    }

    /// Argument of [`super::DomctlCommand::Setnodeaffinity`] and [`super::DomctlCommand::Getnodeaffinity`].
    pub struct Nodeaffinity: 16 {
        /// Nodes its memory should come from.
        0x0 nodemap: Bitmap,
    }

    /// Argument of [`super::DomctlCommand::Getpageframeinfo3`].
    pub struct Getpageframeinfo3: 16 {
        /// How many.
        0x0 num: u64,
        /// Pointer to `u64` frame numbers, replaced by `XEN_DOMCTL_PFINFO_*`.
        0x8 array: u64,
    }
}

/// Type of a frame, as [`super::DomctlCommand::Getpageframeinfo3`] tells it: no table.
pub const XEN_DOMCTL_PFINFO_NOTAB: u32 = 0;
/// A table of level 1.
pub const XEN_DOMCTL_PFINFO_L1TAB: u32 = 1 << 28;
/// A table of level 2.
pub const XEN_DOMCTL_PFINFO_L2TAB: u32 = 2 << 28;
/// A table of level 3.
pub const XEN_DOMCTL_PFINFO_L3TAB: u32 = 3 << 28;
/// A table of level 4.
pub const XEN_DOMCTL_PFINFO_L4TAB: u32 = 4 << 28;
/// A table that is pinned.
pub const XEN_DOMCTL_PFINFO_LPINTAB: u32 = 1 << 31;
/// No frame of the domain's.
pub const XEN_DOMCTL_PFINFO_XTAB: u32 = 0xf << 28;

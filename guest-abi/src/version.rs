//! Version information.

use crate::wire::{operations, wire_struct};

operations! {
    /// Operations of [`Hypercall::XenVersion`](crate::Hypercall::XenVersion).
    pub enum XenVersionOp: u32 {
        /// Result: major version in the upper, minor in the lower 16 bits.
        Version "version" = 0,
        /// Argument: [`ExtraVersion`].
        Extraversion "extraversion" = 1,
        /// Argument: [`CompileInfo`].
        CompileInfo "compile_info" = 2,
        /// Argument: [`Capabilities`].
        Capabilities "capabilities" = 3,
        /// Argument: [`Changeset`].
        Changeset "changeset" = 4,
        /// Argument: [`PlatformParameters`].
        PlatformParameters "platform_parameters" = 5,
        /// Argument: [`FeatureInfo`].
        GetFeatures "get_features" = 6,
        /// Result: bytes of a page.
        Pagesize "pagesize" = 7,
        /// Argument: 16 bytes, the domain's handle.
        GuestHandle "guest_handle" = 8,
        /// Argument: [`Commandline`].
        Commandline "commandline" = 9,
        /// Argument: a length and a buffer, see [`BUILD_ID_HEADER_BYTES`]. Result: bytes of the id.
        BuildId "build_id" = 10,
    }
}

/// The result of [`XenVersionOp::Version`].
#[inline]
pub const fn version_number(major: u16, minor: u16) -> u64 {
    (major as u64) << 16 | minor as u64
}

/// A text of the interface: bytes up to the first NUL.
pub type ExtraVersion = [u8; 16];
/// What guests this hypervisor runs, as words followed by a blank each.
pub type Capabilities = [u8; 1024];
/// The change the build was made from.
pub type Changeset = [u8; 64];
/// The hypervisor's command line.
pub type Commandline = [u8; 1024];
/// The 128 bits by which the toolstack knows a domain.
pub type DomainHandle = [u8; 16];

/// Bytes before the buffer of [`XenVersionOp::BuildId`]: a `u32`, the buffer's length.
pub const BUILD_ID_HEADER_BYTES: u64 = 4;

wire_struct! {
    /// Argument of [`XenVersionOp::CompileInfo`]: texts, NUL-terminated.
    pub struct CompileInfo: 144 {
        /// The compiler.
        0x00 compiler: [u8; 64],
        /// Who built it.
        0x40 compile_by: [u8; 16],
        /// Where.
        0x50 compile_domain: [u8; 32],
        /// When.
        0x70 compile_date: [u8; 32],
    }
    /// Argument of [`XenVersionOp::PlatformParameters`].
    pub struct PlatformParameters: 8 {
        /// Where the hypervisor's hole starts.
        0x00 virt_start: u64,
    }
    /// Argument of [`XenVersionOp::GetFeatures`].
    pub struct FeatureInfo: 8 {
        /// In: which 32 features.
        0x00 submap_idx: u32,
        /// Out: a bit for each, see [`Feature`](crate::features::Feature).
        0x04 submap: u32,
    }
}

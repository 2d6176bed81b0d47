//! What CPUID and the model-specific registers show a domain.

use crate::wire::wire_struct;

wire_struct! {
    /// Argument of [`super::DomctlCommand::GetCpuPolicy`] and [`super::DomctlCommand::SetCpuPolicy`].
    pub struct CpuPolicy: 40 {
        /// Leaves there is room for; leaves written.
        0x0 nr_leaves: u32,
        /// Registers there is room for; registers written.
        0x4 nr_msrs: u32,
        /// Pointer to [`CpuidLeaf`]s.
        0x8 leaves: u64,
        /// Pointer to [`MsrEntry`]s.
        0x10 msrs: u64,
        /// The leaf that was refused.
        0x18 err_leaf: u32,
        /// Its subleaf.
        0x1c err_subleaf: u32,
        /// The register that was refused.
        0x20 err_msr: u32,
        /// Padding.
        0x24 _pad0: u32,
    }

    /// What CPUID says for one leaf.
    pub struct CpuidLeaf: 24 {
        /// EAX in.
        0x0 leaf: u32,
        /// ECX in, or [`XEN_CPUID_NO_SUBLEAF`].
        0x4 subleaf: u32,
        /// EAX.
        0x8 a: u32,
        /// EBX.
        0xc b: u32,
        /// ECX.
        0x10 c: u32,
        /// EDX.
        0x14 d: u32,
    }

    /// A model-specific register.
    pub struct MsrEntry: 16 {
        /// Its number.
        0x0 idx: u32,
        /// Zero.
        0x4 flags: u32,
        /// Its value.
        0x8 val: u64,
    }
}

/// `CpuidLeaf::subleaf`: ECX does not matter.
pub const XEN_CPUID_NO_SUBLEAF: u32 = 0xffff_ffff;

//! Attacks descriptor tables: a guest may describe code and data of ring 3 and nothing else, in tables it cannot
//! write. Proves that its own selectors work in both modes, that faults on loading them are exact, and that segment
//! bases are what set_segment_base says, for each mode its own.
#![cfg_attr(target_os = "none", no_std, no_main)]

mod bases;
mod gdt;
mod ldt;
mod loads;

use guest_runtime::{guest, user};

guest!(segments, main);

/// Descriptors.
pub mod descriptor {
    /// Data, ring 3, flat.
    pub const DATA: u64 = 0x00cf_f300_0000_ffff;
    /// 64-bit code, ring 3.
    pub const CODE64: u64 = 0x00af_fb00_0000_ffff;
    /// 32-bit code, ring 3, flat.
    pub const CODE32: u64 = 0x00cf_fb00_0000_ffff;
    /// Bit "present".
    pub const PRESENT: u64 = 1 << 47;
    /// Both bits of the privilege level.
    pub const DPL: u64 = 3 << 45;
    /// Bit "code or data" as against "system".
    pub const ORDINARY: u64 = 1 << 44;
    /// Bit "accessed", which the processor or the hypervisor may set.
    pub const ACCESSED: u64 = 1 << 40;

    /// Data with this base.
    pub const fn data_at(base: u64) -> u64 {
        DATA | (base & 0x00ff_ffff) << 16 | (base >> 24 & 0xff) << 56
    }
}

fn main() {
    user::enable();
    gdt::all();
    loads::all();
    ldt::all();
    bases::all();
}

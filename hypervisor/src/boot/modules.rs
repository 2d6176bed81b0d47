//! The boot modules' memory, when the control domain has been built of them.
//!
//! # Invariants
//! - O1: a module's memory is ring 0's until it is given back, and it is given back only when nobody will read it again:
//!   the control domain is built, and will not be built anew.
//! - O2: no more is given back than the firmware calls usable and no other module has a byte of.

use crate::info;
use crate::layout::PAGE;
use crate::memory::{alloc, usage};
use boot_info::params::OnCrash;
use boot_info::{BootInfo, Module, Params};
use frames::Mfn;

/// Words of the module that ring 0 itself reads for as long as it runs.
pub const SYMBOLS: &[u8] = b"xeno-symbols";

/// Gives back the memory of the modules that the control domain was built of, unless it may be built of them again.
pub fn give_back(info: &BootInfo, params: &Params) {
    if params.dom0_crash == Some(OnCrash::Restart) {
        return;
    }
    let mut given = 0;
    for module in info.modules.iter().filter(|m| m.args.as_slice() != SYMBOLS) {
        for (first, end) in info.memory.usable_frames() {
            // The first MiB is nobody's to have.
            let first = first.max(256).max(module.start.div_ceil(PAGE));
            for mfn in first..end.min(module.end() / PAGE) {
                if !shared(info, module, mfn) {
                    alloc::give_ring0(Mfn(mfn));
                    given += 1;
                }
            }
        }
    }
    usage::given_back(given);
    info!("memory: {} MiB of boot modules are free", given >> 8);
}

/// Whether a frame has a part of another module, too.
fn shared(info: &BootInfo, module: &Module, mfn: u64) -> bool {
    let (start, end) = (mfn * PAGE, (mfn + 1) * PAGE);
    let mut others = info.modules.iter().filter(|m| !core::ptr::eq(*m, module));
    others.any(|other| other.start < end && other.end() > start)
}
